from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.control.steering import Box, Motion, Path, Steering, admissible

SPACING_S, STEPS = 0.02, 16
ACCELERATION, HARDEST = np.array([1.0]), np.array([5.0])
STEERING = Steering(ACCELERATION, HARDEST, SPACING_S, STEPS)
WIDE = Box(np.array([-10.0]), np.array([10.0]))
S = 1_000_000_000


def path(position: float, velocity: float, wanted: float, box: Box = WIDE) -> Path:
    start = Motion(np.array([position]), np.array([velocity]))
    return STEERING.path(0, start, lambda t, position: np.array([wanted]), box)


@settings(max_examples=200, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(-1.5, 1.5), st.floats(-5.0, 5.0), st.floats(0.05, 1.0))
def test_a_path_stays_in_its_box_and_ends_at_rest_whatever_is_wanted(part, velocity, wanted, size):
    box = Box(np.array([0.0]), np.array([size]))
    made = path(part * size, velocity, wanted, box)
    assert ((box.lower <= made.positions) & (made.positions <= box.upper)).all()
    assert made.velocities[-1, 0] == 0.0


@settings(max_examples=200, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(-5.0, 5.0))
def test_with_time_and_room_it_is_no_harder_than_usual(velocity, wanted):
    made = path(0.0, velocity, wanted)
    usual = max(1.0, 1.1 * abs(velocity) / (SPACING_S * STEPS))
    assert (np.abs(np.diff(made.velocities[:, 0])) <= usual * SPACING_S + 1e-12).all()
    trapezoids = 0.5 * (made.velocities[1:] + made.velocities[:-1]) * SPACING_S
    np.testing.assert_allclose(np.diff(made.positions, axis=0), trapezoids, atol=1e-12)


def test_what_comes_too_fast_for_the_room_ahead_is_braked_harder():
    made = path(0.0, 0.4, 0.0, Box(np.array([-1.0]), np.array([0.04])))
    hardest = np.abs(np.diff(made.velocities[:, 0])).max() / SPACING_S
    assert 2.0 < hardest <= 5.0
    assert made.positions.max() < 0.04


def test_a_wanted_speed_is_reached_and_kept_until_it_is_time_to_brake():
    made = path(0.0, 0.1, 0.1)
    np.testing.assert_allclose(made.velocities[:11, 0], 0.1)
    assert (np.diff(made.velocities[11:, 0]) < 0.0).all()


def test_a_path_is_read_between_its_steps_and_stands_before_and_after():
    made = path(0.5, 0.1, 0.1)
    middle = made.at(S // 100)
    np.testing.assert_allclose([middle.position, middle.velocity], [[0.501], [0.1]])
    np.testing.assert_array_equal(made.at(-S).position, [0.5])
    np.testing.assert_array_equal(made.at(S).position, made.positions[-1])
    np.testing.assert_array_equal(made.at(S).velocity, [0.0])


def test_columns_that_move_together_keep_their_direction_while_they_speed_up():
    steering = Steering(np.array([1.0, 1.0, 1.0]), np.full(3, 5.0), SPACING_S, STEPS)
    box, goal = Box(np.full(3, -1.0), np.ones(3)), np.array([0.1, -0.02, 0.05])
    made = steering.path(0, Motion(np.zeros(3), np.zeros(3)), lambda t, position: goal, box, together=2)
    np.testing.assert_allclose(made.positions[1:9, 1] / made.positions[1:9, 0], -0.2)
    np.testing.assert_allclose(made.velocities[1], [0.02, -0.004, 0.02])


def test_the_admissible_speed_is_the_one_from_which_braking_just_fits():
    speed = admissible(np.array([0.08]), ACCELERATION, SPACING_S)
    np.testing.assert_allclose(speed * SPACING_S + speed**2 / 2.0, 0.08)
    np.testing.assert_array_equal(admissible(np.array([0.0, -1.0]), np.ones(2), SPACING_S), [0.0, 0.0])
