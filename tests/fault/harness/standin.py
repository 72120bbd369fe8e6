"""The one legitimate publisher of policy/action, in the policy node's place: it swings the arm, or lies."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rclpy.context import Context
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from harness.recording import ACTION, ROGUE, SAFE, Recording
from policy_bringup.control.kinematics import Chain
from policy_bringup.core import graph
from policy_bringup.core.decoding import driver_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.robot import pose_to_columns
from policy_bringup.core.types import ActionChunk
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.messages import table_message
from policy_bringup.nodes.runtime import PROMPT, SWITCH_INTERVAL_S

HOSTILE = "hostile"
"""header.frame_id of what was spoiled: nobody in the stack reads it, the recording knows it by that."""
FORCE_N = 20.0
SWING_S = 2.4
"""To a goal and back."""
LAG_M = 0.02
BRIEF_S = 1e-3

Spoil = Callable[[JointTrajectory, int], JointTrajectory | bytes | None]
"""What is sent instead of a good table, given how many have been sent since: None, the good one."""


class Swing:
    """From a start to a goal and back, in action columns; at rest at both."""

    def __init__(self, start: np.ndarray, goal: np.ndarray) -> None:
        self._start, self._way = start, goal - start

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """`(k, columns)` at `times_s` `(k,)` since the start."""
        share = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.maximum(times_s, 0.0) / SWING_S)
        return self._start + share[:, None] * self._way


class Drift:
    """Ever on at a constant velocity, wherever the arm is by then. The one at the start, `(columns,)`, becomes that
    within a second."""

    def __init__(self, start: np.ndarray, before: np.ndarray, velocity: np.ndarray) -> None:
        self._start, self._before, self._velocity = start, before, velocity

    def at(self, times_s: np.ndarray) -> np.ndarray:
        t = np.maximum(times_s, 0.0)[:, None]
        new = np.where(t < 1.0, 0.5 * t * t, t - 0.5)
        return self._start + self._before * (t - new) + self._velocity * new


class StandIn:
    """Publishes at the policy's rate from a thread of its own.

    Not in charge, or put back by a stop, it offers to stay where safety has the arm; in charge it moves from there. It
    knows where that is as every policy does that looks: from what it hears.
    """

    def __init__(self, context: Context, recording: Recording, deployment_path: Path, rng: np.random.Generator) -> None:
        deployment, robot = load_deployment(deployment_path)
        urdf = deployment_path.parent / robot.urdf
        chain = Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
        self._home = pose_to_columns(chain.forward(robot.home), robot.tool_reference)
        self._action, self._frame, self._rng = deployment.contract.action, robot.base_frame, rng
        self._recording = recording
        self._node = Node("policy", context=context)
        entry = graph.topic(ACTION)
        self._output = self._node.create_publisher(
            endpoints.interface(entry.type), ACTION, endpoints.profile(entry.qos)
        )
        self._path: Swing | Drift | None = None
        self._began_s = 0.0
        self._spoil: Spoil | None = None
        self._count = 0
        self._drift: np.ndarray | None = None
        self._leaves_at = np.zeros(len(self._action.columns))
        self.silent = False
        self.clock_ns = 0
        self._ended = threading.Event()
        sys.setswitchinterval(SWITCH_INTERVAL_S)  # tests that decode must not keep it waiting
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        died = not self._thread.is_alive()
        self._ended.set()
        self._thread.join()
        self._node.destroy_node()
        assert not died, "the stand-in fell over"

    def spoil(self, spoil: Spoil | None) -> None:
        """From the next table on; None: good tables again."""
        self._count, self._spoil = 0, spoil

    def drift(self, column: str, speed: float) -> None:
        """Leaves its course, smoothly, for a constant speed in one column."""
        path, now_s = self._path, time.monotonic() - self._began_s
        if path is not None:
            here, next_one = path.at(now_s + np.array([0.0, BRIEF_S]))
            self._leaves_at = (next_one - here) / BRIEF_S
        velocity = np.zeros(len(self._action.columns))
        velocity[self._action.names.index(column)] = speed
        self._drift, self._path = velocity, None

    def behave(self) -> None:
        """Good tables on a good course again."""
        self._spoil, self._drift, self._path, self.silent = None, None, None, False

    def say(self, table: JointTrajectory) -> None:
        """At once, whatever it says besides."""
        self._output.publish(table)

    def good_table(self) -> JointTrajectory | None:
        """What it would publish now; None while safety has not said where the arm is."""
        newest = self._recording.newest(SAFE)
        if newest is None or newest.frame == ROGUE:
            return None
        there, now_s = np.array(newest.message.points[0].positions)[:-1], time.monotonic()
        if driver_of(self._recording.safety) != "policy":
            self._path = None
        elif self._path is None or (self._drift is None and self._lag_m(there, now_s) > LAG_M):
            self._path, self._began_s = self._begun(there), now_s
        times_s = self._action.dt_s * np.arange(1.0, self._action.steps + 1.0)
        values = np.tile(there, (len(times_s), 1))
        if self._path is not None:
            values = self._path.at(now_s - self._began_s + times_s)
        values[:, -1] = FORCE_N
        stamp_ns = time.time_ns() + self.clock_ns
        chunk = ActionChunk("policy", stamp_ns, 0, self._action.names, times_s, values, np.zeros(len(times_s)))
        return table_message(chunk, self._frame)

    def _lag_m(self, there: np.ndarray, now_s: float) -> float:
        """How far the arm is from where it should be by now."""
        assert self._path is not None
        return float(np.abs(self._path.at(np.array([now_s - self._began_s]))[0] - there)[:3].max())

    def _begun(self, there: np.ndarray) -> Swing | Drift:
        if self._drift is not None:
            before, self._leaves_at = self._leaves_at, np.zeros_like(there)
            return Drift(there, before, self._drift)
        offset = np.array([0.05, 0.11, 0.06, 0.1, 0.1, 0.3]) * self._rng.choice([-1.0, 1.0], 6)
        offset[:3] *= self._rng.uniform(0.7, 1.0, 3)
        goals = (self._home + offset, self._home - offset)
        goal = max(goals, key=lambda goal: float(np.linalg.norm(goal[:3] - there[:3])))
        return Swing(there, np.append(goal, there[6:]))

    def _run(self) -> None:
        with contextlib.suppress(PermissionError):
            os.nice(PROMPT)  # of this thread alone: as the policy node's, in whose place it is
        period_s = 1.0 / graph.topic(ACTION).rate_hz
        due = time.monotonic()
        while not self._ended.is_set():
            self._publish()
            due = max(due + period_s, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _publish(self) -> None:
        table = self.good_table()
        if self.silent or table is None:
            return
        spoilt = self._spoil(table, self._count) if self._spoil else None
        self._count += 1
        if isinstance(spoilt, JointTrajectory):
            spoilt.header.frame_id = HOSTILE
            self._path = None  # whatever that does to the arm: the next good one begins where it is then
        self._output.publish(table if spoilt is None else spoilt)
