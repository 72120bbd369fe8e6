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
    limits: one entry per action column, in the contract's order. latency: file beside this one (core/latency.py); none
    means that nothing is late.
    """

    task: str = required()
    robot: str = required()
    cameras: tuple[Camera, ...] = required()
    contract: Contract = required()
    uncertainty_threshold: float = bounded(0.0, 1000.0)
    limits: tuple[ColumnLimits, ...] = required()
    latency: str = ""

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
    _check_observation(deployment, str(path))
    _check_limits(deployment, robot, str(path))
    return deployment, robot


def _check_robot(robot: Robot, where: str) -> None:
    gripper = robot.gripper
    ranges = [(joint.name, joint.lower, joint.home, joint.upper) for joint in robot.joints]
    for name, lower, home, upper in [*ranges, (gripper.joint, gripper.lower, gripper.home, gripper.upper)]:
        if not lower < upper:
            raise ConfigError(f"{where}: {name}: lower {lower} must be below upper {upper}")
        if not lower <= home <= upper:
            raise ConfigError(f"{where}: {name}: home {home} must be from {lower} to {upper}")
    if not robot.joints:
        raise ConfigError(f"{where}: joints: there must be at least one")
    names = (*robot.joint_names, gripper.joint, gripper.mimic)
    if len(set(names)) != len(names):
        raise ConfigError(f"{where}: joints and gripper: a joint name stands twice in {', '.join(names)}")


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
    if not 1 <= action.execute <= action.steps or not action.dt_s > 0.0:
        raise ConfigError(f"{where}: contract: action needs 1 <= execute <= steps and dt_s > 0")
    units = _units(robot)
    for column in (*contract.observation.state, *action.columns):
        if column.unit != units.get(column.name, column.unit):
            raise ConfigError(
                f"{where}: contract: '{column.name}' is in {units[column.name]}, found unit '{column.unit}'"
            )


def _units(robot: Robot) -> dict[str, str]:
    tool = zip(TOOL_COLUMNS, ("m", "m", "m", "rad", "rad", "rad"), strict=True)
    gripper = {
        **dict(zip(GRIPPER_COLUMNS, ("m", "N"), strict=True)),
        robot.gripper.joint: "m",
        robot.gripper.mimic: "m",
    }
    return {**dict(tool), **dict.fromkeys(robot.joint_names, "rad"), **gripper}


def _check_observation(deployment: Deployment, where: str) -> None:
    names, spec = deployment.camera_names, deployment.contract.observation
    if len(set(names)) != len(names) or any("/" in name for name in names):
        raise ConfigError(f"{where}: cameras: each needs a name of its own without '/', found {', '.join(names)}")
    if spec.history < 1 or not spec.spacing_s > 0.0:
        raise ConfigError(f"{where}: contract: observation: history must be 1 or more, and spacing_s above 0")
    cameras = [image.camera for image in spec.images]
    for what, listed in (("image", cameras), ("state column", list(spec.names))):
        for name in listed:
            if listed.count(name) > 1:
                raise ConfigError(f"{where}: contract: observation: {what} '{name}' stands twice")
    for image in spec.images:
        if image.camera not in names:
            raise ConfigError(f"{where}: contract: image '{image.camera}' has no camera; there are {', '.join(names)}")
        if image.resize not in RESIZE_RULES or image.encoding != "rgb8" or min(image.height, image.width) < 1:
            raise ConfigError(
                f"{where}: contract: image '{image.camera}' needs encoding rgb8, a size of at least 1 x 1, "
                f"and resize one of {', '.join(RESIZE_RULES)}"
            )


def _check_limits(deployment: Deployment, robot: Robot, where: str) -> None:
    names = deployment.contract.action.names
    if tuple(limit.name for limit in deployment.limits) != names:
        raise ConfigError(f"{where}: limits: must list the action columns in order: {', '.join(names)}")
    width, force = GRIPPER_COLUMNS
    reach = {joint.name: (joint.lower, joint.upper) for joint in robot.joints}
    reach |= {width: (robot.gripper.lower, robot.gripper.upper), force: (0.0, robot.gripper.force)}
    for limit in deployment.limits:
        if not limit.lower <= limit.upper:
            raise ConfigError(
                f"{where}: limits: {limit.name}: lower {limit.lower} must not be above upper {limit.upper}"
            )
        lower, upper = reach.get(limit.name, (limit.lower, limit.upper))
        if not lower <= limit.lower <= limit.upper <= upper:
            raise ConfigError(
                f"{where}: limits: {limit.name}: {limit.lower} to {limit.upper} leaves the robot's {lower} to {upper}"
            )
