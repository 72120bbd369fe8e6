from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control import second_line
from policy_bringup.control.second_line import CommandLimits, refuse
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import JointCommand

DT = 0.01
MARGIN = 1.05


@pytest.fixture
def limits(robot: Robot) -> CommandLimits:
    return CommandLimits.of(robot, MARGIN)


@pytest.fixture
def previous(robot: Robot) -> np.ndarray:
    return np.append(robot.home, 0.02)


def command(limits: CommandLimits, positions: np.ndarray, velocities: np.ndarray | None = None) -> JointCommand:
    rows = np.tile(positions, (2, 1)) if positions.ndim == 1 else positions
    still = np.zeros_like(rows) if velocities is None else velocities
    return JointCommand(limits.names, 0.015 * np.arange(1.0, len(rows) + 1.0), rows, still)


def judged(limits: CommandLimits, previous: np.ndarray, each: JointCommand, dt: float = DT) -> str | None:
    return refuse(limits, previous, np.zeros(len(previous)), each, dt)


def test_standing_still_passes(limits: CommandLimits, previous: np.ndarray) -> None:
    assert judged(limits, previous, command(limits, previous)) is None


def test_the_finger_has_half_of_what_the_width_has(limits: CommandLimits, robot: Robot) -> None:
    assert limits.names[-1] == robot.gripper.joint
    got = limits.lower[-1], limits.upper[-1], limits.velocity[-1], limits.acceleration[-1]
    gripper = robot.gripper
    width = gripper.lower, gripper.upper, gripper.velocity, gripper.acceleration
    np.testing.assert_allclose(got, np.array(width) / 2)
    np.testing.assert_array_equal(limits.upper[:-1], robot.upper)


@pytest.mark.parametrize("joint", range(8))
@pytest.mark.parametrize("row", [0, 1])
def test_each_side_of_each_position_limit(limits: CommandLimits, joint: int, row: int) -> None:
    for edge, out in ((limits.lower, -1.0), (limits.upper, 1.0)):
        place = 0.5 * (limits.lower + limits.upper)
        place[joint] = edge[joint]
        inside = command(limits, place)
        assert judged(limits, place, inside) is None
        positions = inside.positions.copy()
        positions[row, joint] += out * 1e-6
        reason = judged(limits, place, replace(inside, positions=positions), dt=0.05)
        assert reason is not None
        assert reason.startswith(f"{limits.names[joint]}: position ")


@pytest.mark.parametrize("joint", range(8))
def test_each_side_of_each_velocity_limit(limits: CommandLimits, previous: np.ndarray, joint: int) -> None:
    for sign in (-1.0, 1.0):
        v = np.zeros(8)
        for factor, passes in ((0.9999, True), (1.0001, False)):
            v[joint] = sign * factor * limits.velocity[joint]
            reason = refuse(limits, previous, v, coming_to_rest(limits, previous + DT * v, v), DT)
            assert (reason is None) is passes
            assert passes or f"{limits.names[joint]}: velocity" in str(reason)
            jump = command(limits, previous + DT * v)
            reason = refuse(limits, previous, v, jump, DT)
            assert (reason is None) is passes
            assert passes or f"{limits.names[joint]}: mean velocity" in str(reason)


def coming_to_rest(limits: CommandLimits, position: np.ndarray, v: np.ndarray, harder: float = 1.0) -> JointCommand:
    """From a point at velocity `v` on, braking at the acceleration limit times `harder`."""
    whole = max(float((np.abs(v) / limits.acceleration).max()) / harder, 0.001)
    there = np.array([position, position + 0.5 * whole * v])
    return JointCommand(limits.names, np.array([0.015, 0.015 + whole]), there, np.array([v, np.zeros(8)]))


@pytest.mark.parametrize("joint", range(8))
def test_each_side_of_the_acceleration_limit_on_the_way_to_rest(
    limits: CommandLimits, previous: np.ndarray, joint: int
) -> None:
    v = np.zeros(8)
    v[joint] = 0.5 * limits.velocity[joint]
    for factor, passes in ((0.9999, True), (1.0001, False)):
        reason = refuse(limits, previous - DT * v, v, coming_to_rest(limits, previous, v, MARGIN * factor), DT)
        assert (reason is None) is passes
        assert passes or str(reason).startswith(f"{limits.names[joint]}: acceleration")


