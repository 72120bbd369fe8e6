from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import ConfigError, DeviceError
from policy_bringup.core.rotations import to_quaternion
from policy_bringup.sim.world import World, assemble_qpos, object_at


def test_with_no_command_ever_it_holds_its_start_pose(world, robot):
    world.step(2500)
    sample = world.joint_sample()
    np.testing.assert_allclose(sample.positions[:7], robot.home, atol=1e-4)
    np.testing.assert_allclose(sample.positions[7:], robot.gripper.home / 2, atol=1e-5)
    np.testing.assert_allclose(sample.velocities, 0.0, atol=1e-5)


def test_the_last_point_is_held_and_the_arm_never_dropped(world, robot, command):
    target = robot.home + np.array([0.4, 0.2, -0.3, 0.2, 0.3, -0.2, 0.5])
    world.command(command(target, 0.01, 1.0), world.time_s)
    world.step(5000)
    sample = world.joint_sample()
    np.testing.assert_allclose(sample.positions[:7], target, atol=2e-4)
    np.testing.assert_allclose(sample.positions[7:], 0.01, atol=1e-4)


def test_a_moving_reference_is_tracked_closely(world, robot, command):
    target = robot.home + np.array([0.8, 0.0, 0.0, 0.3, 0.0, 0.0, -0.8])
    world.command(command(target, 0.04, 1.0), world.time_s)
    start, worst = world.time_s, 0.0
    for _ in range(100):
        world.step(5)
        s = min((world.time_s - start) / 1.0, 1.0)
        reference = robot.home + (target - robot.home) * (3 * s**2 - 2 * s**3)
        worst = max(worst, np.abs(world.joint_sample().positions[:7] - reference).max())
    assert worst < 0.01


def test_the_sample_names_every_joint_in_the_robots_order(world, robot):
    sample = world.joint_sample()
    assert sample.names == (*robot.joint_names, "panda_finger_joint1", "panda_finger_joint2")
    assert sample.positions.shape == sample.velocities.shape == sample.efforts.shape == (9,)


def test_a_sample_is_a_copy(world, robot, command):
    sample, qpos = world.joint_sample(), world.qpos
    kept = sample.positions.copy(), qpos.copy()
    world.command(command(robot.home + 0.2, 0.0, 0.1), world.time_s)
    world.step(100)
    np.testing.assert_array_equal(sample.positions, kept[0])
    np.testing.assert_array_equal(qpos, kept[1])


def test_efforts_carry_the_arm_against_gravity(world):
    world.step(500)
    efforts = world.joint_sample().efforts
    assert abs(efforts[0]) < 0.1  # its axis is vertical
    assert -40.0 < efforts[1] < -5.0
    assert 5.0 < efforts[3] < 40.0


def test_the_tool_is_where_the_urdf_says(world, robot, root):
    chain = Chain.from_urdf(root / "models" / "robot" / "panda.urdf", robot.base_frame, robot.tool_frame)
    pose, expected = world.tool_pose(), chain.forward(robot.home)
    np.testing.assert_allclose(pose.position, expected.position, atol=1e-9)
    np.testing.assert_allclose(pose.rotation, expected.rotation, atol=1e-9)


def test_both_fingers_move_alike(world, robot, command):
    world.command(command(robot.home, 0.0, 0.8), world.time_s)
    for _ in range(100):
        world.step(5)
        left, right = world.joint_sample().positions[7:]
        assert abs(left - right) < 5e-4


@pytest.fixture
def grasping(world, robot, command):
    """Closes the hand with a force around the object, which is kept between the fingers until then."""

    def grasp(effort):
        between = world.tool_pose()
        world.command(command(robot.home, 0.0, 0.5, effort), world.time_s)
        for _ in range(60):
            world.reset(between, at_home=False)
            world.step(5)

    return grasp


@pytest.mark.parametrize("effort", [5.0, 20.0])
def test_the_fingers_press_with_the_commanded_effort_and_no_more(world, config, grasping, effort):
    grasping(effort)
    assert world.finger_contacts() == 2
    np.testing.assert_allclose(np.abs(world.joint_sample().efforts[7:]), effort, rtol=1e-6)
    assert world.joint_sample().positions[7:].sum() == pytest.approx(config.cube.size, abs=2e-3)


