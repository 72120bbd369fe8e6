from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from policy_bringup.safety.monitor import SafetyMonitor
from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, EStop, Fault, Measured, Proposal, Reload, Reset

MS = 1_000_000


def only(i, value):
    vector = np.zeros(8)
    vector[i] = value
    return vector


def states(verdicts):
    return [verdict.state.name for verdict in verdicts]


def bad(b, **kwargs):
    """Sends a chunk that bounds refuse."""
    return b.propose(target=only(0, 9.0), **kwargs)


def moving(b, speed=0.1, ticks=10):
    """Along x at `speed`."""
    for i in range(ticks):
        if i % 5 == 0:
            b.propose(velocity=only(0, speed))
        b.tick()
    return b


# INIT


def test_without_a_joint_state_it_stays_silent(bench):
    b = bench()
    for _ in range(5):
        verdict = b.tick(measure=False)
        assert (verdict.state, verdict.output) == (State.INIT, None)


def test_a_fresh_joint_state_leads_to_ready_and_holding_it(bench):
    b = bench()
    assert b.tick().state is State.INIT  # the first tick has no predecessor and counts as late
    verdict = b.tick()
    assert verdict.state is State.READY
    assert np.array_equal(verdict.output, b.pose)
    (record,) = verdict.transitions
    assert (record.who, record.from_state, record.to_state) == ("monitor", State.INIT, State.READY)
    assert (record.reason.rule, record.now_ns, record.stamp_ns) == (Rule.STATE, b.now_ns, 0)


def test_a_measured_breach_keeps_it_in_init(bench):
    b = bench()
    b.joints[2] = 2.0201
    assert set(states(b.ticks(4))) == {"INIT"}
    b.joints[2] = 2.0199
    assert b.tick().state is State.READY


def test_a_measured_pose_outside_the_bounds_is_held_at_the_bound(bench):
    b = bench()
    b.pose[2] = 0.0
    b.ready()
    assert b.last.output[2] == 0.02


def test_where_an_e_stop_heartbeat_is_configured_init_waits_for_it(bench):
    b = bench(estop_heartbeat_s=0.25)
    assert set(states(b.ticks(50))) == {"INIT"}
    b.step(EStop(False))
    assert b.tick().state is State.READY


# READY


def test_ready_does_not_follow_a_sagging_arm(bench):
    b = bench().ready()
    b.follows = False
    held = b.last.output
    b.pose = b.pose - only(2, 0.005)
    assert all(np.array_equal(verdict.output, held) for verdict in b.ticks(20))


@pytest.mark.parametrize("on", [None, 1, "yes", np.ones(2)], ids=str)
def test_arming_takes_true_and_nothing_else(bench, on):
    b = bench().ready()
    b.propose()
    b.tick()
    assert not b.step(Arm(on)).accepted
    assert b.tick().state is State.READY


def test_arming_without_a_recent_acceptable_action_is_refused_with_the_reason(bench):
    b = bench().ready()
    reply = b.step(Arm(True))
    assert not reply.accepted
    assert reply.sentence == "no source has proposed an acceptable action in time"
    bad(b)
    b.tick()
    reply = b.step(Arm(True))
    assert reply.sentence.endswith("in time: tool.x 9.000 m is above its limit 0.750 m")
    assert b.tick().state is State.READY


def test_an_action_is_recent_for_the_action_timeout(bench):
    for late_ns, accepted in ((0, True), (1, False)):
        b = bench().ready()
        sent_ns = b.now_ns
        b.propose()
        b.tick()
        b.now_ns = sent_ns + 250 * MS + late_ns
        assert b.step(Arm(True)).accepted is accepted


def test_arming_with_a_stale_state_is_refused_with_the_reason(bench):
    b = bench().ready()
    b.propose()
    for _ in range(11):
        b.tick(measure=False)
    reply = b.step(Arm(True))
    assert (reply.accepted, reply.sentence) == (
        False,
        "age of the joint state by stamp 0.110 s is above its limit 0.100 s",
    )


def test_arming_selects_the_source_of_the_highest_priority(bench):
    b = bench().ready()
    for source in ("policy", "home", "teleop"):
        b.propose(source=source)
    b.tick()
    b.step(Arm(True))
    assert b.tick().selected == "teleop"


def test_arming_passes_over_a_source_without_an_acceptable_action(bench):
    b = bench().ready()
    bad(b, source="teleop")
    b.propose(source="policy")
    b.tick()
    b.step(Arm(True))
    verdict = b.tick()
    assert (verdict.selected, verdict.state) == ("policy", State.ACTIVE)
    (record,) = verdict.transitions
    assert (record.who, record.reason.rule, record.reason.sentence) == ("operator", Rule.OPERATOR, "armed for policy")
    assert record.stamp_ns > 0


@pytest.mark.parametrize("state", ["INIT", "ACTIVE", "RETRY", "ESTOP", "FAULT"])
def test_arming_elsewhere_is_refused_and_changes_nothing(bench, state):
    b = bench()
    if state != "INIT":
        b.active()
    if state == "RETRY":
        bad(b)
        b.tick()
    if state in ("ESTOP", "FAULT"):
        b.step(EStop(True) if state == "ESTOP" else Fault("self-test"))
    reply = b.step(Arm(True))
    assert (reply.accepted, reply.sentence) == (False, f"cannot arm in {state}")
    assert b.monitor.state.name == state


def test_arming_moves_the_reference_onto_the_robot(bench):
    b = bench().ready()
    b.follows = False
    b.pose = b.pose + only(0, 0.007) + only(6, 0.01)
    b.propose()
    b.tick()
    b.step(Arm(True))
    output = b.tick().output
    assert output[0] == b.pose[0]
    assert output[6] == 0.04  # a column that holds its command keeps it


def test_what_was_proposed_before_arming_is_never_followed(bench):
    b = bench().ready()
    b.propose(velocity=only(0, 0.1))
    b.tick()
    b.step(Arm(True))
    verdicts = b.ticks(20)
    assert set(states(verdicts)) == {"ACTIVE"}
    assert all(np.array_equal(verdict.output, verdicts[0].output) for verdict in verdicts)


# ACTIVE


def test_good_inputs_pass_on_every_tick(bench):
    b = bench().active()

    def each(i):
        if i % 5 == 0:
            b.propose(velocity=only(0, 0.02 * np.sin(i / 50)))

    verdicts = b.ticks(300, each)
    assert set(states(verdicts)) == {"ACTIVE"}
    assert all(verdict.reason is None and verdict.tries == 0 for verdict in verdicts)
    assert not any(verdict.transitions for verdict in verdicts)