@pytest.mark.parametrize("gap_s", [0.0001, 0.1])
def test_a_jump_between_two_later_points_is_refused(limits: CommandLimits, previous: np.ndarray, gap_s: float) -> None:
    """Each point alone is allowed, and so is the way to the first one."""
    good = command(limits, np.tile(previous, (3, 1)))
    good = replace(good, times_s=0.015 + gap_s * np.arange(3.0))
    assert judged(limits, previous, good) is None
    positions = good.positions.copy()
    positions[1:, 2] += 1.0
    assert str(judged(limits, previous, replace(good, positions=positions))).startswith("panda_joint3: mean velocity")


def test_points_whose_velocities_belie_their_positions_are_refused(limits: CommandLimits, previous: np.ndarray) -> None:
    """The joint is to go back while it moves on: a spline through both would need more than the joint can."""
    velocities = np.zeros((3, 8))
    velocities[1, 2] = 0.5 * limits.velocity[2]
    good = replace(command(limits, np.tile(previous, (3, 1)), velocities), times_s=np.array([0.015, 0.085, 0.155]))
    assert str(judged(limits, previous, good)).startswith("panda_joint3: acceleration")


def test_each_side_of_the_grippers_force(limits: CommandLimits, previous: np.ndarray, robot: Robot) -> None:
    good = command(limits, previous)
    for effort in (0.0, robot.gripper.force):
        assert judged(limits, previous, replace(good, gripper_effort=effort)) is None
    for effort in (-1e-9, robot.gripper.force + 1e-6, math.nan, math.inf):
        assert "the gripper's force" in str(judged(limits, previous, replace(good, gripper_effort=effort)))


@pytest.mark.parametrize("joint", range(8))
def test_each_side_of_each_acceleration_limit(limits: CommandLimits, previous: np.ndarray, joint: int) -> None:
    for sign in (-1.0, 1.0):
        for factor, passes in ((0.9999, True), (1.0001, False)):
            a = np.zeros(8)
            a[joint] = sign * factor * MARGIN * limits.acceleration[joint]
            reason = judged(limits, previous, command(limits, previous + 0.5 * a * DT**2))
            assert (reason is None) is passes
            assert passes or str(reason).startswith(f"{limits.names[joint]}: acceleration")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 1])
def test_a_number_that_is_not_finite_is_refused_wherever_it_is(
    limits: CommandLimits, previous: np.ndarray, bad: float, row: int
) -> None:
    good = command(limits, previous)
    for field in ("positions", "velocities"):
        values = getattr(good, field).copy()
        values[row, 5] = bad
        assert "panda_joint6" in str(judged(limits, previous, replace(good, **{field: values})))
    broken = np.zeros(8)
    broken[2] = bad
    assert "panda_joint3" in str(refuse(limits, previous + broken, np.zeros(8), good, DT))
    assert "panda_joint3: acceleration" in str(refuse(limits, previous, broken, good, DT))
    times = good.times_s.copy()
    times[row] = bad
    assert "increasing times" in str(judged(limits, previous, replace(good, times_s=times)))


@pytest.mark.parametrize("dt", [0.0, -0.01, math.nan, math.inf])
def test_a_step_without_a_duration_is_refused(limits: CommandLimits, previous: np.ndarray, dt: float) -> None:
    assert "time since the command before" in str(judged(limits, previous, command(limits, previous), dt))


def test_a_command_that_does_not_end_at_rest_is_refused(limits: CommandLimits, previous: np.ndarray) -> None:
    velocities = np.zeros((2, 8))
    velocities[1, 3] = 1e-6
    reason = judged(limits, previous, command(limits, previous, velocities))
    assert str(reason).startswith("panda_joint4: final velocity")


def test_times_must_rise_from_now_and_make_two_points(limits: CommandLimits, previous: np.ndarray) -> None:
    good = command(limits, previous)
    for times in ([0.0, 0.1], [0.1, 0.1], [0.2, 0.1], [-0.1, 0.1]):
        assert "increasing times" in str(judged(limits, previous, replace(good, times_s=np.array(times))))
    single = JointCommand(good.names, good.times_s[:1], good.positions[:1], good.velocities[:1])
    assert "two or more points" in str(judged(limits, previous, single))


def test_other_joints_or_shapes_are_refused(limits: CommandLimits, previous: np.ndarray) -> None:
    good = command(limits, previous)
    for other in (
        replace(good, names=good.names[::-1]),
        replace(good, positions=good.positions[:, :7]),
        replace(good, velocities=good.velocities[:1]),
        replace(good, times_s=np.array([0.1, 0.2, 0.3])),
    ):
        assert judged(limits, previous, other) == "the command's joints are not the robot's"


def test_it_shares_no_code_with_what_it_judges() -> None:
    tree = ast.parse(Path(second_line.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(str(module).startswith("policy_bringup.control") for module in modules)