def test_the_effort_is_limited_to_the_robots_own(world, robot, grasping):
    grasping(1e6)
    efforts = np.abs(world.joint_sample().efforts[7:])
    assert (efforts <= robot.gripper.force + 1e-9).all()
    assert (efforts > 0.8 * robot.gripper.force).all()


def test_a_grasped_object_is_carried_and_an_open_hand_lets_it_fall(world, config, robot, command, grasping):
    grasping(30.0)
    lifted = robot.home + np.array([0.3, -0.2, 0.0, 0.2, 0.0, 0.0, 0.0])
    world.command(command(lifted, 0.0, 1.0, 30.0), world.time_s)
    world.step(1500)
    assert world.finger_contacts() == 2
    assert np.linalg.norm(world.object_pose().position - world.tool_pose().position) < 0.01
    world.command(command(lifted, 0.04, 0.5), world.time_s)
    world.step(1000)
    assert world.finger_contacts() == 0
    assert world.object_pose().position[2] == pytest.approx(config.cube.size / 2, abs=2e-3)


def test_without_grip_force_the_object_is_not_held(world, config, grasping):
    grasping(0.0)
    world.step(500)
    assert world.object_pose().position[2] == pytest.approx(config.cube.size / 2, abs=2e-3)


def test_reset_puts_the_object_there_and_the_robot_home(world, config, robot, command):
    world.command(command(robot.home + 0.3, 0.0, 0.2), world.time_s)
    world.step(200)
    elapsed = world.time_s
    world.reset(object_at(config, (0.55, -0.1), 0.7))
    pose = world.object_pose()
    np.testing.assert_allclose(pose.position, [0.55, -0.1, config.cube.size / 2])
    np.testing.assert_allclose(pose.rotation[:2, 0], [np.cos(0.7), np.sin(0.7)])
    np.testing.assert_array_equal(world.joint_sample().positions[:7], robot.home)
    assert world.time_s == elapsed
    world.step(500)
    np.testing.assert_allclose(world.joint_sample().positions[:7], robot.home, atol=1e-4)
    np.testing.assert_allclose(world.object_pose().position, pose.position, atol=1e-3)


def test_reset_can_leave_the_robot_alone(world, config, robot, command):
    world.command(command(robot.home + 0.1, 0.03, 0.2), world.time_s)
    world.step(200)
    before = world.joint_sample().positions
    world.reset(object_at(config, (0.55, -0.1), 0.0), at_home=False)
    np.testing.assert_array_equal(world.joint_sample().positions, before)
    world.step(200)
    np.testing.assert_allclose(world.joint_sample().positions, before, atol=2e-4)


def test_the_same_calls_give_the_same_motion(config, robot, command):
    ends = []
    for _ in range(2):
        world = World(config, robot)
        world.command(command(robot.home + 0.2, 0.0, 0.3), 0.0)
        world.step(300)
        ends.append(world.qpos)
    np.testing.assert_array_equal(*ends)


def test_time_counts_the_steps_exactly(world, config):
    world.step(12345 % 1000)
    assert world.time_s == (12345 % 1000) / config.physics_hz


def test_a_refused_command_changes_nothing(world, robot, command):
    world.step(10)
    with pytest.raises(DeviceError):
        world.command(command(robot.home * np.nan, 0.0, 0.2, 3.0), world.time_s)
    world.step(500)
    np.testing.assert_allclose(world.joint_sample().positions[:7], robot.home, atol=1e-4)


def test_another_robot_is_refused(config, robot):
    for other in (replace(robot, tool_frame="flange"), replace(robot, joints=robot.joints[::-1])):
        with pytest.raises(ConfigError, match="simulated robot"):
            World(config, other)


