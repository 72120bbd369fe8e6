"""The arm node on real DDS, with the simulated robot or a stubborn one, and a hand that pushes."""

import array
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.control.hand_guiding import load_derivation
from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.types import GRIPPER_COLUMNS, ActionChunk
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.arm_node import ArmNode
from policy_bringup.nodes.sim_node import SimNode
from policy_bringup.sim.hand import let_go

SENT, JOINTS = "arm_controller/joint_trajectory", "joint_states"


class Bench:
    """Everything around the arm node: safety's messages, what it commands, where the arm is, and its service."""

    def __init__(self) -> None:
        self.node, self.safety = Node("operator"), Node("safety")
        self.commands: list[JointTrajectory] = []
        self.joints, self.width = np.zeros(7), 0.0
        self.states: list[str] = []
        self.grips: list[tuple[str, str, str]] = []  # whether it follows, the opening, the force
        self._state = self._publisher("safety/state", self.safety)
        self._action = self._publisher("safety/action", self.safety)
        self._joint_states: Publisher | None = None
        takes = {SENT: self.commands.append, JOINTS: self._take_joints, "arm/state": self._take_state}
        for name, take in takes.items():
            entry = graph.topic(name)
            self.node.create_subscription(endpoints.interface(entry.type), name, take, endpoints.profile(entry.qos))
        self.client = self.node.create_client(SetBool, "arm/hand_guide")
        self.gripper = self.node.create_client(SetBool, "arm/grip")

    def _publisher(self, name: str, node: Node | None = None):
        entry = graph.topic(name)
        return (node or self.node).create_publisher(endpoints.interface(entry.type), name, endpoints.profile(entry.qos))

    def _take_joints(self, message: JointState) -> None:
        self.joints, self.width = np.array(message.position[:7]), 2.0 * message.position[7]

    def _take_state(self, message: DiagnosticArray) -> None:
        values = values_of(message.status[0])
        self.states.append(values["state"])
        self.grips.append((values["follows"], *(values.get(name, "") for name in GRIPPER_COLUMNS)))

    @property
    def state(self) -> str:
        return self.states[-1] if self.states else ""

    def say_state(self, state: str) -> None:
        values = {"state": state, "source": "policy", "offered": ""}
        self._state.publish(messages.diagnostics(1, messages.status("safety", "ok", state, values)))

    def say_action(self, names: tuple[str, ...], row: np.ndarray) -> None:
        chunk = ActionChunk("safety", time.time_ns(), 0, names, np.zeros(1), row[None], np.zeros(1))
        self._action.publish(messages.table_message(chunk, "panda_link0"))

    def say_joints(self, robot) -> None:
        """In the place of a robot."""
        self._joint_states = self._joint_states or self._publisher(JOINTS)
        message = JointState(name=[*robot.joint_names, robot.gripper.joint])
        message.header.stamp = Time(sec=1)
        message.position = array.array("d", [*robot.home, robot.gripper.home / 2])
        self._joint_states.publish(message)

    def guide(self, on: bool) -> SetBool.Response:
        return self._call(self.client, on)

    def grip(self, close: bool) -> SetBool.Response:
        return self._call(self.gripper, close)

    def _call(self, client, data: bool) -> SetBool.Response:
        assert client.wait_for_service(5.0)
        future = client.call_async(SetBool.Request(data=data))
        wait(future.done, 5.0, f"the answer of {client.srv_name}")
        return future.result()


