"""The tool stays in its box, whatever the joints must do for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.arm import Arm, load_arm
from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.ik import NumericIk
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.workspace import POSITION, Workspace
from policy_bringup.core.robot import ColumnLimits, Robot, columns_to_pose, pose_to_columns
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, ActionSpec, Array

NAMES = (*TOOL_COLUMNS, *GRIPPER_COLUMNS)
TICK = 10_000_000
TICK_S = 0.01
ROUNDING = 1e-9


@pytest.fixture
def upper_z(limits: tuple[ColumnLimits, ...]) -> float:
    return next(limit.upper for limit in limits if limit.name == "tool.z")


@pytest.fixture
def high(arm: Arm, robot: Robot, chain: Chain, solver: NumericIk, upper_z: float) -> Array:
    """Begun 7 cm below the upper side of the box, the elbow nearly straight: the action that stays there."""
    values = pose_to_columns(chain.forward(robot.home), robot.tool_reference)
    values[:3] = 0.433, 0.004, upper_z - 0.07
    arm.begin(solver.solve(columns_to_pose(values, robot.tool_reference), robot.home), 0.08, 0)
    return np.array([*values, 0.08, 20.0])


def raised(action: Array, z: float) -> Array:
    result = action.copy()
    result[2] = z
    return result


def excesses(arm: Arm, chain: Chain, heights: Array, action: Array, upper_z: float) -> list[float]:
    """How far above the box the ways of the commands for one height after the other lead, m."""
    seen = []
    for tick, height in enumerate(heights, start=1):
        command = arm.follow(NAMES, raised(action, height), tick * TICK)
        seen.append(float(chain.forward_batch(command.positions[:, :7])[:, 2, 3].max()) - upper_z)
    assert arm.last_refusal is None
    return seen


def test_a_tool_that_is_stopped_dead_before_the_side_of_its_box_does_not_run_through_it(
    arm: Arm, chain: Chain, config: ArmConfig, high: Array, upper_z: float
) -> None:
    """Safety refuses what comes next and repeats the last action, while the joints still go at 1 rad/s."""
    rising = np.arange(high[2], upper_z - 0.003, 0.16 * TICK_S)
    heights = np.append(rising, np.full(60, rising[-1]))
    assert max(excesses(arm, chain, heights, high, upper_z)) <= config.workspace_tolerance + ROUNDING
    assert arm.counts.braked > 0
    np.testing.assert_allclose(chain.forward(arm.joints).position[2], rising[-1], atol=1e-6)


def test_without_a_box_it_would(
    arm: Arm, chain: Chain, robot: Robot, urdf: Path, task_space: ActionSpec, config: ArmConfig, high: Array, upper_z
) -> None:
    unbounded = load_arm(robot, urdf, task_space, config, ())
    unbounded.begin(arm.joints, 0.08, 0)
    rising = np.arange(high[2], upper_z - 0.003, 0.16 * TICK_S)
    heights = np.append(rising, np.full(60, rising[-1]))
    assert max(excesses(unbounded, chain, heights, high, upper_z)) > 2 * config.workspace_tolerance
    assert unbounded.counts.braked == 0


def test_slow_motion_reaches_the_side_of_the_box_and_is_not_braked(
    arm: Arm, chain: Chain, high: Array, upper_z: float
) -> None:
    heights = np.append(np.arange(high[2], upper_z, 0.05 * TICK_S), np.full(60, upper_z))
    excesses(arm, chain, heights, high, upper_z)
    assert arm.counts.braked == 0
    np.testing.assert_allclose(chain.forward(arm.joints).position[2], upper_z, atol=1e-6)


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_each_side_of_each_side_of_the_box(chain: Chain, robot: Robot, limits, column: int, side: float) -> None:
    tool = chain.forward(robot.home).position
    names = POSITION[column]
    edge = tool[column] - side * 0.01
    bounds = {"upper": edge} if side > 0.0 else {"lower": edge}
    box = [replace(limit, **bounds) if limit.name == names else limit for limit in limits]
    assert Workspace(chain, box, 0.004).excess(robot.home[None]) == pytest.approx(0.006, abs=1e-12)
    assert Workspace(chain, box, 0.0101).excess(robot.home[None]) == 0.0


def test_the_worst_point_of_a_way_counts(chain: Chain, robot: Robot, limits) -> None:
    lifted = robot.home + np.array([0.0, -0.6, 0.0, 0.6, 0.0, 0.0, 0.0])
    way = np.array([robot.home, lifted, robot.home])
    workspace = Workspace(chain, limits, 0.0)
    assert workspace.excess(way) == workspace.excess(lifted[None]) > 0.0 == workspace.excess(robot.home[None])


def test_where_no_column_is_a_position_of_the_tool_everywhere_is_inside(chain: Chain, robot: Robot, limits) -> None:
    joints = [limit for limit in limits if limit.name not in POSITION]
    assert Workspace(chain, joints, 0.0).excess(np.zeros((2, 7))) == 0.0


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("side", [-1, 1])
def test_from_outside_of_any_side_it_comes_in(
    arm: Arm, chain: Chain, robot: Robot, solver: NumericIk, limits, column: int, side: int
) -> None:
    """As after hand guiding: 3 cm outside, and asked for 2 cm inside, 3 mm a tick."""
    edge = limits[column].upper if side > 0 else limits[column].lower
    action = np.array([*pose_to_columns(chain.forward(robot.home), robot.tool_reference), 0.08, 20.0])
    action[2] = {(0, 1): 0.15, (0, -1): 0.5}.get((column, side), action[2])  # within reach
    action[0] = 0.35 if (column, side) == (2, 1) else action[0]
    outside = action.copy()
    outside[column] = edge + side * 0.03
    arm.begin(solver.solve(columns_to_pose(outside[:6], robot.tool_reference), robot.home), 0.08, 0)
    for tick in range(1, 200):
        ways = outside[column] - side * min(0.003 * tick, 0.05)
        arm.follow(NAMES, np.array([*outside[:column], ways, *outside[column + 1 :]]), tick * TICK)
    assert arm.last_refusal is None
    np.testing.assert_allclose(chain.forward(arm.joints).position[column], edge - side * 0.02, atol=1e-6)


def test_an_arm_that_may_go_no_further_says_so_and_its_gripper_goes_on(
    arm: Arm, chain: Chain, robot: Robot, solver: NumericIk, config: ArmConfig, high: Array, upper_z: float
) -> None:
    below = raised(high, upper_z - 0.005)
    arm.begin(solver.solve(columns_to_pose(below[:6], robot.tool_reference), arm.joints), 0.08, 0)
    beyond = raised(high, upper_z + 0.01)
    beyond[6] = 0.03
    for tick in range(1, 150):
        arm.follow(NAMES, beyond, tick * TICK)
    assert 0.0 < chain.forward(arm.joints).position[2] - upper_z <= config.workspace_tolerance + ROUNDING
    assert arm.width == pytest.approx(0.03, abs=1e-6)
    assert arm.braking
    arm.hold(151 * TICK)
    assert not arm.braking, "it holds"
    for tick in range(152, 300):
        arm.follow(NAMES, below, tick * TICK)
    assert not arm.braking
    np.testing.assert_allclose(chain.forward(arm.joints).position[2], below[2], atol=1e-6)
