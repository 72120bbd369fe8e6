from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.leader import Leader
from policy_bringup.control.teleop_config import LeaderConfig, LeaderGripper, LeaderJoint, TeleopConfig
from policy_bringup.core.config import load
from policy_bringup.core.errors import ConfigError, ObservationError
from policy_bringup.core.robot import pose_to_columns
from policy_bringup.core.types import ActionSpec, Array, Column, StateSample

MS = 1_000_000


@pytest.fixture
def mapping(config_folder: Path) -> LeaderConfig:
    return load(config_folder / "teleop.yaml", TeleopConfig).leader


@pytest.fixture
def spec(joint_space: ActionSpec) -> ActionSpec:
    return dataclasses.replace(joint_space, columns=tuple(Column(name, "rad") for name in joint_space.names))


@pytest.fixture
def leader(robot, chain, spec, mapping) -> Leader:
    return Leader(robot, chain, spec, mapping, 40.0)


@pytest.fixture
def measured(robot) -> Array:
    return np.array([*robot.home, 0.08, 0.0])


def sample(robot, joints: Array, gripper: float = 0.4, stamp_ns: int = 0) -> StateSample:
    """In another order than the arm's, as a message may be."""
    names = ("leader_gripper", *(f"leader_{name}" for name in reversed(robot.joint_names)))
    return StateSample(stamp_ns, 0, names, np.array([gripper, *joints[::-1]]))


def test_joints_are_found_by_name_and_the_gripper_is_scaled(leader, robot):
    target = leader.target(sample(robot, robot.home + 0.1))
    np.testing.assert_allclose(target, [*(robot.home + 0.1), 0.04, 40.0])


@pytest.mark.parametrize(("gripper", "width"), [(0.0, 0.0), (0.8, 0.08), (-1.0, 0.0), (2.0, 0.08)])
def test_the_gripper_stays_between_closed_and_open(leader, robot, gripper: float, width: float):
    assert leader.target(sample(robot, robot.home, gripper))[7] == pytest.approx(width)


def test_a_joint_may_be_mounted_the_other_way_geared_and_turned(robot, chain, spec, mapping):
    joints = list(mapping.joints)
    joints[2] = LeaderJoint("panda_joint3", -1, 2.0, 0.5)
    leader = Leader(robot, chain, spec, dataclasses.replace(mapping, joints=tuple(joints)), 40.0)
    assert leader.target(sample(robot, np.full(7, 0.1)))[2] == pytest.approx(0.3)


def test_in_task_space_the_target_is_where_such_an_arm_would_hold_its_tool(robot, chain, task_space, mapping):
    leader = Leader(robot, chain, task_space, mapping, 40.0)
    target = leader.target(sample(robot, robot.home))
    np.testing.assert_allclose(target[:6], pose_to_columns(chain.forward(robot.home), robot.tool_reference))


def test_a_leader_that_does_not_match_is_told_which_joint_is_off_and_by_how_much(leader, robot, measured):
    joints = robot.home.copy()
    joints[[1, 4]] += [0.15, -0.3]
    assert leader.pull(sample(robot, joints), measured, True) is None
    assert leader.trouble == "leader: panda_joint5 is off by -0.300 rad; bring it within 0.1 rad of the arm"


@pytest.mark.parametrize(("off", "follows"), [(0.099, True), (0.101, False)])
def test_the_arm_follows_from_the_tolerance_on(leader, robot, measured, off: float, follows: bool):
    joints = robot.home.copy()
    joints[3] += off
    assert (leader.pull(sample(robot, joints), measured, True) is not None) is follows


def test_once_matched_it_may_run_ahead_until_the_dead_man_is_let_go(leader, robot, measured):
    ahead = sample(robot, robot.home + 0.5)
    assert leader.pull(sample(robot, robot.home), measured, True) is not None
    assert leader.pull(ahead, measured, True) is not None
    assert leader.pull(ahead, measured, False) is None
    assert leader.trouble == ""
    assert leader.pull(ahead, measured, True) is None
    assert "is off by +0.500 rad" in leader.trouble


def test_a_pull_says_how_fast_the_leader_moves(leader, robot, measured):
    leader.pull(sample(robot, robot.home), measured, True)
    pull = leader.pull(sample(robot, robot.home + 0.01, stamp_ns=50 * MS), measured, True)
    np.testing.assert_allclose(pull.velocity[:7], 0.2)
    late = leader.pull(sample(robot, robot.home + 0.02, stamp_ns=400 * MS), measured, True)
    assert not late.velocity.any()


def test_a_missing_joint_is_named(leader, robot):
    short = StateSample(0, 0, tuple(f"leader_{name}" for name in robot.joint_names), np.zeros(7))
    with pytest.raises(ObservationError, match="leader: leader_gripper missing; found leader_panda_joint1"):
        leader.target(short)


def test_a_joint_that_is_not_a_number_is_refused(leader, robot):
    with pytest.raises(ObservationError, match="not a number"):
        leader.target(sample(robot, np.full(7, np.nan)))


def test_a_mapping_of_other_joints_is_refused(robot, chain, spec, mapping):
    swapped = dataclasses.replace(mapping, joints=mapping.joints[::-1])
    with pytest.raises(ConfigError, match=r"leader: joints must be panda_joint1, .*found panda_joint7"):
        Leader(robot, chain, spec, swapped, 40.0)


def test_a_mapping_that_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="sign must be -1 or 1"):
        LeaderJoint("a", 0, 1.0, 0.0)
    with pytest.raises(ValueError, match="closed and opened must differ"):
        LeaderGripper("a", 0.5, 0.5)
