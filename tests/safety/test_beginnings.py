"""What everything is before anything has happened, and what cannot be changed afterwards."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

from policy_bringup.core.config import build
from policy_bringup.core.errors import ConfigError
from policy_bringup.safety import account, limits, monitor, reasons, state
from policy_bringup.safety.reasons import Reason, Rule, State
from policy_bringup.safety.state import Source, start

VALUES = [
    found
    for module in (account, limits, monitor, reasons, state)
    for _, found in inspect.getmembers(module, dataclasses.is_dataclass)
    if found.__module__ == module.__name__
]
BOUNDS = {
    "tick_rate_hz": (10.0, 1000.0, "Hz"),
    "late_tick_s": (0.002, 0.2, "s"),
    "action_timeout_s": (0.02, 1.0, "s"),
    "state_timeout_s": (0.01, 0.5, "s"),
    "future_tolerance_s": (0.0, 0.1, "s"),
    "frozen_time_s": (0.05, 2.0, "s"),
    "following_time_s": (0.0, 2.0, "s"),
    "following_tolerance": (1.0, 10.0, ""),
    "joint_margin_rad": (0.0, 0.2, "rad"),
    "max_retries": (0, 10, ""),
    "retry_refill": (0.0, 1.0, ""),
    "gripper_open_after_s": (0.0, 5.0, "s"),
    "estop_heartbeat_s": (0.05, 1.0, "s"),
    "still_time_s": (0.1, 5.0, "s"),
    "still_tolerance_rad": (0.0, 0.05, "rad"),
    "resume_proposals": (1, 1000, ""),
    "resume_time_s": (0.0, 60.0, "s"),
    "resume_uncertainty": (0.0, 1.0, ""),
}
"""How far an operator may go, and in which unit: a change here is a change of what the monitor can be talked into."""


def test_all_that_the_monitor_remembers_before_anything_has_arrived(kit):
    made = kit.limits()
    memory = start(made)
    assert memory.limits is made
    assert memory.selected == "teleop"
    assert list(memory.sources) == ["teleop", "home", "policy"]
    assert (memory.state, memory.silent, memory.soft) == (State.INIT, True, False)
    assert memory.measured == Reason(Rule.STATE, "no joint state has arrived yet")
    for name in ("entered_ns", "now_ns", "ticked_ns", "stamp_now_ns", "lag_ns", "tries", "resume_count", "resume_ns"):
        assert getattr(memory, name) == 0
    for name in ("echo_ns", "near_ns", "still_ns", "dt_s", "budget"):
        assert getattr(memory, name) == 0
    assert (memory.judgement, memory.hazard, memory.echo, memory.astray, memory.estop_ns) == (None,) * 5
    assert (memory.records, memory.estop_pressed) == ((), frozenset())
    assert np.isposinf(memory.still_joints)
    assert memory.repeat.shape == (0,)


def test_a_reference_that_nobody_has_emitted_lies_within_the_bounds(kit):
    reference = start(kit.limits()).reference
    assert reference.value.tolist() == [0.25, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert reference.velocity.tolist() == [0.0] * 8
    assert reference.recent.tolist() == [reference.value.tolist()]


def test_a_source_that_has_said_nothing_has_no_plan_and_never_had_a_stamp():
    source = Source()
    assert (source.pending, source.calm) == (None, False)
    assert (source.stamp_ns, source.origin_ns, source.expires_ns) == (-1, 0, -1)
    assert source.times_s.shape == source.values.shape == (0,)


def test_an_account_begins_with_no_late_ticks_and_counts_every_one():
    late = reasons.Transition("monitor", State.ACTIVE, State.FALLBACK, Reason(Rule.LATE_TICK, "late"), 1, 2)
    armed = dataclasses.replace(late, reason=Reason(Rule.OPERATOR, "armed"))
    tally = account.Account()
    assert (tally.late_ticks, tally.last_sentence) == (0, "")
    verdict = monitor.Verdict(State.FALLBACK, None, 0, "", None, (late, armed, late), 0)
    tally.judgement(verdict)
    assert tally.late_ticks == 2


def test_the_first_verdict_is_news_unless_it_says_nothing():
    silent = monitor.Verdict(State.INIT, None, 0, "", None, (), 0)
    assert not account.Account().is_news(silent)
    assert account.Account().is_news(dataclasses.replace(silent, stamp_ns=1))
    assert account.Account().is_news(dataclasses.replace(silent, stamp_ns=-1))


def test_a_reason_without_a_number_has_neither_column_value_nor_limit():
    reason = Reason(Rule.FAULT, "why")
    assert (reason.column, reason.value, reason.limit) == ("", None, None)


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_what_travels_cannot_be_changed_on_the_way(kind):
    value = object.__new__(kind)
    for name in [field.name for field in dataclasses.fields(kind)] or ["anything"]:
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(value, name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("kind", [monitor.Verdict, state.Proposal, state.Measured])
def test_what_holds_arrays_is_equal_to_itself_alone(kind):
    names = [field.name for field in dataclasses.fields(kind)]
    one, other = (kind(**dict.fromkeys(names, 0)) for _ in range(2))
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_every_number_of_the_configuration_has_these_bounds(kit):
    fields = {field.name: field.metadata for field in dataclasses.fields(limits.SafetyConfig) if field.metadata}
    assert {name: (*each["bounds"], each["unit"]) for name, each in fields.items()} == BOUNDS


@pytest.mark.parametrize("name", BOUNDS)
def test_the_configuration_is_refused_just_outside_its_bounds_and_accepted_at_them(kit, name):
    good = dataclasses.asdict(kit.config)
    whole = isinstance(BOUNDS[name][0], int)
    for bound, outwards in zip(BOUNDS[name][:2], (-1, 1), strict=True):
        beyond = bound + outwards if whole else float(np.nextafter(bound, outwards * np.inf))
        assert getattr(build(limits.SafetyConfig, {**good, name: bound}, "f"), name) == bound
        with pytest.raises(ConfigError, match=f"f: {name}: must be "):
            build(limits.SafetyConfig, {**good, name: beyond}, "f")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(limits.SafetyConfig)])
def test_no_key_of_the_configuration_has_a_default(kit, name):
    good = dataclasses.asdict(kit.config)
    del good[name]
    with pytest.raises(ConfigError, match=f"key '{name}' is missing"):
        build(limits.SafetyConfig, good, "f")


def test_a_window_is_a_quarter_of_a_second_a_repeat_a_tenth_and_catching_up_a_twentieth():
    assert (limits.WINDOW_S, limits.REPEAT_S, limits.CATCH_UP) == (0.25, 0.1, 0.05)
