"""The words of the monitor: states, rules, the record of a transition, and the sentence an operator reads."""

from dataclasses import dataclass
from enum import IntEnum

from policy_bringup.core.types import Column

State = IntEnum("State", "INIT READY ACTIVE RETRY FALLBACK ESTOP FAULT")
"""In order of severity: the worst wins."""
Rule = IntEnum(
    "Rule",
    "SOURCE TABLE FINITE SEQUENCE AGE STATE UNCERTAINTY BOUNDS ABRUPTNESS BREACH FOLLOWING LATE_TICK ESTOP OPERATOR "
    "RESUME FAULT",
)
"""What decided: the nine acceptance rules by number, then what else changes the state."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was refused or changed; column, value and limit where one number decided."""

    rule: Rule
    sentence: str
    column: str = ""
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state. who: a source, "operator" or "monitor"; stamp_ns: of the last accepted action (0: none)."""

    who: str
    from_state: State
    to_state: State
    reason: Reason
    now_ns: int
    stamp_ns: int


def outside(rule: Rule, column: Column, value: float, lower: float, upper: float) -> Reason:
    """`value` is not within [lower, upper], e.g. "tool.z 0.012 m is below its limit 0.020 m"."""
    side, limit, unit = "below" if value < lower else "above", lower if value < lower else upper, column.unit
    sentence = f"{column.name} {value:.3f} {unit} is {side} its limit {limit:.3f} {unit}"
    return Reason(rule, sentence, column.name, value, limit)