def test_the_verdict_names_the_action_and_its_source(bench):
    b = bench().active()
    chunk = b.chunk()
    b.step(Proposal(chunk, 1))
    assert (b.tick().stamp_ns, b.last.selected) == (chunk.stamp_ns, "policy")
    b.step(Arm(False))
    assert (b.tick().stamp_ns, b.last.selected) == (0, "")


def test_after_its_last_step_the_output_brakes_and_stands(bench):
    b = bench().active()
    b.propose(velocity=only(0, 0.1), steps=2)
    b.ticks(12)
    held = b.last.output
    b.ticks(8)
    assert b.last.state is State.ACTIVE
    assert np.array_equal(b.last.output, held)
    assert held[0] == pytest.approx(0.51, abs=0.0011)


def test_the_operator_takes_over_from_a_running_policy(bench):
    b = bench().active()
    b.propose(source="teleop", velocity=only(1, 0.02))
    b.propose(source="policy", velocity=only(0, 0.02))
    verdict = b.tick()
    assert (verdict.selected, verdict.state, verdict.transitions) == ("teleop", State.ACTIVE, ())
    assert verdict.output[1] > 0.0
    assert verdict.output[0] == 0.5


def test_a_lower_source_never_takes_over(bench):
    b = bench().active(source="teleop")

    def each(i):
        b.propose(source="policy")

    verdicts = b.ticks(30, each)
    assert all(verdict.selected in ("teleop", "") for verdict in verdicts)
    assert verdicts[-1].state is State.FALLBACK


def test_a_higher_source_that_is_refused_neither_counts_nor_moves(bench):
    b = bench().active()

    def each(i):
        bad(b, source="teleop")
        if i % 10 == 0:
            b.propose()

    assert set(states(b.ticks(50, each))) == {"ACTIVE"}
    assert b.last.tries == 0
    assert b.last.selected == "policy"


def test_taking_over_ends_a_retry(bench):
    b = bench().active()
    bad(b)
    assert b.tick().state is State.RETRY
    b.propose(source="home")
    verdict = b.tick()
    assert (verdict.state, verdict.selected, verdict.tries) == (State.ACTIVE, "home", 0)
    assert verdict.transitions[0].who == "home"


# RETRY


def test_the_fourth_rejection_in_a_row_gives_the_default_on_that_tick(bench):
    b = bench().active()
    verdicts = b.ticks(4, lambda i: bad(b))
    assert states(verdicts) == ["RETRY", "RETRY", "RETRY", "FALLBACK"]
    assert [verdict.tries for verdict in verdicts[:3]] == [1, 2, 3]
    assert [len(verdict.transitions) for verdict in verdicts] == [1, 0, 0, 1]
    record = verdicts[3].transitions[0]
    assert (record.who, record.reason.column, record.reason.value) == ("policy", "tool.x", 9.0)


def test_without_a_budget_three_tries_are_literal(bench):
    b = bench(retry_refill=None).active()
    for _ in range(3):
        assert states(b.ticks(4, lambda i: bad(b) if i < 3 else b.propose())) == ["RETRY"] * 3 + ["ACTIVE"]
    assert states(b.ticks(4, lambda i: bad(b))) == ["RETRY", "RETRY", "RETRY", "FALLBACK"]


def test_a_rejection_after_the_timeout_counts_once_and_keeps_its_reason(bench):
    b = bench().active()
    b.propose()
    b.ticks(25)
    bad(b)
    verdict = b.tick()
    assert (verdict.state, verdict.tries, verdict.reason.rule) == (State.RETRY, 1, Rule.BOUNDS)


def test_with_nothing_new_the_repeated_action_simply_stands(bench):
    b = bench().active()
    b.propose()
    b.tick()
    bad(b)
    verdicts = b.ticks(10)
    assert set(states(verdicts)) == {"RETRY"}
    assert {verdict.tries for verdict in verdicts} == {1}
    assert all(np.array_equal(verdict.output, verdicts[0].output) for verdict in verdicts)


def test_an_accepted_action_ends_the_retry(bench):
    b = bench().active()
    bad(b)
    b.tick()
    b.propose(velocity=only(0, 0.02))
    verdict = b.tick()
    assert (verdict.state, verdict.tries, verdict.reason) == (State.ACTIVE, 0, None)
    assert verdict.output[0] > 0.5


def test_a_retry_brakes_within_limits(bench):
    b = moving(bench().active(), speed=0.115, ticks=8)
    bad(b)
    outputs = [b.verdicts[-2].output[0], b.last.output[0], b.tick().output[0], b.tick().output[0]]
    assert np.diff(outputs) == pytest.approx([0.00115, 0.0, 0.0], abs=1e-12)


def test_no_retries_at_all_is_possible(bench):
    b = bench(max_retries=0).active()
    bad(b)
    assert b.tick().state is State.FALLBACK


