from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import JointCommand
from policy_bringup.sim.follower import Follower

NAMES = ("a", "b")


def make(times, positions, velocities=None, names=NAMES):
    positions = np.array(positions, dtype=float)
    velocities = np.zeros_like(positions) if velocities is None else np.array(velocities, dtype=float)
    return JointCommand(names, np.array(times, dtype=float), positions, velocities)


@pytest.fixture
def follower() -> Follower:
    return Follower(NAMES, np.array([-1.0, -2.0]), np.array([1.0, 2.0]), np.array([0.1, 0.2]))


def test_without_any_command_the_start_is_held(follower):
    for now in (-5.0, 0.0, 1e6):
        positions, velocities = follower.at(now)
        np.testing.assert_array_equal(positions, [0.1, 0.2])
        np.testing.assert_array_equal(velocities, 0.0)


def test_points_are_met_in_position_and_velocity(follower):
    follower.command(make([0.5, 1.0], [[0.3, 0.0], [0.6, -0.5]], [[0.5, -1.0], [0.2, 0.0]]), 2.0, 2.0)
    for at, positions, velocities in ((2.0, [0.1, 0.2], [0.0, 0.0]), (2.5, [0.3, 0.0], [0.5, -1.0])):
        got = follower.at(at)
        np.testing.assert_allclose(got[0], positions, atol=1e-12)
        np.testing.assert_allclose(got[1], velocities, atol=1e-12)
    np.testing.assert_allclose(follower.at(3.0 - 1e-9)[1], [0.2, 0.0], atol=1e-6)


def test_the_velocity_is_the_derivative_of_the_position(follower):
    follower.command(make([0.5, 1.0], [[0.3, 0.0], [0.6, -0.5]], [[0.5, -1.0], [0.2, 0.0]]), 0.0, 0.0)
    for t in np.linspace(0.01, 0.99, 37):
        numeric = (follower.at(t + 1e-6)[0] - follower.at(t - 1e-6)[0]) / 2e-6
        np.testing.assert_allclose(follower.at(t)[1], numeric, atol=1e-5)


def test_the_last_point_is_held_for_ever(follower):
    follower.command(make([0.5], [[0.5, 0.5]], [[1.0, 1.0]]), 0.0, 0.0)
    for now in (0.5, 0.6, 1e6):
        positions, velocities = follower.at(now)
        np.testing.assert_array_equal(positions, 0.5)
        np.testing.assert_array_equal(velocities, 0.0)


def test_a_new_command_starts_where_the_reference_is_without_a_jump(follower):
    follower.command(make([1.0], [[1.0, 1.0]]), 0.0, 0.0)
    before = follower.at(0.4)
    follower.command(make([1.0], [[-1.0, 0.0]]), 0.4, 0.4)
    for old, new in zip(before, follower.at(0.4), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-12)


def test_a_joint_that_is_not_named_stays(follower):
    follower.command(make([1.0], [[2.0]], names=("b",)), 0.0, 0.0)
    np.testing.assert_allclose(follower.at(1.0)[0], [0.1, 2.0])


def test_names_may_come_in_any_order(follower):
    follower.command(make([1.0], [[2.0, -1.0]], names=("b", "a")), 0.0, 0.0)
    np.testing.assert_allclose(follower.at(1.0)[0], [-1.0, 2.0])


def test_the_reference_never_leaves_the_limits(follower):
    follower.command(make([0.1, 1.0], [[0.9, 9.0], [0.9, -9.0]], [[20.0, 0.0], [0.0, 0.0]]), 0.0, 0.0)
    positions = np.array([follower.at(t)[0] for t in np.linspace(0.0, 2.0, 500)])
    assert (positions >= [-1.0, -2.0]).all()
    assert (positions <= [1.0, 2.0]).all()


def test_points_of_a_late_command_that_are_past_are_left_out(follower):
    follower.command(make([0.1, 0.5], [[0.5, 0.5], [0.9, 0.9]]), 0.0, 0.2)
    np.testing.assert_allclose(follower.at(0.2)[0], [0.1, 0.2])
    np.testing.assert_allclose(follower.at(0.5)[0], [0.9, 0.9])


@pytest.mark.parametrize(
    "refused",
    [
        make([1.0], [[0.0]], names=("c",)),
        make([1.0], [[0.0, 0.0]], names=("a", "a")),
        make([1.0], [[0.0, np.nan]]),
        make([1.0], [[0.0, 0.0]], [[np.inf, 0.0]]),
        make([np.nan], [[0.0, 0.0]]),
        make([1.0], [[0.0, 0.0, 0.0]]),
        make([1.0], [[0.0, 0.0]], [[0.0]]),
        make([1.0, 1.0], [[0.0, 0.0], [0.0, 0.0]]),
        make([1.0, 0.5], [[0.0, 0.0], [0.0, 0.0]]),
        make([0.0], [[0.0, 0.0]]),
        make([], np.zeros((0, 2))),
    ],
)
def test_a_command_that_is_no_trajectory_is_refused_and_changes_nothing(follower, refused):
    follower.command(make([1.0], [[1.0, 1.0]]), 0.0, 0.0)
    before = follower.at(0.5)
    with pytest.raises(DeviceError, match="command"):
        follower.command(refused, 0.5, 0.5)
    np.testing.assert_array_equal(follower.at(0.5), before)
