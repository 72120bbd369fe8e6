"""The arm node with a monitor that lies, repeats what it once said, or is somebody else."""

import array
import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from policy_bringup.core import graph
from policy_bringup.nodes import endpoints, messages

SAFE, STATE, JOINTS = "safety/action", "safety/state", "joint_states"
PERIOD_S = 0.01
MILLION = 1_000_000
UNDER_WAY = 3
"""Good safe actions that may not have been followed yet when the first lie is told."""


def put(column: int, value: float) -> Callable[[JointTrajectory], None]:
    def change(table: JointTrajectory) -> None:
        table.points[0].positions[column] = value

    return change


def added(column: int, value: float) -> Callable[[JointTrajectory], None]:
    def change(table: JointTrajectory) -> None:
        table.points[0].positions[column] += value

    return change


def names_permuted(table: JointTrajectory) -> None:
    table.joint_names = [*table.joint_names[1::-1], *table.joint_names[2:]]


def names_of_joints(table: JointTrajectory) -> None:
    table.joint_names = [f"panda_joint{i}" for i in range(1, len(table.joint_names))] + ["uncertainty"]


def column_missing(table: JointTrajectory) -> None:
    table.joint_names = list(table.joint_names)[1:]
    del table.points[0].positions[0]


def column_too_many(table: JointTrajectory) -> None:
    table.joint_names = ["tool.w", *table.joint_names]
    table.points[0].positions.insert(0, 0.0)


def ragged(table: JointTrajectory) -> None:
    del table.points[0].positions[0]


def without_points(table: JointTrajectory) -> None:
    table.points = []


def a_whole_chunk(table: JointTrajectory) -> None:
    table.points = [table.points[0]] * 16


LIES: dict[str, tuple[Callable[[JointTrajectory], None], str]] = {
    "NaN": (put(2, math.nan), "malformed"),
    "NaN of the gripper": (put(6, math.nan), "malformed"),
    "infinity": (put(0, math.inf), "malformed"),
    "1e308": (put(1, 1e308), "unsolved"),
    "columns permuted": (names_permuted, "malformed"),
    "joints for tool": (names_of_joints, "malformed"),
    "a column missing": (column_missing, "malformed"),
    "a column too many": (column_too_many, "malformed"),
    "out of reach": (put(0, 5.0), "unsolved"),
    "a teleport of 0.4 m": (added(1, 0.4), "unsolved"),
    "half a turn": (added(5, math.pi), "unsolved"),
    "through the table": (put(2, -0.5), "unsolved"),
    "ragged": (ragged, ""),
    "no points": (without_points, ""),
    "a whole chunk": (a_whole_chunk, ""),
}
"""What is done to a good safe action, and the count under which the arm refuses it; "": it is passed over."""


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_not_followed_and_the_arm_holds(bench, name):
    change, count = LIES[name]
    bench.appear()
    row = bench.move()
    followed, refused = bench.counts.followed, getattr(bench.counts, count) if count else 0
    since_ns = bench.actions[-1].ns

    def lie() -> None:
        table = bench.table(row)
        change(table)
        bench.publish(table)

    for _ in range(30):
        lie()
    if count:
        bench.wait(lambda: lie() or getattr(bench.counts, count) > refused + 10, f"refusals counted as {count}")
        assert bench.arm._arm.last_refusal
    assert bench.counts.followed <= followed + UNDER_WAY
    bench.assert_stands([heard for heard in bench.commands if heard.ns > since_ns + 2 * bench.watchdog_s * 1e9])
    bench.hold_s()
    bench.move()
    assert bench.counts.followed > followed + 10, "the truth is followed again"


def test_a_million_columns_move_nothing_and_the_arm_comes_back(bench):
    bench.appear()
    bench.move()
    followed = bench.counts.followed
    monster = JointTrajectory(joint_names=[""] * MILLION)
    monster.points = [JointTrajectoryPoint(positions=array.array("d", bytes(8 * MILLION)))]
    data = serialize_message(monster)
    bench.publish(data)
    bench.wait(lambda: len(bench.actions[-1].message) == len(data), "the arrival of a million columns", 60.0)
    since_ns = bench.actions[-1].ns
    bench.wait(lambda: bench.commands[-1].ns > since_ns + 1e9, "a second of commands after it", 60.0)
    assert bench.counts.followed <= followed + UNDER_WAY
    bench.assert_stands([heard for heard in bench.commands if heard.ns > since_ns + 2 * bench.watchdog_s * 1e9])
    bench.move()
    assert bench.counts.followed > followed + 10


