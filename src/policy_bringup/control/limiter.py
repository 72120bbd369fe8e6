"""Keeps joints within position, velocity and acceleration limits by construction, whatever they are asked for.

Each step has constant acceleration, so a controller that joins the published points by cubic splines draws exactly
this path. The state is always one from which braking at the acceleration limit ends before the position limits:
v^2 / (2 a) <= distance. The approach to a target obeys the same law with half a step to spare, relative to the
target's own velocity: a smooth reference is followed without lag, a sudden one is reached without overshoot.
"""

from __future__ import annotations

import math

import numpy as np

from policy_bringup.core.types import Array


class Limiter:
    """All arrays `(n,)`: lower, upper in rad (or m), velocity per s, acceleration per s^2.

    dt_range: shortest and longest step in s; a step asked for outside is clamped, so that a gap buys nothing.
    """

    def __init__(
        self, lower: Array, upper: Array, velocity: Array, acceleration: Array, dt_range: tuple[float, float]
    ) -> None:
        self._lower, self._upper = lower, upper
        # Plain floats: for a handful of joints a loop is several times faster than numpy's calls.
        self._limits = list(zip(lower.tolist(), upper.tolist(), velocity.tolist(), acceleration.tolist(), strict=True))
        self._dt_range = dt_range
        self.begin(0.5 * (lower + upper))

    @property
    def position(self) -> Array:
        """`(n,)` rad: where the last step ends."""
        return self._position

    @property
    def velocity(self) -> Array:
        """`(n,)` rad/s at that moment."""
        return self._velocity

    def begin(self, position: Array) -> None:
        """At rest at `position`, or where that is outside the range, at its end. Raises ValueError if not finite."""
        _refuse_not_finite(position)
        self.restore(np.minimum(np.maximum(position, self._lower), self._upper), np.zeros(len(self._limits)))

    def restore(self, position: Array, velocity: Array) -> None:
        """Into a state this limiter was in before, or of a braking path from one."""
        self._position, self._velocity = position, velocity
        self._reference: Array | None = None
        self._reference_velocity = np.zeros(len(self._limits))

    def step(self, target: Array, dt: float) -> tuple[Array, Array]:
        """Moves towards `target` for `dt` seconds; returns position and velocity at its end.

        Raises ValueError, and stays where it is, if a number is not finite.
        """
        _refuse_not_finite(target)
        _refuse_not_finite(np.array(dt))
        dt = min(max(dt, self._dt_range[0]), self._dt_range[1])
        target = np.minimum(np.maximum(target, self._lower), self._upper)
        moving = self._reference_motion(target, dt)
        joints = zip(self._position.tolist(), self._velocity.tolist(), target.tolist(), moving, strict=True)
        ends = [_step(*joint, dt, *limits) for joint, limits in zip(joints, self._limits, strict=True)]
        self._position, self._velocity = np.array(ends).T.copy()
        return self._position, self._velocity

    def _reference_motion(self, target: Array, dt: float) -> list[float]:
        """The target's own velocity: the slower of its last two, and 0 if their directions differ. A jump has none."""
        latest = np.zeros(len(target)) if self._reference is None else (target - self._reference) / dt
        pairs = zip(latest.tolist(), self._reference_velocity.tolist(), self._limits, strict=True)
        self._reference, self._reference_velocity = target, latest
        return [
            math.copysign(min(abs(now), abs(before), limit), now) if now * before > 0.0 else 0.0
            for now, before, (_, _, limit, _) in pairs
        ]


def _step(
    q: float, v: float, target: float, moving: float, dt: float, lower: float, upper: float, limit: float, a: float
) -> tuple[float, float]:
    """Position and velocity of one joint after `dt`; `moving` is the velocity of the target, `limit` the joint's."""
    above, below = upper - q - 0.5 * dt * v, q - lower + 0.5 * dt * v
    if above < 0.0 or below < 0.0:
        return _brake(q, v, dt, lower, upper, a)
    gap = target - q - 0.5 * dt * (v + moving)
    wanted = moving + math.copysign(_admissible(abs(gap), a, dt), gap)
    wanted = min(max(wanted, v - a * dt), v + a * dt)
    new = min(max(wanted, -min(_admissible(below, a, dt), limit)), min(_admissible(above, a, dt), limit))
    if abs(new - v) > a * dt * (1.0 + 1e-12):
        # Even full braking leaves too much speed for a whole step: the joint stops within it.
        return _brake(q, v, dt, lower, upper, a)
    return min(max(q + 0.5 * dt * (v + new), lower), upper), new


def _brake(q: float, v: float, dt: float, lower: float, upper: float, a: float) -> tuple[float, float]:
    """Position and velocity of one joint after braking for `dt`, or until it rests."""
    if abs(v) <= a * dt:
        return min(max(q + 0.5 * v * abs(v) / a, lower), upper), 0.0
    slowed = v - math.copysign(a * dt, v)
    return min(max(q + 0.5 * dt * (v + slowed), lower), upper), slowed


def _admissible(room: float, a: float, dt: float) -> float:
    """The largest v >= 0 with v dt + v^2 / (2 a) <= room: half a step's way more than braking needs."""
    return math.sqrt(a * dt * a * dt + 2.0 * a * room) - a * dt


def _refuse_not_finite(values: Array) -> None:
    if not bool(np.isfinite(values).all()):
        raise ValueError(f"a limiter needs finite numbers, got {values}")
