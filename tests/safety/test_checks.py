from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, Proposal

MS = 1_000_000


def judged(b, *args, **kwargs):
    """Why a chunk is refused on the next tick; None if it is accepted."""
    b.propose(*args, **kwargs)
    return b.tick().reason


def rule(b, *args, **kwargs):
    reason = judged(b, *args, **kwargs)
    return reason and reason.rule


def only(i, value):
    vector = np.zeros(8)
    vector[i] = value
    return vector


# Rule 1


@pytest.mark.parametrize("publishers", [0, 2, 3, True, 1.0, None, "1", np.ones(3)])
def test_the_source_must_be_the_only_publisher(bench, publishers):
    b = bench().ready()
    reason = judged(b, publishers=publishers)
    assert reason.rule is Rule.SOURCE
    assert reason.sentence == "policy must have exactly one publisher on its topic"


# Rule 2


@pytest.mark.parametrize(
    "names",
    [
        (),
        None,
        "tool.x",
        list("abcdefgh"),
        ("tool.y", "tool.x", "tool.z", "tool.rx", "tool.ry", "tool.rz", "gripper.width", "gripper.force"),
        ("tool.x",) * 7,
        ("tool.x",) * 10**6,
        (np.ones(2),) * 8,
        (None,) * 8,
    ],
    ids=lambda names: f"{type(names).__name__}{len(names) if names else 0}",
)
def test_names_that_are_not_the_contracts_are_refused(bench, names):
    b = bench().ready()
    assert rule(b, names=names) is Rule.TABLE


def test_names_must_be_a_tuple_of_texts(bench):
    b = bench().ready()
    names = b.limits.spec.names
    assert rule(b, names=list(names)) is Rule.TABLE
    assert rule(b, names=names) is None


@pytest.mark.parametrize(
    "values",
    [
        None,
        "far",
        True,
        0.5,
        [[0.5] * 8] * 16,
        np.zeros((16, 7)),
        np.zeros((16, 9)),
        np.zeros((15, 8)),
        np.zeros(16),
        np.zeros((16, 8), dtype=bool),
        np.zeros((16, 8), dtype=np.float32),
        np.full((16, 8), None),
        np.zeros((16, 8)).astype(str),
        np.ma.zeros((16, 8)),
        np.zeros((1, 10**6)),
        np.zeros((16, 8, 1)),
    ],
    ids=lambda v: f"{type(v).__name__}{getattr(v, 'shape', '')}{getattr(v, 'dtype', '')}",
)
def test_values_that_are_not_a_table_of_numbers_are_refused(bench, values):
    b = bench().ready()
    assert rule(b, values=values) is Rule.TABLE


@pytest.mark.parametrize(
    "times_s",
    [
        None,
        0.05,
        "now",
        [0.05] * 16,
        np.zeros((16, 1)),
        np.array(0.1),
        np.arange(1, 17),
        np.zeros(0),
        np.ones(17),
    ],
    ids=lambda v: f"{type(v).__name__}{getattr(v, 'shape', '')}{getattr(v, 'dtype', '')}",
)
def test_times_that_are_not_a_row_of_numbers_are_refused(bench, times_s):
    b = bench().ready()
    assert rule(b, times_s=times_s) is Rule.TABLE


@pytest.mark.parametrize("field", ["stamp_ns", "received_ns"])
@pytest.mark.parametrize("stamp", [None, True, 1.0, "1", np.int64(5)], ids=repr)
def test_stamps_that_are_not_whole_numbers_are_refused(bench, field, stamp):
    b = bench().ready()
    assert rule(b, **{field: stamp}) is Rule.TABLE


def test_a_chunk_has_one_step_to_as_many_as_the_contract(bench):
    b = bench().ready()
    assert rule(b, steps=1) is None
    assert rule(b, steps=16) is None
    assert rule(b, steps=17) is Rule.TABLE
    assert rule(b, steps=0) is Rule.TABLE


def test_times_are_at_least_half_a_tick_apart_and_not_negative(bench):
    b = bench().ready()
    assert rule(b, steps=3, times_s=np.array([0.0, 0.005, 0.1])) is None
    assert rule(b, steps=3, times_s=np.array([0.0, np.nextafter(0.005, 0), 0.1])) is Rule.TABLE
    assert rule(b, steps=3, times_s=np.array([-1e-9, 0.05, 0.1])) is Rule.TABLE
    assert rule(b, steps=3, times_s=np.array([0.05, 0.05, 0.1])) is Rule.TABLE
    assert rule(b, steps=3, times_s=np.array([0.1, 0.05, 0.2])) is Rule.TABLE