def test_an_emission_that_is_refused_counts_once_and_stands(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_acceleration": 1000.0, "max_velocity": 0.4})).active()
    b.propose(velocity=only(0, 0.39))
    b.tick()
    b.tick(after_ns=59 * MS)
    assert b.last.state is State.ACTIVE
    b.tick(after_ns=59 * MS)  # more than a plan is allowed to lag behind
    assert b.last.state is State.RETRY
    assert b.last.reason.rule is Rule.ABRUPTNESS
    assert {(v.state, v.tries) for v in b.ticks(5)} == {(State.RETRY, 1)}


@pytest.mark.parametrize("refill", [0.25, None])
def test_flapping_cannot_hide_unless_the_budget_is_off(bench, refill):
    b = bench(retry_refill=refill).active()

    def each(i):
        bad(b) if i % 4 else b.propose()

    verdicts = b.ticks(40, each)
    assert (verdicts[-1].state is State.FALLBACK) is (refill is not None)
    first_bad_ones = states(verdicts)[:6]
    assert first_bad_ones == ["ACTIVE", "RETRY", "RETRY", "RETRY", "ACTIVE", "FALLBACK" if refill else "RETRY"]


def test_one_rejection_in_five_is_endured_for_ever_and_more_is_not(bench):
    for every, endures in ((5, True), (4, False)):
        b = bench().active()

        def each(i, b=b, every=every):
            bad(b) if i % every == 1 else b.propose()

        assert (State.FALLBACK not in {v.state for v in b.ticks(200, each)}) is endures


def test_the_budget_does_not_grow_beyond_the_tries(bench):
    b = bench().active()
    b.ticks(100, lambda i: b.propose())
    verdicts = b.ticks(5, lambda i: b.propose() if i == 3 else bad(b))
    assert states(verdicts) == ["RETRY", "RETRY", "RETRY", "ACTIVE", "FALLBACK"]


def test_arming_refills_the_budget(bench):
    b = bench().active()
    b.ticks(4, lambda i: bad(b))
    b.propose()
    b.tick()
    assert b.step(Arm(True)).accepted
    assert states(b.ticks(4, lambda i: bad(b))) == ["RETRY", "RETRY", "RETRY", "FALLBACK"]


@pytest.mark.parametrize("after_ns", [0, 1])
def test_an_action_holds_for_the_action_timeout_to_the_nanosecond(bench, after_ns):
    b = bench().active()
    sent_ns = b.now_ns
    b.propose()
    for _ in range(24):
        b.tick()
    b.tick(after_ns=sent_ns + 250 * MS + after_ns - b.now_ns)
    assert b.last.state is (State.RETRY if after_ns else State.ACTIVE)


def test_starvation_reaches_the_fallback_within_the_timeout_and_four_ticks(bench):
    b = bench().active()
    b.propose()
    verdicts = b.ticks(29)
    assert states(verdicts) == ["ACTIVE"] * 25 + ["RETRY"] * 3 + ["FALLBACK"]
    assert verdicts[-1].reason.sentence == "policy has fallen silent: its last action is too old"
    assert verdicts[-1].reason.rule is Rule.AGE


def test_a_clock_jump_after_acceptance_changes_nothing(bench):
    for jump_ns in (-3600 * 10**9, 3600 * 10**9):
        b = bench().active()
        b.propose(velocity=only(0, 0.02))
        b.tick()
        b.stamp_offset_ns += jump_ns
        verdicts = b.ticks(28)
        assert states(verdicts)[:24] == ["ACTIVE"] * 24
        assert verdicts[-1].state is State.FALLBACK


def test_a_stamp_from_the_future_does_not_live_longer(bench):
    b = bench().active()
    b.propose(stamp_ns=b.stamp_ns + 19 * MS)
    assert states(b.ticks(29))[-4:] == ["RETRY"] * 3 + ["FALLBACK"]


def test_an_action_that_travelled_long_expires_by_its_stamp(bench):
    for field in ("stamp_ns", "received_ns"):
        b = bench().active()
        b.ticks(12)
        now = b.stamp_ns if field == "stamp_ns" else b.now_ns
        b.propose(**{field: now - 100 * MS})
        assert states(b.ticks(17))[-2:] == ["RETRY", "RETRY"]
        assert b.verdicts[-3].state is State.ACTIVE


# Velocity columns


def velocity_bench(kit, **config):
    column = dataclasses.replace(
        kit.columns()[0], name="vx", lower=-1.0, upper=1.0, max_step=2.0, max_velocity=100.0, max_acceleration=1e5,
        max_window=1000.0, tolerance=2.0,
    )  # fmt: skip
    return kit.bench(kit.limits(spec=kit.spec(("vx",), ("m/s",)), columns=(column,), **config))


def test_a_velocity_is_repeated_at_one_half_and_a_quarter_and_then_not(kit):
    b = velocity_bench(kit)
    b.pose = np.zeros(1)
    b.active()
    b.propose(target=[0.8])
    b.ticks(10)
    b.propose(target=[0.8])
    b.ticks(10)
    assert b.last.output[0] == pytest.approx(0.8, abs=1e-3)
    outputs = [v.output[0] for v in b.ticks(5, lambda i: b.propose(target=[9.0]))]
    assert outputs == pytest.approx([0.8, 0.4, 0.2, 0.0, 0.0], abs=1e-3)


def test_a_velocity_is_repeated_for_100_ms_at_most(kit):
    b = velocity_bench(kit)
    b.pose = np.zeros(1)
    b.active()
    b.propose(target=[0.8])
    b.ticks(10)
    b.propose(target=[0.8])
    b.ticks(10)
    b.propose(target=[0.8])
    b.tick()
    b.propose(target=[9.0])
    outputs = [v.output[0] for v in b.ticks(12)]
    assert outputs == pytest.approx([0.8] * 11 + [0.0], abs=1e-3)


def test_disarming_stops_a_velocity(kit):
    b = velocity_bench(kit)
    b.pose = np.zeros(1)
    b.active()
    b.propose(target=[0.8])
    b.ticks(10)
    b.propose(target=[0.8])
    b.ticks(10)
    b.step(Arm(False))
    assert b.tick().output[0] == pytest.approx(0.0)


# Hard causes


def hard(b, cause):
    """One tick with a hard cause; returns the verdict."""
    if cause == "nan":
        b.now_ns += b.period_ns
        assert not b.measure(joints=np.full(7, np.nan)).accepted
        b.now_ns -= b.period_ns
        return b.tick(measure=False)
    if cause == "stale":
        b.tick(after_ns=45 * MS, measure=False)
        b.propose()
        b.tick(after_ns=45 * MS, measure=False)
        return b.tick(after_ns=11 * MS, measure=False)
    if cause == "breach":
        b.joints[3] = 2.03
    if cause == "publisher":
        b.propose(publishers=2)
    return b.tick(after_ns=60 * MS + 1 if cause == "late" else None)


@pytest.mark.parametrize("retrying", [False, True])
@pytest.mark.parametrize(
    ("cause", "rule"),
    [
        ("nan", Rule.STATE),
        ("stale", Rule.STATE),
        ("breach", Rule.BREACH),
        ("publisher", Rule.SOURCE),
        ("late", Rule.LATE_TICK),
    ],
)
def test_a_hard_cause_falls_back_at_once(bench, cause, rule, retrying):
    b = bench().active()
    if retrying:
        bad(b)
        b.tick()
    verdict = hard(b, cause)
    assert verdict.state is State.FALLBACK
    assert verdict.transitions[-1].reason.rule is rule
    assert verdict.output is not None


def test_a_tick_is_late_after_the_limit_to_the_nanosecond_and_before_time_moves(bench):
    for after_ns, state in (
        (60 * MS, "ACTIVE"),
        (60 * MS + 1, "FALLBACK"),
        (1, "ACTIVE"),
        (0, "FALLBACK"),
        (-1, "FALLBACK"),
    ):
        b = bench().active()
        assert b.tick(after_ns=after_ns).state.name == state


def along(b, speed, seconds, late_ns=0, late_at=10):
    """A source that follows one straight line by the clock; the tick number `late_at` comes late. -> times (s) and
    places (m) of the ticks since the start."""
    began_ns, start = b.now_ns, b.last.output.copy()
    times, places = [0.0], [0.0]
    while b.now_ns - began_ns < seconds * 1e9:
        if len(times) % 5 == 1:
            chunk = b.chunk()
            ahead_s = (b.now_ns - began_ns) / 1e9 + chunk.times_s
            b.propose(values=start + ahead_s[:, None] * only(0, speed))
        b.tick(after_ns=b.period_ns + (late_ns if len(times) == late_at else 0))
        assert b.last.state is State.ACTIVE, b.last
        times.append((b.now_ns - began_ns) / 1e9)
        places.append(b.last.output[0] - start[0])
    return np.array(times), np.array(places)


SPEED = 0.11
"""m/s: the acceleration's limit lets a robot begin at it from rest, and not gain three times as much in a tick."""


@pytest.mark.parametrize("late_ms", [11, 30, 49])
def test_a_late_tick_goes_on_at_the_plans_own_pace_and_catches_up_little_by_little(bench, kit, late_ms):
    columns = kit.columns(tool_x={"max_acceleration": 12.0, "max_velocity": 0.6})
    times, places = along(bench(columns=columns).active(), SPEED, 1.6, late_ms * MS)
    speeds = np.diff(places) / np.minimum(np.diff(times), 0.02)
    assert speeds.max() <= SPEED * 1.12
    behind_s = times - places / SPEED
    assert behind_s[10] == pytest.approx((late_ms - 10) / 1000, abs=0.002)
    assert (np.diff(behind_s[10:]) <= 1e-9).all()
    assert behind_s[-1] == pytest.approx(0.0, abs=1e-6)


def test_a_tick_of_two_periods_is_not_late_for_a_plan(bench, kit):
    columns = kit.columns(tool_x={"max_acceleration": 12.0, "max_velocity": 0.6})
    times, places = along(bench(columns=columns).active(), SPEED, 0.3, 10 * MS)
    np.testing.assert_allclose(places, times * SPEED, atol=1e-9)


def test_a_plan_that_lagged_is_not_late_any_more_after_the_next_arming(bench, kit):
    columns = kit.columns(tool_x={"max_acceleration": 12.0, "max_velocity": 0.6})
    b = bench(columns=columns).active()
    along(b, SPEED, 0.2, 49 * MS)
    b.step(Arm(False))
    b.ticks(50)
    b.propose()
    b.tick()
    assert b.step(Arm(True)).accepted
    times, places = along(b, SPEED, 0.3)
    np.testing.assert_allclose(places, times * SPEED, atol=1e-9)


def test_the_sentence_of_a_late_tick(bench):
    b = bench().active()
    assert b.tick(after_ns=75 * MS).transitions[0].reason.sentence == "a tick came after 0.075 s"


@pytest.mark.parametrize("field", ["stamp_ns", "received_ns"])
@pytest.mark.parametrize(("age_ns", "fresh"), [(100 * MS, 1), (100 * MS + 1, 0), (-20 * MS, 1), (-20 * MS - 1, 0)])
def test_the_joint_state_is_fresh_by_both_clocks(bench, field, age_ns, fresh):
    b = bench().active()
    b.now_ns += b.period_ns
    b.measure(**{field: (b.stamp_ns if field == "stamp_ns" else b.now_ns) - age_ns})
    b.now_ns -= b.period_ns
    assert b.tick(measure=False).state is (State.ACTIVE if fresh else State.FALLBACK)


@pytest.mark.parametrize(("i", "value"), [(0, 2.02), (0, -2.02), (6, 2.02), (6, -2.02)])
def test_measured_joints_stay_within_their_limits_and_the_margin(bench, i, value):
    for factor, state in ((1.0 - 1e-6, State.ACTIVE), (1.0 + 1e-6, State.FALLBACK)):
        b = bench().active()
        b.joints[i] = value * factor
        assert b.tick().state is state
    assert b.last.transitions[0].reason.column == f"joint{i}"


@pytest.mark.parametrize(
    "change",
    [
        {"joints": None},
        {"joints": "0"},
        {"joints": np.zeros(6)},
        {"joints": np.zeros(8)},
        {"joints": np.zeros((1, 7))},
        {"joints": np.zeros(7, dtype=bool)},
        {"joints": np.full(7, None)},
        {"joints": np.full(7, np.inf)},
        {"joints": np.zeros(10**6)},
        {"columns": None},
        {"columns": np.zeros(7)},
        {"columns": np.full(8, np.nan)},
        {"columns": [0.0] * 8},
        {"stamp_ns": None},
        {"stamp_ns": 1.0},
        {"stamp_ns": True},
        {"received_ns": "0"},
    ],
)
def test_a_joint_state_that_is_no_joint_state_is_a_hard_cause(bench, change):
    b = bench().active()
    b.now_ns += b.period_ns
    reply = b.measure(**change)
    assert (reply.accepted, reply.sentence[:19]) == (False, "the joint state has")
    b.now_ns -= b.period_ns
    assert b.tick(measure=False).state is State.FALLBACK


def frozen(b, **changes):
    """A joint state with fresh stamps and old content."""
    b.now_ns += b.period_ns
    b.measure(**{"joints": np.zeros(7), "columns": b.still, **changes})
    b.now_ns -= b.period_ns
    return b.tick(measure=False)


def test_a_joint_state_that_freezes_while_commands_change_is_a_hard_cause(bench):
    b = bench().active()
    b.still = b.pose.copy()
    moved = []
    for i in range(80):
        if i % 5 == 0:
            b.propose(velocity=only(0, 0.1))
        verdict = frozen(b)
        moved.append(verdict.output[0])
        if verdict.state is not State.ACTIVE:
            break
    assert verdict.state is State.FALLBACK
    assert verdict.transitions[0].reason.rule is Rule.STATE
    away = sum(x - moved[0] > 0.01 + 1e-9 for x in moved)
    assert 30 <= away <= 32


def test_a_joint_state_may_stand_still_while_the_command_does(bench):
    b = bench().active()
    b.still = b.pose.copy()
    for i in range(100):
        if i % 5 == 0:
            b.propose(velocity=only(0, 0.009 if i < 50 else 0.0))
        assert frozen(b).state is State.ACTIVE


def test_a_column_that_holds_its_command_says_nothing_about_freezing(bench):
    b = bench().active()
    b.still = b.pose.copy()
    for i in range(100):
        if i % 5 == 0:
            b.propose(target=b.still + only(7, min(i, 45)))
        assert frozen(b).state is State.ACTIVE


@pytest.mark.parametrize("part", ["joints", "columns"])
def test_any_bit_that_changes_means_not_frozen(bench, part):
    b = bench(following_time_s=2.0).active()
    b.still = b.pose.copy()
    for i in range(80):
        if i % 5 == 0:
            b.propose(velocity=only(0, 0.1))
        flicker = 1e-12 * (i % 2)
        verdict = frozen(b, **{part: (np.zeros(7) if part == "joints" else b.still) + flicker})
        assert verdict.state is State.ACTIVE


# FALLBACK


def test_hold_keeps_the_last_emitted_within_tolerance_of_the_measured(bench):
    for distance, keeps in ((0.0099, True), (0.0101, False)):
        b = bench(fallback="hold").active()
        b.follows = False
        before = b.last.output
        b.pose = b.pose + only(0, distance)
        hard(b, "late")
        assert np.array_equal(b.last.output, before) is keeps
        assert keeps or b.last.output[0] == b.pose[0]


def test_stop_never_looks_at_the_measured(bench):
    b = bench(fallback="stop").active()
    b.follows = False
    before = b.last.output
    b.pose = b.pose + only(0, 0.1)
    hard(b, "late")
    assert np.array_equal(b.last.output, before)


def test_hold_does_not_trust_a_joint_state_that_is_stale(bench):
    b = bench(fallback="hold").active()
    b.follows = False
    before = b.last.output
    b.pose = b.pose + only(0, 0.1)
    b.measure(columns=b.pose)
    b.tick(after_ns=50 * MS, measure=False)
    b.tick(after_ns=51 * MS, measure=False)
    assert b.last.state is State.FALLBACK
    assert np.array_equal(b.last.output, before)


@pytest.mark.parametrize("fallback", ["hold", "stop", "open_gripper"])
def test_the_safe_default_brakes_within_limits(bench, kit, fallback):
    columns = kit.columns(tool_x={"max_acceleration": 5.0, "max_velocity": 0.6})
    b = bench(columns=columns, fallback=fallback).active()
    for i in range(60):
        if i % 5 == 0:
            b.propose(velocity=only(0, min(0.2, 0.04 * (i // 5 + 1))))
        b.tick()
    assert b.last.state is State.ACTIVE
    hard(b, "breach")
    x = [v.output[0] for v in b.verdicts[-3:]] + [v.output[0] for v in b.ticks(6)]
    speeds = np.diff(x) / 0.01
    assert speeds == pytest.approx([0.2, 0.15, 0.1, 0.05, 0.0, 0.0, 0.0, 0.0], abs=1e-9)


def shake(b, on):
    """An arm that is not still."""
    b.joints[1] = 0.1 * ((b.now_ns // b.period_ns) % 2) * on


def test_the_gripper_opens_once_the_arm_is_still_or_after_its_time(bench):
    for shaking, expected in ((False, 0), (True, 100)):
        b = bench(fallback="open_gripper").ready()
        b.ticks(60, lambda i, b=b, shaking=shaking: shake(b, shaking))
        b.propose()
        b.tick()
        b.step(Arm(True))
        b.tick()
        hard(b, "publisher")
        assert b.last.state is State.FALLBACK
        since_ns = b.now_ns
        while b.last.output[6] == 0.04:
            shake(b, shaking)
            b.tick()
        assert (b.now_ns - since_ns) // b.period_ns == expected
        before = b.last.output
        b.ticks(40)
        assert b.last.output[6] == 0.08
        assert np.array_equal(np.delete(b.last.output, 6), np.delete(before, 6))


def test_on_an_e_stop_the_gripper_opens_only_if_configured(bench):
    for opens in (False, True):
        b = bench(fallback="open_gripper", open_on_estop=opens).active()
        b.step(EStop(True))
        b.ticks(250)
        assert b.last.output[6] == (0.08 if opens else 0.04)
    b = bench(fallback="hold", open_on_estop=True).active()
    hard(b, "publisher")
    b.ticks(250)
    assert (b.last.state, b.last.output[6]) == (State.FALLBACK, 0.04)


def test_the_gripper_opens_in_no_other_state(bench):
    b = bench(fallback="open_gripper", open_on_estop=True).ready()
    b.ticks(200)
    b.propose()
    b.tick()
    b.step(Arm(True))
    b.ticks(25)
    assert b.last.state is State.RETRY
    b.step(Fault("self-test"))
    b.tick()
    assert {v.output[6] for v in b.verdicts if v.output is not None} == {0.04}


def test_three_quarters_of_a_try_are_none(bench):
    """Every bad action costs one, every good one gives a quarter back: 3, 2, 2.25, 1.25, 1.5, 0.5, 0.75."""
    b = bench().active()
    for _ in range(3):
        bad(b)
        assert b.tick().state is State.RETRY
        b.propose()
        assert b.tick().state is State.ACTIVE
    bad(b)
    assert b.tick().state is State.FALLBACK


def test_a_fallback_ends_by_arming_only(bench):
    b = bench().active()
    b.ticks(4, lambda i: bad(b))
    assert set(states(b.ticks(300, lambda i: b.propose()))) == {"FALLBACK"}
    assert b.step(Arm(True)).accepted
    assert b.tick().state is State.ACTIVE


def resumed(b, proposals=40, every=11, **kwargs):
    """How many good proposals it takes to resume, one each `every` ticks."""
    count = 0
    for i in range(proposals * every):
        if i % every == 0:
            b.propose(**kwargs)
            count += 1
        if b.tick().state is State.ACTIVE:
            return count
    return None


@pytest.fixture
def fallen(bench):
    """A monitor in FALLBACK by rejections alone, with auto_resume."""

    def make(**config):
        b = bench(**{"auto_resume": True, **config}).active()
        b.ticks(4, lambda i: bad(b))
        assert b.last.state is State.FALLBACK
        return b

    return make


def test_it_resumes_after_ten_good_proposals_over_a_second(fallen):
    assert resumed(fallen(), every=12) == 10
    assert resumed(fallen(resume_time_s=0.0), every=1) == 10
    b = fallen(resume_time_s=0.99)
    assert resumed(b, every=11) == 10
    (record,) = b.last.transitions
    assert (record.who, record.reason.rule) == ("monitor", Rule.RESUME)
    assert resumed(fallen(resume_time_s=1.0), every=10) == 11
    assert resumed(fallen(auto_resume=False)) is None


def test_the_time_of_resuming_is_over_on_the_very_tick(fallen):
    b = fallen(resume_time_s=0.99)
    verdicts = b.ticks(100, lambda i: b.propose())
    assert states(verdicts) == [*["FALLBACK"] * 99, "ACTIVE"]


def test_what_was_good_before_the_arming_does_not_count_for_resuming(bench):
    b = bench(auto_resume=True, resume_time_s=0.0).active()
    b.step(Arm(False))
    b.ticks(12, lambda i: b.propose())
    assert b.step(Arm(True)).accepted
    b.ticks(4, lambda i: bad(b))
    assert b.last.state is State.FALLBACK
    assert resumed(b, every=1) == 10


def test_resuming_starts_over_after_a_rejection(fallen):
    b = fallen(resume_time_s=0.0)
    b.ticks(9, lambda i: b.propose())
    bad(b)
    b.tick()
    assert resumed(b, every=1) == 10


def test_resuming_starts_over_after_silence(fallen):
    b = fallen(resume_time_s=0.0)
    b.ticks(9, lambda i: b.propose())
    b.ticks(25)
    assert resumed(b, every=1) == 10
    b = fallen(resume_time_s=0.0)
    b.ticks(9, lambda i: b.propose())
    b.ticks(24)
    assert resumed(b, every=1) == 1


def test_resuming_wants_less_uncertainty_than_the_threshold(fallen):
    assert resumed(fallen(), uncertainty=np.full(16, 0.8)) == 10
    assert resumed(fallen(), uncertainty=np.append(np.zeros(15), 0.81)) is None
    assert resumed(fallen(threshold=0.5), uncertainty=np.full(16, 0.4)) == 10
    assert resumed(fallen(threshold=0.5), uncertainty=np.full(16, 0.41)) is None


def test_resuming_wants_whole_chunks(fallen):
    b = fallen()
    values = np.tile(b.last.output, (16, 1))
    values[15, 0] = 9.0
    assert resumed(b, values=values) is None


def test_an_arm_that_stands_outside_of_its_bounds_is_held_at_them(bench):
    b = bench()
    b.follows, b.pose = False, b.pose + only(1, 0.45)
    b.ticks(3)
    assert (b.last.state, b.last.output[1], b.last.output[0]) == (State.READY, 0.4, b.pose[0])


def test_resuming_counts_the_selected_source_only(fallen):
    assert resumed(fallen(), source="teleop") is None


@pytest.mark.parametrize("cause", ["breach", "publisher", "late"])
def test_nothing_resumes_by_itself_after_a_hard_cause(bench, cause):
    b = bench(auto_resume=True, resume_time_s=0.0).active()
    hard(b, cause)
    b.joints[3] = 0.0
    assert b.last.state is State.FALLBACK
    assert resumed(b, every=1) is None


def test_a_hard_cause_during_a_soft_fallback_makes_it_hard(fallen):
    b = fallen(resume_time_s=0.0)
    b.tick(after_ns=70 * MS)
    assert resumed(b, every=1) is None


def test_a_disarmed_monitor_never_resumes_by_itself(fallen):
    b = fallen(resume_time_s=0.0)
    b.step(Arm(False))
    assert set(states(b.ticks(30, lambda i: b.propose()))) == {"READY"}


def test_the_second_of_resuming_counts_from_the_first_good_proposal(fallen):
    b = fallen()
    b.ticks(200)
    assert resumed(b, every=12) == 10


# Disarming


@pytest.mark.parametrize("state", ["ACTIVE", "RETRY", "FALLBACK"])
def test_disarming_leads_to_ready_where_the_arm_is(bench, state):
    b = bench().active()
    if state != "ACTIVE":
        b.ticks(1 if state == "RETRY" else 4, lambda i: bad(b))
    assert b.last.state.name == state
    b.follows = False
    b.pose = b.pose + only(1, 0.003)
    b.measure()
    assert b.step(Arm(False)).accepted
    verdict = b.tick()
    assert verdict.state is State.READY
    assert verdict.output[1] == b.pose[1]
    assert (verdict.transitions[0].who, verdict.transitions[0].reason.rule) == ("operator", Rule.OPERATOR)


@pytest.mark.parametrize("state", ["INIT", "READY", "ESTOP", "FAULT"])
def test_disarming_where_nothing_is_armed_changes_nothing(bench, state):
    b = bench()
    if state != "INIT":
        b.ready()
    if state in ("ESTOP", "FAULT"):
        b.step(EStop(True) if state == "ESTOP" else Fault("self-test"))
        b.tick()
    assert b.step(Arm(False)).accepted
    assert b.monitor.state.name == state
    assert b.tick().transitions == ()


def test_disarming_with_a_stale_joint_state_keeps_the_last_emitted(bench):
    for cause in ("stale", "nan"):
        b = bench(fallback="stop").active()
        b.follows = False
        b.pose = b.pose + only(1, 0.003)
        b.measure()
        held = hard(b, cause).output
        b.step(Arm(False))
        assert b.tick(measure=False).state is State.READY
        assert np.array_equal(b.last.output, held)


def test_disarming_right_after_a_bad_joint_state_keeps_the_last_emitted(bench):
    b = bench().active()
    held = b.last.output
    b.measure(joints=np.full(7, np.nan))
    assert b.step(Arm(False)).accepted
    assert b.tick().state is State.READY
    assert np.array_equal(b.last.output, held)


def test_disarming_in_motion_brakes(bench):
    b = moving(bench().active(), speed=0.115)
    b.measure()
    b.step(Arm(False))
    assert b.tick().output[0] - b.verdicts[-2].output[0] == pytest.approx(0.0, abs=1e-9)


# ESTOP


@pytest.mark.parametrize("pressed", [True, None, 0, 1, "no"])
def test_anything_but_released_is_an_e_stop(bench, pressed):
    b = bench().active()
    b.step(EStop(pressed))
    verdict = b.tick()
    assert verdict.state is State.ESTOP
    assert (verdict.transitions[0].who, verdict.transitions[0].reason.rule) == ("operator", Rule.ESTOP)


@pytest.mark.parametrize("prepare", ["init", "ready", "active", "fallback"])
def test_an_e_stop_counts_in_every_state(bench, prepare):
    b = bench()
    if prepare != "init":
        b.ready() if prepare == "ready" else b.active()
    if prepare == "fallback":
        b.ticks(4, lambda i: bad(b))
    b.step(EStop(True))
    verdict = b.tick()
    assert verdict.state is State.ESTOP
    assert (verdict.output is None) is (prepare == "init")


def test_an_e_stop_absorbs_everything_but_a_reset(bench):
    b = bench().active()
    b.step(EStop(True))
    held = b.tick().output
    b.step(EStop(False))
    for event in (Arm(True), Arm(False), EStop(True), EStop(False), None):
        b.step(event)
        b.propose(velocity=only(0, 0.05))
        assert b.tick().state is State.ESTOP
        assert np.array_equal(b.last.output, held)
        assert b.last.transitions == ()


def test_a_reset_leads_to_ready_once_all_is_well(bench):
    b = bench().active()
    b.step(EStop(True))
    b.ticks(60)
    assert b.step(Reset()).sentence == "the e-stop is pressed, or its heartbeat is lost"
    b.step(EStop(False))
    assert b.step(Reset()).accepted
    verdict = b.tick()
    assert verdict.state is State.READY
    assert (verdict.transitions[0].who, verdict.transitions[0].reason.sentence) == ("operator", "reset")


def test_a_reset_waits_for_half_a_second_of_standing_still(bench):
    b = bench().active()
    b.step(EStop(True))
    b.step(EStop(False))
    b.ticks(100)
    b.joints[4] += 0.0051
    b.tick()
    b.now_ns += 500 * MS - 1
    refused = b.step(Reset())
    assert (refused.accepted, refused.sentence[-26:]) == (False, "been still for long enough")
    assert b.monitor.state is State.ESTOP
    b.now_ns += 1
    assert b.step(Reset()).accepted


def test_a_reset_waits_for_half_a_second_of_standing_still_from_the_first_joint_state_on(bench):
    b = bench()
    b.step(EStop(True))
    b.step(EStop(False))
    b.ticks(50)
    assert not b.step(Reset()).accepted
    b.tick()
    assert b.step(Reset()).accepted


def test_still_means_within_the_tolerance_of_where_it_was(bench):
    b = bench().active()
    b.step(EStop(True))
    b.step(EStop(False))
    for i in range(100):
        b.joints[4] = 0.0049 * (i % 2)
        b.tick()
    assert b.step(Reset()).accepted
    b.step(EStop(True))
    b.step(EStop(False))
    for i in range(100):
        b.joints[4] = 0.0001 * i
        b.tick()
    assert not b.step(Reset()).accepted


def test_a_reset_needs_a_fresh_joint_state(bench):
    for cause in ("stale", "nan"):
        b = bench().active()
        b.ticks(100)
        b.step(EStop(True))
        b.step(EStop(False))
        hard(b, cause)
        assert not b.step(Reset()).accepted
        if cause == "nan":
            b.measure(joints=np.full(7, np.nan))
        assert not b.step(Reset()).accepted


def test_a_reset_needs_no_good_ticks(bench):
    b = bench().active()
    b.ticks(100)
    b.step(EStop(True))
    b.step(EStop(False))
    b.tick(after_ns=70 * MS)
    assert b.step(Reset()).accepted


@pytest.mark.parametrize("state", ["INIT", "READY", "ACTIVE", "FAULT"])
def test_a_reset_elsewhere_is_refused_and_changes_nothing(bench, state):
    b = bench()
    if state != "INIT":
        b.active()
    if state == "READY":
        b.step(Arm(False))
    if state == "FAULT":
        b.step(Fault("self-test"))
    reply = b.step(Reset())
    assert (reply.accepted, reply.sentence) == (False, f"there is nothing to reset in {state}")
    assert b.monitor.state.name == state


def test_an_e_stop_out_of_init_is_silent_and_resets_to_holding(bench):
    b = bench()
    b.step(EStop(True))
    assert all(verdict.output is None for verdict in b.ticks(60))
    b.step(EStop(False))
    assert b.step(Reset()).accepted
    assert np.array_equal(b.tick().output, b.pose)


def test_a_lost_heartbeat_is_an_e_stop(bench):
    for extra_ns, state in ((0, State.ACTIVE), (1, State.ESTOP)):
        b = bench(estop_heartbeat_s=0.25)
        b.step(EStop(False))
        b.active()
        b.propose()
        b.step(EStop(False))
        heard_ns = b.now_ns
        b.ticks(24)
        b.tick(after_ns=heard_ns + 250 * MS + extra_ns - b.now_ns)
        assert b.last.state is state
    record = b.last.transitions[0]
    assert (record.who, record.reason.sentence) == ("monitor", "the heartbeat of the e-stop is lost")
    b.ticks(60)
    assert b.step(Reset()).sentence == "the e-stop is pressed, or its heartbeat is lost"
    for _ in range(60):
        b.step(EStop(False))
        b.tick()
    assert b.step(Reset()).accepted


@pytest.mark.parametrize("state", ["READY", "FALLBACK"])
def test_a_lost_heartbeat_counts_wherever_there_is_output(bench, state):
    b = bench(estop_heartbeat_s=0.25)
    b.step(EStop(False))
    b.active()
    b.step(Arm(False)) if state == "READY" else b.ticks(4, lambda i: bad(b))
    b.ticks(30)
    assert b.last.state is State.ESTOP


def test_a_lost_heartbeat_lifts_no_fault_and_makes_no_second_e_stop(bench):
    for event, state in ((Fault("self-test"), State.FAULT), (EStop(True), State.ESTOP)):
        b = bench(estop_heartbeat_s=0.25)
        b.step(EStop(False))
        b.active()
        b.step(event)
        b.tick()
        assert all((v.state, v.transitions) == (state, ()) for v in b.ticks(40))


# FAULT


def test_a_fault_stops_then_falls_silent_for_ever(bench, kit):
    b = moving(bench(columns=kit.columns(tool_x={"max_acceleration": 12.0})).active(), speed=0.115, ticks=20)
    b.step(Fault("the self-test failed"))
    b.limits.max_acceleration[0] = 3.0
    outputs = [verdict.output for verdict in b.ticks(8)]
    speaking = [output is not None for output in outputs]
    assert speaking == [True] * 3 + [False] * 5
    assert b.verdicts[-8].transitions[0].reason.sentence == "the self-test failed"
    for event in (Arm(True), Reset(), EStop(True), EStop(False), Fault("again"), Reload(b.limits)):
        b.step(event)
        verdict = b.tick()
        assert (verdict.state, verdict.output, verdict.transitions) == (State.FAULT, None, ())


def test_a_fault_at_rest_is_silent_at_once(bench):
    for prepare in (lambda b: None, lambda b: b.active()):
        b = bench()
        prepare(b)
        b.step(Fault("self-test"))
        assert (b.tick().state, b.last.output) == (State.FAULT, None)


def test_an_error_inside_a_tick_is_a_silent_fault(bench):
    b = bench().active()
    b.limits.max_step = b.limits.joint_lower = None
    verdict = b.tick()
    assert (verdict.state, verdict.output) == (State.FAULT, None)
    assert verdict.transitions[0].reason.rule is Rule.FAULT
    assert verdict.transitions[0].reason.sentence == "error in the monitor: TypeError"
    assert (b.tick().state, b.last.output, b.last.transitions) == (State.FAULT, None, ())


def test_an_error_inside_a_step_is_a_fault(bench):
    b = bench().active()
    b.limits.spec = None
    b.limits.joints = None
    reply = b.measure()
    assert (reply.accepted, reply.sentence) == (False, "error in the monitor: TypeError")
    assert b.monitor.state is State.FAULT


# Events


@pytest.mark.parametrize(
    "event", [None, "arm", True, object(), Arm, np.zeros(3), ()], ids=lambda event: type(event).__name__
)
def test_an_unknown_event_is_refused_and_changes_nothing(bench, event):
    b = bench().active()
    assert b.step(event).sentence == "unknown event"
    assert b.tick().state is State.ACTIVE


@pytest.mark.parametrize("source", [None, "", "stranger", 3, ["policy"], np.array(["policy"])], ids=str)
def test_an_action_of_an_unknown_source_is_refused(bench, source):
    b = bench().active()
    reply = b.propose(source=source)
    assert (reply.accepted, reply.sentence) == (False, "the source of the action is unknown")
    assert b.tick().state is State.ACTIVE
    assert b.step(Proposal(None, 1)).sentence == "the source of the action is unknown"


def test_accepted_events_say_so(bench):
    b = bench().ready()
    assert b.measure().sentence == "accepted"
    assert b.propose().accepted
    assert b.step(EStop(False)).accepted
    assert b.step(Fault("x")).accepted


def test_only_the_newest_action_is_judged(bench):
    b = bench().active()
    bad(b)
    b.propose()
    assert (b.tick().state, b.last.reason) == (State.ACTIVE, None)


# Reload


def test_ready_takes_wider_limits(bench, kit):
    b = bench().ready()
    wider = kit.limits(columns=kit.columns(tool_x={"upper": 0.9}), threshold=2.0)
    assert b.step(Reload(wider)).accepted
    b.propose(uncertainty=np.full(16, 1.5))
    assert (b.tick().state, b.last.reason) == (State.READY, None)


def test_init_takes_wider_limits(bench, kit):
    b = bench()
    assert b.step(Reload(kit.limits(threshold=2.0))).accepted
    b.ready()
    b.propose(uncertainty=np.full(16, 1.5))
    assert b.tick().reason is None


def test_ready_holds_within_narrower_limits(bench, kit):
    b = bench().ready()
    assert b.step(Reload(kit.limits(columns=kit.columns(tool_x={"upper": 0.45})))).accepted
    assert b.tick().output[0] == 0.45


@pytest.mark.parametrize("state", ["ACTIVE", "RETRY", "FALLBACK", "ESTOP"])
def test_wider_limits_elsewhere_are_a_fault_and_narrower_ones_are_taken(bench, kit, state):
    for threshold, accepted in ((1.1, False), (0.9, True)):
        b = bench().active()
        if state in ("RETRY", "FALLBACK"):
            b.ticks(1 if state == "RETRY" else 4, lambda i, b=b: bad(b))
        if state == "ESTOP":
            b.step(EStop(True))
        assert b.step(Reload(kit.limits(threshold=threshold))).accepted is accepted
        assert b.monitor.state.name == (state if accepted else "FAULT")


def test_narrower_limits_are_in_force_at_once(bench, kit):
    b = bench().active()
    assert b.step(Reload(kit.limits(threshold=0.5))).accepted
    b.propose(uncertainty=np.full(16, 0.6))
    assert b.tick().reason.rule is Rule.UNCERTAINTY


def test_limits_that_exclude_where_the_arm_is_are_a_fault(bench, kit):
    for change, accepted in (
        ({"upper": 0.5}, True),
        ({"upper": 0.4999}, False),
        ({"lower": 0.5}, True),
        ({"lower": 0.5001}, False),
    ):
        b = bench().active()
        assert b.step(Reload(kit.limits(columns=kit.columns(tool_x=change)))).accepted is accepted
        assert (b.monitor.state is State.FAULT) is not accepted


@pytest.mark.parametrize("prepare", ["ready", "active"])
def test_limits_that_do_not_fit_are_refused_and_change_nothing(bench, kit, prepare):
    b = bench()
    getattr(b, prepare)()
    for limits in (None, "wide", kit.limits(tick_rate_hz=50.0), kit.limits(sources=("policy",))):
        reply = b.step(Reload(limits))
        assert (reply.accepted, reply.sentence[:19]) == (False, "the limits are for ")
        assert b.monitor.state.name == prepare.upper()


def test_a_fault_takes_no_new_limits(bench, kit):
    b = bench().active()
    b.step(Fault("self-test"))
    assert not b.step(Reload(kit.limits(threshold=0.5))).accepted


def test_a_reload_while_armed_leaves_the_reference_where_it_is(bench, kit):
    b = bench().active()
    b.follows = False
    held = b.last.output
    b.pose = b.pose + only(0, 0.005)
    b.measure()
    assert b.step(Reload(kit.limits(threshold=0.5))).accepted
    assert np.array_equal(b.tick().output, held)


@pytest.mark.parametrize("excluded", [True, False])
def test_a_reload_in_ready_moves_a_reference_that_it_excludes_onto_the_robot_and_no_other(bench, kit, excluded):
    b = bench().ready()
    held = b.tick().output[0]
    b.follows = False
    b.pose = b.pose - only(0, 0.015)
    b.measure()
    columns = kit.columns(tool_x={"upper": held - 0.001}) if excluded else kit.columns()
    assert b.step(Reload(kit.limits(columns=columns, threshold=3.0))).accepted
    assert b.tick().output[0] == (b.pose[0] if excluded else held)


def test_a_re_base_with_a_still_arm_is_not_taken_for_freezing(bench):
    b = bench().ready()
    b.follows = False
    b.still = b.pose = b.pose + only(0, 0.02)
    b.measure(joints=np.zeros(7))
    b.propose()
    frozen(b)
    b.step(Arm(True))
    for i in range(60):
        if i % 5 == 0:
            b.propose(target=b.pose)
        assert frozen(b).state is State.ACTIVE


def test_two_monitors_with_the_same_inputs_agree(kit):
    limits = kit.limits()
    first, second = kit.bench(limits), kit.bench(limits)
    for b in (first, second):
        moving(b.active(), ticks=30)
        b.ticks(6, lambda i, b=b: bad(b))
    for mine, its in zip(first.verdicts, second.verdicts, strict=True):
        assert (mine.state, mine.tries, mine.reason, mine.transitions) == (
            its.state,
            its.tries,
            its.reason,
            its.transitions,
        )
        assert np.array_equal(mine.output, its.output) or mine.output is its.output is None


def test_a_monitor_starts_disarmed_and_silent(kit):
    verdict = SafetyMonitor(kit.limits()).tick(1, 1)
    assert (verdict.state, verdict.output, verdict.selected, verdict.tries) == (State.INIT, None, "", 0)


def test_a_measured_state_before_the_first_tick_is_enough(kit):
    monitor = SafetyMonitor(kit.limits())
    monitor.step(Measured(10, 10, np.zeros(7), np.full(8, 0.3)), 10)
    monitor.tick(10, 10)
    assert monitor.tick(20, 20).state is State.READY
