"""A program that nobody asked for publishes where only a node of the stack, or the robot, may, while all run.

Without DDS security nothing keeps it out. It must be named within a second, and nothing follows it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import graph
from policy_bringup.core.decoding import stamp_of, values_of
from policy_bringup.nodes import endpoints

ROOT = Path(__file__).resolve().parents[2]
ACTION, COMMAND = "safety/action", "arm_controller/joint_trajectory"
POLICY, JOINTS = "policy/action", "joint_states"
ROGUE = "rogue"
"""Its node name, and the frame in its messages, by which the test knows them."""
ALARM_S = 1.0
ARMINGS, FOLLOWS_S = 3, 10.0
JUMP_M = 0.3
MOVED = 1e-3
"""Rad; m for the finger."""


class Witness:
    """What an onlooker hears of safety, of the arm, and of the stranger."""

    def __init__(self, listener) -> None:
        self.listener = listener
        self.safe: JointTrajectory | None = None
        self.commands: list[JointTrajectory] = []
        self.rogue_ns: list[int] = []
        self.arm: list[tuple[int, DiagnosticStatus]] = []
        self.gate: list[tuple[int, DiagnosticStatus]] = []
        self.joints: JointState | None = None
        self.safety: dict[str, str] = {"state": "", "offered": ""}
        for name, take in (
            ("safety/state", self._take_state),
            (ACTION, self._take_action),
            (COMMAND, self._take_command),
            ("/diagnostics", self._take_health),
            (POLICY, self._take_proposal),
            (JOINTS, self._take_joints),
        ):
            entry = graph.topic(name)
            qos = endpoints.profile(entry.qos)
            qos.depth = 100
            listener.node.create_subscription(endpoints.interface(entry.type), name, take, qos)

    def _take_action(self, message: JointTrajectory, info) -> None:
        if message.header.frame_id == ROGUE:
            self.rogue_ns.append(info["source_timestamp"])
        else:
            self.safe = message

    def _take_command(self, message: JointTrajectory, info) -> None:
        if message.header.frame_id == ROGUE:
            self.rogue_ns.append(info["source_timestamp"])
        else:
            self.commands.append(message)

    def _take_proposal(self, _message: JointTrajectory, info) -> None:
        self.rogue_ns.append(info["source_timestamp"])  # no policy runs

    def _take_joints(self, message: JointState, info) -> None:
        if message.header.frame_id == ROGUE:
            self.rogue_ns.append(info["source_timestamp"])
        else:
            self.joints = message

    def _take_state(self, message: DiagnosticArray) -> None:
        self.safety = values_of(message.status[0])

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            told = {"arm": self.arm, "safety": self.gate}.get(status.name, [])
            told.append((stamp_of(message.header.stamp), status))

    @property
    def alarms(self) -> list[tuple[int, DiagnosticStatus]]:
        """Of both."""
        return [(ns, status) for ns, status in self.arm + self.gate if status.level == DiagnosticStatus.ERROR]

    def let_it_home(self) -> None:
        """The arm follows nobody before safety was armed since it started."""
        wait, node = self.listener.wait, self.listener.node
        wait(lambda: self.safety["state"] == "READY", 60.0, "READY")
        home, arm = node.create_client(Trigger, "arm/home"), node.create_client(SetBool, "safety/arm")
        homing = lambda: self.listener.call(home, Trigger.Request()).success  # noqa: E731
        # An arm node to which DDS tells of safety only when it is armed already holds until it is armed anew.
        for _ in range(ARMINGS):
            wait(homing, 30.0, "an arm node that knows where the arm is")
            wait(lambda: self.safety["offered"] == "home", 30.0, "homing that asks to be armed")
            assert self.listener.arm(arm)
            follows = self.listener.comes(self.follows, FOLLOWS_S)
            assert self.listener.call(arm, SetBool.Request(data=False)).success
            wait(lambda: not self.safety["offered"], 10.0, "the end of homing: nothing is left that could be armed")
            if follows:
                return
        raise AssertionError(f"the arm follows safety in none of {ARMINGS} armings")

    def follows(self) -> bool:
        """The arm has followed safety for a while."""
        following = bool(self.arm) and self.arm[-1][1].message == "following"
        return following and self.safe is not None and len(self.commands) > 50


@contextmanager
def rogue_publisher(listener, domain_id: int, topic: str) -> Iterator:
    """A participant of its own, as in another process; it leaves in order, so that no later test meets it.

    The arm's process and it know of each other before it publishes: that may take DDS seconds, in which neither hears
    the other, and is not what is measured here.
    """
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = Node(ROGUE, context=context)
    entry, ear = graph.topic(topic), graph.topic(COMMAND)
    heard = node.create_subscription(endpoints.interface(ear.type), COMMAND, lambda _: None, endpoints.profile(ear.qos))
    try:
        listener.wait(lambda: heard.handle.take_message(heard.msg_type, False), 30.0, "the arm, heard by the stranger")
        yield node.create_publisher(endpoints.interface(entry.type), topic, endpoints.profile(entry.qos))
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def forged(message: JointTrajectory, jump: float) -> JointTrajectory:
    """The same message from somebody else, with its second column (m or rad) `jump` off."""
    made = copy.deepcopy(message)
    made.header.frame_id = ROGUE
    made.points[0].positions[1] += jump
    return made


def provoke(witness: Witness, publisher, message: JointTrajectory, count: int) -> None:
    """The stranger publishes until it has been heard, named, and `count` messages more have been heard."""

    def done() -> bool:
        publisher.publish(message)
        return bool(witness.rogue_ns and witness.alarms)

    witness.listener.wait(done, 30.0, "the alarm")
    heard = len(witness.rogue_ns)
    more = lambda: (publisher.publish(message), len(witness.rogue_ns) > heard + count)[1]  # noqa: E731
    witness.listener.wait(more, 30.0, f"{count} more messages of the stranger")


def assert_named_in_time(witness: Witness, sentence: str) -> None:
    named = [ns for ns, status in witness.alarms if status.message.startswith(sentence)]
    assert named, witness.alarms[-1][1].message
    assert (named[0] - witness.rogue_ns[0]) / 1e9 <= ALARM_S


def followed(status: DiagnosticStatus) -> str:
    return next(value.value for value in status.values if value.key == "followed")


@pytest.fixture
def witness(deploy, listener, small_deployment: Path) -> Iterator[Witness]:
    """Safety was armed once, for homing. Now it asks the arm to stand, a hundred times a second; small pictures."""
    with deploy(deployment=small_deployment, source="none", teleop_device="joy"):
        witness = Witness(listener)
        witness.let_it_home()
        yield witness


def test_forged_safe_actions_are_named_within_a_second_and_none_is_followed(witness: Witness, domain_id: int):
    with rogue_publisher(witness.listener, domain_id, ACTION) as publisher:
        forgery = forged(witness.safe, JUMP_M)
        before = len(witness.commands)
        provoke(witness, publisher, forgery, 50)
        count = len(witness.arm)
        again = lambda: len(witness.arm) > count + 1  # noqa: E731
        witness.listener.wait(again, 10.0, "the arm's next diagnostics, while the stranger is there")
    assert_named_in_time(witness, "/rogue publishes 'safety/action', which is for /safety alone")
    assert len({followed(status) for _, status in witness.alarms}) == 1, "something was followed after the alarm"
    assert len(witness.commands) > before
    assert_held(witness.commands)


def assert_held(commands: list[JointTrajectory]) -> None:
    """The arm stood, and every command asks it to stand there, now and at its end."""
    asked = np.array([point.positions for message in commands for point in message.points])
    np.testing.assert_allclose(asked, np.broadcast_to(asked[0], asked.shape), atol=MOVED)


def test_a_stranger_at_the_robots_controller_is_named_within_a_second_and_the_arm_stops(
    witness: Witness, domain_id: int
):
    with rogue_publisher(witness.listener, domain_id, COMMAND) as publisher:
        provoke(witness, publisher, forged(witness.commands[-1], 0.0), 20)
        count = len(witness.arm)
        witness.listener.wait(lambda: len(witness.arm) > count + 1, 10.0, "the arm's next diagnostics")
    assert_named_in_time(witness, f"/rogue publishes '{COMMAND}', which is for /arm alone")
    assert len({followed(status) for _, status in witness.alarms}) == 1, "something was followed after the alarm"


@pytest.mark.parametrize("topic", [POLICY, JOINTS], ids=["alone, in a policy's place", "beside the robot"])
def test_a_stranger_that_speaks_to_safety_is_named_within_a_second_and_nothing_can_be_armed(
    witness: Witness, domain_id: int, topic: str
):
    arm = witness.listener.node.create_client(SetBool, "safety/arm")
    sentence = f"/rogue publishes '{topic}', which is for {'/policy' if topic == POLICY else 'one program'} alone"
    with rogue_publisher(witness.listener, domain_id, topic) as publisher:
        message = copy.deepcopy(witness.joints)
        message.header.frame_id = ROGUE
        provoke(witness, publisher, message if topic == JOINTS else forged(witness.safe, 0.0), 20)
        # The arm may be told of the publisher before safety is, and both of its name later still.
        named = lambda: any(status.message.startswith(sentence) for _, status in witness.gate)  # noqa: E731
        witness.listener.wait(named, 5.0, "its name, said by safety")
        answer = witness.listener.call(arm, SetBool.Request(data=True))
    assert_named_in_time(witness, sentence)
    assert not answer.success
    # Why a source is not acceptable is told of the newest judgement only, which may be that of another one.
    refusals = {JOINTS: "joint_states must have exactly one publisher", POLICY: "no source has proposed an acceptable"}
    assert answer.message.startswith(refusals[topic])
    assert witness.safety["state"] == "READY"
