"""The reference that the simulated controller tracks: what a joint trajectory controller does with its points."""

from __future__ import annotations

import numpy as np

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import Array, JointCommand


class Follower:
    """Cubic Hermite curves from point to point, starting from where the reference is; the last point is held for ever.

    names: joints in order. lower, upper: `(n,)`, the reference never leaves them. start: `(n,)` held until commanded.
    """

    def __init__(self, names: tuple[str, ...], lower: Array, upper: Array, start: Array) -> None:
        self._names, self._lower, self._upper = names, lower, upper
        self.hold(start)

    def hold(self, positions: Array) -> None:
        """Drops the trajectory and holds `(n,)`."""
        self._times = np.full(1, -np.inf)
        self._positions = np.clip(positions, self._lower, self._upper)[None]
        self._velocities = np.zeros_like(self._positions)

    def command(self, command: JointCommand, start_s: float, now_s: float) -> None:
        """Replaces the trajectory; its points lie `times_s` after `start_s`, those before `now_s` are left out.

        Joints that the command does not name stay where the reference is. Raises DeviceError, and changes nothing, for
        an unknown joint, a wrong shape, a number that is not finite, times that do not rise, or points all in the past.
        """
        ahead = self._check(command, start_s - now_s)
        positions, velocities = self.at(now_s)
        count = int(ahead.sum())
        columns = [self._names.index(name) for name in command.names]
        new_positions, new_velocities = np.tile(positions, (count + 1, 1)), np.zeros((count + 1, len(positions)))
        new_positions[1:, columns] = command.positions[ahead]
        new_velocities[0], new_velocities[1:, columns] = velocities, command.velocities[ahead]
        self._times = np.concatenate([[now_s], start_s + command.times_s[ahead]])
        self._positions = np.clip(new_positions, self._lower, self._upper)
        self._velocities = new_velocities

    def at(self, now_s: float) -> tuple[Array, Array]:
        """Position `(n,)` and velocity `(n,)` of the reference."""
        later = int(np.searchsorted(self._times, now_s, side="right"))
        if later == len(self._times):
            return self._positions[-1], np.zeros(len(self._names))
        h = self._times[later] - self._times[later - 1]
        s = (now_s - self._times[later - 1]) / h
        p0, p1 = self._positions[later - 1], self._positions[later]
        v0, v1 = self._velocities[later - 1], self._velocities[later]
        # The cubic through both ends: p = p0 + s h v0 + s^2 a + s^3 b.
        a = 3.0 * (p1 - p0) - h * (2.0 * v0 + v1)
        b = 2.0 * (p0 - p1) + h * (v0 + v1)
        position = p0 + s * (h * v0 + s * (a + s * b))
        return np.clip(position, self._lower, self._upper), v0 + s * (2.0 * a + 3.0 * s * b) / h

    def _check(self, command: JointCommand, offset_s: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        unknown = [name for name in command.names if name not in self._names]
        shape = (len(command.times_s), len(command.names))
        if unknown or len(set(command.names)) != len(command.names):
            raise DeviceError(
                f"command: joints must be among {', '.join(self._names)}, found {', '.join(command.names)}"
            )
        if command.positions.shape != shape or command.velocities.shape != shape:
            raise DeviceError(
                f"command: positions and velocities must be (points, joints) = {shape}, "
                f"found {command.positions.shape} and {command.velocities.shape}"
            )
        numbers = (command.times_s, command.positions, command.velocities)
        if not all(np.isfinite(part).all() for part in numbers):
            raise DeviceError("command: every number must be finite")
        ahead = command.times_s + offset_s > 0.0
        if not ahead.any() or not (np.diff(command.times_s) > 0.0).all():
            raise DeviceError("command: times must rise, and at least one must lie ahead")
        return ahead