# Rule 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", [0, 15])
def test_a_number_that_is_not_finite_refuses_the_whole_chunk(bench, bad, step):
    b = bench().ready()
    values, times_s = b.chunk().values, b.chunk().times_s
    values[step, 3] = bad
    assert rule(b, values=values) is Rule.FINITE
    times_s[step] = bad
    assert rule(b, times_s=times_s) is Rule.FINITE


# Rule 4


def test_only_a_newer_stamp_than_the_last_accepted_one_passes(bench):
    b = bench().ready()
    first = b.chunk()
    assert rule(b, stamp_ns=first.stamp_ns) is None
    assert rule(b, stamp_ns=first.stamp_ns) is Rule.SEQUENCE
    assert rule(b, stamp_ns=first.stamp_ns - 1) is Rule.SEQUENCE
    assert rule(b, stamp_ns=first.stamp_ns + 1) is None


def test_a_refused_chunk_does_not_raise_the_sequence(bench):
    b = bench().ready()
    stamp_ns = b.stamp_ns
    assert rule(b, target=only(0, 9.0), stamp_ns=stamp_ns) is Rule.BOUNDS
    assert rule(b, stamp_ns=stamp_ns) is None


def test_a_stamp_of_zero_is_old_not_new(bench):
    b = bench().ready()
    assert rule(b, stamp_ns=0) is Rule.AGE
    assert rule(b, stamp_ns=-1) is Rule.SEQUENCE


# Rule 5


@pytest.mark.parametrize("field", ["stamp_ns", "received_ns"])
@pytest.mark.parametrize(
    ("age_ns", "accepted"),
    [
        (250 * MS, True),
        (250 * MS + 1, False),
        (-20 * MS, True),
        (-20 * MS - 1, False),
        (3600 * 1000 * MS, False),
        (-3600 * 1000 * MS, False),
        (10**40, False),
        (-(10**40), False),
    ],
)
def test_an_action_is_neither_too_old_nor_from_the_future_by_either_clock(bench, field, age_ns, accepted):
    b = bench().ready()
    now_ns = (b.stamp_ns if field == "stamp_ns" else b.now_ns) + b.period_ns
    reason = judged(b, **{field: now_ns - age_ns})
    if accepted:
        assert reason is None
    else:
        assert reason.rule is (Rule.SEQUENCE if age_ns == 10**40 and field == "stamp_ns" else Rule.AGE)


def test_the_sentence_names_the_clock_and_the_age(bench):
    b = bench().ready()
    reason = judged(b, received_ns=b.now_ns - 490 * MS)
    assert reason.sentence == "age of the action by arrival 0.500 s is above its limit 0.250 s"
    assert (
        judged(b, stamp_ns=b.stamp_ns + 110 * MS).sentence
        == "age of the action by stamp -0.100 s is below its limit -0.020 s"
    )


def test_a_chunk_whose_steps_all_lie_in_the_past_is_refused(bench):
    b = bench().ready()
    half_ns = b.period_ns // 2
    ahead = np.array([0.1])
    late = b.stamp_ns + b.period_ns - 100 * MS
    assert rule(b, steps=1, times_s=ahead, stamp_ns=late + half_ns) is None
    reason = judged(b, steps=1, times_s=ahead, stamp_ns=late + b.period_ns + half_ns - 1)
    assert reason.rule is Rule.AGE
    assert reason.sentence == "every step of the action lies in the past"


# Rule 6


def test_no_action_is_acceptable_while_the_joint_state_is_stale(bench):
    b = bench().ready()
    b.now_ns += 95 * MS
    b.propose()
    assert b.tick(after_ns=6 * MS, measure=False).reason.rule is Rule.STATE


# Rule 7


def test_each_steps_uncertainty_lies_from_zero_to_the_threshold(bench):
    b = bench(threshold=0.5).ready()
    assert rule(b, uncertainty=np.full(16, 0.5)) is None
    assert rule(b, uncertainty=np.zeros(16)) is None
    reason = judged(b, uncertainty=np.full(16, np.nextafter(0.5, 1)))
    assert (reason.rule, reason.column, reason.limit) == (Rule.UNCERTAINTY, "uncertainty", 0.5)
    assert rule(b, uncertainty=np.full(16, -1e-300)) is Rule.UNCERTAINTY


