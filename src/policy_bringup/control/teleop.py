"""An operator's motion, or a leader arm's, as actions: they pass safety like any other source.

Every action table starts where the arm is told to be at that moment, so that nothing jumps, and ends at rest, so that
nothing runs on if no other follows.

Why a released dead-man gives a table too, which brakes and then holds: to the safety monitor silence is a fault of the
source in charge (retries, then FALLBACK), and letting go is none. So whoever publishes goes on with held poses for as
long as safety has teleop in charge (control/handover.py); the arm rests in a held pose, safety stays ACTIVE, and the
next press moves on at once. If the process dies instead, the silence is what it looks like, and safety answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from policy_bringup.control.emitted import Emitted
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.leader import Pull
from policy_bringup.control.operator_input import TeleopCommand
from policy_bringup.control.steering import Box, Motion, Path, Steering, admissible
from policy_bringup.control.teleop_config import MotionConfig
from policy_bringup.core.errors import ChunkRefused, ConfigError
from policy_bringup.core.robot import ColumnLimits, Robot
from policy_bringup.core.rotations import exp, skew
from policy_bringup.core.types import GRIPPER_COLUMNS, ActionChunk, ActionSpec, Array, Space

FEWEST_STEPS, MOST_STEPS = 4, 16
DAMPING = 0.02
"""Of the inverse Jacobian, where actions are joint positions: near a singularity joints slow down instead of racing."""
AHEAD_S = 0.1
"""How long a leader is taken to move on as it does: two of its tables."""
HARDEST = 0.8
"""Part of safety's acceleration limit that braking in an emergency may use."""
SAME = 0.05
"""Part of a column's tolerance within which the emitted action is the one that was asked for."""
LATE_NS = 30_000_000
"""How long a busy safety may take from computing an action to publishing it; the stamp is of the latter."""
FORCE_RAMP_S = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What is known of the arm when a table is made.

    measured: `(m,)` in the action's columns at `stamp_ns` (ROS time). emitted: what safety last emitted, None for
    nothing yet. live: the arm follows that, whoever is its source (safety is ACTIVE or RETRY); otherwise it is held
    where it is measured, and a table starts there.
    """

    stamp_ns: int
    measured: Array
    emitted: Emitted | None
    live: bool


class Teleop:
    """Motions -> action tables in the contract's columns. Arm columns come first, then GRIPPER_COLUMNS.

    Targets stay within the workspace limits and, for arm columns, within the leash of the measured arm: an arm that is
    blocked is not pushed harder and harder. (What takes over from a source that is faster than an operator may be has
    its braking way on top.) tick_s: period of safe actions. Raises ConfigError for a speed or acceleration that safety
    would refuse.
    """

    def __init__(
        self, robot: Robot, chain: Chain, spec: ActionSpec, limits: Sequence[ColumnLimits], config: MotionConfig,
        tick_s: float,
    ) -> None:  # fmt: skip
        self._robot, self._chain, self._spec, self._config = robot, chain, spec, config
        steps = min(spec.steps, MOST_STEPS)
        if steps < FEWEST_STEPS:
            raise ConfigError(f"teleop: the contract allows {spec.steps} steps; at least {FEWEST_STEPS} are needed")
        spacing_s = config.horizon_s / steps
        self._arm = len(spec.names) - len(GRIPPER_COLUMNS)
        self._lower, self._upper = np.array([c.lower for c in limits]), np.array([c.upper for c in limits])
        self._tolerance = np.array([c.tolerance for c in limits])[: self._arm]
        self._near = SAME * self._tolerance
        self._speed, acceleration, self._leash = _columns(robot, spec, config)
        hardest = HARDEST * np.array([c.max_acceleration for c in limits]) * tick_s / spacing_s
        _check(limits, self._speed, acceleration, hardest, spacing_s)
        self._acceleration = acceleration
        self._steering = Steering(acceleration, hardest, spacing_s, steps)
        self._spacing_s = spacing_s
        self._reach = self._leash - self._steering.braking_way(self._speed)[: self._arm]
        if not (self._reach > self._near).all():
            raise ConfigError("teleop: motion: a leash is too short for its speed; lengthen it or slow down")
        self._path: Path | None = None

    def drive(self, command: TeleopCommand, moment: Moment) -> ActionChunk:
        """The next table for a motion; without its dead-man, one that brakes and holds.

        Raises ChunkRefused for an arm that is not measured, or out of its workspace by more than the leash.
        """
        start, box = self._begin(moment, command.deadman)
        rates = self._rates(command, start.position)
        force = self._config.grip_force if command.deadman and command.gripper != 0.0 else start.position[-1]

        def wanted(_t: float, position: Array) -> Array:
            return np.append(rates[:-1], self._towards(position, force)[-1])

        return self._finish(moment.stamp_ns, start, wanted, box, self._arm)

    def follow(self, pull: Pull | None, moment: Moment) -> ActionChunk:
        """The next table for a leader arm; without a pull, one that brakes and holds. Raises as `drive`."""
        start, box = self._begin(moment, pull is not None)

        def wanted(t: float, position: Array) -> Array:
            if pull is None:
                return np.zeros_like(position)
            moving = pull.velocity if t < AHEAD_S else np.zeros_like(position)
            goal = pull.target + pull.velocity * min(t, AHEAD_S)
            return np.clip(moving + self._towards(position, goal), -self._speed, self._speed)

        return self._finish(moment.stamp_ns, start, wanted, box, 0)

    def _begin(self, moment: Moment, driven: bool) -> tuple[Motion, Box]:
        """Where the table starts, and the box it may use.

        A live arm starts from what safety emitted and not from the measured pose, which always lags or sags a little:
        each press would let the arm sink. But it has to be there: within the leash while it is driven, within
        tolerance when it rests. So letting go gives up a target that the arm did not reach, and pushes no longer.
        """
        n, measured, lower, upper = self._arm, moment.measured, self._lower.copy(), self._upper.copy()
        if not np.isfinite(measured).all():
            raise ChunkRefused("the joint state has a number that is not finite")
        outside = np.maximum(lower - measured, measured - upper)[:n] - self._leash
        if (outside > 0.0).any():
            i = int(np.argmax(outside > 0.0))
            raise ChunkRefused(
                f"{self._spec.names[i]} is {measured[i]:.3f}, far outside the workspace {lower[i]:g} to {upper[i]:g}; "
                "bring the arm back first"
            )
        start = self._start(moment, driven)
        position = np.clip(start.position, lower, upper)
        here, there = position[:n], (position + self._steering.braking_way(start.velocity))[:n]
        low = np.minimum.reduce([measured[:n] - self._reach, here, there])
        high = np.maximum.reduce([measured[:n] + self._reach, here, there])
        slow = np.abs(start.velocity[:n]) <= self._speed[:n]
        low = np.where(slow, np.maximum(low, measured[:n] - self._leash), low)
        high = np.where(slow, np.minimum(high, measured[:n] + self._leash), high)
        lower[:n], upper[:n] = (np.clip(bound, self._lower[:n], self._upper[:n]) for bound in (low, high))
        return Motion(np.clip(position, lower, upper), start.velocity), Box(lower, upper)

    def _start(self, moment: Moment, driven: bool) -> Motion:
        n, measured, emitted = self._arm, moment.measured, moment.emitted
        # Fingers stay as commanded: what they hold keeps them from getting there.
        fingers = np.array([measured[n], self._config.grip_force]) if emitted is None else emitted.position[n:]
        standing = Motion(np.append(measured[:n], fingers), np.zeros_like(measured))
        if emitted is None or not moment.live:
            self._path = None
            return standing
        start = emitted.at(moment.stamp_ns)
        if self._path is not None:
            asked = [self._path.at(emitted.stamp_ns - late).position[:n] for late in (0, LATE_NS)]
            low, high = np.minimum(*asked) - self._near, np.maximum(*asked) + self._near
            if ((low <= emitted.position[:n]) & (emitted.position[:n] <= high)).all():
                start = self._path.at(moment.stamp_ns)
        ahead = start.position[:n] - measured[:n]
        rests = (np.abs(start.velocity) <= self._acceleration * self._spacing_s)[:n].all() and not driven
        if (np.abs(ahead) > (self._tolerance if rests else self._leash + self._near)).any():
            return standing
        leashed = measured[:n] + np.clip(ahead, -self._leash, self._leash)
        return Motion(np.append(leashed, start.position[n:]), start.velocity)

    def _finish(
        self, stamp_ns: int, start: Motion, wanted: Callable[[float, Array], Array], box: Box, together: int
    ) -> ActionChunk:
        path = self._path = self._steering.path(stamp_ns, start, wanted, box, together)
        steps = len(path.times_s) - 1
        return ActionChunk(
            "teleop", stamp_ns, 0, self._spec.names, path.times_s[1:], path.positions[1:], np.zeros(steps)
        )

    def _towards(self, position: Array, goal: Array | float) -> Array:
        """The velocity `(m,)` from which braking ends at the goal."""
        gap = goal - position
        way: Array = np.sign(gap) * admissible(np.abs(gap), self._acceleration, self._spacing_s)
        return np.clip(way, -self._speed, self._speed)

    def _rates(self, command: TeleopCommand, position: Array) -> Array:
        """The motion as rates of the columns, `(m,)`."""
        rates = np.zeros_like(position)
        if not command.deadman:
            return rates
        rates[-2] = command.gripper * self._speed[-2]
        if self._spec.space is Space.TASK:
            rates[:3] = command.linear
            rates[3:6] = _rotation_rates(position[3:6], exp(np.array(self._robot.tool_reference)).T @ command.angular)
            return rates
        jacobian = self._chain.jacobian(position[: self._arm])
        twist = np.concatenate([command.linear, command.angular])
        damped = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        joints = jacobian.T @ np.linalg.solve(damped, twist)
        rates[: self._arm] = joints / max(1.0, float((np.abs(joints) / self._speed[: self._arm]).max()))
        return rates


def _rotation_rates(vector: Array, angular: Array) -> Array:
    """How a rotation vector `(3,)` changes when its frame turns at `angular` `(3,)` rad/s, both in the same frame.

    Source: Barfoot, State Estimation for Robotics, 2nd ed., section 8.1: the inverse left Jacobian of SO(3).
    """
    angle, S = float(np.linalg.norm(vector)), skew(vector)
    if angle < 1e-4:
        factor = 1.0 / 12.0
    else:
        factor = (1.0 - 0.5 * angle * np.sin(angle) / (1.0 - np.cos(angle))) / angle**2
    rates: Array = angular - 0.5 * S @ angular + factor * S @ (S @ angular)
    return rates


def _columns(robot: Robot, spec: ActionSpec, config: MotionConfig) -> tuple[Array, Array, Array]:
    """Speed and acceleration `(m,)` of every column, leash of every arm column."""
    if spec.space is Space.TASK:
        speed = np.repeat([config.linear_speed, config.angular_speed], 3)
        acceleration = np.repeat([config.linear_acceleration, config.angular_acceleration], 3)
        leash = np.repeat([config.linear_leash, config.angular_leash], 3)
    else:
        speed, acceleration = config.joint_speed * robot.velocity, config.joint_speed * robot.acceleration
        leash = np.full(len(speed), config.joint_leash)
    fingers = (config.gripper_speed, config.force_rate)
    ramps = (config.gripper_acceleration, config.force_rate / FORCE_RAMP_S)
    return np.append(speed, fingers), np.append(acceleration, ramps), leash


def _check(limits: Sequence[ColumnLimits], speed: Array, acceleration: Array, hardest: Array, spacing_s: float) -> None:
    """Safety would refuse what is refused here, but only when somebody moves."""
    for i, column in enumerate(limits):
        most = min(column.max_velocity, column.max_window / 0.25, column.max_step / spacing_s)
        for what, value, limit in (("speed", speed[i], most), ("acceleration", acceleration[i], hardest[i])):
            if not value <= limit:
                raise ConfigError(
                    f"teleop: motion: {column.name} would have a {what} of {value:g}; "
                    f"the deployment's limits allow at most {limit:g}"
                )
