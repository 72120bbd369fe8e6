from __future__ import annotations

import numpy as np

from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.homing import plan_home
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.robot import Robot, pose_to_columns
from policy_bringup.core.types import Space

GRIPPER = np.array([0.03, 12.0])


def test_in_task_space_it_is_a_straight_line_to_the_home_pose(chain: Chain, robot: Robot, config: ArmConfig) -> None:
    q = robot.home + 0.2
    times, values = plan_home(robot, chain, Space.TASK, q, GRIPPER, config.homing, 0.05)
    start = pose_to_columns(chain.forward(q), robot.tool_reference)
    home = pose_to_columns(chain.forward(robot.home), robot.tool_reference)
    np.testing.assert_allclose(values[-1], [*home, robot.gripper.home, 12.0], atol=1e-9)
    np.testing.assert_allclose(np.cross(values[:, :3] - start[:3], (home - start)[:3]), 0.0, atol=1e-12)
    speed = np.linalg.norm(np.diff(np.vstack([start[:3], values[:, :3]]), axis=0), axis=1) / 0.05
    assert speed.max() <= config.homing.line.linear_velocity
    np.testing.assert_allclose(times, 0.05 * np.arange(1, len(times) + 1))


def test_in_joint_space_it_is_a_share_of_what_the_joints_can_do(chain: Chain, robot: Robot, config: ArmConfig) -> None:
    q = robot.home + np.array([0.8, 0.1, -0.3, 0.2, 0.0, 0.4, -1.0])
    _, values = plan_home(robot, chain, Space.JOINT, q, GRIPPER, config.homing, 0.05)
    np.testing.assert_allclose(values[-1], [*robot.home, robot.gripper.home, 12.0], atol=1e-12)
    speed = np.abs(np.diff(np.vstack([q, values[:, :7]]), axis=0)) / 0.05
    assert (speed.max(axis=0) <= config.homing.joint_speed * robot.velocity).all()


def test_from_home_it_stays(chain: Chain, robot: Robot, config: ArmConfig) -> None:
    opened = np.array([robot.gripper.home, 5.0])
    _, values = plan_home(robot, chain, Space.JOINT, robot.home, opened, config.homing, 0.05)
    np.testing.assert_allclose(values, [[*robot.home, *opened]], atol=1e-12)
