"""One deployment: which robot, which cameras, what the policy reads and writes, and how far safety lets it go.

Read from one file, e.g. config/grasp.yaml; the robot's own file is named in it and lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_bringup.core.config import bounded, build, read_yaml, required
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.observation import RESIZE_RULES
from policy_bringup.core.robot import ColumnLimits, Robot
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, Contract, Space


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of the deployment, as it delivers: size before any resizing for a policy."""

    name: str = required()
    width: int = bounded(16, 4096, "pixel")
    height: int = bounded(16, 4096, "pixel")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What every node of one running robot has to agree on.

    robot: file beside this one. uncertainty_threshold: for scripted sources; a bundle brings its own calibrated one.
    limits: one entry per action column, in the contract's order.
    """

    task: str = required()
    robot: str = required()
    cameras: tuple[Camera, ...] = required()
    contract: Contract = required()
    uncertainty_threshold: float = bounded(0.0, 1000.0)
    limits: tuple[ColumnLimits, ...] = required()

    @property
    def camera_names(self) -> tuple[str, ...]:
        """In the file's order."""
        return tuple(camera.name for camera in self.cameras)


def load_deployment(path: Path | str, overrides: Mapping[str, Any] | None = None) -> tuple[Deployment, Robot]:
    """A deployment and the robot it names, checked against each other. Raises ConfigError."""
    data = {**read_yaml(path), **(overrides or {})}
    deployment = build(Deployment, data, str(path))
    robot_path = Path(path).parent / deployment.robot
    robot = build(Robot, read_yaml(robot_path), str(robot_path))
    _check_robot(robot, str(robot_path))
    _check_contract(deployment, robot, str(path))
    return deployment, robot


def _check_robot(robot: Robot, where: str) -> None:
    gripper = robot.gripper
    ranges = [(joint.name, joint.lower, joint.home, joint.upper) for joint in robot.joints]
    for name, lower, home, upper in [*ranges, (gripper.joint, gripper.lower, gripper.home, gripper.upper)]:
        if not lower < upper:
            raise ConfigError(f"{where}: {name}: lower {lower} must be below upper {upper}")
        if not lower <= home <= upper:
            raise ConfigError(f"{where}: {name}: home {home} must be from {lower} to {upper}")
    if len(set(robot.joint_names)) != len(robot.joint_names):
        raise ConfigError(f"{where}: joints: a name stands twice")


def _check_contract(deployment: Deployment, robot: Robot, where: str) -> None:
    contract, action = deployment.contract, deployment.contract.action
    if contract.robot != robot.name:
        raise ConfigError(f"{where}: contract: robot is '{contract.robot}', but {deployment.robot} is '{robot.name}'")
    arm = TOOL_COLUMNS if action.space is Space.TASK else robot.joint_names
    if action.names != (*arm, *GRIPPER_COLUMNS):
        raise ConfigError(
            f"{where}: contract: action columns of {action.space.value} space must be "
            f"{', '.join((*arm, *GRIPPER_COLUMNS))}, found {', '.join(action.names)}"
        )
    if tuple(limit.name for limit in deployment.limits) != action.names:
        raise ConfigError(f"{where}: limits: must list the action columns in order: {', '.join(action.names)}")
    if not 1 <= action.execute <= action.steps or not action.dt_s > 0.0:
        raise ConfigError(f"{where}: contract: action needs 1 <= execute <= steps and dt_s > 0")
    if contract.observation.history < 1:
        raise ConfigError(f"{where}: contract: observation: history must be 1 or more")
    for image in contract.observation.images:
        if image.camera not in deployment.camera_names:
            raise ConfigError(
                f"{where}: contract: image '{image.camera}' has no camera; "
                f"there are {', '.join(deployment.camera_names)}"
            )
        if image.resize not in RESIZE_RULES or image.encoding != "rgb8" or min(image.height, image.width) < 1:
            raise ConfigError(
                f"{where}: contract: image '{image.camera}' needs encoding rgb8, a size of at least 1 x 1, "
                f"and resize one of {', '.join(RESIZE_RULES)}"
            )
