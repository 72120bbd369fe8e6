from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.config import load
from policy_bringup.core.rotations import log
from policy_bringup.core.types import Pose
from policy_bringup.sim.expert import plan_grasp
from policy_bringup.sim.hand import HandGuidingConfig, SimulatedHand, let_go
from policy_bringup.sim.world import World, object_at


@pytest.fixture(scope="session")
def hand_config(root) -> HandGuidingConfig:
    return load(root / "config" / "hand.yaml", HandGuidingConfig)


@pytest.fixture
def lines(world, robot, config, hand_config):
    return plan_grasp(robot, world.tool_pose(), 0.08, object_at(config, (0.5, 0.1), 0.4), hand_config.pace)


@pytest.fixture
def hand(lines, hand_config) -> SimulatedHand:
    return SimulatedHand(hand_config.hand, lines, np.random.default_rng(0))


def lead(world, hand, seconds: float) -> None:
    start = world.time_s
    while world.time_s < start + seconds:
        hand.tremble()
        for _ in range(5):
            hand.push(world, world.time_s)
            world.step()


def test_the_path_pauses_at_every_corner_and_ends_where_it_should(hand, lines, hand_config):
    pause = hand_config.hand.pause_s
    assert hand.duration_s == pytest.approx(sum(line.duration_s + pause for line in lines))
    first = lines[0]
    for t in (first.duration_s, first.duration_s + 0.99 * pause):
        np.testing.assert_allclose(hand.wanted(t)[0].position, first.sample(first.duration_s).position, atol=1e-12)
    for t in (hand.duration_s, hand.duration_s + 9.0):
        pose, opening = hand.wanted(t)
        np.testing.assert_allclose(pose.position, lines[-1].sample(99.0).position, atol=1e-12)
        assert opening == 0.0


def test_the_button_is_pressed_when_the_path_closes_the_gripper(hand, lines, hand_config):
    pause = hand_config.hand.pause_s
    down = sum(line.duration_s + pause for line in lines[:2])
    assert hand.wanted(down - 0.01)[1] == 0.08
    assert hand.wanted(down + 0.01)[1] == 0.0


def test_a_compliant_arm_is_led_along_the_path(world, hand, lines, hand_config):
    world.comply(True)
    lead(world, hand, lines[0].duration_s + hand_config.hand.pause_s)
    tool, goal = world.tool_pose(), lines[0].sample(99.0)
    np.testing.assert_allclose(tool.position, goal.position, atol=0.005)
    assert np.linalg.norm(log(goal.rotation @ tool.rotation.T)) < 0.03


def test_a_stiff_arm_does_not_give_way(world, hand, lines):
    before = world.tool_pose().position
    lead(world, hand, lines[0].duration_s)
    assert np.linalg.norm(world.tool_pose().position - before) < 0.03


def test_a_hand_is_no_stronger_than_a_person(world, hand_config, lines):
    far = Pose(world.tool_pose().position + np.array([3.0, 0.0, 0.0]), world.tool_pose().rotation)
    pushes = []
    for line in lines[:1]:
        stray = line.__class__(far, np.zeros(3), np.zeros(3), line.gripper_from, line.gripper_to, 1.0)
        hand = SimulatedHand(hand_config.hand, [stray], np.random.default_rng(0))
        world.push = lambda force, torque: pushes.append((force, torque))
        hand.push(world, 0.0)
    (force, torque), *_ = pushes
    assert np.linalg.norm(force) == pytest.approx(hand_config.hand.max_force)
    assert force[0] > 0.99 * hand_config.hand.max_force
    assert np.linalg.norm(torque) <= hand_config.hand.max_torque


def test_a_trembling_hand_moves_differently_and_a_calm_one_does_not(config, robot, lines, hand_config):
    ends = {}
    for tremor in (0.0, 2.0):
        for seed in (1, 2):
            world = World(config, robot)
            world.comply(True)
            calm = replace(hand_config.hand, tremor=tremor)
            lead(world, SimulatedHand(calm, lines, np.random.default_rng(seed)), 0.3)
            ends[tremor, seed] = world.qpos
    np.testing.assert_array_equal(ends[0.0, 1], ends[0.0, 2])
    assert not np.array_equal(ends[2.0, 1], ends[2.0, 2])


def test_a_hand_that_let_go_leaves_the_arm_almost_still(world, hand, lines):
    world.comply(True)
    lead(world, hand, lines[0].duration_s)
    let_go(world)
    before = world.tool_pose().position
    world.step(250)
    assert np.linalg.norm(world.tool_pose().position - before) < 0.03
