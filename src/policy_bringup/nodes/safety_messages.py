"""The monitor's verdicts as messages: the safe action, the verdict, the state."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core.types import ActionChunk, ActionSpec
from policy_bringup.nodes import messages
from policy_bringup.safety.account import Account, Entry
from policy_bringup.safety.monitor import Verdict
from policy_bringup.safety.reasons import Transition

NOW_S = np.zeros(1)
SURE = np.zeros(1)


class SafetyMessages:
    """Turns verdicts into messages; the words come from safety/account.py."""

    def __init__(self, frame: str, action: ActionSpec) -> None:
        self._frame = frame
        self._names = action.names
        self._account = Account()

    @property
    def last_sentence(self) -> str:
        """The last one worth showing; "" before the first."""
        return self._account.last_sentence

    @property
    def late_ticks(self) -> int:
        """How many transitions a late tick has caused."""
        return self._account.late_ticks

    def action(self, verdict: Verdict, now_ns: int) -> JointTrajectory:
        """The one step to be at now. Its stamp is that of the action it came from, or now when the monitor holds."""
        assert verdict.output is not None
        stamp_ns = verdict.stamp_ns or now_ns
        chunk = ActionChunk("safety", stamp_ns, 0, self._names, NOW_S, verdict.output[None], SURE)
        return messages.table_message(chunk, self._frame)

    def is_news(self, verdict: Verdict) -> bool:
        """Whether a proposal was judged, or the state changed, since the last time this was asked."""
        return self._account.is_news(verdict)

    def verdict(self, verdict: Verdict, now_ns: int) -> DiagnosticArray:
        """First entry: the judgement of this tick; one more per transition."""
        entries = [_status(entry) for entry in self._account.judgement(verdict)]
        return messages.diagnostics(verdict.stamp_ns or now_ns, *entries)

    def state(self, verdict: Verdict, offered: str, now_ns: int) -> DiagnosticArray:
        """What everybody needs to know: the state, who is in charge, whom arming would put in charge, and why."""
        return messages.diagnostics(now_ns, _status(self._account.state(verdict, offered)))

    @staticmethod
    def story(transition: Transition) -> str:
        """One line for the log."""
        arrow = f"{transition.from_state.name} -> {transition.to_state.name}"
        return f"{arrow} ({transition.who}): {transition.reason.sentence}"


def _status(entry: Entry) -> DiagnosticStatus:
    return messages.status(entry.name, entry.level, entry.sentence, entry.values)
