"""What the operator is told before arming, and two places from which the e-stop can be pressed."""

from __future__ import annotations

import pytest

from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, EStop, Proposal, Reset

MS = 1_000_000


def test_nothing_is_offered_before_a_source_has_proposed_anything(bench):
    b = bench().ready()
    assert b.monitor.offered == ""


def test_the_source_offered_is_the_one_that_arming_puts_in_charge(bench):
    b = bench().ready()
    b.propose(source="policy")
    b.tick()
    assert b.monitor.offered == "policy"
    b.propose(source="home")
    b.tick()
    assert b.monitor.offered == "home"
    assert b.step(Arm(True)).accepted
    b.tick()
    assert b.last.selected == "home"


def test_an_offer_ends_with_the_action_timeout(bench):
    b = bench().ready()
    b.propose(source="policy")
    b.tick()
    timeout_ns = round(b.limits.config.action_timeout_s * 1e9)
    while b.monitor.offered:
        b.tick()
    age_ns = b.now_ns - b.times[2] + b.period_ns
    assert timeout_ns < age_ns <= timeout_ns + 2 * b.period_ns


def test_a_source_with_a_rival_is_not_offered_although_it_was_a_moment_ago(bench):
    b = bench().active()
    b.propose()
    b.tick()
    b.propose(publishers=2)
    assert b.tick().state is State.FALLBACK
    assert b.monitor.offered == ""
    assert not b.step(Arm(True)).accepted
    b.propose()
    b.tick()
    assert b.step(Arm(True)).accepted


def test_a_rival_does_not_make_an_old_action_new_again(bench):
    b = bench().active()
    old = b.chunk()
    b.step(Proposal(old, 1))
    b.tick()
    b.step(Proposal(old, 2))
    b.tick()
    b.step(Proposal(old, 1))
    assert b.tick().reason.rule is Rule.SEQUENCE
    assert b.monitor.offered == ""


def test_a_rejection_of_another_kind_leaves_what_was_offered_before(bench):
    b = bench().ready()
    b.propose()
    b.tick()
    b.propose(uncertainty=None)
    assert b.tick().reason.rule is Rule.UNCERTAINTY
    assert b.monitor.offered == "policy"


@pytest.mark.parametrize(("first", "second"), [("box", "operator"), ("operator", "box")])
def test_releasing_one_e_stop_does_not_release_the_other(bench, first: str, second: str):
    b = bench().active()
    b.step(EStop(True, first))
    b.step(EStop(True, second))
    b.ticks(60)
    b.step(EStop(False, first))
    assert not b.step(Reset()).accepted
    b.step(EStop(False, second))
    assert b.step(Reset()).accepted
    assert b.tick().state is State.READY


def test_the_button_on_a_page_is_not_the_heartbeat_of_the_box(bench):
    b = bench(estop_heartbeat_s=0.25)
    b.ticks(3, lambda i: b.step(EStop(False, "operator")))
    assert b.last.state is State.INIT
    b.step(EStop(False, "box"))
    assert b.tick().state is State.READY
    b.ticks(30, lambda i: b.step(EStop(False, "operator")))
    assert b.last.state is State.ESTOP
