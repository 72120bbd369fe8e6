"""A robot that lies about where it is, or says nothing: faults 4, 5, and the states of 6, 8 and 17."""

import math

import numpy as np
import pytest
from harness.hostile import NOT_NUMBERS
from harness.reaction import TICK_MS, VIOLATION_MS, assert_harmless, stopped
from harness.recording import COMMAND, JOINTS, SAFE, STATE, wait
from harness.stack import Relay

from policy_bringup.core.decoding import stamp_of

STALE_MS, FROZEN_MS = 100.0, 300.0
ASTRAY = {
    f"tool.{axis}": limit for axes, limit in ((("x", "y", "z"), 0.07), (("rx", "ry", "rz"), 0.175)) for axis in axes
}
"""following_tolerance times a column's tolerance, m and rad."""
FOLLOWING_MS, RESPAWN_S = 250.0 + 300.0, 30.0
"""So long what was asked is kept, and following_time_s."""


@pytest.mark.fault(4, "rule STATE: the default within the state timeout of 100 ms, a tick and 10 ms")
def test_the_arm_stops_when_its_joint_states_stop(liars, rng, within):
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("no joint states")()
    liars.relay.lie(Relay.STOP)
    fallen = stopped(liars, began_ns)
    last = liars.recording.samples(JOINTS, began_ns - 10**9, fallen.ns)[-1]
    within("last joint state to FALLBACK", (fallen.ns - last.source_ns) / 1e6, STALE_MS + VIOLATION_MS)
    assert (fallen.after, fallen.rule) == ("FALLBACK", "STATE")
    assert not liars.operator.arm().success
    assert_harmless(liars, began_ns, fallen.ns)


@pytest.mark.fault(5, "rule STATE: the default 300 ms, a tick and 10 ms after the command has left the frozen pose")
def test_the_arm_stops_when_its_joint_states_are_frozen_under_fresh_stamps(liars, rng, within):
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("frozen joint states")()
    liars.relay.lie(Relay.FREEZE)
    fallen = stopped(liars, began_ns)
    told = [(s.source_ns, tuple(s.message.position)) for s in liars.recording.samples(JOINTS, began_ns, fallen.ns)]
    frozen_ns = next(ns for ns, position in told if position == told[-1][1])
    actions = liars.recording.samples(SAFE, frozen_ns - 10**8, fallen.ns)
    poses = [(s.source_ns, np.array(s.message.points[0].positions)[:-1]) for s in actions]
    kept = [pose for ns, pose in poses if ns <= frozen_ns][-1]
    left_ns = next(ns for ns, pose in poses if ns > frozen_ns and liars.judge.farther(pose, kept))
    # Which command was the last one before the joint states froze, the two of us may see one tick apart.
    within("command elsewhere to FALLBACK", (fallen.ns - left_ns) / 1e6, FROZEN_MS + VIOLATION_MS + TICK_MS)
    assert (fallen.after, fallen.rule) == ("FALLBACK", "STATE")
    assert "frozen" in fallen.sentence
    assert_harmless(liars, began_ns, fallen.ns)


@pytest.mark.fault(5, "rule FOLLOWING, also where joint states flicker as real ones do; nothing leaps afterwards")
def test_what_is_asked_of_an_arm_that_does_not_follow_does_not_run_away_from_it(liars, rng, within):
    """Its node is gone: the robot stands where its last command has ended."""
    liars.set_in_motion(rng)
    liars.relay.lie(Relay.NOISE, int(rng.integers(0, 7)), 1e-6)
    kill = liars.recording.mark("arm SIGKILL")
    liars.stack.kill("arm")
    began_ns = kill()
    _, y, *_ = liars.recording.newest(SAFE).message.points[0].positions
    liars.policy.drift("tool.y", -0.1 if y > 0.0 else 0.1)
    fallen = stopped(liars, began_ns)
    assert (fallen.after, fallen.rule) == ("FALLBACK", "FOLLOWING")
    liars.stack.respawn("arm")
    wait(lambda: liars.recording.samples(COMMAND, fallen.ns), RESPAWN_S, "the new arm node")
    actions = liars.recording.samples(SAFE, began_ns)
    index = list(actions[0].message.joint_names).index(fallen.column)
    asked = [(sample.source_ns, sample.message.points[0].positions[index]) for sample in actions]
    measured = next(value for ns, value in asked if ns > fallen.ns)
    left_ns = next(ns for ns, value in asked if abs(value - measured) > ASTRAY[fallen.column])
    most_ms = FOLLOWING_MS + VIOLATION_MS + TICK_MS
    within("asked to be elsewhere to FALLBACK", (fallen.ns - left_ns) / 1e6, most_ms)
    liars.judge.assert_safe(liars.recording, fallen.ns)
    liars.judge.assert_stands(liars.recording, fallen.ns)


