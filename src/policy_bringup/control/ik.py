"""Inverse kinematics by damped least squares, from the present joint position or from a table of seeds.

Sources: Levenberg-Marquardt with damping proportional to the squared error, Sugihara, "Solvability-unconcerned inverse
kinematics by the Levenberg-Marquardt method", IEEE T-RO 27(5), 2011; pull of the redundant joints towards a posture,
Liegeois, "Automatic supervisory control of the configuration and behavior of multibody mechanisms", 1977.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.seeds import Seeds
from policy_bringup.core.config import bounded
from policy_bringup.core.errors import NoSolution
from policy_bringup.core.robot import Robot
from policy_bringup.core.rotations import log
from policy_bringup.core.types import Array, Pose

DAMPING = 0.01
MIN_DAMPING = 1e-10
MAX_STEP = 0.7  # rad and iteration: beyond it, the linear model says nothing about the arm any more
CHECK_EVERY = 3  # iterations in which the squared error must fall to PROGRESS of what it was, else the start is left
PROGRESS = 0.1
ORTHONORMAL = 1e-6


@dataclass(frozen=True, slots=True)
class IkConfig:
    """Accuracy and effort. The effort is counted, not clocked, so that the answer is the same on every machine.

    position_tolerance, rotation_tolerance: what counts as reached. iterations: per start. seeds: starts from the table
    of `table_size`. near_position, near_rotation: a target within these of the present pose is searched from there
    first. pull: part of the way to the home posture that the redundant joints go per solution, at most max_pull.
    """

    position_tolerance: float = bounded(1e-9, 1e-3, "m")
    rotation_tolerance: float = bounded(1e-9, 1.7e-3, "rad")
    iterations: int = bounded(3, 200)
    seeds: int = bounded(1, 40)
    table_size: int = bounded(100, 1000000)
    near_position: float = bounded(0.0, 1.0, "m")
    near_rotation: float = bounded(0.0, 3.1416, "rad")
    pull: float = bounded(0.0, 0.5)
    max_pull: float = bounded(0.0, 0.1, "rad")


class Attempt(NamedTuple):
    """Where one start led: `q` `(n,)`, and how far its tool is from the target (m, rad)."""

    q: Array
    reached: bool
    position: float
    rotation: float


class NumericIk:
    """The default solver: numpy alone, for any chain whose first and last joints are revolute."""

    def __init__(self, chain: Chain, robot: Robot, config: IkConfig) -> None:
        self._chain = chain
        self._config = config
        self._lower, self._upper, self._home = robot.lower, robot.upper, robot.home
        self._seeds = Seeds(chain, self._lower, self._upper, config.table_size)

    def solve(self, T_base_tool: Pose, start: Array) -> Array:
        """Joint position `(n,)` rad within limits; see core.interfaces.IkSolver. Raises NoSolution.

        A target near `start`'s pose is first searched from there, so that a path is followed without changing branch.
        Everything else, and a path that leads nowhere, starts from the table.
        """
        refuse_broken(T_base_tool, start)
        start = np.minimum(np.maximum(start, self._lower), self._upper)
        attempts = []
        near = self._is_near(T_base_tool, start)
        if near:
            attempts.append(self._descend(T_base_tool, start, self._pull(start)))
            if attempts[-1].reached:
                return attempts[-1].q
        for seed in self._seeds.near(T_base_tool, start, self._config.seeds):
            attempts.append(self._descend(T_base_tool, seed, None))
            if attempts[-1].reached:
                return attempts[-1].q
        if not near:
            attempts.append(self._descend(T_base_tool, start, None))
            if attempts[-1].reached:
                return attempts[-1].q
        best = min(attempts, key=lambda attempt: attempt.position + attempt.rotation)
        raise no_solution(T_base_tool, best.position, best.rotation, f"after {len(attempts)} starts")

    def _is_near(self, target: Pose, start: Array) -> bool:
        position, rotation = residual(self._chain, start, target)
        return position <= self._config.near_position and rotation <= self._config.near_rotation

    def _pull(self, start: Array) -> Array:
        """Where the joints would rather go `(n,)`; the descent keeps of it what does not move the tool."""
        pull = self._config.pull * (self._home - start)
        longest = float(np.abs(pull).max())
        return pull * (self._config.max_pull / longest) if longest > self._config.max_pull else pull

    def _descend(self, target: Pose, q: Array, pull: Array | None) -> Attempt:
        """Damped least squares from `q`. The pull acts in the first step only: the rest undoes its side effects."""
        config = self._config
        wanted_position, wanted_rotation = tuple(target.position.tolist()), tuple(target.rotation.ravel().tolist())
        before = math.inf
        for iteration in range(config.iterations):
            position, rotation, J = self._chain.evaluate(q)
            error = _twist(position, rotation, wanted_position, wanted_rotation)
            ex, ey, ez, rx, ry, rz = error
            linear, angular = math.sqrt(ex * ex + ey * ey + ez * ez), math.sqrt(rx * rx + ry * ry + rz * rz)
            reached = linear <= config.position_tolerance and angular <= config.rotation_tolerance
            if reached and pull is None:
                break
            squared = linear * linear + angular * angular
            if iteration % CHECK_EVERY == 0:
                if squared > PROGRESS * before:
                    break
                before = squared
            q = self._step(q, np.array(error), J, DAMPING * squared + MIN_DAMPING, pull)
            pull = None
        else:
            linear, angular = residual(self._chain, q, target)
            reached = linear <= config.position_tolerance and angular <= config.rotation_tolerance
        return Attempt(q, reached, linear, angular)

    def _step(self, q: Array, error: Array, J: Array, damping: float, pull: Array | None) -> Array:
        """The next joint position. A joint that would leave its range stops at the limit; the others do its share."""
        wish = np.zeros(len(q)) if pull is None else pull
        new = q + _bounded_step(J, error, damping, wish)
        held = np.zeros(len(q), dtype=bool)
        for _ in range(len(q)):
            outside = ((new < self._lower) | (new > self._upper)) & ~held
            if not outside.any():
                break
            held |= outside
            fixed = np.where(held, np.minimum(np.maximum(new, self._lower), self._upper) - q, 0.0)
            free = np.where(held, 0.0, J)
            new = q + fixed + _bounded_step(free, error - J @ fixed, damping, np.where(held, 0.0, wish))
        return np.minimum(np.maximum(new, self._lower), self._upper)


def _bounded_step(J: Array, error: Array, damping: float, wish: Array) -> Array:
    """The joint step nearest to `wish` `(n,)` that removes `error` `(6,)`, at most MAX_STEP per joint."""
    gram = J @ J.T
    gram.flat[::7] += damping
    step: Array = wish + np.linalg.solve(gram, error - J @ wish) @ J
    longest = float(np.abs(step).max())
    return step * (MAX_STEP / longest) if longest > MAX_STEP else step


def residual(chain: Chain, q: Array, target: Pose) -> tuple[float, float]:
    """Distance of the tool at `q` from the target: metres, and radians of the rotation between them."""
    position, rotation, _ = chain.evaluate(q)
    wanted_position, wanted_rotation = tuple(target.position.tolist()), tuple(target.rotation.ravel().tolist())
    twist = _twist(position, rotation, wanted_position, wanted_rotation)
    return math.hypot(*twist[:3]), math.hypot(*twist[3:])


def refuse_broken(target: Pose, start: Array) -> None:
    """Raises NoSolution for a target that is not a finite pose, or a start that is not finite."""
    if not bool(np.isfinite(target.position).all() and np.isfinite(target.rotation).all()):
        raise NoSolution("the target pose holds a number that is not finite")
    if not bool((np.abs(target.rotation @ target.rotation.T - np.eye(3)) <= ORTHONORMAL).all()):
        raise NoSolution("the target's rotation matrix is not orthonormal")
    if not bool(np.isfinite(start).all()):
        raise NoSolution("the joint position to start from holds a number that is not finite")


def no_solution(target: Pose, position: float, rotation: float, effort: str) -> NoSolution:
    """The error for a pose that was searched in vain; the residuals (m, rad) are those of the best attempt."""
    x, y, z = target.position
    return NoSolution(
        f"no joint position within limits reaches ({x:.3f}, {y:.3f}, {z:.3f}) m: "
        f"{1000.0 * position:.2f} mm and {math.degrees(rotation):.2f} degrees remain {effort}"
    )


def _twist(
    position: tuple[float, ...],
    rotation: tuple[float, ...],
    wanted: tuple[float, ...],
    wanted_rotation: tuple[float, ...],
) -> tuple[float, float, float, float, float, float]:
    """What leads from one pose to the other: translation (m), and rotation vector (rad) of Rw R^T, base frame.

    The same as rotations.log on plain floats, five times as fast at this size.
    """
    a, b, c, d, e, f, g, h, i = rotation
    p, q, r, s, t, u, v, w, x = wanted_rotation
    rx = 0.5 * ((v * d + w * e + x * f) - (s * g + t * h + u * i))
    ry = 0.5 * ((p * g + q * h + r * i) - (v * a + w * b + x * c))
    rz = 0.5 * ((s * a + t * b + u * c) - (p * d + q * e + r * f))
    cosine = 0.5 * (p * a + q * b + r * c + s * d + t * e + u * f + v * g + w * h + x * i - 1.0)
    sine = math.sqrt(rx * rx + ry * ry + rz * rz)
    if sine < 1e-6 and cosine < 0.0:
        rx, ry, rz = log(np.array(wanted_rotation).reshape(3, 3) @ np.array(rotation).reshape(3, 3).T).tolist()
    elif sine > 1e-9:
        scale = math.atan2(sine, cosine) / sine
        rx, ry, rz = rx * scale, ry * scale, rz * scale
    return wanted[0] - position[0], wanted[1] - position[1], wanted[2] - position[2], rx, ry, rz
