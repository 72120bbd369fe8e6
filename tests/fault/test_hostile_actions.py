"""A policy that says what must not be done, through the one publisher that may speak: faults 2, 6, 7, 8, 10, 11, 12."""

import time

import numpy as np
import pytest
from harness import hostile as bad
from harness.bench import CONFIG
from harness.reaction import (
    STARVED_MS,
    TRIES,
    VIOLATION_MS,
    assert_harmless,
    assert_refused,
    hostile,
    stopped,
)
from harness.recording import ACTION, COMMAND, SAFE, spacing_ms, wait

from policy_bringup.core.config import load
from policy_bringup.core.robot import Robot

REFUSED = "the first is refused (RETRY), the 4th makes the default (FALLBACK), each within a tick and 10 ms"


@pytest.mark.fault(2, "rule AGE: what was queued in a pause and comes all at once, with its old stamps, moves nothing")
def test_what_a_policy_says_all_at_once_after_a_pause_is_not_followed(liars, rng, within):
    liars.set_in_motion(rng)
    began_ns, queued = liars.recording.mark("a pause")(), []
    liars.policy.silent = True
    for _ in range(8):  # longer than an action lives
        queued.append(liars.policy.good_table())
        time.sleep(0.05)  # part of the fault
    for table in queued:
        liars.policy.say(table)
    liars.policy.silent = False
    fallen = stopped(liars, began_ns)
    last = liars.recording.samples(ACTION, began_ns - 10**9, fallen.ns)[-1]
    assert (fallen.after, fallen.rule) == ("FALLBACK", "AGE")
    within("last table to FALLBACK", (fallen.ns - last.source_ns) / 1e6, STARVED_MS)
    assert_harmless(liars, began_ns, fallen.ns)
    assert len(liars.recording.samples(ACTION, fallen.ns)) > len(queued)
    assert liars.state == "FALLBACK"


@pytest.mark.fault(6, f"rule FINITE or UNCERTAINTY: {REFUSED}")
@pytest.mark.parametrize(("where", "rule"), [("action", "FINITE"), ("uncertainty", "UNCERTAINTY")])
def test_an_action_that_is_not_a_number_is_refused(liars, rng, within, where: str, rule: str):
    liars.set_in_motion(rng)
    column = bad.UNCERTAINTY if where == "uncertainty" else int(rng.integers(0, bad.WIDTH))
    change = bad.number(rng, column, float(rng.choice(bad.NOT_NUMBERS)))
    assert_refused(liars, within, bad.always(change), (rule,), f"not a number in {where}")


@pytest.mark.fault(7, f"rule TABLE: {REFUSED}")
@pytest.mark.parametrize("columns", ["0", "n-1", "n+1", "permuted"])
def test_a_table_of_other_columns_is_refused(liars, rng, within, columns: str):
    liars.set_in_motion(rng)
    one, other = (int(i) for i in rng.choice(bad.WIDTH, 2, replace=False))
    change = {
        "0": bad.no_columns,
        "n-1": bad.without(one),
        "n+1": bad.with_another(one),
        "permuted": bad.exchanged(one, other),
    }[columns]
    assert_refused(liars, within, bad.always(change), ("TABLE",), f"{columns} columns")


@pytest.mark.fault(
    7, "a million columns: the default at the latest when good tables are missed; the arm node notices nothing"
)
def test_a_million_columns_cost_the_monitor_at_most_a_stop(liars, rng, within):
    data = bad.a_million_columns()
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("a million columns")()
    liars.policy.spoil(lambda _table, _count: bad.stamped_now(data))
    fallen = stopped(liars, began_ns)
    liars.policy.spoil(None)
    good = [s for s in liars.recording.samples(ACTION, began_ns - 10**9, fallen.ns) if s.frame != bad.HOSTILE][-1]
    within("last good table to FALLBACK", (fallen.ns - good.source_ns) / 1e6, STARVED_MS + VIOLATION_MS)
    commands = liars.recording.samples(COMMAND, began_ns - 10**8, fallen.ns + 10**9)
    within("longest silence of the arm node", max(spacing_ms(commands)), 110.0)
    assert fallen.rule in ("TABLE", "LATE_TICK", "STATE", "AGE")
    assert_harmless(liars, began_ns, fallen.ns)


@pytest.mark.fault(8, f"rule AGE or SEQUENCE: {REFUSED}")
@pytest.mark.parametrize("kind", ["an hour ahead", "zero", "monotonic", "another clock"])
def test_an_action_of_another_time_is_refused_and_leaves_nothing_behind(liars, rng, within, kind: str):
    liars.set_in_motion(rng)
    change = bad.stamped(bad.stamps(kind, rng))
    assert_refused(liars, within, bad.always(change), ("AGE", "SEQUENCE"), f"stamps {kind}")
    liars.recover()
    wait(lambda: liars.recording.safety.get("offered") == "policy", 5.0, "the policy, good again and accepted as such")


