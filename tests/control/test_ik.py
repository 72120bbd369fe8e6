from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.ik import NumericIk, residual
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import NoSolution
from policy_bringup.core.robot import Robot, columns_to_pose, pose_to_columns
from policy_bringup.core.rotations import exp, log
from policy_bringup.core.types import Pose


def test_every_random_reachable_pose_is_solved_within_limits(
    chain: Chain, robot: Robot, solver: NumericIk, config: ArmConfig, random_joints: np.ndarray
) -> None:
    for q in random_joints:
        target = chain.forward(q)
        answer = solver.solve(target, robot.home)
        position, rotation = residual(chain, answer, target)
        assert position <= config.ik.position_tolerance
        assert rotation <= config.ik.rotation_tolerance
        assert ((robot.lower <= answer) & (answer <= robot.upper)).all()


def test_with_little_effort_it_answers_rightly_or_not_at_all(
    chain: Chain, robot: Robot, config: ArmConfig, random_joints: np.ndarray
) -> None:
    solved = 0
    for near in (0.0, config.ik.near_position):
        hasty = NumericIk(chain, robot, replace(config.ik, iterations=4, seeds=1, near_position=near))
        for q in random_joints:
            target = chain.forward(q)
            for start in (robot.home, np.clip(q + 0.06, robot.lower, robot.upper)):
                with contextlib.suppress(NoSolution):
                    answer = hasty.solve(target, start)
                    solved += 1
                    assert max(residual(chain, answer, target)) <= config.ik.position_tolerance
                    assert ((robot.lower <= answer) & (answer <= robot.upper)).all()
    assert 0 < solved < 4 * len(random_joints)


def test_a_path_that_leads_into_a_limit_goes_on_from_the_table(
    chain: Chain, robot: Robot, solver: NumericIk, random_joints: np.ndarray
) -> None:
    starts = np.where(np.arange(7) == 5, robot.lower, random_joints)
    jumps = []
    for q in starts:
        target = chain.forward(np.clip(q + 0.1 * np.sign(robot.home - q), robot.lower, robot.upper))
        answer = solver.solve(target, q)
        assert max(residual(chain, answer, target)) < 1e-5
        jumps.append(float(np.abs(answer - q).max()))
    assert np.median(jumps) < 0.3


def test_the_answer_is_the_same_every_time(chain: Chain, robot: Robot, config: ArmConfig) -> None:
    target = chain.forward(robot.home + 0.7)
    first, second = (NumericIk(chain, robot, config.ik).solve(target, robot.home) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_path_at_20_hz_is_followed_without_a_jump(chain: Chain, robot: Robot, solver: NumericIk) -> None:
    home = pose_to_columns(chain.forward(robot.home), robot.tool_reference)
    size = np.array([0.12, 0.25, 0.15, 0.2, 0.2, 0.8])
    q = robot.home
    for t in np.arange(0.0, 40.0, 0.05):
        swing = min(t / 4.0, 1.0) * np.sin(2.0 * math.pi * np.array([0.07, 0.09, 0.11, 0.13, 0.05, 0.08]) * t)
        answer = solver.solve(columns_to_pose(home + size * swing, robot.tool_reference), q)
        assert np.abs(answer - q).max() < 0.15
        q = answer


def test_the_elbow_returns_home_while_the_tool_stands(chain: Chain, robot: Robot, solver: NumericIk) -> None:
    target = chain.forward(robot.home)
    q = robot.home + np.array([0.4, 0.0, -0.4, 0.0, 0.3, 0.0, 0.0])
    for _ in range(30):
        q = solver.solve(target, q)
    before = np.abs(q - robot.home).max()
    for _ in range(300):
        after = solver.solve(target, q)
        assert np.abs(after - q).max() < 0.02
        q = after
    assert max(residual(chain, q, target)) < 1e-6
    assert np.abs(q - robot.home).max() < max(0.02, 0.1 * before)


def test_without_pull_a_reached_start_is_its_own_answer(chain: Chain, robot: Robot, config: ArmConfig) -> None:
    solver = NumericIk(chain, robot, replace(config.ik, pull=0.0))
    start = robot.home + 0.1
    np.testing.assert_allclose(solver.solve(chain.forward(start), start), start, atol=1e-9)


def test_a_target_on_the_limit_is_reached_from_inside(chain: Chain, robot: Robot, solver: NumericIk) -> None:
    for edge in (robot.lower, robot.upper):
        q = robot.home.copy()
        q[3] = edge[3]
        answer = solver.solve(chain.forward(q), q)
        assert max(residual(chain, answer, chain.forward(q))) < 1e-5


def test_out_of_reach_is_refused_with_the_residuals(chain: Chain, robot: Robot, solver: NumericIk) -> None:
    home = chain.forward(robot.home)
    with pytest.raises(NoSolution, match=r"\(2\.000, 0\.000, 0\.400\) m: [0-9.]+ mm and [0-9.]+ degrees remain after"):
        solver.solve(Pose(np.array([2.0, 0.0, 0.4]), home.rotation), robot.home)


def test_both_sides_of_the_arms_reach(chain: Chain, robot: Robot, solver: NumericIk) -> None:
    stretched = np.array([0.0, 1.2, 0.0, robot.upper[3], 0.0, 1.6, 0.785])
    edge = chain.forward(stretched)
    assert max(residual(chain, solver.solve(edge, robot.home), edge)) < 1e-5
    beyond = Pose(edge.position * np.array([1.15, 1.0, 1.0]), edge.rotation)
    with pytest.raises(NoSolution):
        solver.solve(beyond, robot.home)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(chain: Chain, robot: Robot, solver: NumericIk, bad: float) -> None:
    home = chain.forward(robot.home)
    position, rotation, start = home.position.copy(), home.rotation.copy(), robot.home.copy()
    position[1], rotation[2, 0], start[4] = bad, bad, bad
    with pytest.raises(NoSolution, match="target pose holds a number that is not finite"):
        solver.solve(Pose(position, home.rotation), robot.home)
    with pytest.raises(NoSolution, match="target pose holds a number that is not finite"):
        solver.solve(Pose(home.position, rotation), robot.home)
    with pytest.raises(NoSolution, match="to start from"):
        solver.solve(home, start)


def test_a_matrix_that_is_no_rotation_is_refused(chain: Chain, robot: Robot, solver: NumericIk) -> None:
    home = chain.forward(robot.home)
    with pytest.raises(NoSolution, match="not orthonormal"):
        solver.solve(Pose(home.position, 1.001 * home.rotation), robot.home)
    assert solver.solve(Pose(home.position, (1.0 + 1e-9) * home.rotation), robot.home).shape == (7,)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-7, 0.5, 3.0, math.pi - 1e-7, math.pi])
def test_the_residual_is_the_angle_between_the_rotations(chain: Chain, robot: Robot, angle: float) -> None:
    pose = chain.forward(robot.home)
    turned = Pose(pose.position + np.array([0.3, 0.0, 0.4]), exp(angle * np.array([0.6, 0.0, -0.8])) @ pose.rotation)
    position, rotation = residual(chain, robot.home, turned)
    assert position == pytest.approx(0.5)
    assert rotation == pytest.approx(angle, abs=1e-8)
    assert rotation == pytest.approx(float(np.linalg.norm(log(turned.rotation @ pose.rotation.T))), abs=1e-8)


def test_a_start_outside_the_limits_is_taken_from_the_limit(chain: Chain, robot: Robot, solver: NumericIk) -> None:
    answer = solver.solve(chain.forward(robot.home), robot.home + 10.0)
    assert ((robot.lower <= answer) & (answer <= robot.upper)).all()
