"""The safety node on real DDS, with strangers and successors on the topics that it hears."""

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
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.core.types import ActionChunk
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.safety_node import SafetyNode

POLICY, JOINTS, ESTOP = "policy/action", "joint_states", "safety/estop"
NODES = ("driver", "policy", "operator", "rogue")


class Cell:
    """The safety node, and around it a driver, a policy, an operator and a stranger, played by nodes of the test."""

    def __init__(self) -> None:
        self.nodes = {name: Node(name) for name in NODES}
        self.safety = SafetyNode()
        self.safety.trigger_configure()
        assert self.safety.refusal is None
        self.state: dict[str, str] = {"state": "", "offered": ""}
        self.rules: list[tuple[str, str]] = []
        self.alarms: list[str] = []
        for topic, take in (
            ("safety/state", self._take_state),
            ("safety/verdict", self._take_verdict),
            ("/diagnostics", self._take_health),
        ):
            entry = graph.topic(topic)
            kind, qos = endpoints.interface(entry.type), endpoints.profile(entry.qos)
            self.nodes["operator"].create_subscription(kind, topic, take, qos)
        self._arming = self.nodes["operator"].create_client(SetBool, "safety/arm")
        self._talk: dict[str, tuple[str, Publisher]] = {}
        self._lock = threading.Lock()
        self._beats = 0
        for node, topic in (("driver", JOINTS), ("policy", POLICY)):
            self.joins(node, topic)
        self._beat = Beat(0.01, self._say, lambda error: self.alarms.append(repr(error)))

    def publisher(self, node: str, topic: str) -> Publisher:
        entry = graph.topic(topic)
        return self.nodes[node].create_publisher(endpoints.interface(entry.type), topic, endpoints.profile(entry.qos))

    def joins(self, node: str, topic: str) -> None:
        """Says from now on what it says there: a driver a hundred times a second, a policy twenty times."""
        with self._lock:
            self._talk[node] = (topic, self.publisher(node, topic))

    def leaves(self, node: str) -> None:
        """Until safety knows of it."""
        with self._lock:
            topic, publisher = self._talk.pop(node)
            count = self.safety.count_publishers(topic)
            self.nodes[node].destroy_publisher(publisher)
        wait(lambda: self.safety.count_publishers(topic) < count, "the end of a publisher")

    def joint_state(self) -> JointState:
        robot = self.safety.robot
        message = JointState(name=[*robot.joint_names, robot.gripper.joint])
        message.header.stamp = self.safety.get_clock().now().to_msg()
        message.position = array.array("d", [*(robot.home + 1e-9 * (self._beats % 2)), 0.03])
        return message

    def table(self):
        """Asks to stay."""
        spec, now_ns = self.safety.deployment.contract.action, self.safety.get_clock().now().nanoseconds
        times = spec.dt_s * np.arange(1, 5)
        values = np.tile(self.safety._verdict.output, (4, 1))
        return messages.table_message(ActionChunk("policy", now_ns, 0, spec.names, times, values, np.zeros(4)), "base")

    def arm(self, on: bool = True) -> SetBool.Response:
        assert self._arming.wait_for_service(10.0)
        future = self._arming.call_async(SetBool.Request(data=on))
        wait(future.done, "the answer of safety/arm")
        return future.result()

    def is_in(self, state: str) -> None:
        wait(lambda: self.state["state"] == state, state)

    def gets_armed(self) -> None:
        """By the operator, for the policy, as soon as safety agrees."""
        wait(lambda: self.arm().success, "a policy that can be armed")
        self.is_in("ACTIVE")

    def named(self, sentence: str) -> None:
        wait(lambda: any(alarm.startswith(sentence) for alarm in self.alarms), f"the alarm '{sentence}'")

    def _say(self) -> None:
        self._beats += 1
        with self._lock:
            for topic, publisher in self._talk.values():
                if topic == JOINTS:
                    publisher.publish(self.joint_state())
                elif self._beats % 5 == 0 and getattr(self.safety._verdict, "output", None) is not None:
                    publisher.publish(self.table())

    def close(self) -> None:
        self._beat.stop()

    def _take_state(self, message: DiagnosticArray) -> None:
        self.state = values_of(message.status[0])

    def _take_verdict(self, message: DiagnosticArray) -> None:
        self.rules += [(values["to"], values["rule"]) for values in map(values_of, message.status[1:])]

    def _take_health(self, message: DiagnosticArray) -> None:
        self.alarms += [s.message for s in message.status if s.name == "safety" and s.level == b"\x02"]