@pytest.mark.fault(10, f"rule ABRUPTNESS: {REFUSED}")
def test_a_target_far_away_is_refused(liars, rng, within):
    liars.set_in_motion(rng)
    assert_refused(liars, within, bad.always(bad.teleport(rng)), ("ABRUPTNESS",), "a jump")


@pytest.mark.fault(10, "after 10 s of silence the default holds; the operator cannot arm it for a jump")
def test_a_target_far_away_is_refused_as_well_after_ten_seconds_of_silence(liars, rng, within):
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("silence")()
    liars.policy.silent = True
    fallen = stopped(liars, began_ns)
    last = liars.recording.samples(ACTION, began_ns - 10**9, fallen.ns)[-1]
    within("last table to FALLBACK", (fallen.ns - last.source_ns) / 1e6, STARVED_MS)
    liars.let(10.0)
    liars.policy.spoil(bad.always(bad.teleport(rng)))
    liars.policy.silent = False
    wait(lambda: len(hostile(liars, began_ns)) > 10, 5.0, "jumps")
    answer = liars.operator.arm()
    assert not answer.success, answer.message
    assert_harmless(liars, began_ns, fallen.ns)


@pytest.fixture
def at_home(liars):
    """Where it begins, all of the limits' sides can be reached."""
    liars.home = load(CONFIG / "robot.yaml", Robot).home
    yield liars
    liars.home = None


@pytest.mark.fault(11, "rule BOUNDS or ABRUPTNESS, before the limit; the default 3 tables after the first refusal")
def test_a_slow_drift_ends_before_the_limit(at_home, rng, within):
    column, speed, limit = [
        ("tool.y", 0.15, 0.4), ("tool.y", -0.15, -0.4), ("tool.x", -0.1, 0.25), ("tool.z", 0.15, 0.7)
    ][int(rng.integers(0, 4))]  # fmt: skip
    at_home.set_in_motion(rng)
    began_ns = at_home.recording.mark(f"{column} drifts")()
    at_home.policy.drift(column, speed)
    fallen = stopped(at_home, began_ns, 15.0)
    retry = [change for change in at_home.recording.changes(began_ns) if change.after == "RETRY"][-1]
    within("first of four refusals in a row to FALLBACK", (fallen.ns - retry.ns) / 1e6, 3 * 50.0 + VIOLATION_MS)
    assert fallen.rule in ("BOUNDS", "ABRUPTNESS")
    assert fallen.column.startswith(column)
    assert_harmless(at_home, began_ns, fallen.ns)
    index = ["tool.x", "tool.y", "tool.z"].index(column)
    reached = at_home.recording.samples(SAFE, began_ns, fallen.ns)[-1].message.points[0].positions[index]
    assert 0.0 <= abs(limit - reached) <= 0.05, f"stopped at {reached:.3f}, far from {limit}"


@pytest.mark.fault(12, "good ones in between are followed; the 4th bad one makes the default within a tick and 10 ms")
@pytest.mark.parametrize("bad_ones", [(True, False), (True, True, True, False)], ids=["alternating", "3_bad_1_good"])
def test_good_tables_in_between_do_not_hide_bad_ones(liars, rng, within, bad_ones: tuple[bool, ...]):
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("some tables are bad")()
    liars.policy.spoil(bad.pattern(_some_badness(rng), bad_ones))
    fallen = stopped(liars, began_ns)
    within("4th bad table to FALLBACK", (fallen.ns - hostile(liars, began_ns)[TRIES - 1].source_ns) / 1e6, VIOLATION_MS)
    assert fallen.after == "FALLBACK"
    assert liars.recording.change(began_ns, "ACTIVE") is not None
    assert_harmless(liars, began_ns, fallen.ns)


@pytest.mark.fault(12, "a single bad one costs a RETRY and no stop")
def test_a_single_bad_table_does_not_stop_the_arm(liars, rng, within):
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("one table is bad")()
    liars.policy.spoil(bad.pattern(_some_badness(rng), (True, *[False] * 1000)))
    resumed = lambda: liars.recording.change(began_ns, "ACTIVE")  # noqa: E731
    wait(resumed, 5.0, "ACTIVE again")
    within("bad table to ACTIVE", (resumed().ns - hostile(liars, began_ns)[0].source_ns) / 1e6, 50.0 + VIOLATION_MS)
    liars.let(0.5)
    assert liars.state == "ACTIVE"
    liars.judge.assert_safe(liars.recording, began_ns - 10**9)


def _some_badness(rng: np.random.Generator):
    column = int(rng.integers(0, 3))
    return [
        bad.number(rng, column, float("nan")),
        bad.number(rng, column, 5.0),
        bad.number(rng, bad.UNCERTAINTY, 0.6),
        bad.teleport(rng),
    ][int(rng.integers(0, 4))]
