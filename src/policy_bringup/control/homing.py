"""The way home, as actions: it passes safety like any other source."""

from __future__ import annotations

from dataclasses import dataclass

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.trajectory import JointLine, Line, LineLimits
from policy_bringup.core.config import bounded, required
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import Array, Space


@dataclass(frozen=True, slots=True)
class HomingConfig:
    """How fast the way home is. joint_speed: part of what the joints can do, where actions are joint positions."""

    line: LineLimits = required()
    joint_speed: float = bounded(0.01, 1.0)


def plan_home(
    robot: Robot, chain: Chain, space: Space, joints: Array, gripper: Array, config: HomingConfig, dt_s: float
) -> tuple[Array, Array]:
    """From arm joints `(n,)` rad and gripper `(2,)` (width m, force N) to home: a straight line in the action's space.

    Returns times `(m,)` s, dt_s apart, and actions `(m, columns)`. The gripper opens to its home width on the way.
    """
    opened = gripper.copy()
    opened[0] = robot.gripper.home
    if space is Space.TASK:
        line = Line.plan(chain.forward(joints), chain.forward(robot.home), gripper, opened, config.line)
        return line.table(dt_s, robot.tool_reference)
    velocity, acceleration = config.joint_speed * robot.velocity, config.joint_speed * robot.acceleration
    return JointLine.plan(joints, robot.home, velocity, acceleration, gripper, opened, config.line).table(dt_s)
