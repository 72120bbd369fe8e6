from __future__ import annotations

from policy_bringup.core.types import Column
from policy_bringup.safety.reasons import Rule, State, outside


def test_a_value_below_its_limit_reads_as_a_sentence():
    reason = outside(Rule.BOUNDS, Column("tool.z", "m"), 0.012, 0.020, 0.7)
    assert reason.sentence == "tool.z 0.012 m is below its limit 0.020 m"
    assert (reason.rule, reason.column, reason.value, reason.limit) == (Rule.BOUNDS, "tool.z", 0.012, 0.020)


def test_a_value_above_its_limit_reads_as_a_sentence():
    reason = outside(Rule.BOUNDS, Column("tool.z", "m"), 0.8, 0.020, 0.7)
    assert reason.sentence == "tool.z 0.800 m is above its limit 0.700 m"
    assert reason.limit == 0.7


def test_the_states_stand_in_order_of_severity():
    assert [state.name for state in sorted(State)] == ["INIT", "READY", "ACTIVE", "RETRY", "FALLBACK", "ESTOP", "FAULT"]


def test_the_first_nine_rules_are_the_acceptance_rules_in_order():
    names = ["SOURCE", "TABLE", "FINITE", "SEQUENCE", "AGE", "STATE", "UNCERTAINTY", "BOUNDS", "ABRUPTNESS"]
    assert [Rule(i).name for i in range(1, 10)] == names