def test_safe_actions_that_leap_to_and_fro_are_followed_within_the_joints_limits_only(bench):
    """Each leap is short enough to be taken for a path; that the commands are lawful, the bench asserts of all."""
    bench.appear()
    row = bench.pose()
    before, followed = bench.joints.copy(), bench.counts.followed
    for i in range(60):
        bench.say(row + 0.04 * (1 if i // 5 % 2 else -1) * np.eye(len(row))[1])
    assert bench.counts.followed > followed + 20
    assert np.abs(bench.joints - before).max() < 0.3
    assert bench.hold_s() >= bench.patience_s


@pytest.mark.parametrize(("width", "force"), [(1e6, 1e9), (-1e6, -1e9), (0.0801, 60.1)])
def test_a_gripper_is_never_asked_for_more_than_it_has(bench, width, force):
    bench.appear()
    row = bench.pose()
    row[6:] = width, force
    followed = bench.counts.followed
    for _ in range(40):
        bench.say(row)
    assert bench.counts.followed > followed + 10
    bench.hold_s()


def test_what_was_said_once_and_is_repeated_moves_the_arm_lawfully_and_ends_in_a_hold(bench):
    """A replay over the wire, by a node of the right name, at its old pace and then all at once: nothing tells the arm
    that it is old, so what has to hold is that no command leaves the limits and that the end of it is a hold."""
    bench.appear()
    first_ns = bench.actions[-1].ns
    bench.move(count=60)
    old = [heard.message for heard in bench.actions if heard.ns > first_ns]
    assert bench.hold_s() >= bench.patience_s
    for data in old:
        bench.publish(data)
    assert bench.hold_s() >= bench.patience_s
    count = len(bench.actions)
    for data in old:
        bench._safe.publish(data)
    bench.wait(lambda: len(bench.actions) > count, "some of them")
    assert bench.hold_s() >= bench.patience_s


def test_another_node_is_not_followed_whatever_it_says(bench):
    """Absent, with somebody in its place: the arm follows a node by the name of safety, and nobody else."""
    impostor = bench.node.create_publisher(JointTrajectory, SAFE, endpoints.profile(graph.topic(SAFE).qos))
    bench.wait(lambda: impostor.get_subscription_count() >= 2, "the arm hearing the impostor")
    row, refused = bench.pose(), bench.arm._pins.refused
    row[1] += 0.05

    def say() -> None:
        impostor.publish(bench.table(row))
        time.sleep(PERIOD_S)

    bench.wait(lambda: say() or bench.arm._pins.refused > refused + 10, "refused messages")
    assert bench.counts.followed == 0
    bench.assert_stands(bench.commands)


def told(bench, name: str):
    """A stranger's publisher on a topic, which the arm has found."""
    entry = graph.topic(name)
    output = bench.node.create_publisher(endpoints.interface(entry.type), name, endpoints.profile(entry.qos))
    bench.wait(lambda: output.get_subscription_count() >= 1, f"those who hear '{name}'")
    return output


def test_a_stranger_who_says_that_the_joints_are_elsewhere_moves_nothing(bench):
    output = told(bench, JOINTS)
    names = [*bench.arm.robot.joint_names, bench.arm.robot.gripper.joint]
    since = len(bench.commands)

    def lie() -> None:
        message = JointState(name=names, position=[0.0, 0.4, 0.0, -1.5, 0.0, 1.0, 0.0, 0.02])
        message.header.stamp = messages.time_of(time.time_ns())
        output.publish(message)
        time.sleep(PERIOD_S)

    bench.wait(lambda: lie() or len(bench.commands) > since + 100, "a second of commands", 60.0)
    bench.assert_stands(bench.commands[since:])
    assert "publishes 'joint_states', which is for one program alone" in bench.arm._ears.alarm
    assert bench.arm.health()[:2] == ("error", bench.arm._ears.alarm)
    assert bench.counts.resyncs == 0


@pytest.mark.parametrize("count", [1, 100])
def test_a_robot_that_says_for_a_moment_or_for_a_second_that_it_is_elsewhere_moves_nothing(bench, monkeypatch, count):
    true, told_lies = bench.sim._world.joint_sample, []

    def lies():
        sample = true()
        if len(told_lies) < count:
            told_lies.append(sample)
            positions = sample.positions.copy()
            positions[1] += 0.4
            return dataclasses.replace(sample, positions=positions)
        return sample

    since = len(bench.commands)
    monkeypatch.setattr(bench.sim._world, "joint_sample", lies)
    bench.wait(lambda: len(told_lies) == count, "the lies")
    heard = len(bench.commands)
    bench.wait(lambda: len(bench.commands) > heard + 30, "commands after them")
    bench.assert_stands(bench.commands[since:])
    assert bench.counts.resyncs == 0
    bench.wait(lambda: bench.arm._arm.disbelief == "", "the truth being believed")


def test_states_that_say_nothing_are_passed_over(bench):
    bench.appear()
    output = bench.monitor.create_publisher(DiagnosticArray, STATE, endpoints.profile(graph.topic(STATE).qos))
    bench.monitor.destroy_publisher(bench.state)
    bench.wait(lambda: bench.node.count_publishers(STATE) == 1, "the other publisher alone")
    nothing = (DiagnosticArray(), messages.diagnostics(1, messages.status("safety", "ok", "?", {})))
    for message in nothing * 20:
        output.publish(message)
        time.sleep(PERIOD_S)
    bench.move()


def test_a_stranger_who_says_that_safety_was_armed_makes_the_arm_follow_nobody(bench):
    output = told(bench, STATE)
    for state in ("READY", "ACTIVE") * 20:
        values = {"state": state, "source": "policy", "offered": ""}
        output.publish(messages.diagnostics(1, messages.status("safety", "ok", state, values)))
        time.sleep(PERIOD_S)
    bench.wait(lambda: "publishes 'safety/state', which is for /safety alone" in bench.arm._ears.alarm, "the alarm")
    assert bench.arm._guide._state == ""
    assert not bench.arm._guide.follows
