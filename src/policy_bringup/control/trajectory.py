"""Point-to-point motions with a quintic time scaling: at rest at both ends, in velocity and in acceleration.

Source: Lynch and Park, Modern Robotics, section 9.2: s(u) = 10 u^3 - 15 u^4 + 6 u^5, u = t / T, with peaks
ds/dt = 1.875 / T and d2s/dt2 = 5.7735 / T^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policy_bringup.core.config import bounded
from policy_bringup.core.robot import pose_to_columns
from policy_bringup.core.rotations import exp, log
from policy_bringup.core.types import Array, Pose

PEAK_VELOCITY = 1.875
PEAK_ACCELERATION = 10.0 / math.sqrt(3.0)
SHORTEST_S = 0.01


@dataclass(frozen=True, slots=True)
class LineLimits:
    """How fast a straight line may be; `gripper_*` are about the width between the fingers."""

    linear_velocity: float = bounded(0.001, 2.0, "m/s")
    linear_acceleration: float = bounded(0.001, 20.0, "m/s^2")
    angular_velocity: float = bounded(0.001, 5.0, "rad/s")
    angular_acceleration: float = bounded(0.001, 50.0, "rad/s^2")
    gripper_velocity: float = bounded(0.001, 1.0, "m/s")
    gripper_acceleration: float = bounded(0.001, 20.0, "m/s^2")


def scaling(u: float) -> tuple[float, float, float]:
    """s, ds/du, d2s/du2 at u = t / T; u is clamped to [0, 1]."""
    u = min(max(u, 0.0), 1.0)
    s = u**3 * (10.0 - 15.0 * u + 6.0 * u * u)
    return s, 30.0 * u * u * (1.0 - u) ** 2, 60.0 * u * (1.0 - u) * (1.0 - 2.0 * u)


def shortest_duration(distance: float, velocity: float, acceleration: float) -> float:
    """Seconds to go `distance` >= 0 from rest to rest within both limits."""
    return max(PEAK_VELOCITY * distance / velocity, math.sqrt(PEAK_ACCELERATION * distance / acceleration), SHORTEST_S)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A straight line of the tool, turning about one fixed axis, while the gripper goes from one row to another.

    T_from: pose at the start; translation `(3,)` m; turn: rotation vector `(3,)` rad in the base frame; gripper rows
    `(2,)`: width m, force N.
    """

    T_from: Pose
    translation: Array
    turn: Array
    gripper_from: Array
    gripper_to: Array
    duration_s: float

    @classmethod
    def plan(cls, T_from: Pose, T_to: Pose, gripper_from: Array, gripper_to: Array, limits: LineLimits) -> Line:
        """The shortest such line between two tool poses in the base frame."""
        translation, turn = T_to.position - T_from.position, log(T_to.rotation @ T_from.rotation.T)
        distance, angle = float(np.linalg.norm(translation)), float(np.linalg.norm(turn))
        duration = max(
            shortest_duration(distance, limits.linear_velocity, limits.linear_acceleration),
            shortest_duration(angle, limits.angular_velocity, limits.angular_acceleration),
            _gripper_duration(gripper_from, gripper_to, limits.gripper_velocity, limits.gripper_acceleration),
        )
        return cls(T_from, translation, turn, gripper_from, gripper_to, duration)

    def sample(self, t: float) -> Pose:
        """T_base_tool `t` seconds after the start; the ends before and after."""
        s, _, _ = scaling(t / self.duration_s)
        return Pose(self.T_from.position + s * self.translation, exp(s * self.turn) @ self.T_from.rotation)

    def gripper(self, t: float) -> Array:
        """Width (m) and force (N) at `t`, `(2,)`."""
        return _between(self.gripper_from, self.gripper_to, t / self.duration_s)

    def columns(self, t: float, tool_reference: tuple[float, float, float]) -> Array:
        """The task-space action at `t`, `(8,)`: TOOL_COLUMNS, then GRIPPER_COLUMNS."""
        return np.concatenate([pose_to_columns(self.sample(t), tool_reference), self.gripper(t)])

    def table(self, dt_s: float, tool_reference: tuple[float, float, float]) -> tuple[Array, Array]:
        """Times `(m,)` s, dt_s apart from dt_s on until the end is reached, and the actions then, `(m, 8)`."""
        times = _times(self.duration_s, dt_s)
        return times, np.array([self.columns(t, tool_reference) for t in times.tolist()])


@dataclass(frozen=True, slots=True, eq=False)
class JointLine:
    """A straight line in joint space: q_from, q_to `(n,)` rad; gripper rows as in Line."""

    q_from: Array
    q_to: Array
    gripper_from: Array
    gripper_to: Array
    duration_s: float

    @classmethod
    def plan(
        cls, q_from: Array, q_to: Array, velocity: Array, acceleration: Array,
        gripper_from: Array, gripper_to: Array, limits: LineLimits,
    ) -> JointLine:  # fmt: skip
        """The shortest such line; velocity, acceleration `(n,)` are the joints' limits, `limits` only the gripper's."""
        arms = zip(np.abs(q_to - q_from).tolist(), velocity.tolist(), acceleration.tolist(), strict=True)
        duration = max(
            *(shortest_duration(*joint) for joint in arms),
            _gripper_duration(gripper_from, gripper_to, limits.gripper_velocity, limits.gripper_acceleration),
        )
        return cls(q_from, q_to, gripper_from, gripper_to, duration)

    def sample(self, t: float) -> Array:
        """Joint position `(n,)` rad `t` seconds after the start; the ends before and after."""
        return _between(self.q_from, self.q_to, t / self.duration_s)

    def columns(self, t: float) -> Array:
        """The joint-space action at `t`, `(n + 2,)`: the joints, then GRIPPER_COLUMNS."""
        return np.concatenate([self.sample(t), _between(self.gripper_from, self.gripper_to, t / self.duration_s)])

    def table(self, dt_s: float) -> tuple[Array, Array]:
        """Times `(m,)` s, dt_s apart from dt_s on until the end is reached, and the actions then, `(m, n + 2)`."""
        times = _times(self.duration_s, dt_s)
        return times, np.array([self.columns(t) for t in times.tolist()])


def _gripper_duration(before: Array, after: Array, velocity: float, acceleration: float) -> float:
    return shortest_duration(abs(float(after[0] - before[0])), velocity, acceleration)


def _between(before: Array, after: Array, u: float) -> Array:
    return before + scaling(u)[0] * (after - before)


def _times(duration_s: float, dt_s: float) -> Array:
    return dt_s * np.arange(1.0, math.ceil(duration_s / dt_s - 1e-9) + 1.0)
