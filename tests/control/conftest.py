from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.arm import Arm, load_arm
from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.ik import NumericIk
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.robot import ColumnLimits, Robot
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, ActionSpec, Column, Space

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def robot() -> Robot:
    return load(ROOT / "config/robot.yaml", Robot)


@pytest.fixture(scope="session")
def urdf(robot: Robot) -> Path:
    return (ROOT / "config" / robot.urdf).resolve()


@pytest.fixture(scope="session")
def chain(robot: Robot, urdf: Path) -> Chain:
    return Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names)


@pytest.fixture(scope="session")
def config() -> ArmConfig:
    return load(ROOT / "config/arm.yaml", ArmConfig)


@pytest.fixture(scope="session")
def limits() -> tuple[ColumnLimits, ...]:
    return load_deployment(ROOT / "config/grasp.yaml")[0].limits


@pytest.fixture(scope="session")
def solver(chain: Chain, robot: Robot, config: ArmConfig) -> NumericIk:
    return NumericIk(chain, robot, config.ik)


@pytest.fixture(scope="session")
def task_space() -> ActionSpec:
    return _spec(Space.TASK, TOOL_COLUMNS)


@pytest.fixture(scope="session")
def joint_space(robot: Robot) -> ActionSpec:
    return _spec(Space.JOINT, robot.joint_names)


def _spec(space: Space, columns: tuple[str, ...]) -> ActionSpec:
    return ActionSpec(space, tuple(Column(name, "si") for name in (*columns, *GRIPPER_COLUMNS)), 16, 0.05, 8)


@pytest.fixture
def arm(robot: Robot, urdf: Path, task_space: ActionSpec, config: ArmConfig, limits) -> Arm:
    """Begun at home with an open gripper at time 0."""
    arm = load_arm(robot, urdf, task_space, config, limits)
    arm.begin(robot.home, robot.gripper.home, 0)
    return arm


@pytest.fixture
def joint_arm(robot: Robot, urdf: Path, joint_space: ActionSpec, config: ArmConfig) -> Arm:
    """The same, for joint-space actions."""
    arm = load_arm(robot, urdf, joint_space, config, ())
    arm.begin(robot.home, robot.gripper.home, 0)
    return arm


@pytest.fixture(scope="session")
def random_joints(robot: Robot) -> np.ndarray:
    """`(200, 7)` rad, uniform within limits, always the same."""
    return np.random.default_rng(7).uniform(robot.lower, robot.upper, (200, len(robot.joints)))
