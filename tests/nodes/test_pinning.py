"""The pins: the decision without ROS, and the arm node on real DDS with strangers beside safety."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from policy_bringup.core import graph
from policy_bringup.core.types import ActionChunk
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.arm_node import ArmNode
from policy_bringup.nodes.pinning import MOST_NAMES, NAMELESS_NS, Pin, Publisher
from policy_bringup.nodes.sim_node import SimNode

SAFETY, TWIN = Publisher(b"1", "/safety"), Publisher(b"2", "/safety")
ROGUE, NAMELESS = Publisher(b"3", "/rogue"), Publisher(b"4", "")
ACTION, COMMAND = "safety/action", "arm_controller/joint_trajectory"


@pytest.fixture
def pin() -> Pin:
    return Pin(ACTION, "/safety")


def test_safety_alone_is_trusted(pin: Pin):
    assert pin.judge((SAFETY,), 0) == ""
    assert pin.trusted


def test_nobody_is_no_alarm_and_no_trust(pin: Pin):
    assert pin.judge((), 0) == ""
    assert not pin.trusted


def test_a_node_of_another_name_is_named_and_not_trusted(pin: Pin):
    assert pin.judge((ROGUE,), 0) == "/rogue publishes 'safety/action', which is for /safety alone"
    assert not pin.trusted


def test_the_right_name_in_another_namespace_is_another_name(pin: Pin):
    assert pin.judge((Publisher(b"5", "/robot2/safety"),), 0).startswith("/robot2/safety publishes")
    assert not pin.trusted


@pytest.mark.parametrize("present", [(SAFETY, ROGUE), (ROGUE, SAFETY)])
@pytest.mark.parametrize("known", [True, False])
def test_a_second_publisher_ends_the_trust_in_the_first_and_is_the_one_named(pin: Pin, present, known: bool):
    if known:
        pin.judge((SAFETY,), 0)
    assert pin.judge(present, 1) == "/rogue publishes 'safety/action', which is for /safety alone"
    assert not pin.trusted


@pytest.mark.parametrize("known", [True, False])
def test_a_twin_with_the_right_name_is_a_stranger_too(pin: Pin, known: bool):
    if known:
        pin.judge((SAFETY,), 0)
    assert pin.judge((SAFETY, TWIN), 1) == "a second /safety publishes 'safety/action', which is for /safety alone"
    assert not pin.trusted


def test_when_the_stranger_has_left_the_first_is_trusted_again(pin: Pin):
    pin.judge((SAFETY,), 0)
    pin.judge((SAFETY, ROGUE), 1)
    assert pin.judge((SAFETY,), 2) == ""
    assert pin.trusted


@pytest.mark.parametrize("between", [(), (SAFETY, TWIN)], ids=["after it left", "while it was there"])
def test_who_takes_the_first_ones_place_is_an_alarm_once_and_then_the_one(pin: Pin, between):
    pin.judge((SAFETY,), 0)
    pin.judge(between, 1)
    assert pin.judge((TWIN,), 2) == "another /safety publishes 'safety/action' than before"
    assert pin.judge((TWIN,), 3) == ""
    assert pin.trusted


def test_a_lone_publisher_has_half_a_second_to_be_named(pin: Pin):
    assert pin.judge((NAMELESS,), 5) == ""
    assert not pin.trusted
    assert pin.judge((NAMELESS,), 5 + NAMELESS_NS - 1) == ""
    assert pin.judge((NAMELESS,), 5 + NAMELESS_NS).startswith("a program without a node name publishes")
    assert not pin.trusted


def test_each_lone_publisher_has_that_half_second(pin: Pin):
    pin.judge((NAMELESS,), 0)
    pin.judge((Publisher(NAMELESS.gid, "/safety"),), 1)
    pin.judge((), 2)
    assert pin.judge((Publisher(b"6", ""),), 2 + NAMELESS_NS) == ""


def test_a_nameless_second_publisher_has_no_time_at_all(pin: Pin):
    pin.judge((SAFETY,), 0)
    assert pin.judge((SAFETY, NAMELESS), 1).startswith("a program without a node name publishes")


def test_a_crowd_does_not_make_an_endless_sentence(pin: Pin):
    crowd = tuple(Publisher(str(i).encode(), f"/rogue{i}") for i in range(1000))
    sentence = pin.judge((SAFETY, *crowd), 0)
    assert f"/rogue{MOST_NAMES - 1} and {1000 - MOST_NAMES} more publishes" in sentence
    assert len(sentence) < 200


def test_where_no_name_is_known_whoever_is_first_and_alone_is_the_one():
    pin = Pin("joint_states", "")
    assert pin.judge((NAMELESS,), 0) == ""
    assert pin.trusted
    assert pin.judge((NAMELESS, ROGUE), 1) == "/rogue publishes 'joint_states', which is for one program alone"
    assert not pin.trusted
    assert pin.judge((NAMELESS,), 2) == ""
    assert pin.trusted
    assert pin.judge((ROGUE,), 3) == "another program publishes 'joint_states' than before"


def test_where_no_name_is_known_none_of_two_is_the_one():
    pin = Pin("joint_states", "")
    both = "a program without a node name, /rogue publishes 'joint_states', which is for one program alone"
    assert pin.judge((NAMELESS, ROGUE), 0) == both
    assert not pin.trusted


class Cell:
    """The arm node and the simulated robot, with safety, and whoever else, played by nodes of the test."""

    def __init__(self) -> None:
        self.executor = SingleThreadedExecutor()
        self.made: list[Node] = []
        self.alarms: list[tuple[int, str]] = []
        self.safety, ears = self.node("safety"), self.node("operator")
        self.say, self._state = self.publisher(self.safety, ACTION), self.publisher(self.safety, "safety/state")
        entry = graph.topic("/diagnostics")
        ears.create_subscription(
            endpoints.interface(entry.type), entry.name, self._take_health, endpoints.profile(entry.qos)
        )

    def node(self, name: str) -> Node:
        made = Node(name)
        self.made.append(made)
        self.executor.add_node(made)
        return made

    def begin(self, *classes):
        """Configures and activates real nodes."""
        nodes = [node_class() for node_class in classes]
        for node in nodes:
            self.made.append(node)
            node.trigger_configure()
            assert node.refusal is None
            node.trigger_activate()
            self.executor.add_node(node)
        return nodes

    def publisher(self, node: Node, name: str):
        entry = graph.topic(name)
        return node.create_publisher(endpoints.interface(entry.type), name, endpoints.profile(entry.qos))

    def say_state(self, state: str) -> None:
        values = {"state": state, "source": "policy", "offered": ""}
        self._state.publish(messages.diagnostics(1, messages.status("safety", "ok", state, values)))

    def wait(self, condition: Callable[[], object], what: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for: {what}"
            meanwhile()
            self.executor.spin_once(timeout_sec=0.01)

    def _take_health(self, message) -> None:
        for status in message.status:
            if status.name == "arm" and status.level == b"\x02":
                self.alarms.append((time.monotonic_ns(), status.message))

    def close(self) -> None:
        for node in self.made:
            if hasattr(node, "wind_down"):
                node.wind_down()
        self.executor.shutdown()
        for node in self.made:
            node.destroy_node()


@pytest.fixture
def cell(ros_environment, config_folder) -> Iterator[Cell]:
    rclpy.init(args=["--ros-args", "-p", f"deployment:={config_folder / 'grasp.yaml'}"])
    cell = Cell()
    yield cell
    cell.close()
    rclpy.try_shutdown()


class Following:
    """An arm that knows where it is, and a safety that asks its tool to stay there, or to be `off` beside it."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.arm, _ = cell.begin(ArmNode, SimNode)
        cell.wait(lambda: self.arm._sample is not None, "the arm knowing where it is")
        self.names = self.arm.deployment.contract.action.names
        self.tool = self.arm._proprioception.measured(self.arm._sample, self.arm._action)
        self.tool[-1] = 20.0
        self.asked = 0

    @property
    def followed(self) -> int:
        return self.arm._arm.counts.followed

    def action(self, off: float = 0.0):
        row = self.tool + np.array([0.0, 0.0, off, 0.0, 0.0, 0.0, 0.0, 0.0])
        chunk = ActionChunk("safety", time.time_ns(), 0, self.names, np.zeros(1), row[None], np.zeros(1))
        return messages.table_message(chunk, "panda_link0")

    def ask(self) -> None:
        self.asked += 1
        self.cell.say.publish(self.action())

    def arm_safety(self) -> None:
        for state in ("READY", "ACTIVE"):
            self.cell.say_state(state)
            self.cell.wait(lambda state=state: self.arm._guide._state == state, f"the news that safety is {state}")


