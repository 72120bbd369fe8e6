"""Each side of each limit, to the last bit and the last nanosecond, and one violated rule at a time."""

from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.safety import checks
from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, EStop, Reset

MS = 1_000_000
CLOCKS = [10**13, 2**53 + 1, 2**61 + 3]
"""ns since the machine started, or since 1970: a float holds the last two to 1 and 512 ns only."""
TIMEOUT, FUTURE, STATE_TIMEOUT = 250 * MS, 20 * MS, 100 * MS


def only(i, value):
    vector = np.zeros(8)
    vector[i] = value
    return vector


def at_every_limit(bench, **config):
    """In READY, standing at the upper bound of y, with a last accepted action as new as it may be."""
    b = bench(threshold=0.5, **config)
    b.pose[1] = b.limits.upper[1]
    b.ready()
    b.propose(stamp_ns=b.stamp_ns + 2 * b.period_ns - TIMEOUT - 1)  # one nanosecond older than what `offer` offers
    assert b.tick().reason is None
    return b


def offer(b, publishers=1, stamp_age_ns=TIMEOUT, arrival_age_ns=TIMEOUT, state_age_ns=STATE_TIMEOUT, **changes):
    """Why an action is refused on the next tick, all of whose numbers lie exactly at their limits but for `changes`."""
    after_ns, stamp_after_ns = b.now_ns + b.period_ns, b.stamp_ns + b.period_ns
    b.now_ns = after_ns
    b.measure(stamp_ns=stamp_after_ns - state_age_ns, received_ns=after_ns - state_age_ns)
    b.now_ns -= b.period_ns
    ages = {"stamp_ns": stamp_after_ns - stamp_age_ns, "received_ns": after_ns - arrival_age_ns}
    times_s = np.concatenate(([0.0], 0.2 + 0.05 * np.arange(15)))
    good = {"times_s": times_s, "target": b.last.output, "uncertainty": np.full(16, 0.5), **ages}
    b.propose(publishers=publishers, **{**good, **changes})
    return b.tick(measure=False).reason


def test_an_action_exactly_at_every_limit_at_once_is_accepted(bench):
    assert offer(at_every_limit(bench)) is None


SWAPPED = ("tool.y", "tool.x", "tool.z", "tool.rx", "tool.ry", "tool.rz", "gripper.width", "gripper.force")


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (Rule.SOURCE, {"publishers": 2}),
        (Rule.SOURCE, {"publishers": 0}),
        (Rule.TABLE, {"names": SWAPPED}),
        (Rule.TABLE, {"values": np.zeros((16, 9))}),
        (Rule.TABLE, {"times_s": np.arange(15.0)}),
        (Rule.TABLE, {"times_s": np.arange(16.0) - 5e-324}),
        (Rule.FINITE, {"values": np.full((16, 8), np.nan)}),
        (Rule.FINITE, {"times_s": np.append(np.arange(15.0), np.inf)}),
        (Rule.SEQUENCE, {"stamp_age_ns": TIMEOUT + 1}),
        (Rule.AGE, {"arrival_age_ns": TIMEOUT + 1}),
        (Rule.AGE, {"arrival_age_ns": -FUTURE - 1}),
        (Rule.AGE, {"stamp_age_ns": -FUTURE - 1}),
        (Rule.STATE, {"state_age_ns": STATE_TIMEOUT + 1}),
        (Rule.STATE, {"state_age_ns": -FUTURE - 1}),
        (Rule.UNCERTAINTY, {"uncertainty": np.full(16, np.nextafter(0.5, 1.0))}),
        (Rule.UNCERTAINTY, {"uncertainty": np.full(16, -5e-324)}),
        (Rule.UNCERTAINTY, {"uncertainty": np.full(15, 0.5)}),
        (Rule.BOUNDS, {"target": only(1, np.nextafter(0.4, 1.0)) + np.array([0.5, 0, 0.3, 0, 0, 0, 0.04, 10])}),
        (Rule.ABRUPTNESS, {"target": np.array([0.56, 0.4, 0.3, 0, 0, 0, 0.04, 10])}),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "-".join(value),
)
def test_one_step_beyond_any_one_limit_it_is_refused_by_the_rule_of_that_limit(bench, rule, change):
    b = at_every_limit(bench)
    reason = offer(b, **change)
    assert reason is not None
    assert reason.rule is rule
    assert b.last.state is State.READY


@pytest.mark.parametrize("change", [{"arrival_age_ns": -FUTURE}, {"stamp_age_ns": -FUTURE}, {"state_age_ns": -FUTURE}])
def test_exactly_at_the_limit_of_the_future_it_is_accepted(bench, change):
    assert offer(at_every_limit(bench), **change) is None


