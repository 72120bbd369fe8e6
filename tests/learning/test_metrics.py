from dataclasses import replace

import pytest
import torch

from policy_bringup.core.errors import LearningError
from policy_bringup.core.types import ActionSpec, Column, Space
from policy_bringup.learning.metrics import action_errors, better_than_mean
from policy_bringup.learning.normalise import Normaliser


@pytest.fixture
def short(contract):
    """A contract with chunks of two steps."""
    return replace(contract, action=replace(contract.action, steps=2, execute=1))


@pytest.fixture
def chunks():
    """Errors of two chunks of two steps, of which the last is not valid."""
    target = torch.zeros(2, 2, 8)
    predicted = torch.zeros(2, 2, 8)
    predicted[0, 0] = torch.tensor([0.001, -0.002, 0.003, 0.1, 0.0, -0.2, 0.01, 3.0])
    predicted[0, 1] = torch.tensor([0.0, 0.0, 0.006, 0.0, 0.0, 0.0, 0.0, 0.0])
    predicted[1, 0] = torch.tensor([0.004, 0.0, 0.0, 0.0, 0.3, 0.0, -0.02, 0.0])
    predicted[1, 1] = 99.0
    return predicted, target, torch.tensor([[True, True], [True, False]])


def test_errors_are_the_mean_absolute_ones_of_each_kind_over_valid_steps(chunks, short):
    assert action_errors(*chunks, short) == pytest.approx(
        {
            "position_mm": (2.0 + 2.0 + 4.0 / 3.0) / 3.0,
            "rotation_rad": (0.1 + 0.0 + 0.1) / 3.0,
            "gripper_mm": (10.0 + 0.0 + 20.0) / 3.0,
            "force_n": (3.0 + 0.0 + 0.0) / 3.0,
            "position_mm_first": (2.0 + 4.0 / 3.0) / 2.0,
            "rotation_rad_first": (0.1 + 0.1) / 2.0,
            "gripper_mm_first": 15.0,
            "force_n_first": 1.5,
        },
        rel=1e-5,
    )


def test_a_perfect_prediction_has_no_error(chunks, short):
    _, target, valid = chunks
    assert set(action_errors(target, target, valid, short).values()) == {0.0}


def test_joints_are_told_apart_from_the_tool(short):
    columns = (Column("panda_joint1", "rad"), Column("panda_joint2", "rad"), Column("gripper.width", "m"))
    spec = replace(short, action=ActionSpec(Space.JOINT, columns, 1, 0.05, 1))
    predicted = torch.tensor([[[0.1, -0.3, 0.005]]])
    found = action_errors(predicted, torch.zeros(1, 1, 3), torch.ones(1, 1, dtype=torch.bool), spec)
    assert found == pytest.approx(
        {"joints_rad": 0.2, "joints_rad_first": 0.2, "gripper_mm": 5.0, "gripper_mm_first": 5.0}, rel=1e-5
    )


def test_joint_speeds_are_not_called_angles(short):
    spec = replace(short, action=ActionSpec(Space.JOINT, (Column("panda_joint1", "rad/s"),), 1, 0.05, 1))
    found = action_errors(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), spec)
    assert found == {"joints_rad_per_s": 1.0, "joints_rad_per_s_first": 1.0}


def test_without_a_valid_step_there_is_no_error_to_tell(chunks, short):
    predicted, target, valid = chunks
    with pytest.raises(LearningError, match="no step of any chunk is valid"):
        action_errors(predicted, target, torch.zeros_like(valid), short)


@pytest.fixture
def blind(short):
    """Mean action: 0.5 in x, 0.04 in width. Measured: 0.45 in x."""
    normaliser = Normaliser(short)
    normaliser.mean_action[0], normaliser.mean_action[6] = 0.5, 0.04
    state = torch.zeros(2, 1, 14)
    state[..., 8] = 0.45
    target = torch.zeros(2, 2, 8)
    target[..., 0], target[..., 6] = 0.4, torch.tensor([0.0, 0.08])
    return normaliser, state, target, torch.ones(2, 2, dtype=torch.bool)


def test_what_is_left_of_the_error_is_the_mean_ratio_over_columns_that_change(blind):
    normaliser, state, target, valid = blind
    predicted = target.clone()
    predicted[..., 0] += 0.02  # of 0.1 from the mean, of 0.05 from staying
    predicted[:, 0, 6] += 0.02  # 0.01 on average, of 0.04
    found = better_than_mean(predicted, target, valid, state, normaliser)
    assert found == pytest.approx({"left_of_mean": (0.2 + 0.25) / 2.0, "left_of_staying": 0.4}, rel=1e-4)


def test_the_mean_action_itself_leaves_all_of_the_error(blind):
    normaliser, state, target, valid = blind
    predicted = normaliser.mean_action.expand_as(target)
    assert better_than_mean(predicted, target, valid, state, normaliser)["left_of_mean"] == pytest.approx(1.0)


def test_staying_where_the_arm_is_leaves_all_of_that_error(blind):
    normaliser, state, target, valid = blind
    predicted = normaliser.measured(state).expand_as(target)
    assert better_than_mean(predicted, target, valid, state, normaliser)["left_of_staying"] == pytest.approx(1.0)


def test_steps_that_are_not_valid_do_not_count(blind):
    normaliser, state, target, valid = blind
    predicted = target.clone()
    predicted[1, 1] = 99.0
    valid = valid.clone()
    valid[1, 1] = False
    assert better_than_mean(predicted, target, valid, state, normaliser) == {
        "left_of_mean": 0.0,
        "left_of_staying": 0.0,
    }


def test_a_comparison_that_has_no_column_is_left_out(short):
    normaliser = Normaliser(replace(short, observation=replace(short.observation, state=())))
    normaliser.mean_action[0] = 0.5
    target, valid = torch.zeros(1, 2, 8), torch.ones(1, 2, dtype=torch.bool)
    assert better_than_mean(target, target, valid, torch.zeros(1, 1, 0), normaliser) == {"left_of_mean": 0.0}
