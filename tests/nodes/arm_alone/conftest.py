"""The arm node as the last line: the real one and the simulated robot over real DDS, and the monitor a node of its
name in the test's hands. Whatever it says, no command may leave the robot's limits: that is asserted after every test.
Times are those at which messages were published.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import graph
from policy_bringup.core.types import ActionChunk
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.arm_node import ArmNode
from policy_bringup.nodes.sim_node import SimNode

SAFE, STATE = "safety/action", "safety/state"
COMMAND, JOINTS = "arm_controller/joint_trajectory", "joint_states"
PERIOD_S = 0.01
SILENCE_S = 0.05
"""The arm answers a safe action at once: what it sends so much later is its own."""
JITTER_S = 0.04
"""How much further apart two commands may have been made than published: the arm shares this process with the test."""
APART = (1, 5, 20)
"""Commands that are compared: neighbours, and further ones, for which jitter weighs less."""
HELD = 1e-3
"""Rad."""


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
        self.sim: SimNode
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

    @property
    def watchdog_s(self) -> float:
        return self.arm._arm._config.watchdog_s

    @property
    def patience_s(self) -> float:
        """It follows for so long at least: of two actions at once it takes the first."""
        return self.watchdog_s - self.arm._arm._config.min_step_s

    def appear(self) -> None:
        """A node `safety`, which the arm knows before anything is said."""
        self.monitor = Node("safety")
        entry = graph.topic(SAFE)
        self._safe = self.monitor.create_publisher(endpoints.interface(entry.type), SAFE, endpoints.profile(entry.qos))
        entry = graph.topic(STATE)
        kind, qos = endpoints.interface(entry.type), endpoints.profile(entry.qos)
        self.state = self.monitor.create_publisher(kind, STATE, qos)
        for name in ("READY", "ACTIVE"):
            self.enter(name)
        self.wait(lambda: self._safe.get_subscription_count() >= 2, "the arm and the test hearing safety")
        self.wait(lambda: self.say(self.pose()) or self.counts.followed > 3, "the arm following safety")

    def enter(self, state: str) -> None:
        """Safety is in that state, and the arm has heard it."""
        values = {"state": state, "source": "policy", "offered": ""}
        self.state.publish(messages.diagnostics(1, messages.status("safety", "ok", state, values)))
        self.wait(lambda: self.arm._guide._state == state, "the arm hearing that safety is " + state)

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
        self.wait(lambda: self.counts.followed > before + count // 2, "the arm following safety")
        return row

    def hold_s(self) -> float:
        """From the last safe action to the first hold after it; waits for that, and for a while of standing."""
        self.wait(lambda: len(self.own()) > 30, "the arm holding by itself")
        self.assert_stands(self.own())
        return (self.own()[0].ns - self.actions[-1].ns) / 1e9

    def own(self) -> list[Heard]:
        """Commands that no safe action asked for: so long after the last one that the arm made them by itself."""
        return [heard for heard in self.commands if heard.ns > self.actions[-1].ns + SILENCE_S * 1e9]

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for: {what}"
            time.sleep(0.005)

    def assert_stands(self, commands: list[Heard]) -> None:
        """All of them lead to the same end, at rest."""
        ends = np.array([heard.message.points[-1].positions for heard in list(commands)])
        assert np.ptp(ends, axis=0).max() <= HELD


def assert_lawful(commands: list[Heard], arm: ArmNode) -> None:
    """Finite, within the joints' limits, at their speeds and accelerations, and each ends at rest."""
    commands = list(commands)  # more of them arrive meanwhile
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
    times_s = np.array([heard.ns for heard in commands])[:, None] / 1e9
    first, first_speed = np.array([p[0] for p in points]), np.array([v[0] for v in speeds])
    fastest = config.acceleration_margin * acceleration
    for apart in APART:
        gaps_s = times_s[apart:] - times_s[:-apart] + JITTER_S
        moved, changed = (np.abs(values[apart:] - values[:-apart]) for values in (first, first_speed))
        assert (moved / (speed * gaps_s)).max(initial=0.0) <= 1.0
        assert (changed / (fastest * (gaps_s + config.horizon_s))).max(initial=0.0) <= 1.0


@pytest.fixture
def bench(config_folder) -> Iterator[Bench]:
    """The arm node, the robot and the test's ears; nobody named safety yet."""
    rclpy.init(args=["--ros-args", "-p", f"deployment:={config_folder / 'grasp.yaml'}"])
    bench, executor = Bench(), SingleThreadedExecutor()
    executor.add_node(bench.node)
    nodes = [ArmNode(), SimNode()]
    bench.arm, bench.sim = nodes
    for node in nodes:
        node.trigger_configure()
        assert node.refusal is None
        node.trigger_activate()
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        bench.wait(lambda: bench.commands and np.isfinite(bench.joints).all(), "the arm holding the robot")
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