@pytest.mark.parametrize(
    "uncertainty",
    [None, 0.0, "low", False, np.zeros(15), np.zeros((16, 1)), np.zeros(16, dtype=bool), np.zeros(10**6), [0.0] * 16],
    ids=lambda v: f"{type(v).__name__}{getattr(v, 'shape', '')}",
)
def test_missing_uncertainty_is_a_rejection(bench, uncertainty):
    b = bench().ready()
    reason = judged(b, uncertainty=uncertainty)
    assert reason.rule is Rule.UNCERTAINTY
    assert reason.sentence == "the uncertainty of the action is missing or not finite"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_uncertainty_that_is_not_finite_refuses_the_whole_chunk(bench, bad):
    b = bench().ready()
    uncertainty = np.zeros(16)
    uncertainty[15] = bad
    assert rule(b, uncertainty=uncertainty) is Rule.UNCERTAINTY


# Rule 8


@pytest.mark.parametrize("i", range(8))
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_every_column_lies_within_its_bounds_to_the_last_bit(bench, kit, i, side):
    wide = {c.name.replace(".", "_"): {"tolerance": 100.0, "holds_command": False} for c in kit.columns()}
    b = bench(columns=kit.columns(**wide))
    limit = getattr(b.limits, side)[i]
    b.pose[i] = limit
    b.ready()
    target = b.last.output.copy()
    assert rule(b, target=target) is None
    outwards = -np.inf if side == "lower" else np.inf
    target[i] = np.nextafter(limit, outwards)
    reason = judged(b, target=target)
    assert (reason.rule, reason.column, reason.limit) == (Rule.BOUNDS, b.limits.spec.names[i], limit)


def test_a_step_that_has_passed_already_is_still_checked(bench):
    b = bench().ready()
    values = b.chunk().values
    values[0, 2] = 0.0
    stamp_ns = b.stamp_ns - 60 * MS
    assert rule(b, values=values, stamp_ns=stamp_ns) is Rule.BOUNDS


# A chunk is cut at its first bad step


@pytest.mark.parametrize("bad_step", [1, 5, 15])
@pytest.mark.parametrize("kind", ["uncertainty", "bounds", "abruptness"])
def test_a_chunk_is_followed_up_to_its_first_bad_step_and_then_stands(bench, kind, bad_step):
    b = bench().active()
    chunk = b.chunk(velocity=only(0, 0.02))
    values, uncertainty = chunk.values.copy(), chunk.uncertainty.copy()
    if kind == "uncertainty":
        uncertainty[bad_step] = 1.5
    else:
        values[bad_step:, 0] = 9.0 if kind == "bounds" else 0.7
    b.step(Proposal(dataclasses.replace(chunk, values=values, uncertainty=uncertainty), 1))
    for _ in range(24):
        verdict = b.tick()
        assert verdict.state is State.ACTIVE
        assert verdict.reason is None
    reached = min(bad_step, 5) * 0.05 * 0.02
    assert b.last.output[0] - 0.5 == pytest.approx(reached, abs=0.0005)


def test_the_earliest_bad_step_decides_whatever_its_rule(bench):
    b = bench().ready()
    values, uncertainty = b.chunk().values, np.zeros(16)
    values[0, 0], uncertainty[1] = 9.0, 1.5
    assert rule(b, values=values, uncertainty=uncertainty) is Rule.BOUNDS
    uncertainty[0] = 1.5
    assert rule(b, values=values, uncertainty=uncertainty) is Rule.UNCERTAINTY
    values[0, 0] = 0.5
    values[0, 1] = 0.2
    assert rule(b, values=values) is Rule.ABRUPTNESS


# Rule 9


