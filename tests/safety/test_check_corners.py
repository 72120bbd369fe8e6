"""Corners of the rules: found by changing their code and seeing no test fail."""

from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Proposal


def only(i, value):
    vector = np.zeros(8)
    vector[i] = value
    return vector


def judged(b, *args, **kwargs):
    """Why a chunk is refused on the next tick; None if it is accepted."""
    b.propose(*args, **kwargs)
    return b.tick().reason


@pytest.mark.parametrize("i", range(4))
def test_any_two_neighbouring_times_that_are_the_same_are_refused(bench, i):
    b = bench().ready()
    times_s = 0.05 * np.arange(1, 6)
    times_s[i + 1] = times_s[i]
    assert judged(b, steps=5, times_s=times_s).rule is Rule.TABLE


def test_an_action_without_a_step_is_refused_and_is_no_fault(bench):
    b = bench().ready()
    nothing = {"times_s": np.zeros(0), "values": np.zeros((0, 8)), "uncertainty": np.zeros(0)}
    assert judged(b, **nothing).rule is Rule.TABLE
    assert b.last.state is State.READY


def test_a_lower_bound_must_not_be_approached_faster_than_one_can_brake(bench, kit):
    columns = kit.columns(tool_x={"max_velocity": 1.0, "max_acceleration": 10.0, "lower": 0.49})
    b = bench(columns=columns).ready()
    assert judged(b, steps=1, times_s=np.array([0.1]), target=b.pose - only(0, 0.0095)) is None
    reason = judged(b, steps=1, times_s=np.array([0.1]), target=b.pose - only(0, 0.0096))
    assert (reason.rule, reason.column) == (Rule.ABRUPTNESS, "tool.x after braking")


def test_a_corner_is_a_change_from_the_velocity_before_it_not_from_the_first(bench):
    """0.1 m/s there and 0.1 back: each is allowed from rest, the turn is not, and the arm stands before it."""
    b = bench().active()
    values = np.tile(b.last.output, (3, 1))
    values[0, 0] += 0.005
    b.propose(values=values, steps=3)
    outputs = [verdict.output[0] for verdict in b.ticks(20)]
    assert b.last.state is State.ACTIVE
    assert outputs[-1] == pytest.approx(values[0, 0], abs=2e-3)


@pytest.mark.parametrize("value", [0.74, 0.76])
def test_the_numbers_of_a_reason_are_plain_ones(bench, value):
    """A recording or a report that writes them gets numbers, not the names of numpy's types."""
    b = bench().ready()
    lower = b.pose.copy()
    lower[0] = 1.0 - value if value < 0.75 else value
    reason = judged(b, target=lower)
    assert reason is not None
    assert {type(reason.value), type(reason.limit)} == {float}


def test_a_step_less_than_half_a_tick_ahead_counts_as_reached_on_later_ticks_too(bench):
    """At 50 ms the first step lies 0.4 of a tick ahead: the output turns to the next."""
    b = bench().active()
    values = np.tile(b.last.output, (2, 1))
    values[0, 0] += 0.0004
    b.propose(values=values, steps=2, times_s=np.array([0.054, 0.154]))
    outputs = [verdict.output[0] for verdict in b.ticks(5)]
    assert outputs[3] > outputs[2]
    assert outputs[4] < outputs[3]


def test_what_is_refused_where_it_would_be_emitted_has_not_been_accepted(bench, kit):
    """The path is good by itself, and too far from where the output was 250 ms ago; its stamp may come again."""
    b = bench(columns=kit.columns(tool_x={"max_window": 0.0249})).active()
    refused = None
    while refused is None:
        chunk = b.chunk(velocity=only(0, 0.1), steps=2)
        b.step(Proposal(chunk, 1))
        refused = b.tick().reason
    assert refused.column == "tool.x change in 250 ms"
    b.step(Proposal(chunk, 1))
    again = b.tick().reason
    assert again is None or again.rule is not Rule.SEQUENCE


@pytest.mark.parametrize(("field", "count"), [("joints", 7), ("columns", 8)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_number_of_a_joint_state_that_is_not_finite_refuses_all_of_it(bench, field, count, bad):
    for i in range(count):
        b = bench().ready()
        values = b.joints.copy() if field == "joints" else b.pose.copy()
        values[i] = bad
        assert not b.measure(**{field: values}).accepted
        b.propose()
        assert b.tick(measure=False).reason.rule is Rule.STATE
