from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.control.braking import RESOLUTION_S, braking_path, onwards, state_at
from policy_bringup.core.types import JointCommand

LOWER, UPPER = np.array([-2.0, 0.0, -0.5]), np.array([1.0, 0.04, 3.0])
ACCELERATION = np.array([10.0, 1.0, 4.0])
SHORTEST_S = 0.015


def spline(h, p0, v0, p1, v1, s):
    """Position and acceleration of the cubic between two points, as a trajectory controller draws it."""
    a, b = 3.0 * (p1 - p0) - h * (2.0 * v0 + v1), 2.0 * (p0 - p1) + h * (v0 + v1)
    return p0 + s * (h * v0 + s * (a + s * b)), (2.0 * a + 6.0 * s * b) / h**2


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(-1.0, 1.0)), min_size=3, max_size=3))
def test_the_path_between_its_points_is_within_limits_and_ends_at_rest(parts) -> None:
    place, way = np.array(parts).T
    q = LOWER + place * (UPPER - LOWER)
    room = np.where(way > 0.0, UPPER - q, q - LOWER)
    v = way * np.minimum(np.sqrt(2.0 * ACCELERATION * room), 2.0)
    times, positions, velocities = braking_path(q, v, LOWER, UPPER, ACCELERATION, SHORTEST_S)
    assert (np.diff(times, prepend=0.0) >= 0.99 * RESOLUTION_S).all()
    np.testing.assert_array_equal(velocities[-1], 0.0)
    before = 0.0, q, v
    for t, p1, v1 in zip(times, positions, velocities, strict=True):
        h = t - before[0]
        for s in np.linspace(0.0, 1.0, 9):
            p, a = spline(h, before[1], before[2], p1, v1, s)
            assert ((p >= LOWER - 1e-4) & (p <= UPPER + 1e-4)).all()
            if h > 0.005:
                assert (np.abs(a) <= 1.1 * ACCELERATION).all()
        before = t, p1, v1


def test_with_room_on_all_sides_one_point_is_enough() -> None:
    q, v = np.array([0.0, 0.02, 1.0]), np.array([1.0, 0.01, -0.2])
    times, positions, velocities = braking_path(q, v, LOWER, UPPER, ACCELERATION, SHORTEST_S)
    np.testing.assert_allclose(times, [0.1])
    np.testing.assert_allclose(positions[0], q + 0.5 * v * 0.1)
    np.testing.assert_array_equal(velocities, np.zeros((1, 3)))


def test_a_joint_too_near_its_limit_stops_earlier() -> None:
    v = np.array([1.0, 0.04, 0.0])
    exactly = UPPER[1] - 0.5 * v[1] * 0.1
    for place, points in ((exactly - 1e-6, 1), (exactly + 1e-6, 2)):
        q = np.array([0.0, place, 1.0])
        times, positions, _ = braking_path(q, v, LOWER, UPPER, ACCELERATION, SHORTEST_S)
        assert len(times) == points
        assert (positions[:, 1] <= UPPER[1]).all()
        assert times[-1] == 0.1 or abs(times[-1] - 0.1) < 1e-12


def test_at_rest_it_stays_for_the_shortest_time() -> None:
    q = np.array([0.0, 0.0, 3.0])
    times, positions, velocities = braking_path(q, np.zeros(3), LOWER, UPPER, ACCELERATION, SHORTEST_S)
    np.testing.assert_allclose(times, [SHORTEST_S])
    np.testing.assert_array_equal(positions, [q])
    np.testing.assert_array_equal(velocities, np.zeros((1, 3)))


def test_the_state_between_points_is_the_path_with_constant_deceleration() -> None:
    q, v = np.array([0.0, 0.02, 1.0]), np.array([1.0, 0.02, -0.2])
    times, positions, velocities = braking_path(q, v, LOWER, UPPER, ACCELERATION, SHORTEST_S)
    points = np.append(0.5, 0.5 + times), np.vstack([q, positions]), np.vstack([v, velocities])
    for t in np.linspace(0.0, times[-1], 21):
        position, velocity = state_at(*points, 0.5 + float(t))
        np.testing.assert_allclose(velocity, v * (1.0 - t / times[-1]), atol=1e-12)
        np.testing.assert_allclose(position, q + v * t * (1.0 - 0.5 * t / times[-1]), atol=1e-12)


