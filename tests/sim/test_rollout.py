from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.types import ActionChunk
from policy_bringup.sim.expert import load_expert
from policy_bringup.sim.rollout import ClosedLoop, load_stack


@pytest.fixture(scope="module")
def stack(root):
    return load_stack(root / "config")


@pytest.fixture(scope="module")
def blind(stack):
    """The deployment's contract without pictures: nothing has to be drawn."""
    contract = stack.deployment.contract
    return replace(contract, observation=replace(contract.observation, images=()))


@pytest.fixture(scope="module")
def loop(stack, blind):
    return ClosedLoop(stack, load_expert(blind, stack.robot), 0.5, "raycast")


class Bent:
    """The expert with its chunks changed on the way: a policy gone wrong."""

    def __init__(self, expert, bend):
        self._expert, self._bend = expert, bend
        self.contract, self.reset = expert.contract, expert.reset

    def predict(self, observation) -> ActionChunk:
        return self._bend(self._expert.predict(observation))


def test_the_expert_grasps_through_monitor_and_arm_without_an_objection(loop, stack):
    rollout = loop.run(0)
    assert rollout.success, rollout
    assert 3.5 < rollout.time_s < 6.5
    assert rollout.outcome.peak > 0.1
    assert (rollout.verdicts, rollout.stops, rollout.refused) == ({}, (), 0)


def test_the_same_seed_gives_the_same_episode(stack, blind):
    ends = []
    for _ in range(2):
        loop = ClosedLoop(stack, load_expert(blind, stack.robot), 0.5, "raycast")
        loop.run(5, patience_s=1.0)
        ends.append(loop.world.qpos)
    np.testing.assert_array_equal(*ends)


def test_an_unsure_policy_is_stopped_and_the_cube_left_alone(stack, blind):
    unsure = Bent(load_expert(blind, stack.robot), lambda c: replace(c, uncertainty=np.full(len(c.times_s), 0.6)))
    rollout = ClosedLoop(stack, unsure, 0.5, "raycast").run(0, patience_s=1.0)
    assert not rollout.success
    assert rollout.outcome.failure == "untouched"


def test_a_policy_that_turns_bad_on_the_way_is_taken_out_with_a_reason(stack, blind):
    began = []

    def bend(chunk):
        began.append(chunk.stamp_ns)
        late = chunk.stamp_ns - began[0] > 1_000_000_000
        return replace(chunk, uncertainty=np.full(len(chunk.times_s), 0.6 if late else 0.0))

    rollout = ClosedLoop(stack, Bent(load_expert(blind, stack.robot), bend), 0.5, "raycast").run(0, patience_s=2.0)
    assert not rollout.success
    assert rollout.verdicts["UNCERTAINTY"] > 0
    assert len(rollout.stops) == 1
    assert "uncertain" in rollout.stops[0]


def test_a_chunk_that_would_make_the_robot_jump_is_refused_before_the_monitor(stack, blind):
    jumping = Bent(load_expert(blind, stack.robot), lambda c: replace(c, values=c.values - 0.05))
    rollout = ClosedLoop(stack, jumping, 0.5, "raycast").run(0, patience_s=1.0)
    assert rollout.refused > 10
    assert rollout.time_s == 0.0
    assert not rollout.success


def test_a_policy_with_pictures_gets_them_and_frames_can_be_kept(stack):
    seen = []
    expert = load_expert(stack.deployment.contract, stack.robot)

    class Watching(Bent):
        def predict(self, observation):
            seen.append({name: pixels.copy() for name, pixels in observation.images.items()})
            return super().predict(observation)

    loop = ClosedLoop(stack, Watching(expert, lambda chunk: chunk), 0.5, "raycast")
    rollout = loop.run(0, patience_s=0.5, keep_frames=True)
    assert len(rollout.frames) == len(seen) > 5
    for frame, images in zip(rollout.frames, seen, strict=True):
        assert set(frame) == {"front", "wrist"}
        assert set(images) == {"front"}
        np.testing.assert_array_equal(images["front"][0], frame["front"])
    loop.close()


def test_a_softer_robot_and_another_cube_still_succeed(stack, blind):
    sim = stack.sim
    soft = replace(
        sim, servo=replace(sim.servo, stiffness=0.5, damping=0.5), cube=replace(sim.cube, size=0.05, mass=0.2)
    )
    assert ClosedLoop(replace(stack, sim=soft), load_expert(blind, stack.robot), 0.5, "raycast").run(3).success
