"""The arm node as the last line: the monitor absent, silent, lying, or repeating what it once said.

The real arm node and the simulated robot, over real DDS; the monitor is a node of its name in the test's hands.
Whatever it says, no command may leave the robot's limits, and 100 ms after the last safe action that can be followed
the arm holds by itself. Times are those at which messages were published.
"""

import array
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from policy_bringup.core import graph
from policy_bringup.core.types import ActionChunk
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.arm_node import ArmNode
from policy_bringup.nodes.sim_node import SimNode

SAFE, STATE = "safety/action", "safety/state"
COMMAND, JOINTS = "arm_controller/joint_trajectory", "joint_states"
PERIOD_S = 0.01
WATCHDOG_S = 0.1
LATE_S = 0.02
"""How much later than the watchdog half of all holds may come: the arm node shares this process with the test."""
SILENCE_S = 0.05
"""The arm answers a safe action at once: what it sends so much later is its own."""
JITTER_S = 0.01
"""How much further apart two commands may have been made than published."""
HELD = 1e-3
"""Rad."""
MILLION = 1_000_000
TIMES = 5
UNDER_WAY = 3
"""Good safe actions that may not have been followed yet when the first lie is told."""
HOUR_NS = 3600 * 10**9


class Heard(NamedTuple):
    ns: int
    message: object


