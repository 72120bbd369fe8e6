"""What the monitor is told and what it tells are values: they cannot be changed, and hold what is declared."""

from __future__ import annotations

import dataclasses

import pytest

from policy_bringup.safety.account import Entry
from policy_bringup.safety.limits import SafetyConfig
from policy_bringup.safety.monitor import Reply, Verdict
from policy_bringup.safety.reasons import Reason, State, Transition
from policy_bringup.safety.state import Arm, EStop, Fault, Gripped, Measured, Proposal, Reload, Reset, Source

WITH_ARRAYS = (Proposal, Measured, Gripped, Verdict)
PLAIN = (Arm, EStop, Reset, Fault, Reload, Reason, Transition, Reply, Entry, SafetyConfig)


@pytest.mark.parametrize("kind", [*WITH_ARRAYS, *PLAIN])
def test_a_value_cannot_be_changed_and_takes_nothing_that_is_not_declared(kind):
    assert kind.__dataclass_params__.frozen
    assert tuple(kind.__slots__) == tuple(field.name for field in dataclasses.fields(kind))


@pytest.mark.parametrize("kind", WITH_ARRAYS)
def test_what_holds_arrays_is_compared_by_identity(kind):
    """An array has no truth value: comparing two would raise."""
    assert kind.__eq__ is object.__eq__


def test_a_source_that_has_said_nothing_offers_nothing():
    source = Source()
    assert (source.pending, source.stamp_ns, source.origin_ns, source.expires_ns) == (None, -1, 0, -1)
    assert source.calm is False
    assert (source.times_s.size, source.values.size) == (0, 0)


def test_where_the_tool_is_measured_beyond_its_bounds_the_reference_is_at_the_bound(bench):
    b = bench()
    b.pose[0] = 0.76
    b.ticks(2)
    assert b.last.state is State.READY
    assert b.last.output[0] == 0.75