def test_soft_servos_lag_more(config, robot, command):
    lags = []
    for factor in (1.0, 0.1):
        soft = replace(config, servo=replace(config.servo, stiffness=factor, damping=factor))
        world = World(soft, robot)
        world.command(command(robot.home + 0.5, 0.04, 0.5), 0.0)
        world.step(125)
        lags.append(np.abs(world.joint_sample().positions[:7] - robot.home - 0.25).max())
    assert lags[1] > 3 * lags[0]


def test_what_the_messages_say_gives_a_view_the_same_world(world, robot, command):
    """Joint positions by name and the object's pose are all that the camera process hears."""
    world.reset(object_at(world.config, (0.45, -0.1), 0.7))
    world.command(command(robot.home + 0.1, 0.02, 0.5), world.time_s)
    world.step(200)
    sample, pose = world.joint_sample(), world.object_pose()
    columns = np.array([*pose.position, *to_quaternion(pose.rotation)])
    positions = {**dict(zip(sample.names, sample.positions, strict=True)), "joint_of_another_device": 1.0}
    qpos = assemble_qpos(world.model, positions, columns)
    same_turn = np.sign(qpos[-4:] @ world.qpos[-4:])
    qpos[-4:] *= same_turn
    np.testing.assert_allclose(qpos, world.qpos, atol=1e-9)


def test_a_compliant_arm_floats_where_it_is_and_ignores_commands(world, robot, command):
    world.comply(True)
    world.command(command(robot.home + 0.3, 0.04, 0.2), world.time_s)
    world.step(500)
    np.testing.assert_allclose(world.joint_sample().positions[:7], robot.home, atol=1e-3)


def test_a_compliant_arm_follows_a_push_and_a_stiff_one_resists(world):
    travels = []
    for compliant in (True, False):
        world.reset(object_at(world.config, (0.5, 0.0), 0.0))
        world.comply(compliant)
        world.push(np.array([0.0, 10.0, 0.0]), np.zeros(3))
        start = world.tool_pose().position
        world.step(250)
        travels.append(world.tool_pose().position - start)
        world.push(np.zeros(3), np.zeros(3))
    assert travels[0][1] > 0.05
    assert np.linalg.norm(travels[1]) < 0.005


def test_a_torque_turns_the_tool_about_its_own_origin(world):
    world.comply(True)
    world.push(np.zeros(3), np.array([0.0, 0.0, 0.3]))
    world.step(50)
    twist = world.tool_twist()
    assert twist[5] > 0.1
    assert np.linalg.norm(twist[:3]) < 0.05


def test_the_twist_is_the_motion_of_the_tool(world, robot, command):
    world.command(command(robot.home + 0.3, 0.04, 0.5), world.time_s)
    world.step(100)
    before = world.tool_pose()
    world.step(1)
    twist, after = world.tool_twist(), world.tool_pose()
    dt = 1.0 / world.config.physics_hz
    np.testing.assert_allclose(twist[:3], (after.position - before.position) / dt, atol=0.01)
    turn = (after.rotation @ before.rotation.T - np.eye(3)) / dt
    np.testing.assert_allclose(twist[3:], [turn[2, 1], turn[0, 2], turn[1, 0]], atol=0.02)


def test_the_gripper_of_a_compliant_arm_still_obeys(world, robot, command):
    world.comply(True)
    world.command(command(robot.home, 0.01, 0.5), world.time_s)
    world.step(500)
    np.testing.assert_allclose(world.joint_sample().positions[7:], 0.01, atol=1e-4)


def test_an_arm_that_stiffens_again_holds_where_it_was_left(world, robot, command):
    world.command(command(robot.home, 0.02, 0.2), world.time_s)
    world.step(200)
    world.comply(True)
    world.push(np.array([0.0, 15.0, 0.0]), np.zeros(3))
    world.step(250)
    world.push(np.zeros(3), np.zeros(3))
    left = world.joint_sample().positions[:7]
    assert np.abs(left - robot.home).max() > 0.1
    world.comply(False)
    world.step(500)
    sample = world.joint_sample()
    np.testing.assert_allclose(sample.positions[:7], left, atol=0.05)
    np.testing.assert_allclose(sample.velocities[:7], 0.0, atol=1e-3)
    np.testing.assert_allclose(sample.positions[7:], 0.02, atol=1e-3)
