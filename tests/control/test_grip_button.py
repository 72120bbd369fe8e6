from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.control.grip_button import BAND_M, TRAVEL_M, from_commands, from_fingers

OPEN, HELD = 0.08, 0.04
SPEED = 0.001
"""Of the fingers, m per sample: 0.1 m/s at 100 Hz."""


def path(*ways: tuple[float, int]) -> np.ndarray:
    """The opening, from OPEN to each width at SPEED, and a rest of so many samples there."""
    widths = [OPEN]
    for width, rest in ways:
        count = round(abs(width - widths[-1]) / SPEED)
        widths.extend(np.linspace(widths[-1], width, count + 1)[1:] if count else [])
        widths.extend([width] * rest)
    return np.array(widths)


def test_the_button_is_pressed_when_the_fingers_begin_to_move_either_way():
    widths = path((OPEN, 50), (HELD, 60), (OPEN, 30))
    closed = from_fingers(widths, True)
    turns = np.flatnonzero(np.diff(closed.astype(int)))
    np.testing.assert_array_equal(turns, [49, 149])  # the last of the rest before it
    assert closed.tolist()[49:52] == [False, True, True]


def test_noise_and_creeping_fingers_press_nothing():
    rng = np.random.default_rng(1)
    widths = np.append(OPEN + rng.normal(0.0, 0.0002, 3000), HELD + rng.normal(0.0, 0.0002, 3000))
    widths[3000:] -= np.linspace(0.0, 0.0005, 3000)  # what is held yields
    closed = from_fingers(widths, False)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(closed.astype(int))), [pytest.approx(2999, abs=10)])
    assert closed[-1]


@pytest.mark.parametrize("sigma", [0.0, 0.0001, 0.0002])
def test_the_moment_is_known_to_a_few_samples_beside_noise(sigma: float):
    widths = path((OPEN, 200), (0.0, 200), (OPEN, 200))
    noisy = widths + np.random.default_rng(2).normal(0.0, sigma, len(widths))
    turns = np.flatnonzero(np.diff(from_fingers(noisy, False).astype(int)))
    assert len(turns) == 2
    np.testing.assert_allclose(turns, [200, 480], atol=6)


@pytest.mark.parametrize("otherwise", [True, False])
def test_fingers_that_never_move_say_nothing_new(otherwise: bool):
    assert set(from_fingers(np.full(100, HELD), otherwise).tolist()) == {otherwise}


@pytest.mark.parametrize("otherwise", [True, False])
def test_the_first_motion_tells_what_was_before_it(otherwise: bool):
    opening = from_fingers(path((OPEN, 5), (HELD, 20))[::-1], otherwise)
    assert opening[0]
    assert not opening[-1]
    closing = from_fingers(path((OPEN, 5), (HELD, 20)), otherwise)
    assert not closing[0]
    assert closing[-1]


@pytest.mark.parametrize(("travel", "moves"), [(TRAVEL_M - 1e-6, False), (TRAVEL_M + 1e-6, True)])
def test_each_side_of_the_least_travel(travel: float, moves: bool):
    widths = np.append(np.full(20, OPEN), np.full(20, OPEN - travel))
    assert bool(from_fingers(widths, False)[-1]) is moves


def test_fingers_that_go_on_the_same_way_are_one_press():
    closed = from_fingers(path((OPEN, 10), (0.06, 40), (0.03, 40), (0.0, 40)), False)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(closed.astype(int))), [9])


def test_the_moment_lies_within_the_band_of_the_turning_point():
    widths = OPEN - 0.1 * BAND_M * np.arange(200.0)
    assert np.flatnonzero(from_fingers(widths, False))[0] == 10


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_opening_that_is_no_number_is_refused(bad: float):
    with pytest.raises(ValueError, match="finite"):
        from_fingers(np.array([OPEN, bad]), False)


def test_commands_are_the_button_from_their_moment_on():
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    closed = from_commands(times, [(0.1, True), (0.35, False)], False)
    np.testing.assert_array_equal(closed, [False, True, True, True, False])
    np.testing.assert_array_equal(from_commands(times, [(0.3, False)], True), [True, True, True, False, False])
