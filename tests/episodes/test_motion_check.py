from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core.config import load
from policy_bringup.core.types import ActionChunk, StateSample
from policy_bringup.episodes.motion_check import MotionCheck, is_sound
from policy_bringup.episodes.quality_config import QualityConfig

CONFIG = load(Path(__file__).parents[2] / "config" / "quality.yaml", QualityConfig)
NAMES = ("a", "b", "finger")
START = 1_700_000_000_000_000_000


def moved(path, seconds: float = 4.0, rate_hz: float = 100.0, names=NAMES, grippers=("finger",)) -> MotionCheck:
    """path: seconds `(T,)` -> positions `(T, len(names))`."""
    check = MotionCheck(CONFIG, grippers)
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    for t, row in zip(times, path(times), strict=True):
        check.observe(StateSample(START + round(t * 1e9), 0, names, row))
    return check


def table(*columns):
    return np.column_stack(np.broadcast_arrays(*columns))


def test_a_robot_that_stands_is_idle_all_the_time():
    assert moved(lambda t: table(0.1 + 0 * t, 0.2, 0.03)).idle_share == 1.0


@pytest.mark.parametrize(("speed", "share"), [(0.0101, 0.0), (0.0099, 1.0)])
def test_idle_begins_below_the_speed_limit(speed, share):
    assert moved(lambda t: table(speed * t, 0.0, 0.0)).idle_share == share


def test_one_moving_joint_is_enough_and_the_gripper_is_one():
    assert moved(lambda t: table(0.0, 0.0, 0.02 * t)).idle_share == 0.0


def test_the_share_is_that_of_the_time():
    assert moved(lambda t: table(np.minimum(t, 1.0), 0.0, 0.0)).idle_share == pytest.approx(0.75, abs=0.03)


def test_the_noise_of_encoders_is_no_motion():
    noise = np.random.default_rng(0).normal(0.0, 1e-4, (400, 3))
    assert moved(lambda t: noise).idle_share == 1.0


def test_nothing_is_claimed_about_no_motion_at_all():
    check = MotionCheck(CONFIG, ())
    assert (check.idle_share, check.jerk, check.gripper_travel_m, check.judged_s) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("rate_hz", [40.0, 100.0, 1000.0])
def test_the_jerk_of_a_swing_is_that_of_its_formula(rate_hz):
    turn = 2 * np.pi * 0.5
    jerk = moved(lambda t: table(0.3 * np.sin(turn * t), 0.0, 0.0), 8.0, rate_hz).jerk
    assert jerk == pytest.approx(0.3 * turn**3, rel=0.05)


def test_a_cubic_has_the_same_jerk_everywhere():
    assert moved(lambda t: table(0.0, 0.5 * t**3, 0.0)).jerk == pytest.approx(3.0, rel=0.05)


def test_the_jerk_of_the_gripper_does_not_count():
    assert moved(lambda t: table(0.0, 0.0, 0.5 * t**3)).jerk == pytest.approx(0.0, abs=1e-6)


def test_shaking_is_far_above_the_limit_and_a_smooth_motion_far_below():
    def shaken(t):
        return table(0.2 * t + 0.02 * np.sign(np.sin(2 * np.pi * 5 * t)), 0.0, 0.0)

    assert moved(shaken).jerk > 2 * CONFIG.max_jerk
    assert moved(lambda t: table(0.5 * np.sin(2 * t), 0.0, 0.0)).jerk < CONFIG.max_jerk / 10


def test_irregular_stamps_make_no_jerk_out_of_a_steady_motion():
    check, rng = MotionCheck(CONFIG, ()), np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.002, 0.02, 400))
    for t in times:
        check.observe(StateSample(START + round(t * 1e9), 0, ("a",), np.array([0.5 * t])))
    assert check.jerk < 0.1


@pytest.mark.parametrize("pause_s", [2.0, -2.0])
def test_nothing_is_known_about_the_time_of_a_silence_or_of_a_clock_set_back(pause_s):
    check = MotionCheck(CONFIG, ())
    for part in range(2):
        for t in np.arange(100) / 100:
            stamp_ns = START + round((t + part * pause_s) * 1e9)
            check.observe(StateSample(stamp_ns, 0, ("a",), np.array([0.5 * t + 3.0 * part])))
    assert check.judged_s == pytest.approx(1.8, abs=0.1)
    assert check.jerk < 0.1


def test_the_travel_of_the_gripper_is_from_its_lowest_to_its_highest():
    check = moved(lambda t: table(t, 0.0, 0.02 + 0.01 * np.sin(t * 3)))
    assert check.gripper_travel_m == pytest.approx(0.02, rel=1e-3)
    assert check.has_gripper


def test_a_gripper_that_is_nowhere_in_the_joint_states_is_missed():
    assert not moved(lambda t: table(t, 0.0, 0.0), grippers=("thumb",)).has_gripper
    assert not moved(lambda t: table(t, 0.0, 0.0), grippers=()).has_gripper


def test_two_publishers_may_each_send_their_joints():
    check = MotionCheck(CONFIG, ("finger",))
    for index in range(400):
        stamp_ns = START + index * 5_000_000
        names, values = (("a", "b"), [0.4 * index / 200, 0.0]) if index % 2 else (("finger",), [0.0001 * index])
        check.observe(StateSample(stamp_ns, 0, names, np.array(values)))
    assert check.idle_share == 0.0
    assert check.gripper_travel_m == pytest.approx(0.0398)
    assert check.judged_s == pytest.approx(1.9, abs=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 2])
def test_a_position_that_is_no_number_is_counted_and_spoils_nothing_else(bad, column):
    rows = table(0.1 * np.arange(100) / 100, 0.0, 0.0)
    rows[50, column] = bad
    check = moved(lambda t: rows, 1.0)
    assert check.bad_numbers == 1
    assert np.isfinite([check.idle_share, check.jerk, check.gripper_travel_m]).all()


def test_a_joint_state_without_positions_counts_as_bad():
    check = MotionCheck(CONFIG, ())
    check.observe(StateSample(START, 0, (), np.zeros(0)))
    assert check.bad_numbers == 1


CHUNK = ActionChunk("safety", START, 0, ("x", "y"), np.zeros(2), np.ones((2, 2)), np.zeros(2))


def test_an_action_table_is_sound_only_if_every_number_in_it_is_one():
    assert is_sound(CHUNK)
    for bad in (np.nan, np.inf):
        assert not is_sound(replace(CHUNK, values=np.array([[0.0, 0.0], [0.0, bad]])))
        assert not is_sound(replace(CHUNK, uncertainty=np.array([0.0, bad])))
        assert not is_sound(replace(CHUNK, times_s=np.array([bad, 0.0])))
    assert not is_sound(replace(CHUNK, values=np.zeros((0, 0)), times_s=np.zeros(0), uncertainty=np.zeros(0)))
