from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.types import ActionChunk
from policy_bringup.sim.disturbance import Undisturbed
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


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_policy_that_was_unsure_for_a_moment_in_motion_goes_on(stack, blind, chunks: int):
    """It is held meanwhile; its way goes on, and is joined again from where the arm stands."""
    began = []

    def bend(chunk):
        began.append(chunk.stamp_ns)
        unsure = 0.0 <= (chunk.stamp_ns - began[0]) / 1e9 - 1.2 < 0.05 * chunks - 0.01
        return replace(chunk, uncertainty=np.full(len(chunk.times_s), 0.6 if unsure else 0.0))

    rollout = ClosedLoop(stack, Bent(load_expert(blind, stack.robot), bend), 0.5, "raycast").run(0, patience_s=8.0)
    assert rollout.verdicts["UNCERTAINTY"] > 0
    assert rollout.success, rollout
    assert rollout.stops == ()


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


def test_a_policy_that_refuses_to_answer_is_silent_and_safety_stops_it(stack, blind):
    asked = []

    def bend(chunk):
        asked.append(chunk.stamp_ns)
        if chunk.stamp_ns - asked[0] >= 1_000_000_000:
            raise ObservationError("the camera shows nothing")
        return chunk

    rollout = ClosedLoop(stack, Bent(load_expert(blind, stack.robot), bend), 0.5, "raycast").run(0, patience_s=2.0)
    assert rollout.refused == len(rollout.trace.refusals) == 20
    assert rollout.trace.refusals[0] == (pytest.approx(1.0), "the camera shows nothing")
    assert [stop.rule for stop in rollout.trace.stops] == ["AGE"]
    # The last action is good for 0.25 s, and then come three tries of 10 ms.
    assert rollout.trace.stops[0].time_s == pytest.approx(0.95 + 0.25 + 0.04, abs=0.011)
    assert rollout.trace.doubt == np.inf


def test_an_episode_may_end_soon_after_a_stop(stack, blind):
    def run(**choices):
        def bend(chunk):
            return replace(chunk, uncertainty=np.full(len(chunk.times_s), 0.6 if chunk.stamp_ns > 1.5e9 else 0.0))

        return ClosedLoop(stack, Bent(load_expert(blind, stack.robot), bend), 0.5, "raycast").run(0, 2.0, **choices)

    whole, short = run(), run(after_stop_s=0.3)
    assert whole.stops == short.stops
    assert whole.trace.time_s[-1] == pytest.approx(1.99)
    assert short.trace.time_s[-1] == pytest.approx(short.trace.stops[0].time_s + 0.3, abs=0.011)


def test_the_trace_follows_tool_object_and_gripper(loop):
    rollout = loop.run(0)
    trace = rollout.trace
    assert len(trace.time_s) == len(trace.tool) == len(trace.object) == len(trace.width)
    np.testing.assert_allclose(np.diff(trace.time_s), 0.01)
    assert trace.object[-1, 2] - trace.object[0, 2] == pytest.approx(rollout.outcome.height, abs=0.002)
    assert np.linalg.norm(trace.tool[-1] - trace.object[-1]) < 0.02
    assert np.nanmax(trace.width) == pytest.approx(0.08)
    assert trace.width[-1] < 0.01
    np.testing.assert_allclose(np.diff(trace.asked_s), 0.05)
    assert trace.uncertainty.shape == (len(trace.asked_s), 16)
    assert (trace.doubt, trace.stops, trace.refusals, trace.arm_refusals) == (0.0, (), (), 0)


class Shaken(Undisturbed):
    """Counts what it was given, hides some pictures and makes the policy late."""

    def __init__(self, delay_s: float, hides: frozenset[int] = frozenset()) -> None:
        self.delay_s, self._hides = delay_s, hides
        self.times_s: list[float] = []

    def pictures(self, taken, time_s):
        self.times_s.append(time_s)
        return {} if len(self.times_s) in self._hides else {name: 255 - pixels for name, pixels in taken.items()}


def test_what_a_disturbance_delivers_is_what_the_policy_sees(stack):
    seen = []
    expert = load_expert(stack.deployment.contract, stack.robot)

    class Watching(Bent):
        def predict(self, observation):
            seen.append(observation.images["front"][-1].copy())
            return super().predict(observation)

    loop = ClosedLoop(stack, Watching(expert, lambda chunk: chunk), 0.5, "raycast")
    plain = loop.run(0, 0.3, keep_frames=True)
    shaken = Shaken(0.0, frozenset({3, 4}))
    rollout = loop.run(0, 0.3, keep_frames=True, disturbance=shaken)
    np.testing.assert_allclose(shaken.times_s, np.arange(6) * 0.05, atol=1e-9)
    assert len(seen) == 6 + 4  # it waited while there was no picture
    np.testing.assert_array_equal(seen[6], 255 - plain.frames[0]["front"])
    assert [len(frame) for frame in rollout.frames] == [2, 2, 0, 0, 2, 2]
    loop.close()


def test_the_arm_strays_from_what_it_is_told_and_the_recorded_action_does_not(stack, blind):
    class Low(Undisturbed):
        def followed(self, action, time_s, clearance_m):
            assert 0.0 < clearance_m < 1.0
            return action - np.array([0.0, 0.0, 0.01 * min(1.0, time_s)] + [0.0] * 5)

    told: list[list[float]] = []

    class Listening:
        def on_verdict(self, verdict, offered, now_ns):
            if verdict.output is not None:
                told[-1].append(verdict.output[2])

        def __getattr__(self, name):
            return lambda *_: None

    tools = []
    for disturbance in (None, Low()):
        told.append([])
        loop = ClosedLoop(stack, load_expert(blind, stack.robot), 0.5, "raycast")
        tools.append(loop.run(0, 1.5, observer=Listening(), disturbance=disturbance).trace.tool[-1, 2])
        loop.close()
    assert told[0] == pytest.approx(told[1], abs=1e-3)
    assert tools[0] - tools[1] == pytest.approx(0.01, abs=1e-3)


def test_a_late_chunk_is_heard_late_by_as_much(stack, blind):
    loop = ClosedLoop(stack, load_expert(blind, stack.robot), 0.5, "raycast")
    armed_for = []
    for delay_s in (0.0, 0.1):
        heard = []

        class Listening:
            def on_chunk(self, chunk, now_ns, heard=heard):
                heard.append((now_ns - chunk.stamp_ns) / 1e9)

            def __getattr__(self, name):
                return lambda *_: None

        rollout = loop.run(0, 0.5, observer=Listening(), disturbance=Shaken(delay_s))
        assert len(heard) >= 7
        assert heard == pytest.approx([delay_s] * len(heard))
        armed_for.append(rollout.time_s)
    assert armed_for[0] - armed_for[1] == pytest.approx(0.1, abs=0.035)  # it waits for the first one
