from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.hand_guiding import Derivation, HandGuiding, Motion, load_derivation
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import Robot, pose_to_columns
from policy_bringup.core.types import ActionSpec

ROOT = Path(__file__).parents[2]
PERIOD_S = 0.01
TIMES = np.arange(201) * PERIOD_S


@pytest.fixture
def derive(robot: Robot, chain: Chain):
    def make(motion: Motion, action: ActionSpec, shift_s: float = 0.0, smoothing_s: float = 0.0):
        config = Derivation(shift_s, smoothing_s, 25.0)
        guiding = HandGuiding(Proprioception(robot, chain), robot.joint_names, robot.gripper, config)
        return guiding.derive(motion, action, PERIOD_S)

    return make


@pytest.fixture
def swing(robot: Robot) -> Motion:
    """The first joint turns at 0.5 rad/s for two seconds; the button is pressed after one."""
    joints = np.tile(robot.home, (len(TIMES), 1))
    joints[:, 0] = 0.5 * TIMES
    return Motion(TIMES, joints, TIMES >= 1.0 - 1e-9)


def test_without_shift_and_smoothing_the_action_is_the_measured_pose(derive, swing, task_space, chain, robot):
    times, values = derive(swing, task_space)
    np.testing.assert_allclose(times, TIMES, atol=1e-12)
    for i in (0, 77, 200):
        pose = pose_to_columns(chain.forward(swing.joints[i]), robot.tool_reference)
        np.testing.assert_allclose(values[i, :6], pose, atol=1e-12)


def test_the_shift_asks_now_for_where_the_arm_was_later_and_ends_standing(derive, swing, joint_space):
    _, values = derive(swing, joint_space, shift_s=0.05)
    np.testing.assert_allclose(values[:-5, 0], 0.5 * (TIMES[:-5] + 0.05), atol=1e-12)
    np.testing.assert_allclose(values[-6:, 0], 1.0, atol=1e-12)


def test_a_shift_that_is_no_multiple_of_the_period_is_kept_exactly(derive, swing, joint_space):
    _, values = derive(swing, joint_space, shift_s=0.033)
    np.testing.assert_allclose(values[:-4, 0], 0.5 * (TIMES[:-4] + 0.033), atol=1e-12)


def test_smoothing_removes_tremor_and_delays_nothing(derive, swing, joint_space):
    trembling = swing.joints.copy()
    trembling[:, 0] += 0.01 * np.sin(2 * np.pi * 12.0 * TIMES)
    _, values = derive(Motion(TIMES, trembling, swing.closed), joint_space, smoothing_s=0.2)
    inside = slice(15, -15)
    assert np.abs(values[inside, 0] - 0.5 * TIMES[inside]).max() < 0.001
    _, straight = derive(swing, joint_space, smoothing_s=0.2)
    np.testing.assert_allclose(straight[inside, 0], 0.5 * TIMES[inside], atol=1e-12)


def test_a_window_narrower_than_two_periods_smooths_nothing(derive, swing, joint_space):
    for width in (0.0, 0.0199):
        np.testing.assert_array_equal(derive(swing, joint_space, smoothing_s=width)[1], derive(swing, joint_space)[1])


def test_the_button_closes_the_gripper_as_fast_as_it_can_and_is_not_shifted(derive, swing, joint_space, robot):
    _, values = derive(swing, joint_space, shift_s=0.05)
    width = values[:, -2]
    np.testing.assert_allclose(width[:100], robot.gripper.upper)
    assert width[99] > width[100] > width[101]
    assert np.abs(np.diff(width)).max() == pytest.approx(robot.gripper.velocity * PERIOD_S)
    assert width[-1] == pytest.approx(robot.gripper.lower, abs=1e-9)
    np.testing.assert_array_equal(values[:, -1], 25.0)


def test_a_motion_that_begins_with_a_closed_gripper_begins_closed(derive, swing, joint_space, robot):
    _, values = derive(Motion(TIMES, swing.joints, TIMES < 0.5), joint_space)
    assert values[0, -2] == robot.gripper.lower
    assert values[-1, -2] == pytest.approx(robot.gripper.upper)


def test_irregular_times_give_regular_actions(derive, swing, joint_space):
    rng = np.random.default_rng(3)
    times = 17.0 + np.sort(np.append(rng.uniform(0.0, 2.0, 300), [0.0, 2.0]))
    joints = np.tile(swing.joints[0], (len(times), 1))
    joints[:, 0] = 0.5 * (times - 17.0)
    at, values = derive(Motion(times, joints, np.zeros(len(times), bool)), joint_space)
    np.testing.assert_allclose(at, TIMES, atol=1e-12)
    np.testing.assert_allclose(values[:, 0], 0.5 * TIMES, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: Motion(m.times_s[:1], m.joints[:1], m.closed[:1]), "two moments"),
        (lambda m: Motion(m.times_s, m.joints[:-1], m.closed), "two moments"),
        (lambda m: Motion(m.times_s, m.joints, m.closed[:-1]), "two moments"),
        (lambda m: Motion(m.times_s, np.where(m.joints > 0.9, np.nan, m.joints), m.closed), "finite"),
        (lambda m: Motion(np.where(m.times_s > 1.0, np.inf, m.times_s), m.joints, m.closed), "finite"),
        (lambda m: Motion(m.times_s[::-1], m.joints, m.closed), "rise"),
        (lambda m: Motion(np.round(m.times_s, 1), m.joints, m.closed), "rise"),
    ],
)
def test_what_is_no_motion_is_refused(derive, swing, joint_space, change, said):
    with pytest.raises(ValueError, match=said):
        derive(change(swing), joint_space)


def test_the_shipped_configuration_says_how_actions_follow(tmp_path):
    derivation = load_derivation(ROOT / "config")
    assert 0.0 < derivation.shift_s < derivation.smoothing_s
    (tmp_path / "hand.yaml").write_text("actions: {shift_s: 0.02, smoothing_s: 0.1, grip_force: 500.0}\n")
    with pytest.raises(ConfigError, match=r"hand\.yaml: actions: grip_force: must be a number from 0\.1 to 200"):
        load_derivation(tmp_path)
    (tmp_path / "hand.yaml").write_text("hand: {}\n")
    with pytest.raises(ConfigError, match=r"hand\.yaml: actions: must be a group of keys"):
        load_derivation(tmp_path)