def test_rules_are_asked_in_their_order(bench):
    b = at_every_limit(bench)
    wrong = {
        "publishers": 2,
        "names": SWAPPED,
        "values": np.full((16, 8), np.nan),
        "stamp_age_ns": 10**12,
        "arrival_age_ns": 10**12,
        "state_age_ns": 10**12,
        "uncertainty": None,
    }
    repaired = ["publishers", "names", "values", "stamp_age_ns", "arrival_age_ns", "state_age_ns", "uncertainty"]
    rules = []
    for fixed in repaired:
        rules.append(offer(b, **wrong).rule.name)
        del wrong[fixed]
    assert rules == ["SOURCE", "TABLE", "FINITE", "SEQUENCE", "AGE", "STATE", "UNCERTAINTY"]


@pytest.mark.parametrize("i", range(7))
def test_any_two_neighbouring_names_in_each_others_place_are_refused(bench, i):
    b = bench().ready()
    names = list(b.limits.spec.names)
    names[i], names[i + 1] = names[i + 1], names[i]
    b.propose(names=tuple(names))
    assert b.tick().reason.rule is Rule.TABLE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_in_any_place_refuses_the_whole_action(bench, bad):
    b = bench().ready()
    for place in np.ndindex(16, 10):
        chunk = b.chunk()
        table = np.column_stack([chunk.values, chunk.times_s, chunk.uncertainty])
        table[place] = bad
        b.propose(values=table[:, :8].copy(), times_s=table[:, 8].copy(), uncertainty=table[:, 9].copy())
        assert b.tick().reason.rule is (Rule.UNCERTAINTY if place[1] == 9 else Rule.FINITE)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("field", ["stamp_ns", "received_ns"])
@pytest.mark.parametrize(
    ("age_ns", "accepted"), [(TIMEOUT, True), (TIMEOUT + 1, False), (-FUTURE, True), (-FUTURE - 1, False)]
)
def test_an_age_is_exact_to_the_nanosecond_whatever_the_clock_shows(bench, clock, field, age_ns, accepted):
    b = bench()
    b.now_ns = clock
    b.ready()
    now_ns = (b.stamp_ns if field == "stamp_ns" else b.now_ns) + b.period_ns
    b.propose(**{field: now_ns - age_ns})
    assert (b.tick().reason is None) is accepted


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("after_ns", [0, 1])
def test_a_plan_expires_to_the_nanosecond_whatever_the_clock_shows(bench, clock, after_ns):
    b = bench()
    b.now_ns = clock
    b.active()
    sent_ns = b.now_ns
    b.propose()
    b.ticks(24)
    b.tick(after_ns=sent_ns + TIMEOUT + after_ns - b.now_ns)
    assert b.last.state is (State.RETRY if after_ns else State.ACTIVE)


@pytest.mark.parametrize("age", [10**400, -(10**400), 10**18 + 1, 10**30, -(10**30)])
@pytest.mark.parametrize("field", ["stamp_ns", "received_ns"])
def test_a_stamp_too_large_for_a_float_is_refused_and_is_no_error(bench, field, age):
    b = bench().ready()
    b.propose(**{field: b.now_ns - age})
    verdict = b.tick()
    assert verdict.state is State.READY
    assert verdict.reason.rule in (Rule.AGE, Rule.SEQUENCE)


@pytest.mark.parametrize("age", [10**400, -(10**400)])
@pytest.mark.parametrize("field", ["stamp_ns", "received_ns"])
def test_a_joint_state_with_a_stamp_too_large_for_a_float_is_stale_and_no_error(bench, field, age):
    b = bench().active()
    b.now_ns += b.period_ns
    b.measure(**{field: b.now_ns - age})
    b.now_ns -= b.period_ns
    verdict = b.tick(measure=False)
    assert (verdict.state, verdict.transitions[0].reason.rule) == (State.FALLBACK, Rule.STATE)


# Rule 9: braking, velocity, change of velocity, window, step and the value itself, of each column


