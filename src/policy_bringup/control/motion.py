"""Joint commands, one after the other: each within its limits and the workspace, and past the second line.

Every command ends at rest: behind the next point lies the path on which the arm brakes within its limits. If nothing
follows, the robot's controller runs to that end and stays there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.braking import braking_path, onwards, state_at
from policy_bringup.control.limiter import Limiter
from policy_bringup.control.second_line import CommandLimits, refuse
from policy_bringup.control.workspace import Workspace
from policy_bringup.core.errors import DeviceError
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Array, JointCommand

SHARES = (1.0, 0.1, 0.01, 0.0)
"""Of the way to a target, tried one after the other by joints at rest that would leave the workspace: all set off at
their own full acceleration, which may lead elsewhere at first. The last one moves the gripper alone."""

ROUNDING = 1e-9
"""Rad/s that a joint at rest may seem to have."""


@dataclass(frozen=True, slots=True, eq=False)
class _Accepted:
    """The last command that left, and when."""

    command: JointCommand
    stamp_ns: int


class Motion:
    """Where the robot is commanded to be, and how it goes on from there. All `now_ns` are monotonic.

    Points are the arm's joints (rad) and, last, the gripper's commanded finger (m, half the width): `(n + 1,)`.
    """

    def __init__(self, robot: Robot, config: ArmConfig, workspace: Workspace) -> None:
        # Both fingers move: each goes half as far and half as fast as the width between them.
        gripper = robot.gripper
        self._names = (*robot.joint_names, gripper.joint)
        self._lower, self._upper = np.append(robot.lower, gripper.lower / 2), np.append(robot.upper, gripper.upper / 2)
        self._acceleration = np.append(robot.acceleration, gripper.acceleration / 2)
        velocity, steps = np.append(robot.velocity, gripper.velocity / 2), (config.min_step_s, config.horizon_s)
        self._limiter = Limiter(self._lower, self._upper, velocity, self._acceleration, steps)
        self._second_line = CommandLimits.of(robot, config.acceleration_margin)
        self._config, self._workspace = config, workspace
        self._accepted: _Accepted | None = None
        self._before: tuple[_Accepted, Array, Array] | None = None
        self._braking = False
        self._refusal = ""

    @property
    def begun(self) -> bool:
        """Whether `begin` was called."""
        return self._accepted is not None

    @property
    def braking(self) -> bool:
        """Whether the last `move` to a target made no step there: the tool could not have stopped in its workspace."""
        return self._braking

    @property
    def refusal(self) -> str:
        """Why the second line refused the latest command that it refused."""
        return self._refusal

    @property
    def point(self) -> Array:
        """The last command's first point, `(n + 1,)`."""
        return self._limiter.position

    @property
    def at_rest(self) -> bool:
        """Whether that point is one of rest."""
        return not self._limiter.velocity.any()

    @property
    def arm_rests(self) -> bool:
        """Whether it is one at which no joint of the arm moves, whatever the gripper does."""
        return bool((np.abs(self._limiter.velocity[:-1]) <= ROUNDING).all())

    def require_begun(self) -> None:
        """Raises DeviceError before `begin`."""
        self._last()

    def begin(self, measured: Array, force: float, now_ns: int) -> JointCommand:
        """From rest at the measured point, pressing with `force` (N); the command that holds it there.

        Raises DeviceError if the measurement is not finite, or a joint is out of its range by more than the resync
        tolerance.
        """
        excess = np.maximum(self._lower - measured, measured - self._upper)
        within = excess <= self._config.resync_tolerance
        if not bool(within.all()):
            joint = int(np.argmin(within))
            raise DeviceError(
                f"{self._names[joint]} is measured at {measured[joint]:.4f}; its range is "
                f"{self._lower[joint]:.4f} to {self._upper[joint]:.4f}: bring it back before starting"
            )
        return self.place(measured, force, now_ns)

    def place(self, point: Array, force: float, now_ns: int) -> JointCommand:
        """From rest at a point where somebody else has brought the robot; see `begin`, but joints out of their range go
        to its end. Raises ValueError for a number that is not finite."""
        self._limiter.begin(point)
        self._accepted, self._before = _Accepted(self._command(force), now_ns), None
        return self._accepted.command

    def last(self, now_ns: int) -> tuple[JointCommand, float]:
        """The last command that left, and how many s ago. Raises DeviceError before `begin`."""
        last = self._last()
        return last.command, 1e-9 * (now_ns - last.stamp_ns)

    def move(self, target: Array | None, force: float, now_ns: int) -> JointCommand | None:
        """The next command, towards `target` or braking; None if the second line refuses it, and nothing changes then.

        The next point comes as much later than the last one as now is later than then. A robot that got nothing for
        longer than the horizon is already on the braking path behind its last point, and goes on from there.
        """
        last, elapsed = self.last(now_ns)
        accepted, before = self._last(), (self._limiter.position, self._limiter.velocity)
        horizon = self._config.horizon_s
        if elapsed > horizon:
            self._limiter.restore(*state_at(last.times_s, last.positions, last.velocities, elapsed))
        dt = min(elapsed, horizon)
        previous, previous_velocity = self._limiter.position, self._limiter.velocity
        command = None if target is None else self._stepped(target, dt, force, last)
        if command is None:
            command = replace(onwards(last, elapsed, horizon), gripper_effort=force)
            self._limiter.restore(command.positions[0], command.velocities[0])
        reason = refuse(self._second_line, previous, previous_velocity, command, dt)
        if reason is not None:
            self._limiter.restore(*before)
            self._refusal = reason
            return None
        self._accepted, self._before = _Accepted(command, now_ns), (accepted, *before)
        return command

    def retract(self, made_ns: int) -> None:
        """The latest command of `move` has not left: all is as before it. Nothing unless it was made at `made_ns`."""
        if self._before is not None and self._last().stamp_ns == made_ns:
            self._accepted, *point = self._before
            self._limiter.restore(*point)
            self._before = None

    def _last(self) -> _Accepted:
        if self._accepted is None:
            raise DeviceError("the arm has not begun: no measured joint position yet")
        return self._accepted

    def _stepped(self, target: Array, dt: float, force: float, last: JointCommand) -> JointCommand | None:
        """A step towards `target`; None if the way of each leads out of the workspace, and that of the last did not.

        An arm that is outside, as after hand guiding, is not kept from anything: safety asks it only to come in.
        """
        q, v = self._limiter.position, self._limiter.velocity
        for share in (1.0,) if v[:-1].any() else SHARES:
            goal = target if share == 1.0 else np.append(q[:-1] + share * (target - q)[:-1], target[-1])
            self._limiter.step(goal, dt)
            command = self._command(force)
            self._braking = share == 0.0
            if not self._workspace.excess(command.positions) or self._workspace.excess(last.positions):
                return command
            self._limiter.restore(q, v)
        self._braking = True
        return None

    def _command(self, force: float) -> JointCommand:
        """The limiter's point, then the way to rest."""
        q, v = self._limiter.position, self._limiter.velocity
        times, positions, velocities = braking_path(
            q, v, self._lower, self._upper, self._acceleration, self._config.horizon_s
        )
        return JointCommand(
            self._names,
            self._config.horizon_s + np.append(0.0, times),
            np.vstack([q, positions]),
            np.vstack([v, velocities]),
            force,
        )
