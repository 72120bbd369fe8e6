"""TRAC-IK as a solver: `pip install pytracik`.

Source: Beeson and Ames, "TRAC-IK: an open-source library for improved solving of generic inverse kinematics", 2015.
It runs against a clock, so that a loaded machine solves less than an idle one.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from policy_bringup.control.ik import IkConfig, no_solution, refuse_broken, residual
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Array, Pose

TIME_LIMIT_S = 0.005
TRIES = 3


class TracIk:
    """See core.interfaces.IkSolver. Takes the first answer found ("Speed"); "Distance" spends its whole limit."""

    def __init__(self, chain: Chain, robot: Robot, urdf_path: Path | str, config: IkConfig) -> None:
        """Raises ConfigError if pytracik is not installed."""
        try:
            module = import_module("trac_ik")
        except ImportError as error:
            raise ConfigError("solver 'trac' needs the package pytracik: pip install pytracik") from error
        self._chain, self._config = chain, config
        self._lower, self._upper = robot.lower, robot.upper
        accuracy = 0.5 * min(config.position_tolerance, config.rotation_tolerance)
        self._solver: Any = module.TracIK(
            robot.base_frame, robot.tool_frame, str(urdf_path),
            timeout=TIME_LIMIT_S, epsilon=accuracy, solver_type="Speed",
        )  # fmt: skip
        self._solver.joint_limits = (self._lower.tolist(), self._upper.tolist())

    def solve(self, T_base_tool: Pose, start: Array) -> Array:
        """Joint position `(n,)` rad; raises NoSolution."""
        refuse_broken(T_base_tool, start)
        start = np.clip(start, self._lower, self._upper)
        position, rotation = residual(self._chain, start, T_base_tool)
        for _ in range(TRIES):
            answer = self._solver.ik(T_base_tool.position, T_base_tool.rotation, start)
            if answer is None:
                continue
            q: Array = np.clip(np.asarray(answer, dtype=float), self._lower, self._upper)
            position, rotation = residual(self._chain, q, T_base_tool)
            if position <= self._config.position_tolerance and rotation <= self._config.rotation_tolerance:
                return q
        raise no_solution(T_base_tool, position, rotation, f"after {TRIES} tries of {1e3 * TIME_LIMIT_S:.0f} ms")
