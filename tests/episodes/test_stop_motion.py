import numpy as np
import pytest

from policy_bringup.episodes.stop_motion import rest_s, stand_s, velocity

S = 1_000_000_000
STOP = 3 * S


def sampled(position, until_s: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """A hundred samples a second of a position over time."""
    times_s = np.arange(0.0, until_s, 0.01)
    return np.round(times_s * 1e9).astype(np.int64), np.array([position(t) for t in times_s])


def braking(t: float) -> list[float]:
    """0.4 m/s until the stop at 3 s, from which on it brakes at 2 m/s^2: it stands after 0.2 s."""
    after = min(max(t - 3.0, 0.0), 0.2)
    return [0.4 * min(t, 3.0) + 0.4 * after - after**2, 0.0]


def test_a_velocity_is_that_just_before():
    times, table = sampled(braking)
    assert velocity(times, table, STOP) == pytest.approx([0.4, 0.0])
    assert velocity(times, table, STOP + S) == pytest.approx([0.0, 0.0])


def test_a_velocity_is_not_guessed_from_samples_that_do_not_tell():
    times, table = sampled(braking)
    assert velocity(times, table, -1) is None
    assert velocity(times, table, 0) is None
    assert velocity(times, table, 50 * S) is None  # long silent
    assert velocity(times[:0], table[:0], STOP) is None
    table[290] = np.nan
    assert velocity(times, table, STOP - S // 10) is None


def test_the_arm_is_at_rest_once_hardly_any_motion_is_left():
    times, table = sampled(braking)
    # Of the 0.2 s, the last 5 mm take 0.07 s.
    assert rest_s(times, table, STOP, 6 * S) == pytest.approx(0.2 - np.sqrt(0.005), abs=0.011)
    assert rest_s(times, table, STOP + S, 6 * S) == 0.0


def test_an_arm_that_is_not_seen_at_rest_for_long_enough_is_not_at_rest():
    times, table = sampled(braking)
    assert rest_s(times, table, STOP, STOP + S // 2) is None
    assert rest_s(times, table, 50 * S, 60 * S) is None
    table[:, 1] = np.nan
    assert rest_s(times, table, STOP, 6 * S) is None


def test_a_command_stands_when_it_has_changed_for_the_last_time():
    times, table = sampled(braking)
    assert stand_s(times, table, STOP, 6 * S) == pytest.approx(0.2, abs=0.011)
    assert stand_s(times, table, STOP + S, 6 * S) == 0.0
    assert stand_s(times, table, 50 * S, 60 * S) is None
