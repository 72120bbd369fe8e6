"""A leader arm, moved by hand: its joints -> where the arm should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.teleop_config import LeaderConfig
from policy_bringup.core.errors import ConfigError, ObservationError
from policy_bringup.core.robot import Robot, pose_to_columns
from policy_bringup.core.types import GRIPPER_COLUMNS, ActionSpec, Array, Space, StateSample


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """Where the leader wants the arm, and how fast that moves: `(m,)` in the action's columns."""

    target: Array
    velocity: Array


class Leader:
    """Maps another arm's joint states. Raises ConfigError if the mapping does not name the arm's joints in order.

    force: with which the gripper grasps, N.
    """

    def __init__(self, robot: Robot, chain: Chain, spec: ActionSpec, config: LeaderConfig, force: float) -> None:
        names = tuple(joint.name for joint in config.joints)
        if names != robot.joint_names:
            raise ConfigError(
                f"teleop: leader: joints must be {', '.join(robot.joint_names)}, found {', '.join(names) or 'none'}"
            )
        self._robot, self._chain, self._spec, self._config, self._force = robot, chain, spec, config, force
        self._names = (*(config.prefix + name for name in names), config.gripper.joint)
        self._factor = np.array([joint.sign * joint.scale for joint in config.joints])
        self._offset = np.array([joint.offset for joint in config.joints])
        units = [column.unit for column in spec.columns]
        self._near = np.array([config.match_m if unit == "m" else config.match_rad for unit in units])
        self._last: tuple[int, Array] | None = None
        self._matched = False
        self.trouble = ""

    def target(self, sample: StateSample) -> Array:
        """Where the arm should be, `(m,)`. Raises ObservationError for a joint that is missing or not a number."""
        missing = [name for name in self._names if name not in sample.names]
        if missing:
            raise ObservationError(f"leader: {', '.join(missing)} missing; found {', '.join(sample.names)}")
        values = sample.values[[sample.names.index(name) for name in self._names]]
        if not np.isfinite(values).all():
            raise ObservationError("leader: a joint is not a number")
        joints, gripper = self._factor * values[:-1] + self._offset, self._config.gripper
        opened = np.clip((values[-1] - gripper.closed) / (gripper.opened - gripper.closed), 0.0, 1.0)
        fingers = self._robot.gripper.lower + opened * (self._robot.gripper.upper - self._robot.gripper.lower)
        if self._spec.space is Space.TASK:
            joints = pose_to_columns(self._chain.forward(joints), self._robot.tool_reference)
        return np.array([*joints, fingers, self._force])

    def mismatch(self, target: Array, measured: Array) -> str:
        """Which column is furthest from where it must be before the arm follows, and by how much; "" if none is."""
        arm = len(target) - len(GRIPPER_COLUMNS)
        off = target - measured
        i = int(np.argmax(np.abs(off[:arm]) / self._near[:arm]))
        if abs(off[i]) <= self._near[i]:
            return ""
        column = self._spec.columns[i]
        return (
            f"leader: {column.name} is off by {off[i]:+.3f} {column.unit}; "
            f"bring it within {self._near[i]:g} {column.unit} of the arm"
        )

    def pull(self, sample: StateSample, measured: Array, deadman: bool) -> Pull | None:
        """Where to go: None while the dead-man is released, and after each press until the leader matches the arm.

        `trouble` then says why. Raises as `target`.
        """
        target = self.target(sample)
        last, self._last = self._last, (sample.stamp_ns, target)
        if not deadman:
            self._matched, self.trouble = False, ""
            return None
        if not self._matched:
            self.trouble = self.mismatch(target, measured)
            self._matched = not self.trouble
        if not self._matched:
            return None
        gap_s = 0.0 if last is None else (sample.stamp_ns - last[0]) / 1e9
        recent = last is not None and 0.005 <= gap_s <= 0.2
        return Pull(target, (target - last[1]) / gap_s if recent and last is not None else np.zeros_like(target))
