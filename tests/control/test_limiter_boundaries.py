"""At the ends of the range, from both sides: what a single wrong sign, clamp or factor would change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policy_bringup.control.limiter import Limiter

END, VELOCITY, ACCELERATION, DT = 1.0, 2.0, 10.0, 0.01
SIDES = pytest.mark.parametrize("side", [-1, 1])


def limiter_at(position: float, velocity: float = 0.0, end: float = END, acceleration: float = ACCELERATION) -> Limiter:
    limits = (np.array([value]) for value in (-end, end, VELOCITY, acceleration))
    limiter = Limiter(*limits, (0.001, 0.05))
    limiter.restore(np.array([position]), np.array([velocity]))
    return limiter


@SIDES
def test_a_target_that_moves_beyond_the_range_is_one_that_stands_at_its_end(side: int) -> None:
    limiter = limiter_at(side * END)
    for target in (1.10, 1.08, 1.06, 1.04):
        q, v = limiter.step(np.array([side * target]), DT)
        assert (q[0], v[0]) == (side * END, 0.0)


@SIDES
def test_the_end_of_the_range_is_approached_like_a_target_there(side: int) -> None:
    """0.1 rad/s and 1.5 mm of way, of which half a step takes 0.5."""
    limiter = limiter_at(side * (END - 0.0015), side * 0.1)
    _, v = limiter.step(np.array([side * 5.0]), DT)
    assert side * v[0] == pytest.approx(math.sqrt(0.1 * 0.1 + 2 * ACCELERATION * 0.001) - 0.1, abs=1e-9)


@SIDES
def test_a_reference_that_runs_into_the_end_of_the_range_at_speed_is_left_in_time(side: int) -> None:
    limiter = limiter_at(side * -0.5)
    for k in range(200):
        target = min(-0.5 + 1.9 * DT * k, END)
        q, v = limiter.step(np.array([side * target]), DT)
        ahead = END - side * q[0]
        assert side * v[0] <= VELOCITY
        assert max(side * v[0], 0.0) ** 2 / (2 * ACCELERATION) <= ahead + 1e-9
    assert q[0] == pytest.approx(side * END, abs=1e-6)


@SIDES
@pytest.mark.parametrize("velocity", [0.05, 2.0])
def test_braking_stays_in_the_range_even_where_it_comes_too_late(side: int, velocity: float) -> None:
    """A state from which no braking can help; at 0.05 it ends within the step, at 2 it does not."""
    limiter = limiter_at(side * (END - 1e-5), side * velocity)
    q, v = limiter.step(np.array([side * 5.0]), DT)
    assert q[0] == side * END
    assert v[0] == pytest.approx(side * max(velocity - ACCELERATION * DT, 0.0))


@SIDES
@pytest.mark.parametrize(
    ("room", "velocity", "way", "left"),
    [(1.3e-4, 0.05, 1.25e-4, 0.0), (0.006, 0.5, 0.0045, 0.4)],
    ids=["rests within the step", "cannot stop in time"],
)
def test_too_near_its_end_it_brakes_as_hard_as_it_may(side: int, room, velocity, way, left) -> None:
    limiter = limiter_at(side * (END - room), side * velocity)
    q, v = limiter.step(np.array([side * 5.0]), DT)
    assert side * q[0] == pytest.approx(END - room + way, abs=1e-12)
    assert side * v[0] == pytest.approx(left, abs=1e-12)


@SIDES
@pytest.mark.parametrize(
    ("dt", "acceleration", "velocity", "room"),
    [(0.001, 3.0, 0.0027, 0.5 * 0.001 * 0.0027), (0.02, 15.0, 0.12, 0.0012000000000000003)],
)
def test_not_even_the_last_bit_lies_beyond_an_end_at_zero(side: int, dt, acceleration, velocity, room) -> None:
    """Around zero numbers are fine enough for the rounding of one step to be seen."""
    lower, upper = (-1.0, 0.0) if side > 0 else (0.0, 1.0)
    limits = (np.array([value]) for value in (lower, upper, VELOCITY, acceleration))
    limiter = Limiter(*limits, (0.001, 0.05))
    limiter.restore(np.array([-side * room]), np.array([side * velocity]))
    q, _ = limiter.step(np.array([side * 5.0]), dt)
    assert side * q[0] <= 0.0
