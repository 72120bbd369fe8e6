"""What the monitor did, as the entries of a diagnostic message: the same words on the robot and in a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_bringup.safety.monitor import Verdict
from policy_bringup.safety.reasons import Reason, Rule, State, Transition


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `level` is ok, warn or error; values by key."""

    name: str
    level: str
    sentence: str
    values: Mapping[str, Any]


class Account:
    """Follows one monitor's verdicts, and remembers the last sentence worth showing."""

    def __init__(self) -> None:
        self._judged: tuple[int, Reason | None] = (0, None)
        self.last_sentence = ""
        self.late_ticks = 0

    def is_news(self, verdict: Verdict) -> bool:
        """Whether a proposal was judged, or the state changed, since the last time this was asked."""
        judged = (verdict.stamp_ns, verdict.reason)
        news = bool(verdict.transitions) or judged != self._judged
        self._judged = judged
        return news

    def judgement(self, verdict: Verdict) -> tuple[Entry, ...]:
        """First the judgement of this tick; one more entry per transition."""
        for transition in verdict.transitions:
            self.last_sentence = transition.reason.sentence
            self.late_ticks += transition.reason.rule is Rule.LATE_TICK
        values = {"state": verdict.state.name, "source": verdict.selected, "tries": verdict.tries}
        sentence = verdict.reason.sentence if verdict.reason is not None else "accepted"
        first = Entry("safety", level_of(verdict.state), sentence, {**values, **_reason(verdict.reason)})
        return (first, *(_transition(transition) for transition in verdict.transitions))

    def state(self, verdict: Verdict, offered: str) -> Entry:
        """What everybody needs to know: the state, who is in charge, whom arming would put in charge, and why."""
        values = {"state": verdict.state.name, "source": verdict.selected, "offered": offered}
        return Entry("safety", level_of(verdict.state), self.last_sentence or verdict.state.name, values)


def level_of(state: State) -> str:
    """How bad a state is: ok, warn or error."""
    if state >= State.FALLBACK:
        return "error"
    return "warn" if state in (State.INIT, State.RETRY) else "ok"


def _transition(transition: Transition) -> Entry:
    values: dict[str, Any] = {
        "who": transition.who,
        "from": transition.from_state.name,
        "to": transition.to_state.name,
        "now_ns": transition.now_ns,
        "stamp_ns": transition.stamp_ns,
        **_reason(transition.reason),
    }
    return Entry("transition", level_of(transition.to_state), transition.reason.sentence, values)


def _reason(reason: Reason | None) -> dict[str, Any]:
    if reason is None:
        return {"rule": "", "column": "", "value": "", "limit": ""}
    return {"rule": reason.rule.name, "column": reason.column, "value": reason.value, "limit": reason.limit}