def wait(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for: {what}"
        time.sleep(0.01)


@pytest.fixture
def start(config_folder, request) -> Iterator[Callable[..., tuple[Bench, list]]]:
    """Configures, activates and spins nodes of these classes, beside a bench; all end with the test."""
    chosen = [f"deployment:={config_folder / 'grasp.yaml'}", *getattr(request, "param", ())]
    rclpy.init(args=["--ros-args", *(part for parameter in chosen for part in ("-p", parameter))])
    bench, executor, made = Bench(), SingleThreadedExecutor(), []
    executor.add_node(bench.node)
    thread = threading.Thread(target=executor.spin)

    def begin(*classes):
        for node_class in classes:
            node = node_class()
            made.append(node)
            node.trigger_configure()
            assert node.refusal is None
            node.trigger_activate()
            executor.add_node(node)
        thread.start()
        return bench, made

    yield begin
    for node in made:
        node.wind_down()
    executor.shutdown()
    thread.join()
    for node in (*made, bench.node, bench.safety):
        node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def led(start):
    """A calm robot in the simulator: bench, arm node, world with its lock."""
    bench, (arm, sim) = start(ArmNode, SimNode)
    wait(lambda: bench.commands and bench.joints.any(), 10.0, "the arm holding the robot")
    bench.say_state("READY")
    wait(lambda: bench.guide(True).success, 10.0, "the arm yielding")
    return bench, arm, sim


def push(sim: SimNode, force: list[float], bench: Bench, travel: float) -> None:
    """A hand pushes until the first joint has turned that far, and lets go."""
    before = bench.joints[0]
    with sim._lock:
        sim._world.push(np.array(force), np.zeros(3))
    wait(lambda: abs(bench.joints[0] - before) > travel, 5.0, "the arm moving under the hand")
    with sim._lock:
        let_go(sim._world)


def test_a_led_arm_gives_way_without_a_command_and_stays_where_it_is_left(led):
    bench, _, sim = led
    count = len(bench.commands)
    push(sim, [0.0, 15.0, 0.0], bench, 0.2)
    assert len(bench.commands) <= count + 2, "commands left while a hand led the arm"
    assert bench.guide(False).message == "the arm holds where it is"
    wait(lambda: len(bench.commands) > count + 20, 5.0, "the arm holding again")
    left = bench.joints.copy()
    count = len(bench.commands)
    wait(lambda: len(bench.commands) > count + 50, 5.0, "half a second more")
    np.testing.assert_allclose(bench.joints, left, atol=0.02)
    np.testing.assert_allclose(bench.commands[-1].points[-1].positions[:7], left, atol=0.02)


def test_what_safety_still_asks_for_is_not_followed_until_it_is_armed_anew(led):
    bench, arm, sim = led
    names = arm.deployment.contract.action.names
    push(sim, [0.0, 15.0, 0.0], bench, 0.2)
    left = bench.joints[0]
    bench.guide(False)
    tool = arm._proprioception.measured(arm._sample, arm._action)
    stale = tool + np.array([0.0, -0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 20.0])
    followed = arm._arm.counts.followed
    for _ in range(30):
        bench.say_action(names, stale)
        time.sleep(0.01)
    assert arm._arm.counts.followed == followed
    assert abs(bench.joints[0] - left) < 0.1
    bench.say_state("ACTIVE")
    wait(lambda: arm._guide.follows, 5.0, "the news that safety is armed")
    bench.say_action(names, tool + np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 20.0]))
    wait(lambda: arm._arm.counts.followed > followed, 5.0, "the arm following")


def test_arming_while_the_hand_leads_moves_nothing(led):
    bench, arm, _ = led
    bench.say_state("ACTIVE")
    wait(lambda: arm._guide._state == "ACTIVE", 5.0, "the news that safety is armed")
    assert arm._guide.guided
    assert not arm._guide.follows
    assert bench.guide(False).success
    assert not arm._guide.follows, "what was armed for the old pose must not be followed"


def test_the_arm_says_ten_times_a_second_whether_it_is_led_and_at_once_when_that_changes(led):
    bench, _, _ = led
    wait(lambda: bench.state == "guided", 1.0, "the news that a hand leads the arm")
    count, began = len(bench.states), time.monotonic()
    wait(lambda: len(bench.states) >= count + 10, 5.0, "ten more words")
    assert time.monotonic() - began > 0.7
    assert bench.guide(False).success
    wait(lambda: bench.state == "holding", 1.0, "the news that nobody does")
    assert [word for word, _ in groupby(bench.states)][-2:] == ["guided", "holding"]


def test_an_arm_that_follows_safe_actions_says_so(led):
    bench, arm, _ = led
    bench.guide(False)
    bench.say_state("ACTIVE")
    wait(lambda: arm._guide.follows, 5.0, "the news that safety is armed")
    action = arm._proprioception.measured(arm._sample, arm._action)
    action[-1] = 20.0
    bench.say_action(arm.deployment.contract.action.names, action)
    wait(lambda: bench.state == "following", 5.0, "the arm following")
    wait(lambda: bench.state == "holding", 5.0, "the arm holding again, since safety is silent")


