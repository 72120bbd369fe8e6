"""Inverse kinematics on Pinocchio's kinematics: `pip install pin`.

Source: damped least squares on the logarithm of the pose error, the inverse kinematics example of Pinocchio's manual
(Carpentier et al., 2019), with the damping of Sugihara 2011 and restarts from the same random positions every time.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from policy_bringup.control.ik import DAMPING, MAX_STEP, MIN_DAMPING, IkConfig, no_solution, refuse_broken, residual
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Array, Pose

RESTARTS = 60


class PinocchioIk:
    """See core.interfaces.IkSolver. For any arm that a URDF describes."""

    def __init__(self, chain: Chain, robot: Robot, urdf_path: Path | str, config: IkConfig) -> None:
        """Raises ConfigError if Pinocchio is not installed."""
        try:
            pinocchio = import_module("pinocchio")
        except ImportError as error:
            raise ConfigError("solver 'pinocchio' needs the package pin: pip install pin") from error
        self._pin: Any = pinocchio
        self._chain, self._config = chain, config
        self._lower, self._upper = robot.lower, robot.upper
        full = pinocchio.buildModelFromUrdf(str(urdf_path))
        others = [i for i, name in enumerate(full.names) if i > 0 and name not in robot.joint_names]
        self._model = pinocchio.buildReducedModel(full, others, pinocchio.neutral(full))
        self._data = self._model.createData()
        self._base, self._tool = self._model.getFrameId(robot.base_frame), self._model.getFrameId(robot.tool_frame)
        starts = np.random.default_rng(0).uniform(self._lower, self._upper, (RESTARTS, len(self._lower)))
        self._starts: list[Array] = list(starts)

    def solve(self, T_base_tool: Pose, start: Array) -> Array:
        """Joint position `(n,)` rad; raises NoSolution."""
        refuse_broken(T_base_tool, start)
        start = np.clip(start, self._lower, self._upper)
        best = (np.inf, np.inf)
        for seed in (start, *self._starts):
            q = self._descend(T_base_tool, seed)
            position, rotation = residual(self._chain, q, T_base_tool)
            if position <= self._config.position_tolerance and rotation <= self._config.rotation_tolerance:
                return q
            best = min(best, (position, rotation), key=sum)
        raise no_solution(T_base_tool, *best, f"after {RESTARTS + 1} starts")

    def _descend(self, target: Pose, q: Array) -> Array:
        pin, model, data = self._pin, self._model, self._data
        wanted = pin.SE3(target.rotation, target.position)
        enough = 0.5 * min(self._config.position_tolerance, self._config.rotation_tolerance)
        for _ in range(2 * self._config.iterations):
            pin.framesForwardKinematics(model, data, q)
            error = pin.log6(data.oMf[self._tool].actInv(data.oMf[self._base] * wanted)).vector
            squared = float(error @ error)
            if squared <= enough * enough:
                break
            J = pin.computeFrameJacobian(model, data, q, self._tool)
            gram = J @ J.T
            gram.flat[::7] += DAMPING * squared + MIN_DAMPING
            step = J.T @ np.linalg.solve(gram, error)
            q = np.clip(q + step * min(1.0, MAX_STEP / float(np.abs(step).max())), self._lower, self._upper)
        return q
