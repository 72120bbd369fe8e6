from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core.config import load
from policy_bringup.core.deployment import Deployment, load_deployment
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Array, JointCommand
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.world import World

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def loaded() -> tuple[Deployment, Robot]:
    deployment, robot = load_deployment(ROOT / "config" / "grasp.yaml")
    return deployment, robot


@pytest.fixture(scope="session")
def deployment(loaded: tuple[Deployment, Robot]) -> Deployment:
    return loaded[0]


@pytest.fixture(scope="session")
def robot(loaded: tuple[Deployment, Robot]) -> Robot:
    return loaded[1]


@pytest.fixture(scope="session")
def config() -> SimConfig:
    return load(ROOT / "config" / "sim.yaml", SimConfig)


@pytest.fixture
def world(config: SimConfig, robot: Robot) -> World:
    return World(config, robot)


@pytest.fixture(scope="session")
def command(robot: Robot):
    """Makes a command of one point: arm joints `(7,)`, finger position, after `seconds`, at rest there."""

    def make(arm: Array, finger: float, seconds: float, effort: float = 60.0) -> JointCommand:
        names = (*robot.joint_names, robot.gripper.joint)
        points = np.array([[*arm, finger]])
        return JointCommand(names, np.array([seconds]), points, np.zeros_like(points), effort)

    return make


@pytest.fixture(scope="session")
def unlit(config: SimConfig) -> SimConfig:
    return replace(config, light=replace(config.light, shadows=False))
