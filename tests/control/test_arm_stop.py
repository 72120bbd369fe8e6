"""An arm whose monitor has an emergency stop: it brakes straight to rest, and stays."""

from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.control.arm import Arm
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.robot import Robot, pose_to_columns
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, Array, JointCommand

TICK = 10_000_000
NAMES = (*TOOL_COLUMNS, *GRIPPER_COLUMNS)
SPEED = np.array([0.25, -0.1, 0.05, 0.3, 0.0, -0.2, 0.0, 0.0])
"""Of the action's columns, per s."""


@pytest.fixture
def moving(arm: Arm, chain: Chain, robot: Robot) -> tuple[Arm, Array, JointCommand, int]:
    """An arm in motion, the action it has come to, its last command and the time of that."""
    arm.begin(robot.home, robot.gripper.home, 0)
    row = np.array([*pose_to_columns(chain.forward(robot.home), robot.tool_reference), robot.gripper.home, 20.0])
    for tick in range(1, 51):
        row = row + 0.01 * SPEED
        command = arm.follow(NAMES, row, tick * TICK)
    assert np.abs(command.velocities[0, :-1]).max() > 0.2
    return arm, row, command, 50 * TICK


def stopped(arm: Arm, row: Array, now_ns: int, ticks: int = 60) -> list[JointCommand]:
    return [arm.stop(NAMES, row, now_ns + tick * TICK) for tick in range(1, ticks + 1)]


def test_after_an_emergency_stop_no_joint_passes_its_place_of_rest_or_gets_faster(moving) -> None:
    arm, row, last, now = moving
    commands = stopped(arm, row, now)
    points = np.array([command.positions[0, :-1] for command in (last, *commands)])
    speeds = np.array([command.velocities[0, :-1] for command in (last, *commands)])
    assert not speeds[-1].any()
    assert (np.diff(np.abs(speeds), axis=0) <= 1e-12).all()
    assert (speeds * speeds[0] >= 0.0).all(), "none turns round"
    np.testing.assert_allclose(points[-1], last.positions[-1, :-1], atol=1e-9)
    assert arm.last_refusal is None


def test_joints_brake_together_so_that_the_tool_keeps_its_direction(moving, chain: Chain) -> None:
    arm, row, last, now = moving
    commands = stopped(arm, row, now)
    way = np.array([chain.forward(command.positions[0, :-1]).position for command in (last, *commands)])
    steps = np.diff(way, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    going = lengths > 1e-5
    assert going.sum() > 4
    assert (np.diff(lengths) <= 1e-9).all(), "the tool only gets slower"
    directions = steps[going] / lengths[going, None]
    assert (directions @ directions[0] > 0.99).all()


def test_a_stopped_arm_stays_whatever_place_the_action_has(moving) -> None:
    arm, row, _, now = moving
    rest = stopped(arm, row, now)[-1].positions[-1, :-1]
    elsewhere = row + np.array([0.05, 0.0, -0.05, 0.0, 0.0, 0.0, 0.0, 0.0])
    after = stopped(arm, elsewhere, now + 60 * TICK)
    for command in after:
        np.testing.assert_array_equal(command.positions[:, :-1], np.tile(rest, (len(command.positions), 1)))


def test_the_gripper_goes_where_the_action_has_it_once_the_arm_rests(moving) -> None:
    arm, row, _, now = moving
    closing = row.copy()
    closing[-2:] = 0.05, 7.0
    for command in stopped(arm, closing, now, ticks=100):
        moves = (np.abs(command.velocities[:, -1]) > 1e-9).any()
        assert not (moves and command.velocities[0, :-1].any())
        assert command.gripper_effort == 7.0
    assert arm.width == pytest.approx(0.05, abs=1e-3)


def test_a_broken_action_after_an_emergency_stop_brakes_as_well(moving) -> None:
    arm, row, last, now = moving
    commands = stopped(arm, np.full_like(row, np.nan), now)
    np.testing.assert_allclose(commands[-1].positions[-1, :-1], last.positions[-1, :-1], atol=1e-9)
    assert "finite" in (arm.last_refusal or "")
    assert arm.holding


def test_after_the_reset_it_follows_on_from_where_it_rests(moving, chain: Chain, robot: Robot) -> None:
    arm, row, _, now = moving
    rest = stopped(arm, row, now)[-1].positions[-1, :-1]
    here = np.array([*pose_to_columns(chain.forward(rest), robot.tool_reference), *row[-2:]])
    for tick in range(61, 161):
        command = arm.follow(NAMES, here, now + tick * TICK)
    np.testing.assert_allclose(chain.forward(command.positions[-1, :-1]).position, here[:3], atol=1e-5)
    np.testing.assert_allclose(command.positions[-1, :-1], rest, atol=5e-3)


def test_a_command_that_has_not_left_in_time_is_replaced_by_a_hold_where_the_robot_is(moving, config) -> None:
    """As where the process stood still for a second: the robot has run to the end of the last command that left."""
    arm, row, last, now = moving
    late = arm.follow(NAMES, row + 0.01 * SPEED, now + TICK)
    assert not np.allclose(late.positions[-1], last.positions[-1], atol=1e-3)
    sent = arm.in_time(late, now + TICK, now + TICK + 1_000_000_000)
    np.testing.assert_allclose(sent.positions, np.tile(last.positions[-1], (len(sent.positions), 1)), atol=1e-9)
    assert not sent.velocities.any()
    assert arm.holding


@pytest.mark.parametrize(("beyond_ns", "leaves"), [(0, True), (1, False)])
def test_each_side_of_the_time_in_which_a_command_has_to_leave(moving, config, beyond_ns, leaves) -> None:
    arm, row, _, now = moving
    command = arm.follow(NAMES, row, now + TICK)
    limit_ns = round(config.watchdog_s * 1e9)
    assert (arm.in_time(command, now + TICK, now + TICK + limit_ns + beyond_ns) is command) is leaves


def test_of_a_command_that_was_sent_again_nothing_is_taken_back(moving) -> None:
    """A second action within the shortest step gets the last command once more, which the robot has."""
    arm, row, _, now = moving
    first = arm.follow(NAMES, row, now + TICK)
    again = arm.follow(NAMES, row, now + TICK + 1)
    assert again is first
    sent = arm.in_time(again, now + TICK + 1, now + TICK + 1_000_000_000)
    np.testing.assert_allclose(sent.positions[-1], first.positions[-1], atol=1e-9)


def test_what_rounding_leaves_of_a_speed_keeps_no_gripper_from_moving(moving) -> None:
    arm, row, _, now = moving
    stopped(arm, row, now)
    closing = row.copy()
    closing[-2] = 0.05
    for tick in range(61, 161):
        limiter = arm._motion._limiter
        limiter._velocity = limiter._velocity + np.append(np.full(7, 1e-17), 0.0)
        arm.stop(NAMES, closing, now + tick * TICK)
    assert arm.width == pytest.approx(0.05, abs=1e-3)
