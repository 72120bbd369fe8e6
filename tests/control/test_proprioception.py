from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ObservationError
from policy_bringup.core.robot import Robot, columns_to_pose
from policy_bringup.core.types import GRIPPER_COLUMNS, ActionSpec, Column, Space, StateSample

CONFIG = Path(__file__).resolve().parents[2] / "config"
DEPLOYMENT, ROBOT = load_deployment(CONFIG / "grasp.yaml")
CHAIN = Chain.from_urdf(CONFIG / ROBOT.urdf, ROBOT.base_frame, ROBOT.tool_frame)


@pytest.fixture
def proprioception() -> Proprioception:
    return Proprioception(ROBOT, CHAIN)


def sample(robot: Robot, width: float = 0.06, shuffle: bool = False) -> StateSample:
    names = [*robot.joint_names, robot.gripper.joint, robot.gripper.mimic, "some_other_joint"]
    values = [*(robot.home + 0.1), width / 2, width / 2, 9.0]
    order = np.random.default_rng(1).permutation(len(names)) if shuffle else np.arange(len(names))
    return StateSample(7, 8, tuple(names[i] for i in order), np.array([values[i] for i in order]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_joints_are_found_by_name_whatever_their_order(proprioception: Proprioception, shuffle: bool):
    joints, width = proprioception.joints(sample(ROBOT, shuffle=shuffle))
    np.testing.assert_allclose(joints, ROBOT.home + 0.1)
    assert width == pytest.approx(0.06)


def test_a_missing_joint_is_named(proprioception: Proprioception):
    partial = StateSample(7, 8, ROBOT.joint_names[1:], np.zeros(6))
    with pytest.raises(ObservationError, match="joint_states: panda_joint1, panda_finger_joint1 missing"):
        proprioception.joints(partial)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("joint", [0, 6])
def test_a_joint_that_is_no_finite_number_has_no_tool(proprioception: Proprioception, joint: int, value: float):
    spoilt = sample(ROBOT)
    spoilt.values[joint] = value
    with pytest.raises(ObservationError, match="joint_states: a joint is not a finite number"):
        proprioception.measured(spoilt, DEPLOYMENT.contract.action)


def test_the_tool_columns_are_the_pose_of_forward_kinematics(proprioception: Proprioception):
    tool = proprioception.tool(sample(ROBOT))
    assert (tool.stamp_ns, tool.received_ns) == (7, 8)
    pose, expected = columns_to_pose(tool.values[:6], ROBOT.tool_reference), CHAIN.forward(ROBOT.home + 0.1)
    np.testing.assert_allclose(pose.position, expected.position, atol=1e-12)
    np.testing.assert_allclose(pose.rotation, expected.rotation, atol=1e-12)
    assert tool.values[6] == pytest.approx(0.06)


def test_in_task_space_the_measured_action_is_the_tool(proprioception: Proprioception):
    measured = proprioception.measured(sample(ROBOT), DEPLOYMENT.contract.action)
    np.testing.assert_array_equal(measured, proprioception.tool(sample(ROBOT)).values)


def test_in_joint_space_the_measured_action_is_the_joints_and_the_gripper(proprioception: Proprioception):
    columns = tuple(Column(name, "rad") for name in (*ROBOT.joint_names, *GRIPPER_COLUMNS))
    measured = proprioception.measured(sample(ROBOT), ActionSpec(Space.JOINT, columns, 4, 0.05, 2))
    np.testing.assert_allclose(measured, [*(ROBOT.home + 0.1), 0.06, 0.0])
