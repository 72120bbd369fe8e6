"""The arm's second line: an independent judgement of every joint command before it leaves.

It shares the limits with what made the command, and no code. Every test asks for membership, `lower <= x <= upper`:
a NaN is a member of nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Array, JointCommand

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class CommandLimits:
    """Per joint `(n,)`: lower, upper (rad or m), velocity (per s), acceleration (per s^2). force: of the gripper, N.

    margin: factor by which the acceleration, which is derived from positions twice, may exceed its limit.
    """

    names: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    force: float
    margin: float

    @classmethod
    def of(cls, robot: Robot, margin: float) -> CommandLimits:
        """The robot's joints and, last, the commanded finger: half of what holds for the width between the two."""
        gripper = robot.gripper
        rows = [(j.name, j.lower, j.upper, j.velocity, j.acceleration) for j in robot.joints]
        finger = (gripper.lower, gripper.upper, gripper.velocity, gripper.acceleration)
        rows.append((gripper.joint, *(0.5 * value for value in finger)))  # type: ignore[arg-type]
        names, *columns = zip(*rows, strict=True)
        lower, upper, velocity, acceleration = (np.array(column, dtype=float) for column in columns)
        return cls(tuple(names), lower, upper, velocity, acceleration, gripper.force, margin)


def refuse(
    limits: CommandLimits, previous: Array, previous_velocity: Array, command: JointCommand, dt: float
) -> str | None:
    """Why a command must not leave, or None.

    previous, previous_velocity: `(n,)` where the arm is `dt` seconds before the command's first point. From there and
    between points a controller draws cubic splines: their accelerations are greatest at the ends.
    """
    shape = (len(command.times_s), len(limits.names))
    if command.names != limits.names or command.positions.shape != shape or command.velocities.shape != shape:
        return "the command's joints are not the robot's"
    gaps = np.diff(command.times_s, prepend=0.0)
    if not (len(gaps) >= 2 and bool(((gaps > 0.0) & (gaps < np.inf)).all())):
        return "the command needs two or more points at increasing times"
    if not 0.0 < dt < np.inf:
        return f"the time since the command before is {dt} s"
    if not 0.0 <= command.gripper_effort <= limits.force:
        return f"the gripper's force {command.gripper_effort:.4f} is outside 0 to {limits.force:.4f}"
    first = (command.positions[0] - previous) / dt
    gaps_s = gaps[1:, None]
    velocity = np.diff(command.positions, axis=0) / gaps_s
    before, after = command.velocities[:-1], command.velocities[1:]
    ends = np.vstack([6.0 * velocity - 4.0 * before - 2.0 * after, 2.0 * before + 4.0 * after - 6.0 * velocity])
    acceleration = np.vstack([2.0 * (first - previous_velocity) / dt, ends / np.vstack([gaps_s, gaps_s])])
    checks = (
        ("position", command.positions, limits.lower - ROUNDING, limits.upper + ROUNDING),
        ("velocity", command.velocities, -limits.velocity - ROUNDING, limits.velocity + ROUNDING),
        ("mean velocity", np.vstack([first, velocity]), -limits.velocity - ROUNDING, limits.velocity + ROUNDING),
        ("acceleration", acceleration, -limits.margin * limits.acceleration, limits.margin * limits.acceleration),
        ("final velocity", command.velocities[-1], np.zeros(shape[1]), np.zeros(shape[1])),
    )
    for quantity, values, lower, upper in checks:
        reason = _outside(limits.names, quantity, values, lower, upper)
        if reason is not None:
            return reason
    return None


def _outside(names: tuple[str, ...], quantity: str, values: Array, lower: Array, upper: Array) -> str | None:
    """The first joint whose value is not a member of [lower, upper]; values `(n,)` or `(points, n)`."""
    member = (lower <= values) & (values <= upper)
    if bool(member.all()):
        return None
    rows, allowed = np.atleast_2d(values), np.atleast_2d(member)
    row, column = np.unravel_index(int(np.argmin(allowed)), allowed.shape)
    return f"{names[column]}: {quantity} {rows[row, column]:.4f} is outside {lower[column]:.4f} to {upper[column]:.4f}"
