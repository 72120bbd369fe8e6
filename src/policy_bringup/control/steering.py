"""A path that goes at a wanted speed for as long as it can and still ends at rest, inside a box.

Each step has constant acceleration. At every step the speed is one from which braking ends before the box does, and
before the path does: v^2 / (2 a) <= distance, v / a <= time left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from policy_bringup.core.types import Array

MARGIN = 1.1
"""Braking that has to be harder than usual, to stop in time, is harder by this much more."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where something is and how fast it goes: position and velocity `(m,)`, in the units of its columns."""

    position: Array
    velocity: Array


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """lower <= position <= upper, `(m,)`."""

    lower: Array
    upper: Array


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Positions, velocities `(steps + 1, m)` at times_s `(steps + 1,)` after stamp_ns; the first is the start."""

    stamp_ns: int
    times_s: Array
    positions: Array
    velocities: Array

    def at(self, stamp_ns: int) -> Motion:
        """Straight between the steps; before the first and after the last, as there."""
        t = (stamp_ns - self.stamp_ns) / 1e9
        later = min(max(int(np.searchsorted(self.times_s, t)), 1), len(self.times_s) - 1)
        t0, t1 = self.times_s[later - 1], self.times_s[later]
        share = min(max((t - t0) / (t1 - t0), 0.0), 1.0)
        position, velocity = (
            table[later - 1] + share * (table[later] - table[later - 1]) for table in (self.positions, self.velocities)
        )
        return Motion(position, velocity)


class Steering:
    """acceleration, hardest `(m,)`: used when there is time, and at most. The path has `steps`, `spacing_s` apart."""

    def __init__(self, acceleration: Array, hardest: Array, spacing_s: float, steps: int) -> None:
        self._acceleration, self._hardest = acceleration, hardest
        self._spacing_s, self._steps = spacing_s, steps

    def braking_way(self, velocity: Array) -> Array:
        """How far it goes, `(m,)`, with the given velocity `(m,)`, when it brakes as hard as it may."""
        way: Array = velocity * np.abs(velocity) / (2.0 * self._hardest)
        return way

    def path(
        self, stamp_ns: int, start: Motion, wanted: Callable[[float, Array], Array], box: Box, together: int = 0
    ) -> Path:
        """From `start`, which lies in `box`; `wanted(t, position)` is the velocity `(m,)` wanted after t seconds.

        together: so many of the first columns change their velocities evenly, as the slowest of them can, so that the
        direction of a motion in several columns is right from its start. The others each do what they can.
        """
        dt = self._spacing_s
        a = self._needed(start, box)
        position, velocity = start.position, start.velocity
        positions, velocities = [position], [velocity]
        for left in range(self._steps - 1, -1, -1):
            t = (self._steps - left - 1) * dt
            new = velocity + _change(wanted(t, position) - velocity, a * dt, together)
            most = a * dt * left
            up = admissible(box.upper - position - 0.5 * dt * velocity, a, dt)
            down = admissible(position - box.lower + 0.5 * dt * velocity, a, dt)
            new = np.clip(new, -np.minimum(most, down), np.minimum(most, up))
            position = np.clip(position + 0.5 * dt * (velocity + new), box.lower, box.upper)
            velocity = new
            positions.append(position)
            velocities.append(velocity)
        times_s = dt * np.arange(self._steps + 1.0)
        return Path(stamp_ns, times_s, np.array(positions), np.array(velocities))

    def _needed(self, start: Motion, box: Box) -> Array:
        """Deceleration to stop within the path and the box, `(m,)`."""
        speed = np.abs(start.velocity)
        room = np.where(start.velocity > 0.0, box.upper - start.position, start.position - box.lower)
        in_time = speed / (self._spacing_s * self._steps)
        in_space = speed * speed / (2.0 * np.maximum(room, 1e-9))
        needed: Array = np.clip(MARGIN * np.maximum(in_time, in_space), self._acceleration, self._hardest)
        return needed


def _change(change: Array, most: Array, together: int) -> Array:
    limited: Array = np.clip(change, -most, most)
    first = np.abs(change[:together])
    share = np.where(first > most[:together], most[:together] / np.maximum(first, 1e-12), 1.0).min(initial=1.0)
    limited[:together] = share * change[:together]
    return limited


def admissible(room: Array, acceleration: Array, dt: float) -> Array:
    """The largest v >= 0 with v dt + v^2 / (2 a) <= room, `(m,)`; 0 where there is no room."""
    step = acceleration * dt
    speed: Array = np.sqrt(step * step + 2.0 * acceleration * np.maximum(room, 0.0)) - step
    return speed