@pytest.mark.fault(6, "rule STATE: the default within a tick and 10 ms")
def test_the_arm_stops_when_a_joint_is_measured_to_be_no_number(liars, rng, within):
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("a joint is no number")()
    liars.relay.lie(Relay.NUMBER, int(rng.integers(0, 8)), float(rng.choice(NOT_NUMBERS)))
    fallen = stopped(liars, began_ns)
    _assert_at_once(liars, within, began_ns, fallen, lambda m, _ns: not all(map(math.isfinite, m.position)))


@pytest.mark.fault(8, "rule STATE: the default within a tick and 10 ms")
@pytest.mark.parametrize("kind", ["an hour ahead", "zero", "monotonic", "another clock"])
def test_the_arm_stops_when_joint_states_are_of_another_time(liars, rng, within, kind: str):
    liars.set_in_motion(rng)
    off_ns = int(rng.choice([-1, 1]) * rng.integers(500_000_000, 100_000_000_000))
    lie = {
        "an hour ahead": (Relay.STAMP_BY, 3_600_000_000_000),
        "zero": (Relay.STAMP_ZERO,),
        "monotonic": (Relay.STAMP_MONOTONIC,),
        "another clock": (Relay.STAMP_BY, off_ns),
    }[kind]
    began_ns = liars.recording.mark(f"joint states stamped {kind}")()
    liars.relay.lie(*lie)
    fallen = stopped(liars, began_ns)
    _assert_at_once(liars, within, began_ns, fallen, lambda m, ns: abs(stamp_of(m.header.stamp) - ns) > 300_000_000)


def _assert_at_once(liars, within, began_ns, fallen, lies) -> None:
    told = liars.recording.samples(JOINTS, began_ns, fallen.ns)
    first = next(s for s in told if lies(s.message, s.source_ns))
    within("first such joint state to FALLBACK", (fallen.ns - first.source_ns) / 1e6, VIOLATION_MS)
    assert (fallen.after, fallen.rule) == ("FALLBACK", "STATE")
    assert_harmless(liars, began_ns, fallen.ns)


@pytest.mark.parametrize("seconds", [0.02, 1.0])
def test_a_holding_arm_does_not_go_to_where_a_false_joint_state_says_it_is(liars, rng, seconds: float):
    """A finite lie, for a few messages or for a second: no joint gets there so fast."""
    liars.recover()
    joint = int(rng.integers(0, 7))
    there = liars.recording.newest(JOINTS).message.position[joint]
    began_ns = liars.recording.mark("a joint is elsewhere")()
    liars.relay.lie(Relay.NUMBER, joint, there + float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.6)))
    liars.let(seconds)
    liars.relay.tell_the_truth()
    liars.let(0.5)
    told = [s.message.position[joint] for s in liars.recording.samples(JOINTS, began_ns)]
    assert max(abs(position - there) for position in told) > 0.29
    liars.judge.assert_safe(liars.recording, began_ns)
    liars.judge.assert_stands(liars.recording, began_ns)


@pytest.mark.fault(17, "INIT, silent, for as long as no joint state has arrived; it cannot be armed; then READY")
def test_a_monitor_that_never_hears_of_the_robot_says_nothing_to_the_arm(liars, rng):
    liars.recover()
    liars.relay.lie(Relay.STOP)
    liars.stack.kill("safety")
    liars.stack.respawn("safety")
    began_ns = liars.recording.mark("a new monitor that hears nothing")()
    wait(lambda: liars.recording.samples(STATE, began_ns) and liars.state == "INIT", 30.0, "the new monitor")
    said_ns = liars.recording.newest(STATE).source_ns
    wait(lambda: liars.recording.newest(STATE).source_ns > said_ns + 2 * 10**9, 10.0, "two seconds of it")
    assert not liars.operator.arm().success
    assert liars.state == "INIT"
    assert liars.recording.samples(SAFE, began_ns) == []
    liars.judge.assert_safe(liars.recording, began_ns)
    liars.judge.assert_stands(liars.recording, began_ns)
    liars.relay.tell_the_truth()
    wait(lambda: liars.state == "READY", 10.0, "READY")
    liars.let(0.5)
    assert liars.recording.change(began_ns, "ACTIVE") is None
    assert liars.recording.samples(COMMAND, said_ns)
