"""What is known about the robot: joints in order, limits, frames, home. Read from config/robot.yaml by core/config.py.

Data only: `safety` judges by it and `control` clamps by it, each with its own code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from policy_bringup.core.config import bounded, required
from policy_bringup.core.rotations import exp, log
from policy_bringup.core.types import TOOL_COLUMNS, Array, Pose


@dataclass(frozen=True, slots=True)
class JointLimits:
    """One revolute joint. `home` is its position in the robot's home pose."""

    name: str = required()
    lower: float = bounded(-6.2832, 6.2832, "rad")
    upper: float = bounded(-6.2832, 6.2832, "rad")
    velocity: float = bounded(0.01, 10.0, "rad/s")
    acceleration: float = bounded(0.1, 50.0, "rad/s^2")
    effort: float = bounded(0.1, 500.0, "N m")
    home: float = bounded(-6.2832, 6.2832, "rad")


@dataclass(frozen=True, slots=True)
class Gripper:
    """A parallel gripper. Both fingers move alike; `joint` is the commanded one, `mimic` follows; width = 2 x joint."""

    joint: str = required()
    mimic: str = required()
    lower: float = bounded(0.0, 0.2, "m")
    upper: float = bounded(0.001, 0.2, "m")
    velocity: float = bounded(0.001, 1.0, "m/s")
    acceleration: float = bounded(0.01, 20.0, "m/s^2")
    force: float = bounded(0.1, 200.0, "N")
    home: float = bounded(0.0, 0.2, "m")

    def within(self, width: float) -> float:
        """The nearest opening (m) that may be asked for: fingers at their stop may measure a hair beyond it, and safety
        would rightly refuse that."""
        return min(max(width, self.lower), self.upper)


@dataclass(frozen=True, slots=True)
class Robot:
    """One arm with its gripper.

    tool_reference: orientation (rotation vector in the base frame, rad) from which the task-space columns
    `tool.rx ry rz` are measured. Why not from the base itself: a tool that points straight down is half a turn away
    from the base, where a rotation vector jumps from +pi to -pi; measured from "pointing down" it is smooth there.
    """

    name: str = required()
    urdf: str = required()
    base_frame: str = required()
    tool_frame: str = required()
    tool_reference: tuple[float, float, float] = bounded(-6.2832, 6.2832, "rad")
    joints: tuple[JointLimits, ...] = required()
    gripper: Gripper = required()

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Arm joints in order, without the gripper's."""
        return tuple(joint.name for joint in self.joints)

    @property
    def lower(self) -> Array:
        """`(n,)` rad."""
        return np.array([joint.lower for joint in self.joints])

    @property
    def upper(self) -> Array:
        """`(n,)` rad."""
        return np.array([joint.upper for joint in self.joints])

    @property
    def velocity(self) -> Array:
        """`(n,)` rad/s."""
        return np.array([joint.velocity for joint in self.joints])

    @property
    def acceleration(self) -> Array:
        """`(n,)` rad/s^2."""
        return np.array([joint.acceleration for joint in self.joints])

    @property
    def home(self) -> Array:
        """`(n,)` rad."""
        return np.array([joint.home for joint in self.joints])


@dataclass(frozen=True, slots=True)
class ColumnLimits:
    """What safety accepts in one action column. `unit` below is the column's own (m, rad, N).

    max_step: largest change from one emitted action to the next. max_window: largest change within 250 ms.
    tolerance: distance from the measured value within which a target counts as "where the robot is".
    holds_command: the column is held at its last *command*, not at the measured value. For a gripper that has closed
    on an object: commanding the measured width would let go.
    """

    name: str = required()
    lower: float = bounded(-1000.0, 1000.0, "unit")
    upper: float = bounded(-1000.0, 1000.0, "unit")
    max_step: float = bounded(0.0, 1000.0, "unit")
    max_velocity: float = bounded(0.0, 1e5, "unit/s")
    max_acceleration: float = bounded(0.0, 1e7, "unit/s^2")
    max_window: float = bounded(0.0, 1000.0, "unit")
    tolerance: float = bounded(0.0, 1000.0, "unit")
    holds_command: bool = field(default=False)


def pose_to_columns(T_base_tool: Pose, tool_reference: tuple[float, float, float]) -> Array:
    """Tool pose -> the six task-space columns (core.types.TOOL_COLUMNS), `(6,)`."""
    reference = exp(np.array(tool_reference))
    return np.concatenate([T_base_tool.position, log(reference.T @ T_base_tool.rotation)])


def columns_to_pose(columns: Array, tool_reference: tuple[float, float, float]) -> Pose:
    """The six task-space columns `(6,)` -> tool pose in the base frame."""
    if columns.shape != (len(TOOL_COLUMNS),):
        raise ValueError(f"a tool pose has {len(TOOL_COLUMNS)} columns, got shape {columns.shape}")
    return Pose(columns[:3].copy(), exp(np.array(tool_reference)) @ exp(columns[3:]))
