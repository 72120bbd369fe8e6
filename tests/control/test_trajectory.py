from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.trajectory import (
    PEAK_ACCELERATION,
    PEAK_VELOCITY,
    SHORTEST_S,
    JointLine,
    Line,
    LineLimits,
    scaling,
    shortest_duration,
)
from policy_bringup.core.robot import Robot, columns_to_pose, pose_to_columns
from policy_bringup.core.rotations import exp, log
from policy_bringup.core.types import Pose

LIMITS = LineLimits(0.2, 1.0, 1.0, 4.0, 0.1, 1.0)
OPEN, CLOSED = np.array([0.08, 10.0]), np.array([0.02, 40.0])


def line(chain: Chain, robot: Robot, shift: tuple[float, float, float], turn: tuple[float, float, float]) -> Line:
    start = chain.forward(robot.home)
    end = Pose(start.position + np.array(shift), exp(np.array(turn)) @ start.rotation)
    return Line.plan(start, end, OPEN, CLOSED, LIMITS)


def test_the_scaling_starts_and_ends_at_rest() -> None:
    assert scaling(0.0) == (0.0, 0.0, 0.0)
    assert scaling(1.0) == pytest.approx((1.0, 0.0, 0.0))
    assert scaling(-3.0) == scaling(0.0)
    assert scaling(7.0) == scaling(1.0)


def test_the_scalings_derivatives_are_its_derivatives_and_its_peaks_are_as_published() -> None:
    u = np.linspace(0.0, 1.0, 2001)
    s, ds, dds = np.array([scaling(float(each)) for each in u]).T
    np.testing.assert_allclose(np.gradient(s, u)[1:-1], ds[1:-1], atol=1e-5)
    np.testing.assert_allclose(np.gradient(ds, u)[1:-1], dds[1:-1], atol=2e-4)
    assert ds.max() == pytest.approx(PEAK_VELOCITY)
    assert np.abs(dds).max() == pytest.approx(PEAK_ACCELERATION, rel=1e-5)


def test_the_duration_obeys_whichever_limit_is_tighter() -> None:
    assert shortest_duration(1.0, 0.1, 100.0) == pytest.approx(18.75)
    assert shortest_duration(1.0, 100.0, 0.1) == pytest.approx(math.sqrt(57.735), rel=1e-4)
    assert shortest_duration(0.0, 1.0, 1.0) == SHORTEST_S


def test_a_line_is_straight_and_within_its_limits(chain: Chain, robot: Robot) -> None:
    each = line(chain, robot, (0.2, -0.1, 0.15), (0.1, 0.2, -0.9))
    t = np.linspace(0.0, each.duration_s, 1001)
    poses = [each.sample(float(moment)) for moment in t]
    position = np.array([pose.position for pose in poses])
    across = np.cross(position - each.T_from.position, each.translation)
    np.testing.assert_allclose(across, 0.0, atol=1e-12)
    velocity = np.gradient(position, t, axis=0)
    assert np.linalg.norm(velocity, axis=1).max() <= 0.2 * 1.001
    assert np.linalg.norm(np.gradient(velocity, t, axis=0), axis=1).max() <= 1.0 * 1.001
    turned = [float(np.linalg.norm(log(b.rotation @ a.rotation.T))) for a, b in pairwise(poses)]
    assert max(turned) / (t[1] - t[0]) <= 1.0 * 1.001
    assert sum(turned) == pytest.approx(float(np.linalg.norm(each.turn)))


@pytest.mark.parametrize(
    ("shift", "turn"),
    [((0.3, 0.0, 0.0), (0.0, 0.0, 0.0)), ((0.0, 0.0, 0.0), (0.0, 0.0, 1.2)), ((0.0,) * 3, (0.0,) * 3)],
)
def test_the_slowest_of_translation_turn_and_gripper_sets_the_duration(
    chain: Chain, robot: Robot, shift: tuple[float, float, float], turn: tuple[float, float, float]
) -> None:
    each = line(chain, robot, shift, turn)
    needed = (
        shortest_duration(math.hypot(*shift), 0.2, 1.0),
        shortest_duration(math.hypot(*turn), 1.0, 4.0),
        shortest_duration(0.06, 0.1, 1.0),
    )
    assert each.duration_s == pytest.approx(max(needed))


def test_a_line_begins_and_ends_where_it_was_told(chain: Chain, robot: Robot) -> None:
    each = line(chain, robot, (0.1, 0.1, -0.1), (0.3, 0.0, 0.4))
    end = Pose(each.T_from.position + np.array([0.1, 0.1, -0.1]), exp(np.array([0.3, 0.0, 0.4])) @ each.T_from.rotation)
    for t, pose, gripper in ((-1.0, each.T_from, OPEN), (0.0, each.T_from, OPEN), (99.0, end, CLOSED)):
        np.testing.assert_allclose(each.sample(t).position, pose.position, atol=1e-12)
        np.testing.assert_allclose(each.sample(t).rotation, pose.rotation, atol=1e-12)
        np.testing.assert_allclose(each.gripper(t), gripper, atol=1e-12)


def test_the_table_is_the_line_in_action_columns(chain: Chain, robot: Robot) -> None:
    each = line(chain, robot, (0.1, 0.1, -0.1), (0.3, 0.0, 0.4))
    times, values = each.table(0.05, robot.tool_reference)
    assert values.shape == (len(times), 8)
    np.testing.assert_allclose(np.diff(times, prepend=0.0), 0.05)
    assert each.duration_s <= times[-1] < each.duration_s + 0.05
    pose = columns_to_pose(values[3, :6], robot.tool_reference)
    np.testing.assert_allclose(pose.rotation, each.sample(0.2).rotation, atol=1e-12)
    np.testing.assert_allclose(values[-1, :6], pose_to_columns(each.sample(9e9), robot.tool_reference), atol=1e-12)
    np.testing.assert_allclose(values[-1, 6:], CLOSED, atol=1e-12)


def test_a_joint_line_keeps_every_joint_within_its_limits(robot: Robot) -> None:
    goal = robot.home + np.array([1.0, -0.2, 0.4, 0.3, -1.5, 0.2, 0.1])
    each = JointLine.plan(robot.home, goal, robot.velocity, robot.acceleration, OPEN, OPEN, LIMITS)
    t = np.linspace(0.0, each.duration_s, 1001)
    q = np.array([each.sample(float(moment)) for moment in t])
    velocity = np.gradient(q, t, axis=0)
    assert (np.abs(velocity).max(axis=0) <= 1.001 * robot.velocity).all()
    assert (np.abs(np.gradient(velocity, t, axis=0)).max(axis=0) <= 1.001 * robot.acceleration).all()
    tightest = np.max(np.abs(velocity).max(axis=0) / robot.velocity)
    assert tightest == pytest.approx(1.0, abs=0.01)
    times, values = each.table(0.01)
    assert values.shape == (len(times), 9)
    np.testing.assert_allclose(values[-1], [*goal, *OPEN], atol=1e-12)
