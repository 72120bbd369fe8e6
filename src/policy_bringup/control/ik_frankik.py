"""The closed-form solution for Franka's Panda: `pip install frankik`.

Source: He and Liu, "Analytical inverse kinematics for Franka Emika Panda", 2021: closed form once the last joint is
given. Here that is the start's, so that a path stays smooth, then a grid around it.
"""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np

from policy_bringup.control.ik import IkConfig, no_solution, refuse_broken, residual
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Array, Pose

GRID = 240
HALF = math.sqrt(0.5)
HAND = np.array([[HALF, HALF, 0.0, 0.0], [-HALF, HALF, 0.0, 0.0], [0.0, 0.0, 1.0, 0.1034], [0.0, 0.0, 0.0, 1.0]])
"""The pose of the hand's tool on the flange: frankik's `fk` gives the tool's pose, its `ik_full` takes the flange's."""


class FrankIk:
    """See core.interfaces.IkSolver. Only for an arm whose kinematics are the Panda's, which is checked."""

    def __init__(self, chain: Chain, robot: Robot, config: IkConfig) -> None:
        """Raises ConfigError if frankik is not installed or the arm is another one."""
        try:
            frankik = import_module("frankik")
        except ImportError as error:
            raise ConfigError("solver 'frankik' needs the package frankik: pip install frankik") from error
        self._chain, self._config = chain, config
        self._lower, self._upper = robot.lower, robot.upper
        self._closed_form = frankik.ik_full
        # Where our tool is on its tool must not depend on the joints, or the arm is not a Panda.
        tests = (robot.home, 0.5 * (robot.lower + robot.home)) if len(robot.joints) == 7 else ()
        offsets = [np.linalg.inv(_matrix(chain.forward(q))) @ np.asarray(frankik.fk(q)) for q in tests]
        if not offsets or not np.allclose(offsets[0], offsets[1], atol=1e-9):
            raise ConfigError(f"solver 'frankik' is for the Franka Panda only; the robot '{robot.name}' is another arm")
        self._tool_to_flange = offsets[0] @ np.linalg.inv(HAND)

    def solve(self, T_base_tool: Pose, start: Array) -> Array:
        """Joint position `(7,)` rad, the nearest to `start` of the first last-joint value that has any."""
        refuse_broken(T_base_tool, start)
        flange = _matrix(T_base_tool) @ self._tool_to_flange
        grid = np.linspace(self._lower[-1], self._upper[-1], GRID)
        first = float(np.clip(start[-1], self._lower[-1], self._upper[-1]))
        for last in (first, *grid[np.argsort(np.abs(grid - first))].tolist()):
            answers = np.asarray(self._closed_form(flange, start, last, False))
            within = ((answers >= self._lower) & (answers <= self._upper)).all(axis=1)
            if within.any():
                q: Array = answers[within][np.argmin(np.abs(answers[within] - start).max(axis=1))]
                position, rotation = residual(self._chain, q, T_base_tool)
                if position <= self._config.position_tolerance and rotation <= self._config.rotation_tolerance:
                    return q
        raise no_solution(T_base_tool, *residual(self._chain, start, T_base_tool), "from the start")


def _matrix(pose: Pose) -> Array:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = pose.rotation, pose.position
    return T