class Bench:
    """What is around the arm node. commands: as heard; actions: safe actions as bytes; joints: measured."""

    def __init__(self) -> None:
        self.node = Node("operator")
        self.monitor: Node | None = None
        self.commands: list[Heard] = []
        self.actions: list[Heard] = []
        self.joints = np.full(7, np.nan)
        self.arm: ArmNode
        self._hear(COMMAND, lambda message, info: self.commands.append(Heard(info["source_timestamp"], message)))
        self._hear(SAFE, lambda data, info: self.actions.append(Heard(info["source_timestamp"], data)), raw=True)
        self._hear(JOINTS, self._take_joints)

    def _hear(self, name: str, take: Callable, raw: bool = False) -> None:
        entry = graph.topic(name)
        qos = endpoints.profile(dataclasses.replace(entry.qos, depth=200))
        self.node.create_subscription(endpoints.interface(entry.type), name, take, qos, raw=raw)

    def _take_joints(self, message: JointState) -> None:
        self.joints = np.array(message.position[:7])

    @property
    def counts(self):
        return self.arm._arm.counts

    def appear(self) -> None:
        """A node `safety`, which the arm knows before anything is said."""
        self.monitor = Node("safety")
        entry = graph.topic(SAFE)
        self._safe = self.monitor.create_publisher(endpoints.interface(entry.type), SAFE, endpoints.profile(entry.qos))
        entry = graph.topic(STATE)
        state = self.monitor.create_publisher(endpoints.interface(entry.type), STATE, endpoints.profile(entry.qos))
        for name in ("READY", "ACTIVE"):
            values = {"state": name, "source": "policy", "offered": ""}
            state.publish(messages.diagnostics(1, messages.status("safety", "ok", name, values)))
            wait(lambda name=name: self.arm._guide._state == name, "the arm hearing of it")
        wait(lambda: self._safe.get_subscription_count() >= 2, "the arm and the test hearing safety")
        wait(lambda: self.say(self.pose()) or self.counts.followed > 3, "the arm following safety")

    def pose(self) -> np.ndarray:
        """Where the tool is commanded to be, as an action that holds it, `(8,)`."""
        measured = self.arm._proprioception.measured(self.arm._sample, self.arm._action)
        measured[-1] = 20.0
        return measured

    def table(self, row: np.ndarray, stamp_ns: int | None = None) -> JointTrajectory:
        names = self.arm.deployment.contract.action.names
        stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
        chunk = ActionChunk("safety", stamp_ns, 0, names, np.zeros(1), row[None], np.zeros(1))
        return messages.table_message(chunk, "panda_link0")

    def say(self, row: np.ndarray) -> None:
        """One safe action, and the pause until the next."""
        self.publish(self.table(row))

    def publish(self, message: object) -> None:
        self._safe.publish(message)
        time.sleep(PERIOD_S)

    def move(self, count: int = 30, speed: float = 0.1) -> np.ndarray:
        """A straight way along y at `speed` m/s; returns its last row."""
        before, row = self.counts.followed, self.pose()
        for _ in range(count):
            row = row + speed * PERIOD_S * np.eye(len(row))[1]
            self.say(row)
        wait(lambda: self.counts.followed > before + count // 2, "the arm following safety")
        return row

    def hold_s(self) -> float:
        """From the last safe action to the first hold after it; waits for that, and for a while of standing."""
        wait(lambda: len(self.own()) > 30, "the arm holding by itself")
        assert_stands(self.own())
        return (self.own()[0].ns - self.actions[-1].ns) / 1e9

    def own(self) -> list[Heard]:
        """Commands that no safe action asked for: so long after the last one that the arm made them by itself."""
        return [heard for heard in self.commands if heard.ns > self.actions[-1].ns + SILENCE_S * 1e9]


def wait(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for: {what}"
        time.sleep(0.005)


def assert_stands(commands: list[Heard]) -> None:
    """All of them lead to the same end, at rest."""
    ends = np.array([heard.message.points[-1].positions for heard in commands])
    assert np.ptp(ends, axis=0).max() <= HELD


def assert_lawful(commands: list[Heard], arm: ArmNode) -> None:
    """Finite, within the joints' limits, at their speeds and accelerations, and each ends at rest."""
    robot, config = arm.robot, arm._arm._config
    finger = robot.gripper
    rows = [(j.lower, j.upper, j.velocity, j.acceleration) for j in robot.joints]
    rows.append((finger.lower / 2, finger.upper / 2, finger.velocity / 2, finger.acceleration / 2))
    lower, upper, speed, acceleration = np.array(rows).T
    points = [np.array([point.positions for point in heard.message.points]) for heard in commands]
    speeds = [np.array([point.velocities for point in heard.message.points]) for heard in commands]
    for heard, position, velocity in zip(commands, points, speeds, strict=True):
        assert tuple(heard.message.joint_names) == (*robot.joint_names, finger.joint)
        assert ((lower - 1e-9 <= position) & (position <= upper + 1e-9)).all()
        assert (np.abs(velocity) <= speed + 1e-9).all()
        assert not velocity[-1].any()
        efforts = [point.effort[-1] for point in heard.message.points]
        assert all(0.0 <= effort <= finger.force for effort in efforts)
    gaps = np.diff([heard.ns for heard in commands])[:, None] / 1e9 + JITTER_S
    first, first_speed = np.array([p[0] for p in points]), np.array([v[0] for v in speeds])
    assert (np.abs(np.diff(first, axis=0)) <= speed * gaps).all()
    most = config.acceleration_margin * acceleration * (gaps + config.horizon_s)
    assert (np.abs(np.diff(first_speed, axis=0)) <= most).all()


@pytest.fixture
def bench(config_folder) -> Iterator[Bench]:
    """The arm node, the robot and the test's ears; nobody named safety yet."""
    rclpy.init(args=["--ros-args", "-p", f"deployment:={config_folder / 'grasp.yaml'}"])
    bench, executor = Bench(), SingleThreadedExecutor()
    executor.add_node(bench.node)
    nodes = [ArmNode(), SimNode()]
    bench.arm = nodes[0]
    for node in nodes:
        node.trigger_configure()
        assert node.refusal is None
        node.trigger_activate()
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        wait(lambda: bench.commands and np.isfinite(bench.joints).all(), "the arm holding the robot")
        yield bench
        assert_lawful(bench.commands, bench.arm)
    finally:
        for node in nodes:
            node.wind_down()
        executor.shutdown()
        thread.join()
        for node in (*nodes, bench.node, bench.monitor):
            if node is not None:
                node.destroy_node()
        rclpy.try_shutdown()


def test_without_a_monitor_the_arm_holds_the_robot_where_it_is(bench):
    before, count = bench.joints.copy(), len(bench.commands)
    wait(lambda: len(bench.commands) > count + 100, "a second of commands")
    assert bench.counts.followed == 0
    assert bench.arm._arm.holding
    assert_stands(bench.commands)
    np.testing.assert_allclose(bench.joints, before, atol=HELD)


def test_when_the_monitor_falls_silent_the_arm_holds_after_100_ms(bench):
    bench.appear()
    holds = []
    for _ in range(TIMES):
        bench.move()
        holds.append(bench.hold_s())
        assert bench.arm._arm.holding
    print("hold after the last safe action, ms:", ", ".join(f"{1000 * hold:.1f}" for hold in holds))
    assert min(holds) >= WATCHDOG_S, "it follows for as long as it is told to"
    assert median(holds) <= WATCHDOG_S + LATE_S


def test_before_the_watchdog_the_robot_is_already_on_its_way_to_rest(bench):
    """Every command ends at rest: what the watchdog adds is a hold, not the stop itself."""
    bench.appear()
    bench.move()
    bench.hold_s()
    hold = bench.own()[0]
    told = bench.commands[bench.commands.index(hold) - 1]
    end, held = (np.array(heard.message.points[-1].positions) for heard in (told, hold))
    np.testing.assert_allclose(held, end, atol=HELD)


def test_a_monitor_that_is_gone_leaves_the_arm_holding(bench):
    bench.appear()
    bench.move()
    bench.monitor.destroy_node()
    bench.monitor = None
    assert bench.hold_s() >= WATCHDOG_S
    before = bench.joints.copy()
    count = len(bench.commands)
    wait(lambda: len(bench.commands) > count + 50, "half a second of commands")
    np.testing.assert_allclose(bench.joints, before, atol=0.01)


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
        wait(lambda: lie() or getattr(bench.counts, count) > refused + 10, f"refusals counted as {count}")
        assert bench.arm._arm.last_refusal
    assert bench.counts.followed <= followed + UNDER_WAY
    assert_stands([heard for heard in bench.commands if heard.ns > since_ns + 2 * WATCHDOG_S * 1e9])
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
    wait(lambda: len(bench.actions[-1].message) == len(data), "the arrival of a million columns", 60.0)
    since_ns = bench.actions[-1].ns
    wait(lambda: bench.commands[-1].ns > since_ns + 1e9, "a second of commands after it", 60.0)
    assert bench.counts.followed <= followed + UNDER_WAY
    assert_stands([heard for heard in bench.commands if heard.ns > since_ns + 2 * WATCHDOG_S * 1e9])
    bench.move()
    assert bench.counts.followed > followed + 10


@pytest.mark.parametrize("stamp", ["an hour ahead", "an hour ago", "zero", "always the same"])
def test_no_stamp_makes_a_safe_action_live_longer(bench, stamp):
    """The watchdog runs on the arm's own clock: what a message says of its time counts for nothing."""
    bench.appear()
    began_ns = time.time_ns()
    stamps = {
        "an hour ahead": lambda: time.time_ns() + HOUR_NS,
        "an hour ago": lambda: time.time_ns() - HOUR_NS,
        "zero": lambda: 0,
        "always the same": lambda: began_ns,
    }
    holds = []
    for _ in range(TIMES):
        row, followed = bench.pose(), bench.counts.followed
        for _ in range(20):
            bench.publish(bench.table(row, stamps[stamp]()))
        holds.append(bench.hold_s())
        assert bench.counts.followed > followed + 5
    assert min(holds) >= WATCHDOG_S
    assert median(holds) <= WATCHDOG_S + LATE_S


def test_safe_actions_that_leap_to_and_fro_are_followed_within_the_joints_limits_only(bench):
    """Each leap is short enough to be taken for a path; that the commands are lawful, the bench asserts of all."""
    bench.appear()
    row = bench.pose()
    before, followed = bench.joints.copy(), bench.counts.followed
    for i in range(60):
        bench.say(row + 0.04 * (1 if i // 5 % 2 else -1) * np.eye(len(row))[1])
    assert bench.counts.followed > followed + 20
    assert np.abs(bench.joints - before).max() < 0.3
    assert bench.hold_s() >= WATCHDOG_S


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
    assert bench.hold_s() >= WATCHDOG_S
    for data in old:
        bench.publish(data)
    assert bench.hold_s() >= WATCHDOG_S
    count = len(bench.actions)
    for data in old:
        bench._safe.publish(data)
    wait(lambda: len(bench.actions) > count, "some of them")
    assert bench.hold_s() >= WATCHDOG_S


def test_another_node_is_not_followed_whatever_it_says(bench):
    """Absent, with somebody in its place: the arm follows a node by the name of safety, and nobody else."""
    impostor = bench.node.create_publisher(JointTrajectory, SAFE, endpoints.profile(graph.topic(SAFE).qos))
    wait(lambda: impostor.get_subscription_count() >= 2, "the arm hearing the impostor")
    row, refused = bench.pose(), bench.arm._pins.refused
    row[1] += 0.05
    for _ in range(30):
        impostor.publish(bench.table(row))
        time.sleep(PERIOD_S)
    wait(lambda: bench.arm._pins.refused > refused + 10, "refused messages")
    assert bench.counts.followed == 0
    assert_stands(bench.commands)