@pytest.fixture
def following(cell: Cell) -> Following:
    following = Following(cell)
    following.arm_safety()
    cell.wait(lambda: following.followed > 10, "the arm following safety", following.ask)
    return following


def test_a_stranger_that_teleports_the_arm_moves_nothing_and_is_named(following: Following):
    cell, arm = following.cell, following.arm
    rogue = cell.publisher(cell.node("rogue"), ACTION)
    before = arm._arm.joints.copy()

    def both() -> None:
        following.ask()
        rogue.publish(following.action(off=0.3))

    refused = arm._pins.refused
    cell.wait(lambda: cell.alarms and arm._pins.refused > refused + 20, "the alarm and refused actions", both)
    assert cell.alarms[-1][1].startswith("/rogue publishes 'safety/action', which is for /safety alone; the arm holds")
    followed = following.followed
    cell.wait(lambda: arm._pins.refused > refused + 60, "more refused actions", both)
    assert following.followed == followed
    assert arm._arm.holding
    np.testing.assert_allclose(arm._arm.joints, before, atol=1e-3)


def test_the_alarm_does_not_wait_for_the_next_second_of_diagnostics(following: Following):
    cell = following.cell
    for timer in following.arm.timers:
        timer.cancel()
    cell.publisher(cell.node("rogue"), ACTION)
    cell.wait(lambda: cell.alarms, "the alarm, from an arm whose periodic diagnostics are off")