def test_the_state_before_the_first_and_after_the_last_point_is_theirs() -> None:
    q, v = np.array([0.0, 0.02, 1.0]), np.array([1.0, 0.02, -0.2])
    times, positions, velocities = braking_path(q, v, LOWER, UPPER, ACCELERATION, SHORTEST_S)
    points = np.append(0.5, 0.5 + times), np.vstack([q, positions]), np.vstack([v, velocities])
    for t, place, speed in ((0.0, q, v), (0.5, q, v), (99.0, positions[-1], np.zeros(3))):
        position, velocity = state_at(*points, t)
        np.testing.assert_array_equal(position, place)
        np.testing.assert_array_equal(velocity, speed)


def test_from_any_state_on_the_path_there_is_room_to_brake() -> None:
    q, v = np.array([0.9, 0.0392, 1.0]), np.array([1.4, 0.04, -0.2])
    times, positions, velocities = braking_path(q, v, LOWER, UPPER, ACCELERATION, SHORTEST_S)
    points = np.append(0.0, times), np.vstack([q, positions]), np.vstack([v, velocities])
    for t in np.linspace(0.0, times[-1], 50):
        position, velocity = state_at(*points, float(t))
        assert (position + velocity * np.abs(velocity) / (2.0 * ACCELERATION) <= UPPER + 1e-4).all()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(-1.0, 1.0)), min_size=3, max_size=3),
    st.floats(0.0, 1.5),
    st.floats(0.0, 0.6),
)
def test_what_is_left_of_a_command_is_the_same_motion_and_ends_where_it_has_said(parts, elapsed, later) -> None:
    place, way = np.array(parts).T
    q = LOWER + place * (UPPER - LOWER)
    room = np.where(way > 0.0, UPPER - q, q - LOWER)
    v = way * np.minimum(np.sqrt(2.0 * ACCELERATION * room), 2.0)
    times, positions, velocities = braking_path(q, v, LOWER, UPPER, ACCELERATION, SHORTEST_S)
    command = JointCommand(
        ("one", "two", "three"),
        SHORTEST_S + np.append(0.0, times),
        np.vstack([q, positions]),
        np.vstack([v, velocities]),
        12.0,
    )
    left = onwards(command, elapsed, SHORTEST_S)
    assert left.names == command.names
    assert left.gripper_effort == 12.0
    assert left.times_s[0] == SHORTEST_S
    assert len(left.times_s) >= 2
    assert (np.diff(left.times_s) > RESOLUTION_S / 4).all()
    np.testing.assert_array_equal(left.positions[-1], command.positions[-1])
    np.testing.assert_array_equal(left.velocities[-1], 0.0)
    seen = state_at(left.times_s, left.positions, left.velocities, SHORTEST_S + later)
    meant = state_at(command.times_s, command.positions, command.velocities, elapsed + SHORTEST_S + later)
    np.testing.assert_allclose(seen[0], meant[0], atol=1e-7)
    np.testing.assert_allclose(seen[1], meant[1], atol=1e-3)


def test_nothing_is_left_of_a_command_that_is_over_but_to_stand() -> None:
    rest = np.zeros((2, 3))
    command = JointCommand(
        ("one", "two", "three"), np.array([0.015, 0.115]), np.array([[0.0] * 3, [0.1] * 3]), rest, 12.0
    )
    left = onwards(command, 5.0, 0.015)
    np.testing.assert_array_equal(left.positions, np.full((2, 3), 0.1))
    np.testing.assert_array_equal(left.velocities, rest)
    np.testing.assert_array_equal(left.times_s, [0.015, 0.03])
