from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.control.limiter import Limiter

LOWER, UPPER = np.array([-2.0, 0.0, -0.5]), np.array([1.0, 0.04, 3.0])
VELOCITY, ACCELERATION = np.array([2.0, 0.05, 1.0]), np.array([10.0, 1.0, 4.0])
DT_RANGE = (0.001, 0.05)
ROUNDING = 1e-9
SHARE = settings().max_examples / 100
"""Of the usual number of examples: mutation testing runs with fewer."""

targets = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3)
near_targets = st.lists(st.floats(-2.5, 3.5), min_size=3, max_size=3)
moves = st.lists(
    st.tuples(st.one_of(targets, near_targets), st.floats(0.001, 0.05)),
    min_size=1,
    max_size=60,
)
starts = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3)


def begun(part: list[float] | float = 0.5) -> Limiter:
    limiter = Limiter(LOWER, UPPER, VELOCITY, ACCELERATION, DT_RANGE)
    limiter.begin(LOWER + np.asarray(part) * (UPPER - LOWER))
    return limiter


def assert_can_stop(q: np.ndarray, v: np.ndarray) -> None:
    way = v * np.abs(v) / (2.0 * ACCELERATION)
    assert ((q + way >= LOWER - ROUNDING) & (q + way <= UPPER + ROUNDING)).all()


@settings(max_examples=round(200 * SHARE), deadline=None)
@given(starts, moves)
def test_nothing_makes_it_exceed_a_limit_and_it_can_always_stop(part, sequence) -> None:
    limiter = begun(part)
    for target, dt in sequence:
        before, v_before = limiter.position, limiter.velocity
        q, v = limiter.step(np.array(target), dt)
        assert ((q >= LOWER - ROUNDING) & (q <= UPPER + ROUNDING)).all()
        assert (np.abs(v) <= VELOCITY + ROUNDING).all()
        assert (np.abs(q - before) <= VELOCITY * dt + ROUNDING).all()
        assert (np.abs(v - v_before) <= (ACCELERATION + ROUNDING) * dt).all()
        implied = 2.0 * ((q - before) / dt - v_before) / dt
        assert (np.abs(implied) <= ACCELERATION * (1.0 + 1e-6)).all()
        assert_can_stop(q, v)


@settings(max_examples=round(60 * SHARE), deadline=None)
@given(starts, near_targets, st.sampled_from([0.005, 0.01, 0.05]))
def test_a_constant_target_is_reached_without_overshoot(part, target, dt) -> None:
    limiter = begun(part)
    start, goal = limiter.position, np.clip(target, LOWER, UPPER)
    for _ in range(math.ceil(8.0 / dt)):
        q, v = limiter.step(np.array(target), dt)
        assert (np.sign(goal - start) * (q - goal) <= 1e-12).all()
    np.testing.assert_allclose(q, goal, atol=1e-6)
    np.testing.assert_allclose(v, 0.0, atol=1e-5)


@settings(max_examples=round(60 * SHARE), deadline=None)
@given(starts, moves, near_targets)
def test_from_any_state_it_comes_to_rest_at_the_target(part, sequence, target) -> None:
    limiter = begun(part)
    for each, dt in sequence:
        limiter.step(np.array(each), dt)
    for _ in range(800):
        q, v = limiter.step(np.array(target), 0.01)
    np.testing.assert_allclose(q, np.clip(target, LOWER, UPPER), atol=1e-6)
    np.testing.assert_allclose(v, 0.0, atol=1e-5)


def test_a_smooth_reference_is_followed_with_little_lag() -> None:
    limiter, dt = begun(), 0.01
    middle = limiter.position
    for t in np.arange(dt, 6.0, dt):
        fade = min(t, 1.0) ** 2 * (3.0 - 2.0 * min(t, 1.0))
        target = middle + fade * np.array([0.4, 0.005, 0.3]) * math.sin(2.0 * t)
        q, _ = limiter.step(target, dt)
        assert (np.abs(q - target) <= 0.003 * VELOCITY).all()  # 3 ms at full speed