@pytest.mark.parametrize("j", range(48))
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_every_number_of_a_motion_has_its_own_limit_to_the_last_bit(kit, j, side):
    limits = kit.limits()
    bound = float(getattr(limits, f"motion_{side}")[j])
    middle = (limits.lower + limits.upper) / 2
    for value in (bound, np.nextafter(bound, np.inf if side == "upper" else -np.inf)):
        # path, velocity, change of velocity, net displacement, step, value
        parts = [middle.copy(), *(np.zeros(8) for _ in range(4)), middle.copy()]
        parts[j // 8][j % 8] = value
        _, reason = checks._motion(limits, *parts)
        if value == bound:
            assert reason is None
        else:
            assert (reason.rule, reason.column) == (Rule.ABRUPTNESS, limits.motion[j].name)
            assert (reason.value, reason.limit) == (value, bound)


WIDE = {"max_velocity": 1e4, "max_acceleration": 1e6, "max_step": 100.0, "max_window": 100.0}


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("column", [0, 3])
@pytest.mark.parametrize(
    ("limit", "at", "steps"),
    [("max_velocity", 0.1, 16), ("max_acceleration", 10.0, 16), ("max_step", 0.001, 16), ("max_window", 0.005, 1)],
)
def test_a_motion_passes_just_below_each_limit_and_is_refused_just_above(bench, kit, limit, at, column, sign, steps):
    name = ("tool_x", "tool_y", "tool_z", "tool_rx")[column]
    for speed, accepted in ((0.1 * (1 - 1e-9), True), (0.1 * (1 + 1e-9), False)):
        b = bench(columns=kit.columns(**{name: {**WIDE, limit: at}})).active()
        b.propose(velocity=only(column, sign * speed), steps=steps)
        reason = b.tick().reason
        assert (reason is None) is accepted
        assert accepted or (reason.rule, reason.column.split()[0]) == (Rule.ABRUPTNESS, b.limits.spec.names[column])


# The other times


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("late_ns", [0, 1])
def test_a_lost_heartbeat_is_noticed_to_the_nanosecond(bench, clock, late_ns):
    b = bench(estop_heartbeat_s=0.25)
    b.now_ns = clock
    b.step(EStop(False))
    b.ready()
    b.step(EStop(False))
    heard_ns = b.now_ns
    b.ticks(24)
    b.tick(after_ns=heard_ns + 250 * MS + late_ns - b.now_ns)
    assert b.last.state is (State.ESTOP if late_ns else State.READY)


@pytest.mark.parametrize("early_ns", [0, 1])
def test_stillness_counts_to_the_nanosecond(bench, early_ns):
    b = bench().active()
    b.step(EStop(True))
    b.step(EStop(False))
    b.joints[0] = 0.5
    b.tick()
    moved_ns = b.now_ns
    b.ticks(45)
    b.now_ns = moved_ns + 500 * MS - early_ns
    assert b.step(Reset()).accepted is (early_ns == 0)


@pytest.mark.parametrize(
    ("there", "still"), [(1.25, True), (np.nextafter(1.25, 2.0), False), (0.75, True), (np.nextafter(0.75, 0.0), False)]
)
def test_still_is_within_the_tolerance_to_the_last_bit(bench, there, still):
    b = bench(still_tolerance_rad=0.25).active()
    b.step(EStop(True))
    b.step(EStop(False))
    joints = np.ones(7)
    b.measure(joints=joints.copy())
    joints[4] = there
    for _ in range(2):
        b.now_ns += 250 * MS
        b.measure(joints=joints.copy())
    b.tick(after_ns=0, measure=False)
    assert b.step(Reset()).accepted is still


@pytest.mark.parametrize("late_ns", [0, 1])
def test_an_offer_ends_to_the_nanosecond(bench, late_ns):
    b = bench().ready()
    sent_ns = b.now_ns
    b.propose()
    b.tick()
    b.now_ns = sent_ns + TIMEOUT + late_ns
    b.measure()
    assert b.monitor.offered == ("" if late_ns else "policy")
    assert b.step(Arm(True)).accepted is (late_ns == 0)


@pytest.mark.parametrize(("away_ns", "frozen"), [(300 * MS, False), (300 * MS + 1, True)])
def test_a_frozen_joint_state_is_noticed_to_the_nanosecond(bench, kit, away_ns, frozen):
    b = bench(columns=kit.columns(tool_x=WIDE), action_timeout_s=1.0, late_tick_s=0.2, state_timeout_s=0.5).active()
    b.follows = False
    stuck = {"joints": np.zeros(7), "columns": b.pose.copy()}
    b.propose(target=b.pose + only(0, 0.012))
    while abs(b.last.output[0] - b.pose[0]) <= 0.01:
        b.now_ns += b.period_ns
        b.measure(**stuck)
        b.tick(after_ns=0, measure=False)
    left_ns = b.now_ns
    b.tick(after_ns=100 * MS, measure=False)
    b.tick(after_ns=100 * MS, measure=False)
    b.now_ns = left_ns + away_ns
    b.measure(**stuck)
    b.tick(after_ns=0, measure=False)
    assert b.last.state is (State.FALLBACK if frozen else State.ACTIVE)