def test_after_a_stranger_the_arm_follows_only_when_safety_is_armed_anew(following: Following):
    cell, arm = following.cell, following.arm
    rogue = cell.node("rogue")
    theirs = cell.publisher(rogue, ACTION)
    cell.wait(lambda: arm._pins.alarm, "the alarm")
    cell.say_state("READY")
    cell.say_state("ACTIVE")
    cell.wait(lambda: arm._guide._state == "ACTIVE", "the news that safety is armed while the stranger is there")
    assert arm._pins.alarm
    rogue.destroy_publisher(theirs)
    cell.wait(lambda: cell.safety.count_publishers(ACTION) == 1, "the end of the stranger")
    followed, refused = following.followed, arm._pins.refused
    cell.wait(lambda: arm._pins.refused > refused + 40, "refused actions", following.ask)
    assert following.followed == followed
    assert arm.health()[:2] == ("error", arm._pins.alarm)
    cell.say_state("READY")
    cell.wait(lambda: arm._guide._state == "READY", "the news that safety is disarmed")
    cell.say_state("ACTIVE")
    cell.wait(lambda: following.followed > followed, "the arm following", following.ask)
    assert arm.health()[0] != "error"


def test_an_arm_node_that_begins_while_safety_is_armed_holds_until_it_is_armed_anew(cell: Cell):
    """Started again in motion: what safety asks for may be far from where the arm is by now."""
    cell.say_state("ACTIVE")
    following = Following(cell)
    arm = following.arm
    cell.wait(lambda: arm._guide._state == "ACTIVE", "the news that safety is armed")
    cell.wait(lambda: arm._pins._pins[ACTION].trusted and following.asked > 50, "safe actions", following.ask)
    assert following.followed == 0
    assert arm._arm.holding
    assert arm.health()[:2] == ("ok", "holding until safety is armed anew")
    following.arm_safety()
    cell.wait(lambda: following.followed > 0, "the arm following", following.ask)


def test_before_safety_was_armed_no_action_is_followed(cell: Cell):
    following = Following(cell)
    arm = following.arm
    cell.say_state("READY")
    cell.wait(lambda: arm._pins._pins[ACTION].trusted and following.asked > 50, "safe actions", following.ask)
    assert following.followed == 0
    assert arm._arm.holding


def test_a_stranger_on_the_controllers_own_topic_stops_the_following(following: Following):
    cell, arm = following.cell, following.arm
    cell.publisher(cell.node("rogue"), COMMAND)
    cell.wait(lambda: arm._pins.alarm, "the alarm", following.ask)
    assert arm._pins.alarm.startswith(f"/rogue publishes '{COMMAND}', which is for /arm alone")
    followed, refused = following.followed, arm._pins.refused
    cell.wait(lambda: arm._pins.refused > refused + 20, "refused actions", following.ask)
    assert following.followed == followed


def test_whoever_takes_safetys_place_must_be_armed(following: Following):
    """The same name, but not the same publisher: e.g. a safety node that was started again."""
    cell, arm = following.cell, following.arm
    cell.safety.destroy_publisher(cell.say)
    cell.wait(lambda: cell.safety.count_publishers(ACTION) == 0, "the end of the first publisher")
    cell.say = cell.publisher(cell.safety, ACTION)
    cell.wait(lambda: arm._pins.alarm, "the alarm", following.ask)
    assert arm._pins.alarm.startswith("another /safety publishes 'safety/action' than before")
    followed = following.followed
    following.arm_safety()
    cell.wait(lambda: following.followed > followed, "the arm following", following.ask)
