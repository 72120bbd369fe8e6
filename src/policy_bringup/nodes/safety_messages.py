"""The monitor's verdicts as messages: the safe action, the verdict, the state, and the sentence an operator reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core.types import ActionChunk, ActionSpec
from policy_bringup.nodes import messages
from policy_bringup.safety.monitor import Verdict
from policy_bringup.safety.reasons import Reason, Rule, State, Transition

NOW_S = np.zeros(1)
SURE = np.zeros(1)


class SafetyMessages:
    """Turns verdicts into messages, and remembers the last sentence worth showing."""

    def __init__(self, frame: str, action: ActionSpec) -> None:
        self._frame = frame
        self._names = action.names
        self._judged: tuple[int, Reason | None] = (0, None)
        self.last_sentence = ""
        self.late_ticks = 0

    def action(self, verdict: Verdict, now_ns: int) -> JointTrajectory:
        """The one step to be at now. Its stamp is that of the action it came from, or now when the monitor holds."""
        assert verdict.output is not None
        stamp_ns = verdict.stamp_ns or now_ns
        chunk = ActionChunk("safety", stamp_ns, 0, self._names, NOW_S, verdict.output[None], SURE)
        return messages.table_message(chunk, self._frame)

    def is_news(self, verdict: Verdict) -> bool:
        """Whether a proposal was judged, or the state changed, since the last time this was asked."""
        judged = (verdict.stamp_ns, verdict.reason)
        news = bool(verdict.transitions) or judged != self._judged
        self._judged = judged
        return news

    def verdict(self, verdict: Verdict, now_ns: int) -> DiagnosticArray:
        """First entry: the judgement of this tick; one more per transition."""
        for transition in verdict.transitions:
            self.last_sentence = transition.reason.sentence
            self.late_ticks += transition.reason.rule is Rule.LATE_TICK
        values = {"state": verdict.state.name, "source": verdict.selected, "tries": verdict.tries}
        sentence = verdict.reason.sentence if verdict.reason is not None else "accepted"
        entry = messages.status("safety", _level(verdict.state), sentence, {**values, **_reason(verdict.reason)})
        entries = [self._transition(transition) for transition in verdict.transitions]
        return messages.diagnostics(verdict.stamp_ns or now_ns, entry, *entries)

    def state(self, verdict: Verdict, offered: str, now_ns: int) -> DiagnosticArray:
        """What everybody needs to know: the state, who is in charge, whom arming would put in charge, and why."""
        values = {"state": verdict.state.name, "source": verdict.selected, "offered": offered}
        sentence = self.last_sentence or verdict.state.name
        return messages.diagnostics(now_ns, messages.status("safety", _level(verdict.state), sentence, values))

    @staticmethod
    def story(transition: Transition) -> str:
        """One line for the log."""
        arrow = f"{transition.from_state.name} -> {transition.to_state.name}"
        return f"{arrow} ({transition.who}): {transition.reason.sentence}"

    @staticmethod
    def _transition(transition: Transition) -> DiagnosticStatus:
        values: dict[str, Any] = {
            "who": transition.who,
            "from": transition.from_state.name,
            "to": transition.to_state.name,
            "now_ns": transition.now_ns,
            "stamp_ns": transition.stamp_ns,
            **_reason(transition.reason),
        }
        return messages.status("transition", _level(transition.to_state), transition.reason.sentence, values)


def _reason(reason: Reason | None) -> dict[str, Any]:
    if reason is None:
        return {"rule": "", "column": "", "value": "", "limit": ""}
    return {"rule": reason.rule.name, "column": reason.column, "value": reason.value, "limit": reason.limit}


def _level(state: State) -> str:
    if state >= State.FALLBACK:
        return "error"
    return "warn" if state in (State.INIT, State.RETRY) else "ok"
