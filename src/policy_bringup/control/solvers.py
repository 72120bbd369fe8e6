"""Makes the inverse kinematics that `solver:` in config/arm.yaml names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from policy_bringup.control.ik import IkConfig, NumericIk
from policy_bringup.control.ik_frankik import FrankIk
from policy_bringup.control.ik_pinocchio import PinocchioIk
from policy_bringup.control.ik_trac import TracIk
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.interfaces import IkSolver
from policy_bringup.core.robot import Robot

SolverName = Literal["numeric", "trac", "pinocchio", "frankik"]


def load_solver(name: SolverName, chain: Chain, robot: Robot, urdf_path: Path | str, config: IkConfig) -> IkSolver:
    """The solver of that name; all but `numeric` need a package of their own. Raises ConfigError if it is missing."""
    if name == "trac":
        return TracIk(chain, robot, urdf_path, config)
    if name == "pinocchio":
        return PinocchioIk(chain, robot, urdf_path, config)
    if name == "frankik":
        return FrankIk(chain, robot, config)
    return NumericIk(chain, robot, config)
