"""The path on which an arm comes to rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from policy_bringup.core.types import Array, JointCommand

RESOLUTION_S = 1e-4


def braking_path(
    position: Array, velocity: Array, lower: Array, upper: Array, acceleration: Array, shortest_s: float
) -> tuple[Array, Array, Array]:
    """Times `(m,)` s from now, positions and velocities `(m, n)`; the last velocity is zero. All other arrays `(n,)`.

    All joints brake evenly and end together, at one point: a cubic spline to it is exactly this motion. A joint too
    near its limit to brake that gently stops earlier, which makes one point more. Needs v^2 / (2 a) <= distance from
    the limit, which the limiter grants.
    """
    speed = np.abs(velocity)
    quickest = speed / acceleration
    together = max(float(quickest.max()), shortest_s)
    room = np.where(velocity > 0.0, upper - position, position - lower)
    stops = np.where(0.5 * speed * together <= room, together, quickest)
    stops = RESOLUTION_S * np.maximum(np.ceil(stops / RESOLUTION_S - 1e-9), 1.0)
    times = np.unique(np.append(stops, stops.max()))
    elapsed = np.minimum(times[:, None], stops)
    positions = position + velocity * elapsed * (1.0 - 0.5 * elapsed / stops)
    velocities = np.where(elapsed < stops, velocity * (1.0 - elapsed / stops), 0.0)
    return times, np.minimum(np.maximum(positions, lower), upper), velocities


def state_at(times: Array, positions: Array, velocities: Array, t: float) -> tuple[Array, Array]:
    """Position and velocity `(n,)` at `t` >= times[0] on points between which the acceleration is constant."""
    later = int(np.searchsorted(times, t))
    if later == len(times):
        return positions[-1], velocities[-1]
    if later == 0:
        return positions[0], velocities[0]
    p0, p1, v0, v1 = positions[later - 1], positions[later], velocities[later - 1], velocities[later]
    elapsed, whole = t - times[later - 1], times[later] - times[later - 1]
    velocity = v0 + (elapsed / whole) * (v1 - v0)
    position = p0 + 0.5 * elapsed * (v0 + velocity)
    return np.minimum(np.maximum(position, np.minimum(p0, p1)), np.maximum(p0, p1)), velocity


def onwards(command: JointCommand, elapsed: float, horizon: float) -> JointCommand:
    """What is left of a command `elapsed` s after it was given; its first point lies `horizon` s from then.

    So it says nothing new: a robot that follows it comes to rest where the command has said.
    """
    due = elapsed + horizon
    later = command.times_s > due + RESOLUTION_S / 2
    if not later.any():
        rest = np.tile(command.positions[-1], (2, 1))
        return replace(command, times_s=horizon * np.array([1.0, 2.0]), positions=rest, velocities=np.zeros_like(rest))
    position, velocity = state_at(command.times_s, command.positions, command.velocities, due)
    return replace(
        command,
        times_s=np.append(horizon, command.times_s[later] - elapsed),
        positions=np.vstack([position, command.positions[later]]),
        velocities=np.vstack([velocity, command.velocities[later]]),
    )