def test_the_button_closes_and_opens_the_gripper_of_a_led_arm_and_moves_nothing_else(led):
    bench, arm, _ = led
    gripper = arm.robot.gripper
    wait(lambda: bench.width > 0.9 * gripper.upper, 5.0, "an open gripper")
    time.sleep(0.1)
    before, count = bench.joints.copy(), len(bench.commands)
    answer = bench.grip(True)
    assert (answer.success, answer.message) == (True, "the gripper closes")
    wait(lambda: bench.width < 0.1 * gripper.upper, 5.0, "the gripper closing")
    answer = bench.grip(False)
    assert (answer.success, answer.message) == (True, "the gripper opens")
    wait(lambda: bench.width > 0.9 * gripper.upper, 5.0, "the gripper opening")
    sent = bench.commands[count:]
    assert [tuple(command.joint_names) for command in sent] == [(gripper.joint,)] * 2
    assert [2.0 * command.points[-1].positions[0] for command in sent] == [gripper.lower, gripper.upper]
    force = load_derivation(arm.config_folder).grip_force
    assert [command.points[-1].effort[0] for command in sent] == [force] * 2
    np.testing.assert_allclose(bench.joints, before, atol=0.02)


def test_what_was_gripped_by_hand_is_held_when_the_hand_is_gone(led):
    bench, arm, _ = led
    bench.grip(True)
    wait(lambda: bench.width < 0.1 * arm.robot.gripper.upper, 5.0, "the gripper closing")
    assert bench.guide(False).success
    count = len(bench.commands)
    wait(lambda: len(bench.commands) > count + 50, 5.0, "half a second of holding")
    assert bench.width < 0.1 * arm.robot.gripper.upper
    assert bench.commands[-1].points[-1].positions[7] == pytest.approx(arm.robot.gripper.lower, abs=1e-9)


def test_where_the_button_left_the_gripper_is_told_at_once_and_until_the_arm_follows_safety_again(led):
    bench, arm, _ = led
    wait(lambda: bench.state == "guided", 1.0, "the news that a hand leads the arm")
    assert set(bench.grips) == {("false", "", "")}
    force = f"{load_derivation(arm.config_folder).grip_force:g}"
    bench.grip(True)
    wait(lambda: bench.grips[-1] == ("false", "0", force), 1.0, "the news that the gripper closes")
    bench.grip(False)
    wait(lambda: bench.grips[-1] == ("false", f"{arm.robot.gripper.upper:g}", force), 1.0, "that it opens")
    assert bench.guide(False).success
    count = len(bench.grips)
    wait(lambda: len(bench.grips) > count + 3, 5.0, "more words")
    assert set(bench.grips[count:]) == {("false", f"{arm.robot.gripper.upper:g}", force)}
    bench.say_state("ACTIVE")
    wait(lambda: bench.grips[-1][0] == "true", 5.0, "the news that safety is armed")
    action = arm._proprioception.measured(arm._sample, arm._action)
    action[-1] = 20.0
    bench.say_action(arm.deployment.contract.action.names, action)
    wait(lambda: bench.grips[-1] == ("true", "", ""), 5.0, "the news that a safe action was followed")


def test_the_button_asks_for_no_more_than_a_safe_action_may(led):
    """Else safety could not go on from there."""
    bench, arm, _ = led
    narrow = {"gripper.width": {"lower": 0.01, "upper": 0.06}, "gripper.force": {"lower": 5.0, "upper": 12.0}}
    arm._reach = {name: dataclasses.replace(arm._reach[name], **bounds) for name, bounds in narrow.items()}
    count = len(bench.commands)
    for close in (True, False):
        assert bench.grip(close).success
        count += 1
        wait(lambda n=count: len(bench.commands) >= n, 5.0, "the gripper's command")
    ends = [(2.0 * c.points[-1].positions[0], c.points[-1].effort[0]) for c in bench.commands[-2:]]
    np.testing.assert_allclose(ends, [(0.01, 12.0), (0.06, 12.0)])
    arm._reach["gripper.force"] = dataclasses.replace(arm._reach["gripper.force"], lower=40.0, upper=60.0)
    assert bench.grip(True).success
    wait(lambda: bench.commands[-1].points[-1].effort[0] == 40.0, 5.0, "the gripper pressing as hard as it must")


@pytest.mark.parametrize("close", [True, False])
def test_the_button_is_refused_while_nobody_leads_the_arm(led, close: bool):
    bench, _, _ = led
    assert bench.guide(False).success
    answer = bench.grip(close)
    assert not answer.success
    assert answer.message == "the arm is not led by hand: its gripper moves by safe actions only"
    count = len(bench.commands)
    wait(lambda: len(bench.commands) > count + 20, 5.0, "the arm holding")
    assert {len(command.joint_names) for command in bench.commands[count:]} == {8}


