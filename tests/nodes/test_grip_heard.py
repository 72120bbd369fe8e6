"""The safety node on real DDS beside an arm that says where its gripper's button has left the gripper."""

import array
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import graph
from policy_bringup.core.decoding import chunk_of, values_of
from policy_bringup.core.types import ActionChunk
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.safety_node import SafetyNode

HELD = {"state": "holding", "follows": False, "gripper.width": 0.0, "gripper.force": 30.0}


class Bench:
    """A robot that holds something between its fingers, its arm node's words, and a source that is teleop."""

    def __init__(self) -> None:
        self.node, self.teleop, self.rival = Node("arm"), Node("teleop"), Node("rival")
        self.safety = SafetyNode()
        self._said = self._taken = 0
        hear = self.safety._take_arm_state
        self.safety._take_arm_state = lambda message: self._hear(hear, message)
        self.safety.trigger_configure()
        assert self.safety.refusal is None
        self.names = self.safety.deployment.contract.action.names
        self.gripper: list[tuple[float, float]] = []
        self.state = self.offered = ""
        self._wiggle = 0
        self._out = {name: self._publisher(self.node, name) for name in ("joint_states", "arm/state")}
        self._out["teleop/action"] = self._publisher(self.teleop, "teleop/action")
        for name, take in (("safety/action", self._take_action), ("safety/state", self._take_state)):
            entry = graph.topic(name)
            self.node.create_subscription(endpoints.interface(entry.type), name, take, endpoints.profile(entry.qos))
        self.client = self.node.create_client(SetBool, "safety/arm")
        self.node.create_timer(0.01, self._say_joints)

    def _hear(self, hear: Callable[[DiagnosticArray], None], message: DiagnosticArray) -> None:
        hear(message)
        self._taken += 1

    def _publisher(self, node: Node, name: str):
        entry = graph.topic(name)
        return node.create_publisher(endpoints.interface(entry.type), name, endpoints.profile(entry.qos))

    def _say_joints(self) -> None:
        self._wiggle += 1
        robot = self.safety.robot
        message = JointState(name=[*robot.joint_names, robot.gripper.joint])
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.position = array.array("d", [*(robot.home + 1e-9 * (self._wiggle % 2)), 0.015])
        self._out["joint_states"].publish(message)

    def says(self, values: dict) -> None:
        now_ns = self.node.get_clock().now().nanoseconds
        self._out["arm/state"].publish(messages.diagnostics(now_ns, messages.status("arm", "ok", "", values)))

    def says_nothing(self) -> None:
        self._out["arm/state"].publish(DiagnosticArray())

    def heard(self) -> None:
        """Safety has heard what was said last."""
        self._said += 1
        wait(lambda: self._taken == self._said, 5.0, "safety hearing the arm")

    def joins_a_rival(self) -> None:
        self._publisher(self.rival, "arm/state")
        wait(lambda: self.safety.count_publishers("arm/state") == 2, 5.0, "the rival being seen")

    def proposes(self, gripper: tuple[float, float] | None) -> None:
        now_ns, spec = self.node.get_clock().now().nanoseconds, self.safety.deployment.contract.action
        here = self.safety._verdict.output
        here = here if gripper is None else np.append(here[:-2], gripper)
        times = spec.dt_s * np.arange(1, 5)
        chunk = ActionChunk("teleop", now_ns, 0, spec.names, times, np.tile(here, (4, 1)), np.zeros(4))
        self._out["teleop/action"].publish(messages.table_message(chunk, self.safety.robot.base_frame))

    def arms(self, on: bool) -> SetBool.Response:
        assert self.client.wait_for_service(5.0)
        future = self.client.call_async(SetBool.Request(data=on))
        wait(future.done, 5.0, "the answer of safety/arm")
        return future.result()

    def arms_for_teleop(self, gripper: tuple[float, float] | None = None) -> None:
        """Teleop asks to stay where safety has its reference, or for what the arm has said of its `gripper`."""

        def offered() -> bool:
            self.proposes(gripper)
            return self.offered == "teleop"

        wait(offered, 5.0, "safety offering teleop")
        self.proposes(gripper)
        assert self.arms(True).success

    def next_gripper(self) -> tuple[float, float]:
        """Of the third safe action from now: none before it can have been on its way."""
        count = len(self.gripper)
        wait(lambda: len(self.gripper) > count + 3, 5.0, "safe actions")
        return self.gripper[-1]

    def _take_action(self, message: JointTrajectory) -> None:
        self.gripper.append(tuple(chunk_of(message, "safety", 0).values[0][-2:].tolist()))

    def _take_state(self, message: DiagnosticArray) -> None:
        values = values_of(message.status[0])
        self.state, self.offered = values["state"], values["offered"]


