from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.ik import NumericIk
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.targets import Targets
from policy_bringup.core.errors import ContractError, NoSolution
from policy_bringup.core.robot import Robot, pose_to_columns
from policy_bringup.core.types import ActionSpec


@pytest.fixture
def targets(robot: Robot, solver: NumericIk, task_space: ActionSpec, config: ArmConfig) -> Targets:
    return Targets(robot, solver, task_space, config.max_joint_jump)


@pytest.fixture
def there(chain: Chain, robot: Robot):
    """The action for the tool pose of these joints, with an open gripper."""

    def make(joints: np.ndarray) -> np.ndarray:
        return np.array([*pose_to_columns(chain.forward(joints), robot.tool_reference), 0.06, 20.0])

    return make


def test_the_finger_stands_last_and_is_half_the_width(targets, there, robot, task_space):
    target = targets.of(task_space.names, there(robot.home), robot.home)
    np.testing.assert_allclose(target, [*robot.home, 0.03], atol=1e-5)


def test_a_solution_too_far_from_the_arm_is_refused(targets, there, robot, task_space):
    far = robot.home + np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(NoSolution, match="would have to move by"):
        targets.of(task_space.names, there(far), robot.home)


def test_the_same_pose_keeps_its_answer_until_it_is_forgotten(targets, there, robot, task_space):
    action = there(robot.home + np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0]))
    first = targets.of(task_space.names, action, robot.home)
    np.testing.assert_array_equal(targets.of(task_space.names, action, first[:-1] + 0.01), first)
    targets.forget()
    assert not np.array_equal(targets.of(task_space.names, action, first[:-1] + 0.01), first)


@pytest.mark.parametrize("spoil", ["names", "shape", "nan"])
def test_a_row_of_something_else_is_refused(targets, there, robot, task_space, spoil):
    names, values = task_space.names, there(robot.home)
    if spoil == "names":
        names = names[::-1]
    elif spoil == "shape":
        values = values[:-1]
    else:
        values[-1] = np.nan
    with pytest.raises(ContractError, match=r"not a row of finite tool\.x"):
        targets.of(names, values, robot.home)


def test_joint_actions_are_their_own_answer(robot, solver, joint_space, config):
    targets = Targets(robot, solver, joint_space, config.max_joint_jump)
    row = np.array([*(robot.home + 1.0), 0.08, 20.0])
    np.testing.assert_array_equal(targets.of(joint_space.names, row, robot.home), [*(robot.home + 1.0), 0.04])