def test_velocity_is_bounded_along_the_chunk(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_velocity": 0.25, "max_acceleration": 1000.0})).ready()
    steps = np.tile(b.pose, (16, 1))
    steps[0, 0] += 0.24 * 0.05
    steps[1:, 0] = steps[0, 0] + 0.2499 * 0.05
    assert rule(b, values=steps) is None
    steps[0, 0] = b.pose[0] + 0.2505 * 0.05
    reason = judged(b, values=steps)
    assert (reason.rule, reason.column) == (Rule.ABRUPTNESS, "tool.x velocity")
    assert reason.value == pytest.approx(0.2505)
    assert reason.sentence == "tool.x velocity 0.251 m/s is above its limit 0.250 m/s"


def test_the_first_step_is_judged_by_the_time_left_until_it(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_velocity": 0.25, "max_acceleration": 1000.0})).ready()
    target = b.pose + only(0, 0.009)
    assert rule(b, target=target, stamp_ns=b.stamp_ns - 30 * MS) is Rule.ABRUPTNESS
    assert rule(b, target=target) is None


def test_a_change_of_velocity_takes_place_within_one_tick(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_velocity": 9.0, "max_acceleration": 10.0})).ready()
    assert rule(b, velocity=only(0, 0.0999)) is None
    reason = judged(b, velocity=only(0, 0.1001))
    assert (reason.rule, reason.column) == (Rule.ABRUPTNESS, "tool.x velocity change in a tick")
    assert reason.limit == pytest.approx(0.1)


def test_a_corner_inside_the_chunk_is_a_change_of_velocity(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_velocity": 9.0, "max_acceleration": 10.0})).active()
    values = b.chunk(velocity=only(0, 0.09)).values
    values[3:, 0] = values[2, 0] - 0.05 * 0.02
    b.propose(values=values)
    b.ticks(20)
    assert b.last.output[0] == pytest.approx(values[2, 0], abs=0.002)
    values = b.chunk(velocity=only(0, 0.09)).values
    values[3:, 0] = values[2, 0] - 0.05 * 0.005
    b.propose(values=values)
    b.ticks(22)
    assert b.last.output[0] == pytest.approx(values[3, 0], abs=0.002)


def test_net_displacement_within_250_ms_is_bounded_along_the_chunk(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_window": 0.02})).active()
    slow = np.tile(b.pose, (16, 1))
    slow[:, 0] += 0.0799 * np.arange(1, 17) * 0.05
    b.propose(values=slow)
    assert [v.state for v in b.ticks(24)] == [State.ACTIVE] * 24
    b = bench(columns=kit.columns(tool_x={"max_window": 0.02})).active()
    fast = np.tile(b.pose, (16, 1))
    fast[:, 0] += 0.09 * np.arange(1, 17) * 0.05
    b.propose(values=fast)
    assert [v.state for v in b.ticks(24)] == [State.ACTIVE] * 24
    assert b.last.output[0] - 0.5 == pytest.approx(0.018, abs=0.001)


def test_a_target_beyond_the_window_at_once_is_refused(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_window": 0.004})).ready()
    assert rule(b, target=b.pose + only(0, 0.0039)) is None
    reason = judged(b, target=b.pose + only(0, 0.0041))
    assert reason.column == "tool.x change in 250 ms"


def test_a_bound_must_not_be_approached_faster_than_one_can_brake(bench, kit):
    columns = kit.columns(tool_x={"max_velocity": 1.0, "max_acceleration": 10.0, "upper": 0.51})
    b = bench(columns=columns).ready()
    assert rule(b, steps=1, times_s=np.array([0.1]), target=b.pose + only(0, 0.0095)) is None
    reason = judged(b, steps=1, times_s=np.array([0.1]), target=b.pose + only(0, 0.0096))
    assert (reason.rule, reason.column) == (Rule.ABRUPTNESS, "tool.x after braking")


def test_what_one_tick_can_stop_may_go_right_up_to_the_bound(bench, kit):
    columns = kit.columns(tool_x={"max_velocity": 1.0, "max_acceleration": 10.0, "upper": 0.504})
    b = bench(columns=columns).ready()
    assert rule(b, steps=1, times_s=np.array([0.09]), target=b.pose + only(0, 0.004)) is None
    assert rule(b, steps=1, times_s=np.array([0.08]), target=b.pose + only(0, 0.004)) is Rule.ABRUPTNESS


def test_half_the_change_of_one_tick_is_exactly_what_one_tick_can_stop(bench, kit):
    columns = kit.columns(tool_x={"max_acceleration": 8.0, "upper": 0.5 + 2.0**-9})
    b = bench(columns=columns, tick_rate_hz=128.0).ready()
    target = b.pose + only(0, 2.0**-9)
    assert rule(b, target=target, steps=1, times_s=np.array([2.0**-4])) is None
    assert rule(b, target=target, steps=1, times_s=np.array([2.0**-4 - 2.0**-20])) is Rule.ABRUPTNESS


def test_a_target_at_the_measured_pose_is_always_allowed_so_that_holding_recovers(bench):
    b = bench().active()
    b.follows = False
    b.pose = b.pose + only(0, 0.1)
    b.propose(target=b.pose + only(1, 0.005))
    verdict = b.tick()
    assert verdict.reason is None
    assert verdict.output[0] == pytest.approx(b.pose[0])


def test_a_target_further_than_the_tolerance_from_the_measured_pose_is_not(bench, kit):
    for distance, accepted in ((0.0039, True), (0.0041, False)):
        b = bench(columns=kit.columns(tool_y={"tolerance": 0.004})).active()
        b.follows = False
        b.pose = b.pose + only(0, 0.1)
        b.propose(target=b.pose + only(1, distance))
        assert (b.tick().reason is None) is accepted


def test_at_the_measured_pose_the_rest_of_the_chunk_is_still_judged_from_there(bench):
    b = bench().active()
    b.ticks(4)
    b.follows = False
    b.pose = b.pose + only(0, 0.1)
    values = np.tile(b.pose, (16, 1))
    values[0, 1] += 0.009
    assert rule(b, values=values, stamp_ns=b.stamp_ns - 30 * MS) is Rule.ABRUPTNESS


def test_a_chunk_that_goes_wrong_later_starts_from_what_was_last_emitted(bench):
    b = bench().active()
    b.follows = False
    held = b.last.output
    b.pose = b.pose + only(0, 0.005)
    values = np.tile(held, (16, 1))
    values[8:, 0] = 0.7
    b.propose(values=values)
    assert b.tick().output[0] == held[0]


# What is about to be emitted


def test_net_displacement_within_250_ms_is_bounded_across_chunks(bench, kit):
    for max_window, accepted in ((0.0251, True), (0.0249, False)):
        b = bench(columns=kit.columns(tool_x={"max_window": max_window})).active()
        verdicts = b.ticks(40, lambda i, b=b: b.propose(velocity=only(0, 0.1), steps=2) if i % 5 == 0 else None)
        assert all(verdict.reason is None for verdict in verdicts[:24])
        assert (verdicts[24].reason is None) is accepted
        assert accepted or verdicts[24].reason.column == "tool.x change in 250 ms"


def test_one_emission_moves_at_most_max_step(bench, kit):
    for max_step, accepted in ((0.00101, True), (0.00099, False)):
        columns = kit.columns(tool_x={"max_step": max_step, "max_acceleration": 1000.0})
        b = bench(columns=columns).active()
        reason = judged(b, velocity=only(0, 0.1))
        assert (reason is None) is accepted
        assert accepted or reason.column == "tool.x step"


def test_an_emission_after_a_gap_buys_nothing(bench, kit):
    b = bench(columns=kit.columns(tool_x={"max_velocity": 0.25, "max_acceleration": 1000.0})).active()
    b.propose(velocity=only(0, 0.2))
    b.tick()
    before = b.last.output[0]
    after = b.tick(after_ns=60 * MS).output[0]
    assert after - before <= 0.25 * 0.02


def test_the_output_reaches_each_step_at_its_time(bench):
    b = bench().active()
    start = b.pose.copy()
    chunk = b.chunk(velocity=only(0, 0.05))
    b.step(Proposal(chunk, 1))
    for _ in range(20):
        b.tick()
        elapsed_s = (b.stamp_ns - chunk.stamp_ns) / 1e9
        assert b.last.output[0] == pytest.approx(start[0] + 0.05 * elapsed_s, abs=1e-9)


def test_a_new_chunk_is_met_from_where_the_output_is(bench):
    b = bench().active()
    b.propose(velocity=only(0, 0.05))
    b.ticks(7)
    before = b.last.output
    chunk = b.chunk(target=before + only(0, 0.002))
    b.step(Proposal(chunk, 1))
    after = b.tick().output
    assert after[0] - before[0] == pytest.approx(0.002 * 0.01 / 0.05)


def test_a_step_less_than_half_a_tick_ahead_counts_as_reached(bench):
    for first_s, moved in ((0.01501, 0.0004 * 0.01 / 0.01501), (0.014999, 0.0)):
        b = bench().active()
        values = np.tile(b.last.output, (2, 1))
        values[0, 0] += 0.0004
        b.propose(values=values, steps=2, times_s=np.array([first_s, 0.115]))
        assert b.tick().output[0] - 0.5 == pytest.approx(moved)


@pytest.mark.parametrize("publishers", [0, 2, 3, True, 1.0, None, "1", np.ones(3)])
def test_a_joint_state_of_a_topic_with_another_number_of_publishers_is_a_hard_cause(bench, publishers):
    b = bench().active()
    b.measure(publishers=publishers)
    verdict = b.tick(measure=False)
    assert (verdict.state, verdict.transitions[-1].reason.rule) == (State.FALLBACK, Rule.STATE)
    assert not b.step(Arm(True)).accepted
    b.tick()
    b.propose()
    b.tick()
    assert b.step(Arm(True)).accepted, "it is alone again"