def wait(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for: {what}"
        time.sleep(0.01)


@pytest.fixture
def bench(patient_config, tmp_path) -> Iterator[Bench]:
    parameters = (f"deployment:={patient_config / 'grasp.yaml'}", "source:=expert", f"stops:={tmp_path}")
    rclpy.init(args=["--ros-args", *(part for parameter in parameters for part in ("-p", parameter))])
    made, executor = Bench(), SingleThreadedExecutor()
    for node in (made.node, made.teleop, made.rival, made.safety):
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    made.safety.trigger_activate()
    yield made
    made.safety.wind_down()
    executor.shutdown()
    thread.join()
    for node in (made.safety, made.node, made.teleop, made.rival):
        node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def ready(bench) -> Bench:
    wait(lambda: bench.state == "READY", 10.0, "safety holding")
    wait(lambda: bench.gripper, 10.0, "safe actions")
    assert bench.next_gripper() == (0.03, 0.0), "as measured, and no sensor tells the force"
    known = lambda: [info.node_name for info in bench.safety.get_publishers_info_by_topic("arm/state")] == ["arm"]  # noqa: E731
    wait(known, 5.0, "the arm being known: DDS tells a node's name later than its publishers")
    return bench


def test_what_a_button_closed_stays_closed_when_safety_is_armed(ready):
    ready.says(HELD)
    wait(lambda: ready.gripper[-1] == (0.0, 30.0), 5.0, "safety taking the grip over")
    ready.arms_for_teleop()
    wait(lambda: ready.state == "ACTIVE", 5.0, "the news that safety is armed")
    assert set(ready.gripper[ready.gripper.index((0.0, 30.0)) :]) == {(0.0, 30.0)}


def test_an_arm_that_follows_or_says_nothing_of_its_gripper_changes_nothing(ready):
    for values in ({**HELD, "follows": True}, {"state": "holding", "follows": False}):
        ready.says(values)
        ready.heard()
        assert ready.next_gripper() == (0.03, 0.0)
    ready.says_nothing()
    ready.heard()
    assert ready.next_gripper() == (0.03, 0.0)
    assert ready.state == "READY"


def test_where_a_stranger_speaks_for_the_arm_nobody_is_believed(ready):
    ready.joins_a_rival()
    ready.says(HELD)
    ready.heard()
    assert ready.next_gripper() == (0.03, 0.0)


def test_what_was_said_while_another_was_armed_counts_at_the_next_arming(ready):
    ready.arms_for_teleop()
    ready.says(HELD)
    wait(lambda: ready.safety._gripped is not None, 5.0, "the arm's words")
    assert ready.next_gripper() == (0.03, 0.0), "somebody drives"
    assert ready.arms(False).success
    assert ready.next_gripper() == (0.03, 0.0)
    count = len(ready.gripper)
    ready.arms_for_teleop(gripper=(0.0, 30.0))
    wait(lambda: ready.gripper[-1] == (0.0, 30.0), 5.0, "safety taking the grip over")
    assert set(ready.gripper[count:]) <= {(0.03, 0.0), (0.0, 30.0)}, "at once, not on the way of a proposal"


def test_what_is_no_longer_said_does_not_come_back_at_the_next_arming(ready):
    ready.says({**HELD, "gripper.width": 0.5})
    wait(lambda: ready.safety._gripped is not None, 5.0, "the arm's words")
    assert ready.next_gripper() == (0.03, 0.0), "wider than it can be"
    ready.says({"state": "following", "follows": True})
    wait(lambda: ready.safety._gripped is None, 5.0, "the arm's words")
    ready.arms_for_teleop()
    assert ready.next_gripper() == (0.03, 0.0)
