import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy_bringup.core.rotations import exp, from_quaternion, from_rpy, log, skew, to_quaternion

UNIT = st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda v: math.hypot(*v) > 1e-3)
EDGES = (0.0, 1e-300, 1e-12, 9.9e-9, 1.01e-8, 1e-7, 9.9e-7, 1.01e-6, 1e-4)
"""Distances from 0 and from pi on both sides of every branch."""
ANGLES = st.one_of(
    st.floats(0.0, math.pi), st.sampled_from(EDGES), st.sampled_from(EDGES).map(lambda distance: math.pi - distance)
)
AXES = [np.array(axis) for axis in itertools.product((-1.0, 0.0, 1.0), repeat=3) if any(axis)]


def unit(axis):
    return np.array(axis) / np.linalg.norm(axis)


def turn_between(A, B):
    """Angle of the rotation from A to B without `log`: |A - B| = 2 sqrt(2) sin(angle / 2)."""
    return 2.0 * math.asin(min(1.0, float(np.linalg.norm(A - B)) / math.sqrt(8.0)))


@given(st.tuples(*[st.floats(-10.0, 10.0)] * 3), st.tuples(*[st.floats(-10.0, 10.0)] * 3))
def test_skew_is_the_cross_product(v, w):
    np.testing.assert_allclose(skew(np.array(v)) @ np.array(w), np.cross(v, w), atol=1e-12)


@given(UNIT, ANGLES)
def test_exp_gives_a_rotation_about_its_axis_by_its_angle(axis, angle):
    axis = unit(axis)
    R = exp(axis * angle)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1.0)
    np.testing.assert_allclose(R @ axis, axis, atol=1e-12)
    assert np.trace(R) == pytest.approx(1.0 + 2.0 * math.cos(angle), abs=1e-12)
    # Right-handed: what stands across the axis moves towards axis x itself.
    across = unit(np.cross(axis, [1.0, 0.0, 0.0] if abs(axis[0]) < 0.9 else [0.0, 1.0, 0.0]))
    assert np.cross(axis, across) @ (R @ across) == pytest.approx(math.sin(angle), abs=1e-12)


@given(UNIT, ANGLES)
@example((1.0, 0.0, 0.0), math.pi)
@example((-0.5, 0.3, 0.0), math.pi - 5e-7)
def test_log_undoes_exp_from_no_turn_to_half_a_turn(axis, angle):
    vector = unit(axis) * angle
    found = log(exp(vector))
    assert np.linalg.norm(found) <= math.pi + 1e-15
    if math.pi - angle < 1e-9:  # within rounding of pi both signs are right
        found = min(found, -found, key=lambda candidate: float(np.linalg.norm(candidate - vector)))
    np.testing.assert_allclose(found, vector, atol=1e-9)


@given(UNIT, st.floats(0.0, 50.0))
def test_exp_undoes_log_for_any_number_of_turns(axis, angle):
    R = exp(unit(axis) * angle)
    assert turn_between(exp(log(R)), R) < 1e-9


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("distance", EDGES)
def test_near_half_a_turn_log_finds_axis_angle_and_sign(axis, distance):
    vector = unit(axis) * (math.pi - distance)
    found = log(exp(vector))
    if distance < 1e-9:
        assert turn_between(exp(found), exp(vector)) < 1e-9
    else:
        np.testing.assert_allclose(found, vector, atol=1e-8)


def test_log_of_an_exact_half_turn_is_one_of_the_two_answers():
    for R in (np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, 1.0, -1.0]), np.diag([-1.0, -1.0, 1.0])):
        vector = log(R)
        assert np.linalg.norm(vector) == pytest.approx(math.pi, abs=1e-15)
        np.testing.assert_allclose(R @ vector, vector, atol=1e-12)


def test_log_of_no_turn_is_zero():
    np.testing.assert_array_equal(log(np.eye(3)), np.zeros(3))


@given(*[st.floats(-7.0, 7.0)] * 3)
def test_from_rpy_is_yaw_after_pitch_after_roll(roll, pitch, yaw):
    cr, sr, cp, sp, cy, sy = (f(angle) for angle in (roll, pitch, yaw) for f in (math.cos, math.sin))
    # URDF: Rz(yaw) Ry(pitch) Rx(roll), multiplied out by hand.
    expected = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    np.testing.assert_allclose(from_rpy(roll, pitch, yaw), expected, atol=1e-12)


@given(UNIT, ANGLES)
@example((1.0, 1.0, 1.0), math.pi)
def test_a_quaternion_is_axis_times_sine_and_cosine_of_half_the_angle(axis, angle):
    axis = unit(axis)
    R = exp(axis * angle)
    x, y, z, w = to_quaternion(R)
    assert math.hypot(x, y, z, w) == pytest.approx(1.0, abs=1e-12)
    assert w == pytest.approx(math.cos(angle / 2.0), abs=1e-9)
    expected = axis * math.sin(angle / 2.0)
    np.testing.assert_allclose(np.abs([x, y, z]), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(from_quaternion(x, y, z, w), R, atol=1e-9)


@given(UNIT, ANGLES)
@example((1.0, 1.0, 1.0), math.pi)
@example((0.1, -0.7, 0.2), math.pi)
def test_the_scalar_part_of_a_quaternion_is_never_negative(axis, angle):
    assert to_quaternion(exp(unit(axis) * angle))[3] >= 0.0


@given(UNIT, ANGLES, st.floats(1e-6, 1e6))
def test_a_quaternion_needs_no_unit_length_and_its_negative_is_the_same_rotation(axis, angle, scale):
    R = exp(unit(axis) * angle)
    scaled = [scale * part for part in to_quaternion(R)]
    np.testing.assert_allclose(from_quaternion(*scaled), R, atol=1e-9)
    np.testing.assert_allclose(from_quaternion(*[-part for part in scaled]), R, atol=1e-9)


def test_quaternions_are_ordered_x_y_z_w():
    half = math.sqrt(0.5)
    np.testing.assert_allclose(from_quaternion(0.0, 0.0, half, half) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_array_equal(from_quaternion(0.0, 0.0, 0.0, 1.0), np.eye(3))


@pytest.mark.parametrize("length", [0.0, 9.9e-10, math.inf, math.nan, 1e200])
def test_a_quaternion_without_a_usable_length_is_refused_with_its_numbers(length):
    with pytest.raises(ValueError, match=r"^a quaternion needs a finite, non-zero length, got \(0\.0, 0\.0, 0\.0, "):
        from_quaternion(0.0, 0.0, 0.0, length)


def test_the_shortest_quaternion_that_is_accepted_is_a_billionth_long():
    np.testing.assert_array_equal(from_quaternion(0.0, 0.0, 0.0, 1e-9), np.eye(3))
