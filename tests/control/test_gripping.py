from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.control.gripping import GripMotion, grip_command
from policy_bringup.control.trajectory import scaling
from policy_bringup.core.robot import Robot


def test_the_arm_stays_out_of_it(robot: Robot):
    command = grip_command(robot.gripper, 0.08, 0.0, 20.0)
    assert command.names == (robot.gripper.joint,)
    assert (command.positions.tolist(), command.velocities.tolist()) == ([[0.0]], [[0.0]])
    assert command.gripper_effort == 20.0


@pytest.mark.parametrize(("width", "finger"), [(0.03, 0.015), (-1.0, 0.0), (1.0, 0.04)])
def test_fingers_go_half_as_far_as_the_width_and_stay_in_range(robot: Robot, width, finger):
    assert grip_command(robot.gripper, 0.05, width, 20.0).positions[0, 0] == pytest.approx(finger)


@pytest.mark.parametrize(("force", "effort"), [(-5.0, 0.0), (20.0, 20.0), (1e6, 60.0)])
def test_the_force_stays_within_the_grippers_own(robot: Robot, force, effort):
    assert grip_command(robot.gripper, 0.08, 0.0, force).gripper_effort == effort


def test_it_takes_as_long_as_the_gripper_needs_and_no_longer(robot: Robot):
    gripper = robot.gripper
    for before, after in ((0.08, 0.0), (0.08, 0.079), (0.0, 0.08)):
        seconds = float(grip_command(gripper, before, after, 20.0).times_s[0])
        u = np.linspace(0.0, 1.0, 1001)
        _, rate, change = np.array([scaling(v) for v in u]).T
        velocity = np.abs(rate).max() * abs(after - before) / seconds
        acceleration = np.abs(change).max() * abs(after - before) / seconds**2
        assert velocity <= gripper.velocity * (1 + 1e-6)
        assert acceleration <= gripper.acceleration * (1 + 1e-6)
        assert velocity > 0.99 * gripper.velocity or acceleration > 0.99 * gripper.acceleration


def test_a_grip_under_way_leaves_and_arrives_at_rest_and_stays(robot: Robot):
    motion = GripMotion(grip_command(robot.gripper, 0.08, 0.0, 20.0), 0.04, 1_000)
    whole_ns = round(1e9 * float(motion.command.times_s[-1]))
    fingers = np.array([motion.finger(1_000 + part * whole_ns // 100) for part in range(101)])
    assert (fingers[0], fingers[50], fingers[-1]) == pytest.approx((0.04, 0.02, 0.0))
    speeds = np.diff(fingers) / (1e-9 * whole_ns / 100)
    assert (speeds <= 0.0).all()
    assert abs(speeds[0]) < 0.1 * np.abs(speeds).max() > abs(speeds[-1])
    assert motion.finger(1_000 + 10 * whole_ns) == motion.end == 0.0


def test_a_grip_that_is_there_already_is_at_its_end(robot: Robot):
    assert GripMotion(grip_command(robot.gripper, 0.0, 0.0, 20.0), 0.0, 5).finger(5) == 0.0
