"""Clocks that jump and code that raises, in real nodes (saboteur/sitecustomize.py): faults 9 and 15."""

import numpy as np
import pytest
from harness.bench import Bench
from harness.reaction import STARVED_MS, VIOLATION_MS, assert_harmless, stopped
from harness.recording import ACTION, COMMAND, JOINTS, SAFE, STATE, wait

TABLE, JOINT_STATE = 1, 2
WATCHDOG_MS = 100.0
RESPAWN_S = 60.0


def _turn_clocks(bench: Bench, off_ns: int) -> None:
    for levers in bench.stack.levers.values():
        levers.set(off_ns, 0)
    bench.policy.clock_ns = off_ns


@pytest.mark.fault(9, "the default at the latest 250 ms and 4 ticks after the last table; nothing moves by itself")
@pytest.mark.parametrize("direction", [1, -1], ids=["forward", "back"])
def test_no_jump_of_the_clock_lets_an_action_live_longer(sabotaged, rng, within, direction: int):
    sabotaged.set_in_motion(rng)
    off_ns = direction * int(10 ** rng.uniform(7.7, 12.6))  # 50 ms to an hour
    sabotaged.policy.silent = True
    began_ns = sabotaged.recording.mark(f"clocks jump by {off_ns} ns")()
    _turn_clocks(sabotaged, off_ns)
    fallen = stopped(sabotaged, began_ns)
    last = sabotaged.recording.samples(ACTION, began_ns - 10**9, began_ns + 10**8)[-1]
    within("last table to FALLBACK", (fallen.ns - last.source_ns) / 1e6, STARVED_MS)
    assert fallen.after == "FALLBACK"
    assert_harmless(sabotaged, began_ns, fallen.ns)
    _turn_clocks(sabotaged, 0)
    assert_harmless(sabotaged, began_ns, fallen.ns)


@pytest.mark.fault(
    9, "goes on, or the default; nothing unsafe; the operator can arm it soon after the clock is right again"
)
@pytest.mark.parametrize("direction", [1, -1], ids=["forward", "back"])
def test_a_jump_of_the_clock_while_the_policy_goes_on_is_survived(sabotaged, rng, direction: int):
    sabotaged.set_in_motion(rng)
    off_ns = direction * int(rng.uniform(0.5e9, 2e9))
    began_ns = sabotaged.recording.mark(f"clocks jump by {off_ns} ns and go on")()
    _turn_clocks(sabotaged, off_ns)
    sabotaged.let(1.5)
    sabotaged.judge.assert_safe(sabotaged.recording, began_ns - 10**9)
    if direction < 0:  # nothing is newer than what was accepted before it
        assert sabotaged.state == "FALLBACK"
    _turn_clocks(sabotaged, 0)
    sabotaged.let(1.0)
    sabotaged.judge.assert_safe(sabotaged.recording, began_ns - 10**9)
    sabotaged.recover()
    wait(lambda: sabotaged.recording.safety["offered"] == "policy", 5.0, "the policy, acceptable again")


@pytest.mark.fault(
    15, "in the monitor: FAULT within a tick and 10 ms, then silence; the arm node holds 100 ms after it"
)
def test_an_exception_in_the_monitor_ends_it_in_silence_and_the_arm_is_held(sabotaged, rng, within):
    sabotaged.set_in_motion(rng)
    which = int(rng.choice([TABLE, JOINT_STATE]))
    marked = sabotaged.recording.mark("the monitor raises")
    sabotaged.stack.levers["safety"].set(0, which)
    began_ns = marked()
    change = stopped(sabotaged, began_ns)
    cause = sabotaged.recording.samples({TABLE: ACTION, JOINT_STATE: JOINTS}[which], began_ns)[0]
    within("what it raised on to FAULT", max(0.0, (change.ns - cause.source_ns) / 1e6), VIOLATION_MS)
    assert (change.after, change.rule) == ("FAULT", "FAULT")
    assert_harmless(sabotaged, began_ns, change.ns)
    silent_ns = sabotaged.recording.newest(SAFE).source_ns  # or from before it: what is slow stops within the tick
    assert silent_ns < change.ns + 200_000_000, "it goes on speaking"
    first = next(s for s in sabotaged.recording.samples(COMMAND, silent_ns) if s.source_ns > silent_ns + 20_000_000)
    within("last safe action to the arm holding", (first.source_ns - silent_ns) / 1e6, WATCHDOG_MS + VIOLATION_MS)
    assert not sabotaged.operator.arm().success
    _respawn(sabotaged, "safety", STATE)
    wait(lambda: sabotaged.state == "READY", RESPAWN_S, "READY")
    assert sabotaged.recording.change(began_ns, "ACTIVE") is None


@pytest.mark.fault(
    15, "in the arm node: it ends with exit code 1; its last command ends at rest, and the robot stands there"
)
def test_an_exception_in_the_arm_node_leaves_the_robot_at_rest(sabotaged, rng):
    sabotaged.set_in_motion(rng)
    which = int(rng.choice([TABLE, JOINT_STATE]))
    marked = sabotaged.recording.mark("the arm node raises")
    sabotaged.stack.levers["arm"].set(0, which)
    began_ns = marked()
    assert sabotaged.stack.children["arm"].wait(timeout=10.0) == 1
    heard = lambda: sabotaged.recording.newest(JOINTS).source_ns > began_ns + 10**9  # noqa: E731
    wait(heard, 10.0, "a second of joint states")
    sabotaged.judge.assert_safe(sabotaged.recording, began_ns - 10**9)
    last = sabotaged.recording.newest(COMMAND)
    assert last.source_ns < began_ns + 10**9
    told = np.array([s.message.position[:7] for s in sabotaged.recording.samples(JOINTS, began_ns + 6 * 10**8)])
    rest = np.array(last.message.points[-1].positions[:7])
    assert np.abs(told - rest).max() < 0.02, "the robot is not where its last command ends"
    _respawn(sabotaged, "arm", COMMAND)
    sabotaged.operator.arm(False)


def _respawn(bench: Bench, name: str, topic: str) -> None:
    """The node anew, without sabotage."""
    bench.stack.levers[name].set(0, 0)
    bench.stack.kill(name)
    bench.stack.respawn(name)
    born_ns = bench.recording.mark(f"{name} respawn")()
    wait(lambda: bench.recording.samples(topic, born_ns), RESPAWN_S, f"a new {name} node")
