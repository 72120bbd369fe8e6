from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.ik import NumericIk, residual
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.solvers import SolverName, load_solver
from policy_bringup.core.errors import ConfigError, NoSolution
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Pose

OPTIONAL: tuple[tuple[SolverName, str, str], ...] = (
    ("trac", "trac_ik", "pytracik"),
    ("pinocchio", "pinocchio", "pin"),
    ("frankik", "frankik", "frankik"),
)


def installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def test_numeric_needs_nothing(chain: Chain, robot: Robot, urdf: Path, config: ArmConfig) -> None:
    assert isinstance(load_solver("numeric", chain, robot, urdf, config.ik), NumericIk)


@pytest.mark.parametrize(("name", "module", "package"), OPTIONAL)
def test_an_optional_solver_works_or_names_its_package(
    name: SolverName, module: str, package: str, chain: Chain, robot: Robot, urdf: Path, config: ArmConfig
) -> None:
    if not installed(module):
        with pytest.raises(ConfigError, match=f"solver '{name}' needs the package {package}: pip install {package}"):
            load_solver(name, chain, robot, urdf, config.ik)
        return
    solver = load_solver(name, chain, robot, urdf, config.ik)
    for shift in (0.05, -0.3):
        target = chain.forward(robot.home + shift)
        answer = solver.solve(target, robot.home)
        assert max(residual(chain, answer, target)) < 1e-5
        assert ((robot.lower <= answer) & (answer <= robot.upper)).all()
    with pytest.raises(NoSolution, match="mm and"):
        solver.solve(Pose(np.array([2.0, 0.0, 0.4]), target.rotation), robot.home)
    with pytest.raises(NoSolution, match="not finite"):
        solver.solve(Pose(np.array([np.nan, 0.0, 0.4]), target.rotation), robot.home)


@pytest.mark.skipif(not installed("frankik"), reason="frankik is not installed")
def test_frankik_refuses_an_arm_that_is_not_a_panda(chain: Chain, robot: Robot, urdf: Path, config: ArmConfig) -> None:
    offsets = chain.offsets.copy()
    offsets[2, 1, 3] -= 0.01
    other = Chain(chain.names, offsets, chain.tip, chain.sliding)
    with pytest.raises(ConfigError, match="is another arm"):
        load_solver("frankik", other, robot, urdf, config.ik)