@pytest.mark.parametrize("state", ["ESTOP", "FAULT"])
def test_an_emergency_stop_takes_the_arm_back(led, state):
    bench, arm, sim = led
    count = len(bench.commands)
    bench.say_state(state)
    wait(lambda: len(bench.commands) > count + 10, 5.0, "the arm holding again")
    assert not arm._guide.guided
    wait(lambda: bench.state == "holding", 1.0, "the arm saying so")
    assert not bench.grip(True).success
    before = bench.joints.copy()
    with sim._lock:
        sim._world.push(np.array([0.0, 15.0, 0.0]), np.zeros(3))
    count = len(bench.commands)
    wait(lambda: len(bench.commands) > count + 50, 5.0, "half a second of pushing")
    np.testing.assert_allclose(bench.joints, before, atol=0.02)


def test_an_emergency_stop_stops_the_gripper_on_its_way(led):
    bench, arm, _ = led
    upper = arm.robot.gripper.upper
    wait(lambda: bench.width > 0.9 * upper, 5.0, "an open gripper")
    assert bench.grip(True).success
    wait(lambda: bench.width < 0.8 * upper, 5.0, "the gripper closing")
    bench.say_state("ESTOP")
    count = len(bench.commands)
    wait(lambda: len(bench.commands) > count + 100, 5.0, "a second of holding")
    assert bench.width > 0.2 * upper
    assert 2.0 * bench.commands[-1].points[-1].positions[7] > 0.2 * upper


@pytest.fixture
def stubborn(start, robot_of_deployment):
    """An arm node whose robot says no, or nothing at all; `answers` decides."""

    def make(answers: bool):
        bench, (arm,) = start(ArmNode)
        if answers:

            def refuse(_request, response):
                response.success, response.message = False, "this arm is bolted"
                return response

            bench.node.create_service(SetBool, "robot/compliant", refuse)
        deadline = time.monotonic() + 10.0
        while not arm._began and time.monotonic() < deadline:
            bench.say_joints(robot_of_deployment)
            time.sleep(0.02)
        assert arm._began
        return bench, arm

    return make


@pytest.fixture(scope="module")
def robot_of_deployment(config_folder):
    return load_deployment(config_folder / "grasp.yaml")[1]


def test_without_news_from_safety_nobody_leads_the_arm(stubborn):
    bench, arm = stubborn(answers=True)
    answer = bench.guide(True)
    assert not answer.success
    assert answer.message == "the state of safety is not known yet"
    assert not arm._guide.guided


@pytest.mark.parametrize("state", ["ACTIVE", "RETRY", "ESTOP", "FAULT"])
def test_while_safety_is_not_calm_nobody_leads_the_arm(stubborn, state):
    bench, arm = stubborn(answers=True)
    bench.say_state(state)
    wait(lambda: arm._guide._state == state, 5.0, "the state of safety")
    answer = bench.guide(True)
    assert not answer.success
    assert answer.message.startswith(f"safety is {state}")


def test_a_robot_that_refuses_to_yield_is_held_as_before(stubborn):
    bench, arm = stubborn(answers=True)
    bench.say_state("READY")
    wait(arm._guide._robot.service_is_ready, 5.0, "the robot's service")
    wait(lambda: arm._guide._state == "READY", 5.0, "the state of safety")
    answer = bench.guide(True)
    assert not answer.success
    assert answer.message == "the robot refused: this arm is bolted; the arm holds"
    assert "guided" not in bench.states, "it had not yielded"
    assert not bench.grip(True).success
    count = len(bench.commands)
    wait(lambda: len(bench.commands) > count + 10, 5.0, "the arm holding")


def make_calm(bench: Bench, arm: ArmNode, asked: list[bool]) -> None:
    """Safety is READY, and what a new arm node asks of the robot at its start is done and forgotten."""
    wait(arm._guide._robot.service_is_ready, 5.0, "the robot's service")
    bench.say_state("READY")
    wait(lambda: asked == [False], 5.0, "the robot being told to hold, at the start")
    asked.clear()


def test_a_stop_while_the_robot_is_asked_to_yield_keeps_the_arm(stubborn):
    bench, arm = stubborn(answers=False)
    asked: list[bool] = []

    def yield_late(request, response):
        asked.append(request.data)
        if request.data:
            bench.say_state("ESTOP")
            wait(lambda: arm._guide._state == "ESTOP", 5.0, "the news of the stop")
        response.success = True
        return response

    bench.node.create_service(SetBool, "robot/compliant", yield_late)
    make_calm(bench, arm, asked)
    answer = bench.guide(True)
    assert (answer.success, answer.message) == (False, "safety is ESTOP meanwhile; the arm holds")
    wait(lambda: asked == [True, False], 5.0, "the robot being told to hold")
    assert not arm._guide.led
    assert "guided" not in bench.states