def test_a_constant_velocity_is_followed_without_lag() -> None:
    limiter, dt = begun([0.1, 0.1, 0.1]), 0.01
    target = limiter.position
    for _ in range(60):
        target = target + 0.5 * VELOCITY * dt
        q, v = limiter.step(target, dt)
    np.testing.assert_allclose(q, target, atol=1e-9)
    np.testing.assert_allclose(v, 0.5 * VELOCITY, atol=1e-9)


def test_a_reference_that_comes_in_stairs_is_not_overshot() -> None:
    limiter, dt = begun(0.1), 0.01
    for tick in range(200):
        stair = 0.1 + 0.002 * (tick // 5) * 5
        target = LOWER + min(stair, 0.4) * (UPPER - LOWER)
        q, _ = limiter.step(target, dt)
        assert (q <= target + 1e-9).all()


def test_a_target_far_out_of_range_stops_at_the_limit() -> None:
    for sign, limit in ((1.0, UPPER), (-1.0, LOWER)):
        limiter = begun()
        for _ in range(1000):
            q, _ = limiter.step(sign * np.full(3, 1e300), 0.01)
        np.testing.assert_allclose(q, limit, atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_long_steps_after_short_ones_still_stop_before_the_limit(sign: float) -> None:
    approaching, far = begun(), sign * np.full(3, 9.0)
    for tick in range(2500):
        approaching.step(far, 0.001)
        if tick % 25:
            continue
        limiter = begun()
        limiter.restore(approaching.position, approaching.velocity)
        for _ in range(4):
            before, v_before = limiter.position, limiter.velocity
            q, v = limiter.step(far, 0.05)
            assert ((q >= LOWER) & (q <= UPPER)).all()
            assert (np.abs(v - v_before) <= ACCELERATION * 0.05 + ROUNDING).all()
            assert (sign * (q - before) >= -ROUNDING).all()
            assert_can_stop(q, v)


def test_the_time_step_is_clamped_on_both_sides() -> None:
    for asked, used in ((0.0, 0.001), (-5.0, 0.001), (0.001, 0.001), (0.05, 0.05), (0.0501, 0.05), (1e9, 0.05)):
        first, second = begun(), begun()
        np.testing.assert_array_equal(first.step(UPPER, asked), second.step(UPPER, used))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_changes_nothing(bad: float) -> None:
    limiter = begun()
    limiter.step(UPPER, 0.01)
    q, v = limiter.position, limiter.velocity
    for call in (
        lambda: limiter.step(np.array([0.0, bad, 0.0]), 0.01),
        lambda: limiter.step(UPPER, bad),
        lambda: limiter.begin(np.array([bad, 0.0, 0.0])),
    ):
        with pytest.raises(ValueError, match="finite"):
            call()
    np.testing.assert_array_equal(limiter.position, q)
    np.testing.assert_array_equal(limiter.velocity, v)


def test_it_begins_at_rest_and_inside() -> None:
    limiter = begun()
    limiter.step(UPPER, 0.01)
    limiter.begin(UPPER + 0.3)
    np.testing.assert_array_equal(limiter.position, UPPER)
    np.testing.assert_array_equal(limiter.velocity, 0.0)


def test_a_restored_state_goes_on_as_before() -> None:
    limiter = begun()
    state = limiter.step(UPPER, 0.01)
    ahead = limiter.step(LOWER, 0.01)
    limiter.restore(*state)
    np.testing.assert_array_equal(limiter.step(LOWER, 0.01), ahead)


def test_it_is_made_at_rest_in_the_middle_of_its_range() -> None:
    limiter = Limiter(LOWER, UPPER, VELOCITY, ACCELERATION, DT_RANGE)
    np.testing.assert_array_equal(limiter.position, 0.5 * (LOWER + UPPER))
    np.testing.assert_array_equal(limiter.velocity, np.zeros(3))


def test_it_begins_inside_from_below_too() -> None:
    limiter = begun()
    limiter.begin(LOWER - 0.3)
    np.testing.assert_array_equal(limiter.position, LOWER)


def test_limits_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Limiter(LOWER, UPPER, VELOCITY[:2], ACCELERATION, DT_RANGE)


def test_a_state_of_another_length_is_refused_by_the_next_call() -> None:
    limiter = begun()
    limiter.restore(np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="zip"):
        limiter.step(UPPER, 0.01)


def test_a_refused_number_is_named() -> None:
    with pytest.raises(ValueError, match=r"^a limiter needs finite numbers, got \[ 1. nan  0.\]$"):
        begun().begin(np.array([1.0, math.nan, 0.0]))


def test_it_can_leave_a_limit_that_it_stands_at() -> None:
    for edge, inwards in ((UPPER, -1.0), (LOWER, 1.0)):
        limiter = begun()
        limiter.begin(edge)
        q, v = limiter.step(0.5 * (LOWER + UPPER), 0.01)
        assert (inwards * (q - edge) > 0.0).all()
        assert (inwards * v > 0.0).all()


def test_the_motion_of_a_target_is_the_slower_of_its_last_two_up_to_the_joints_limit() -> None:
    limiter = begun()
    moves = [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),  # where it comes from is not known
        ([0.1, -0.001, 0.1], [0.0, 0.0, 0.0]),  # a jump has no velocity
        ([0.2, -0.003, 0.05], [1.0, -0.01, 0.0]),  # as before; faster than before; the other way round
        ([0.25, -0.0032, 0.0], [0.5, -0.002, -0.5]),
        ([0.95, -0.0532, 0.0], [0.5, -0.002, 0.0]),
        ([1.65, -0.1032, 0.2], [2.0, -0.05, 0.0]),
    ]
    for target, expected in moves:
        np.testing.assert_allclose(limiter._reference_motion(np.array(target), 0.1), expected, atol=1e-12)


def test_what_is_restored_has_forgotten_how_its_target_moved() -> None:
    used, fresh = begun(), begun()
    for tick in range(5):
        state = used.step(used.position + 0.01 * (tick + 1), 0.01)
    used.restore(*state)
    fresh.restore(*state)
    for target in (state[0] + 0.005, state[0] + 0.01, state[0] + 0.01):
        np.testing.assert_array_equal(used.step(target, 0.01), fresh.step(target, 0.01))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("velocity", "gap", "reached"),
    [
        (0.0, 5.0, 0.1),  # all that the acceleration gives
        (1.95, 5.0, 2.0),  # all that the joint's velocity allows
        (0.3, 0.0, 0.2),  # braking as hard as it may
        (0.1, 0.1005, 0.2),  # the acceleration again
        (0.1, 0.0015, math.sqrt(0.1 * 0.1 + 2 * 10.0 * 0.001) - 0.1),  # less than half a step's way is already spent
        (0.0, 0.00075, math.sqrt(0.1 * 0.1 + 2 * 10.0 * 0.00075) - 0.1),  # half a step before where it could still stop
    ],
)
def test_one_step_is_as_fast_as_acceleration_velocity_and_target_allow(sign, velocity, gap, reached) -> None:
    limiter = Limiter(np.array([-9.0]), np.array([9.0]), np.array([2.0]), np.array([10.0]), DT_RANGE)
    limiter.restore(np.zeros(1), sign * np.array([velocity]))
    q, v = limiter.step(sign * np.array([gap]), 0.01)
    assert sign * v[0] == pytest.approx(reached, abs=1e-12)
    assert sign * q[0] == pytest.approx(0.005 * (velocity + reached), abs=1e-12)


@pytest.mark.parametrize("dt", [0.001, 0.007, 0.05])
def test_no_rounding_carries_it_beyond_a_limit(dt: float) -> None:
    for edge in (0.1 + 0.2, 1.0 / 3.0, 1e-3, 7.7):
        lower, upper = np.array([-edge]), np.array([edge])
        limiter = Limiter(lower, upper, VELOCITY[:1], ACCELERATION[:1], (0.0001, 1.0))
        for target in (9.0, -9.0):
            for _ in range(600):
                q, _ = limiter.step(np.array([target]), dt)
                assert -edge <= q[0] <= edge
