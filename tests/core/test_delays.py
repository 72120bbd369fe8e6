import numpy as np
import pytest

from policy_bringup.core.delays import Signal, delay_between
from policy_bringup.core.errors import MeasurementError

FREQUENCIES = (0.5, 0.83, 1.3)
LENGTH_S = 14.0
START_S = 1000.0


def motion(times):
    """A swaying arm, 3 cm to each side at most."""
    return 0.01 * sum(np.sin(2.0 * np.pi * f * (times - START_S)) for f in FREQUENCIES)


def moments(rate_hz, rng, jitter_s=0.0):
    times = START_S + np.arange(0.0, LENGTH_S, 1.0 / rate_hz)
    return times + rng.uniform(0.0, jitter_s, len(times)) if jitter_s else times


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def arm(rng):
    times = moments(100.0, rng, 0.002)
    return Signal(times, motion(times) + rng.normal(0.0, 1e-5, len(times)))


def film(arm_positions, rng, noise):
    """What a camera sees of an arm at these positions: a bright blob that moves over a textured 32 x 32 picture."""
    row, column = np.mgrid[0:32, 0:32]
    texture = rng.uniform(60.0, 180.0, (32, 32))
    pictures = [
        texture + 100.0 * np.exp(-((row - 12.0) ** 2 + (column - 16.0 - 100.0 * x) ** 2) / 18.0) for x in arm_positions
    ]
    return np.array([picture + rng.normal(0.0, noise, picture.shape) for picture in pictures]).reshape(
        len(pictures), -1
    )


@pytest.mark.parametrize("late_s", [-0.02, 0.0, 0.0333, 0.08, 0.2, 0.45])
def test_a_cameras_delay_is_found_to_2_ms_by_what_moves_in_its_pictures(arm, rng, late_s):
    times = moments(30.0, rng, 0.004)
    seen = Signal(times, film(motion(times - late_s), rng, 3.0))
    delay = delay_between(arm, seen, 0.5, 0.006, "camera 'front'")
    assert delay.seconds == pytest.approx(late_s, abs=0.002)
    assert delay.uncertainty_s < 0.005
    assert delay.likeness > 0.98


@pytest.mark.parametrize("late_s", [0.0, 0.012, 0.06, 0.25])
def test_an_arms_delay_is_found_to_half_a_millisecond(arm, rng, late_s):
    asked_s = START_S + np.arange(0.0, LENGTH_S, 0.05)
    done = Signal(arm.times_s, 0.97 * motion(arm.times_s - late_s) + 0.4 + rng.normal(0.0, 1e-4, len(arm.times_s)))
    fine = START_S + np.arange(0.0, LENGTH_S, 0.01)
    delay = delay_between(Signal(fine, motion(fine)), done, 0.5, 0.006, "actuator")
    assert delay.seconds == pytest.approx(late_s, abs=0.0005)
    coarse = delay_between(Signal(asked_s, motion(asked_s)), done, 0.5, 0.006, "actuator")
    assert coarse.seconds == pytest.approx(late_s, abs=0.002)


def test_the_interval_holds_the_truth_about_as_often_as_it_says(arm):
    inside = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        times = moments(30.0, rng)
        delay = delay_between(arm, Signal(times, film(motion(times - 0.1), rng, 15.0)), 0.5, 0.006, "camera")
        inside.append(abs(delay.seconds - 0.1) <= delay.uncertainty_s + 0.0005)
    assert sum(inside) >= 12


@pytest.mark.parametrize("apart_s", [0.0, 0.02, 0.04])
def test_a_camera_that_jumps_about_in_time_is_reported_as_uncertain(arm, rng, apart_s):
    delay = delay_between(arm, jumping(apart_s, rng), 0.5, 0.006, "camera")
    assert delay.seconds == pytest.approx(0.1, abs=0.005)
    assert delay.uncertainty_s >= apart_s / 2


def test_a_camera_that_jumps_about_by_more_than_two_pictures_gives_no_number(arm, rng):
    with pytest.raises(
        MeasurementError, match=r"camera: cannot be measured, it is 1\d\d ± \d\d ms late; allowed is ± 30"
    ):
        delay_between(arm, jumping(0.08, rng), 0.5, 0.006, "camera")


def jumping(apart_s, rng):
    """A camera that is late by 0.1 s - apart_s / 2, and from the middle on by 0.1 s + apart_s / 2."""
    times = moments(30.0, rng)
    late_s = 0.1 + np.where(times < START_S + LENGTH_S / 2, -0.5, 0.5) * apart_s
    return Signal(times, film(motion(times - late_s), rng, 3.0))


def test_an_arm_that_stands_still_gives_no_number(rng):
    times = moments(100.0, rng)
    still = Signal(times, 0.4 + rng.normal(0.0, 1e-4, len(times)))
    with pytest.raises(MeasurementError, match=r"camera 'front': cannot be measured, the arm hardly moved: 0.0001"):
        delay_between(still, Signal(times, times), 0.5, 0.006, "camera 'front'")


def test_a_camera_that_does_not_see_the_motion_gives_no_number(arm, rng):
    times = moments(30.0, rng)
    for values in (film(np.zeros_like(times), rng, 3.0), film(np.cumsum(rng.normal(0, 2e-3, len(times))), rng, 3.0)):
        with pytest.raises(MeasurementError, match="does not follow the motion: likeness 0"):
            delay_between(arm, Signal(times, values), 0.5, 0.006, "camera")


def test_a_picture_that_never_changes_gives_no_number(arm, rng):
    times = moments(30.0, rng)
    with pytest.raises(MeasurementError, match=r"likeness 0\.00"):
        delay_between(arm, Signal(times, np.full((len(times), 4), 17.0)), 0.5, 0.006, "camera")


def test_a_delay_beyond_the_range_is_not_mistaken_for_another(arm, rng):
    times = moments(30.0, rng)
    with pytest.raises(MeasurementError, match=r"camera: cannot be measured, it does not follow the motion"):
        delay_between(arm, Signal(times, film(motion(times - 0.4), rng, 3.0)), 0.3, 0.006, "camera")


@pytest.mark.parametrize("late_s", [-0.05, 0.34])
def test_a_delay_a_little_beyond_the_range_is_no_delay(arm, rng, late_s):
    times = moments(30.0, rng)
    with pytest.raises(MeasurementError, match=r"its delay is not from -0.03 to 0.3 s: do all stamps come from one"):
        delay_between(arm, Signal(times, film(motion(times - late_s), rng, 3.0)), 0.3, 0.006, "camera")


@pytest.mark.parametrize("count", [0, 1, 59])
def test_too_few_samples_give_no_number(arm, count):
    few = Signal(arm.times_s[:count], arm.values[:count])
    for cause, effect in ((few, arm), (arm, few)):
        with pytest.raises(MeasurementError, match=f"camera: cannot be measured from {count} samples; needed are 60"):
            delay_between(cause, effect, 0.5, 0.006, "camera")