def test_a_led_arm_that_is_asked_to_yield_again_and_refuses_is_led_no_more(stubborn):
    bench, arm = stubborn(answers=False)
    asked: list[bool] = []

    def yield_once(request, response):
        asked.append(request.data)
        response.success = asked == [True]
        return response

    bench.node.create_service(SetBool, "robot/compliant", yield_once)
    make_calm(bench, arm, asked)
    assert bench.guide(True).success
    wait(lambda: bench.state == "guided", 5.0, "the news that a hand leads the arm")
    assert not bench.guide(True).success
    wait(lambda: asked == [True, True, False], 5.0, "the robot being told to hold")
    wait(lambda: bench.state == "holding", 1.0, "the news that nobody does")
    assert not bench.grip(True).success


def test_an_arm_node_that_starts_takes_the_arm_back_once_and_waits_for_an_arming_of_its_own(stubborn):
    """Whoever led the arm, or was in charge of it, when its predecessor ended."""
    bench, arm = stubborn(answers=False)
    asked = []

    def agree(request, response):
        asked.append(request.data)
        response.success = True
        return response

    def hear(state: str) -> bool:
        bench.say_state(state)
        wait(lambda: arm._guide._state == state, 5.0, f"the news that safety is {state}")
        return arm._guide.follows

    bench.node.create_service(SetBool, "robot/compliant", agree)
    wait(arm._guide._robot.service_is_ready, 5.0, "the robot's service")
    assert [hear(state) for state in ("ACTIVE", "READY", "ACTIVE")] == [False, False, True]
    wait(lambda: asked == [False], 5.0, "the robot being told to hold")
    arm.trigger_deactivate()
    arm.trigger_activate()
    assert [hear(state) for state in ("ACTIVE", "READY", "ACTIVE")] == [False, False, True]
    wait(lambda: asked == [False, False], 5.0, "the robot being told to hold again")


@pytest.mark.parametrize("start", [("compliant_controller:=gravity",)], indirect=True)
def test_the_button_is_refused_where_the_gripper_has_no_controller_while_a_hand_leads(stubborn):
    """It would else move, and at once, when the hand is gone."""
    bench, arm = stubborn(answers=False)

    def agree(_request, response):
        response.success = True
        return response

    bench.node.create_service(SetBool, "robot/compliant", agree)
    bench.say_state("READY")
    wait(arm._guide._robot.service_is_ready, 5.0, "the robot's service")
    wait(lambda: arm._guide._state == "READY", 5.0, "the state of safety")
    assert bench.guide(True).success
    answer = bench.grip(True)
    assert not answer.success
    assert answer.message.startswith("the gripper's controller stands still while a hand leads")
    assert not any(len(command.joint_names) == 1 for command in bench.commands)


def test_an_arm_that_does_not_know_where_it_is_says_that_it_waits(start):
    bench, _ = start(ArmNode)
    wait(lambda: bench.state == "waiting", 5.0, "the arm's word")
    assert not bench.grip(True).success
    assert not bench.commands


def test_a_robot_without_a_compliant_mode_says_so(stubborn):
    bench, arm = stubborn(answers=False)
    bench.say_state("READY")
    wait(lambda: arm._guide._state == "READY", 5.0, "the state of safety")
    answer = bench.guide(True)
    assert (answer.success, answer.message) == (False, "nobody serves robot/compliant: this arm cannot yield")
    assert bench.guide(False).message == "the arm was not led by hand"


def test_a_robot_that_never_answers_is_not_waited_for(stubborn):
    bench, arm = stubborn(answers=False)
    deaf = Node("deaf_robot")  # nobody spins it
    try:
        deaf.create_service(SetBool, "robot/compliant", lambda _request, response: response)
        bench.say_state("READY")
        wait(arm._guide._robot.service_is_ready, 5.0, "the robot's service")
        wait(lambda: arm._guide._state == "READY", 5.0, "the state of safety")
        answer = bench.guide(True)
        assert (answer.success, answer.message) == (False, "the robot has not answered within 1.0 s; the arm holds")
        assert not arm._guide.guided
    finally:
        deaf.destroy_node()