def wait(condition: Callable[[], object], what: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        meanwhile()
        time.sleep(0.01)


@pytest.fixture
def cell(ros_environment, patient_config, tmp_path) -> Iterator[Cell]:
    parameters = (f"deployment:={patient_config / 'grasp.yaml'}", "source:=expert", f"stops:={tmp_path}")
    rclpy.init(args=["--ros-args", *(part for parameter in parameters for part in ("-p", parameter))])
    executor, made = SingleThreadedExecutor(), Cell()
    for node in (made.safety, *made.nodes.values()):
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    made.safety.trigger_activate()
    made.is_in("READY")
    yield made
    made.close()
    made.safety.wind_down()
    executor.shutdown()
    thread.join()
    for node in (made.safety, *made.nodes.values()):
        node.destroy_node()
    rclpy.try_shutdown()


def test_a_lone_stranger_does_not_take_the_place_of_a_policy_that_has_died(cell: Cell):
    cell.gets_armed()
    cell.leaves("policy")
    cell.joins("rogue", POLICY)
    cell.is_in("FALLBACK")
    cell.named(f"/rogue publishes '{POLICY}', which is for /policy alone; refused until")
    refused = lambda: "exactly one publisher" in cell.arm().message  # noqa: E731
    wait(refused, "safety refusing the stranger by rule SOURCE")
    assert cell.state["offered"] == ""
    assert ("ACTIVE", "RESUME") not in cell.rules


def test_after_the_stranger_a_new_policy_is_offered_and_moves_only_when_armed(cell: Cell):
    cell.gets_armed()
    cell.leaves("policy")
    cell.joins("rogue", POLICY)
    cell.is_in("FALLBACK")
    cell.leaves("rogue")
    cell.joins("policy", POLICY)
    wait(lambda: cell.state["offered"] == "policy", "the new policy")
    assert cell.state["state"] == "FALLBACK"
    cell.gets_armed()
    wait(lambda: cell.safety.health()[0] == "ok", "the end of the alarm")


def test_a_policy_in_the_place_of_another_does_not_go_on_in_its_motion(cell: Cell):
    """So soon that the monitor would not have missed it."""
    cell.gets_armed()
    cell.leaves("policy")
    cell.joins("policy", POLICY)
    cell.is_in("FALLBACK")
    cell.named(f"another /policy publishes '{POLICY}' than before")
    cell.gets_armed()


def test_while_another_source_drives_a_successor_of_the_policy_waits(cell: Cell):
    cell.gets_armed()
    cell.leaves("policy")
    pins = cell.safety._pins
    cell.safety._is_armed, pins._armed = (lambda: True), (lambda: True)  # as if teleop drove on
    cell.joins("policy", POLICY)
    cell.named(f"another /policy publishes '{POLICY}' than before")
    time.sleep(0.3)  # several tables and several looks
    assert pins.publishers(POLICY, time.monotonic_ns()) == 0
    pins._armed = lambda: False
    wait(lambda: cell.state["offered"] == "policy", "the policy, once nothing is armed")


@pytest.mark.parametrize("talks", [True, False], ids=["that talks", "that is silent"])
def test_a_second_publisher_of_joint_states_stops_the_arm_and_is_named_within_a_second(cell: Cell, talks: bool):
    cell.gets_armed()
    began = time.monotonic()
    if talks:
        cell.joins("rogue", JOINTS)
    else:
        silent = cell.publisher("rogue", JOINTS)
    cell.named(f"/rogue publishes '{JOINTS}', which is for one program alone")
    assert time.monotonic() - began < 1.0
    cell.is_in("FALLBACK")
    wait(lambda: ("FALLBACK", "STATE") in cell.rules, "the verdict")
    answer = cell.arm()
    assert (answer.success, answer.message) == (
        False,
        "joint_states must have exactly one publisher, the same all along",
    )
    if talks:
        cell.leaves("rogue")
    else:
        cell.nodes["rogue"].destroy_publisher(silent)
    cell.gets_armed()


def test_a_robot_that_is_started_again_in_motion_waits_for_the_operator(cell: Cell):
    cell.gets_armed()
    cell.leaves("driver")
    cell.joins("driver", JOINTS)
    cell.is_in("FALLBACK")
    wait(lambda: ("FALLBACK", "STATE") in cell.rules, "the verdict")
    cell.gets_armed()


def test_a_stranger_can_press_the_emergency_stop_but_not_let_it_go(cell: Cell):
    box, theirs = cell.publisher("operator", ESTOP), cell.publisher("rogue", ESTOP)
    wait(lambda: cell.safety.count_publishers(ESTOP) == 2, "both")
    wait(lambda: box.get_subscription_count() == theirs.get_subscription_count() == 1, "safety hearing both")
    theirs.publish(Bool(data=True))
    cell.is_in("ESTOP")
    pressed = lambda: cell.safety._monitor._m.estop_pressed  # noqa: E731
    for publisher in (box, theirs):
        publisher.publish(Bool(data=False))
    time.sleep(0.2)  # a dozen looks
    assert pressed()
    cell.nodes["rogue"].destroy_publisher(theirs)
    wait(lambda: not pressed(), "the box letting it go", lambda: box.publish(Bool(data=False)))
