import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_bringup.core.config import build, read_yaml
from policy_bringup.core.robot import Robot, columns_to_pose, pose_to_columns
from policy_bringup.core.rotations import exp
from policy_bringup.core.types import Pose

DOWN = (math.pi, 0.0, 0.0)
REACH = st.tuples(*[st.floats(-2.0, 2.0)] * 3)
TURN = st.tuples(*[st.floats(-1.8, 1.8)] * 3).filter(lambda v: math.hypot(*v) < 3.1)


@pytest.fixture(scope="module")
def robot(config_folder):
    return build(Robot, read_yaml(config_folder / "robot.yaml"), "robot.yaml")


def test_the_vectors_of_the_robot_are_in_the_order_of_its_joints(robot):
    assert robot.joint_names == tuple(f"panda_joint{i}" for i in range(1, 8))
    for name in ("lower", "upper", "velocity", "acceleration", "home"):
        np.testing.assert_array_equal(getattr(robot, name), [getattr(joint, name) for joint in robot.joints])
        assert getattr(robot, name).shape == (7,)


def test_home_lies_within_the_limits(robot):
    assert np.all((robot.lower < robot.home) & (robot.home < robot.upper))


@given(REACH, TURN, TURN)
def test_columns_survive_the_way_through_a_pose(position, turn, reference):
    columns = np.array([*position, *turn])
    np.testing.assert_allclose(pose_to_columns(columns_to_pose(columns, reference), reference), columns, atol=1e-8)


@given(REACH, TURN, TURN)
def test_a_pose_survives_the_way_through_columns(position, turn, reference):
    pose = Pose(np.array(position), exp(np.array(turn)))
    found = columns_to_pose(pose_to_columns(pose, reference), reference)
    np.testing.assert_allclose(found.position, pose.position)
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-8)


def test_a_tool_that_points_straight_down_has_no_turn_in_its_columns():
    T_base_tool = columns_to_pose(np.array([0.5, 0.0, 0.2, 0.0, 0.0, 0.0]), DOWN)
    np.testing.assert_allclose(T_base_tool.rotation @ [0.0, 0.0, 1.0], [0.0, 0.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(pose_to_columns(T_base_tool, DOWN), [0.5, 0.0, 0.2, 0.0, 0.0, 0.0], atol=1e-12)


def test_around_straight_down_the_columns_are_smooth():
    tilts = np.linspace(-0.2, 0.2, 41)
    rows = [pose_to_columns(Pose(np.zeros(3), exp(np.array([math.pi + t, 0.0, 0.0]))), DOWN) for t in tilts]
    np.testing.assert_allclose(np.array(rows)[:, 3], tilts, atol=1e-9)


def test_a_pose_does_not_share_memory_with_its_columns():
    columns = np.arange(6.0)
    pose = columns_to_pose(columns, DOWN)
    columns[:] = 9.0
    np.testing.assert_array_equal(pose.position, [0.0, 1.0, 2.0])


@pytest.mark.parametrize("shape", [(5,), (7,), (6, 1), ()])
def test_anything_but_six_columns_is_no_tool_pose(shape):
    with pytest.raises(ValueError, match=r"^a tool pose has 6 columns, got shape"):
        columns_to_pose(np.zeros(shape), DOWN)
