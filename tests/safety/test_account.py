from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.safety.account import Account, level_of
from policy_bringup.safety.monitor import Verdict
from policy_bringup.safety.reasons import Reason, Rule, State, Transition

ARMED = Reason(Rule.OPERATOR, "armed for policy")
HIGH = Reason(Rule.BOUNDS, "tool.z 0.8 m is above its limit 0.7 m", "tool.z", 0.8, 0.7)
LATE = Reason(Rule.LATE_TICK, "the last tick is too long ago")


def verdict(state=State.ACTIVE, stamp_ns=7, reason=None, transitions=()) -> Verdict:
    return Verdict(state, np.zeros(8), stamp_ns, "policy", reason, transitions, 1)


def went(reason: Reason, to=State.ACTIVE) -> Transition:
    return Transition("operator", State.READY, to, reason, 123, 7)


def test_the_same_judgement_is_news_only_once():
    account = Account()
    assert account.is_news(verdict())
    assert not account.is_news(verdict())
    assert account.is_news(verdict(stamp_ns=8))
    assert account.is_news(verdict(stamp_ns=8, reason=HIGH))
    assert not account.is_news(verdict(stamp_ns=8, reason=HIGH))


def test_a_transition_is_always_news():
    account = Account()
    account.is_news(verdict())
    assert account.is_news(verdict(transitions=(went(ARMED),)))


def test_an_accepted_action_is_told_with_state_source_and_tries():
    (entry,) = Account().judgement(verdict())
    assert (entry.name, entry.level, entry.sentence) == ("safety", "ok", "accepted")
    assert entry.values == {
        **{"state": "ACTIVE", "source": "policy", "tries": 1},
        **{"rule": "", "column": "", "value": "", "limit": ""},
    }


def test_a_refused_action_is_told_with_what_decided():
    (entry,) = Account().judgement(verdict(State.RETRY, reason=HIGH))
    assert (entry.level, entry.sentence) == ("warn", HIGH.sentence)
    told = {key: entry.values[key] for key in ("rule", "column", "value", "limit")}
    assert told == {"rule": "BOUNDS", "column": "tool.z", "value": 0.8, "limit": 0.7}


def test_every_transition_is_an_entry_and_the_last_sentence_is_remembered():
    account = Account()
    entries = account.judgement(verdict(State.FALLBACK, transitions=(went(ARMED), went(LATE, State.FALLBACK))))
    assert [(entry.name, entry.level) for entry in entries] == [
        ("safety", "error"), ("transition", "ok"), ("transition", "error"),
    ]  # fmt: skip
    assert dict(entries[1].values) == {
        **{"who": "operator", "from": "READY", "to": "ACTIVE", "now_ns": 123, "stamp_ns": 7},
        **{"rule": "OPERATOR", "column": "", "value": None, "limit": None},
    }
    assert account.last_sentence == LATE.sentence
    assert account.late_ticks == 1


def test_the_state_says_who_could_take_over_and_the_last_sentence():
    account = Account()
    first = account.state(verdict(State.READY), "home")
    assert (first.name, first.level, first.sentence) == ("safety", "ok", "READY")
    assert dict(first.values) == {"state": "READY", "source": "policy", "offered": "home"}
    account.judgement(verdict(transitions=(went(ARMED),)))
    assert account.state(verdict(), "").sentence == "armed for policy"


@pytest.mark.parametrize(
    ("state", "level"),
    [("INIT", "warn"), ("READY", "ok"), ("ACTIVE", "ok"), ("RETRY", "warn"), ("FALLBACK", "error"), ("ESTOP", "error"),
     ("FAULT", "error")],
)  # fmt: skip
def test_every_state_has_its_level(state, level):
    assert level_of(State[state]) == level
