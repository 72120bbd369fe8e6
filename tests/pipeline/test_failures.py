from __future__ import annotations

import pytest

from policy_bringup.pipeline.failures import CLASSES, WRONG_APPROACH_M, alarmed, failure_class, failure_sentence


def test_a_success_has_no_class_even_if_it_was_stopped_at_the_end(make_attempt, stopped):
    assert failure_class(make_attempt()) == failure_sentence(make_attempt()) == ""
    assert failure_class(stopped("UNCERTAINTY", success=True)) == ""


@pytest.mark.parametrize("rule", ["UNCERTAINTY", "AGE", "FINITE"])
def test_doubt_silence_and_nonsense_are_the_monitors(stopped, rule):
    attempt = stopped(rule)
    assert failure_class(attempt) == "monitor"
    assert alarmed(attempt)
    assert failure_sentence(attempt) == f"because of {rule}"


@pytest.mark.parametrize("rule", ["BOUNDS", "ABRUPTNESS", "BREACH", "FOLLOWING"])
def test_limits_are_motor_failures(stopped, rule):
    assert failure_class(stopped(rule)) == "motor"
    assert not alarmed(stopped(rule))


def test_silence_because_chunks_would_jump_is_a_motor_failure_and_refusing_pictures_is_not(stopped):
    assert failure_class(stopped("AGE", jumps=5)) == "motor"
    refusing = stopped("AGE", jumps=5, unanswered=9, unanswered_reason="front is black")
    assert failure_class(refusing) == "monitor"
    assert failure_sentence(refusing) == "because of AGE (front is black)"


def test_never_let_move(make_attempt):
    waiting = make_attempt(success=False, time_s=0.0, closed_m=None, outcome="untouched")
    assert failure_class(waiting) == "monitor"
    assert alarmed(waiting)
    assert failure_class(make_attempt(success=False, time_s=0.0, jumps=80, closed_m=None)) == "motor"


def test_an_arm_that_cannot_follow_is_a_motor_failure(make_attempt):
    attempt = make_attempt(success=False, arm_refusals=1, arm_reason="no solution", closed_m=0.2)
    assert (failure_class(attempt), failure_sentence(attempt)) == ("motor", "no solution")


@pytest.mark.parametrize(("closed_m", "kind"), [(WRONG_APPROACH_M, "grasp"), (WRONG_APPROACH_M + 1e-6, "perception")])
def test_where_it_closed_tells_perception_from_grasp(make_attempt, closed_m, kind):
    attempt = make_attempt(success=False, closed_m=closed_m, peak_m=0.0, outcome="untouched")
    assert failure_class(attempt) == kind
    assert failure_sentence(attempt) == "closed 20 mm beside the object; the object: untouched"


def test_a_slip_was_lifted_and_lost(make_attempt):
    slip = make_attempt(success=False, peak_m=0.06, outcome="dropped")
    assert (failure_class(slip), failure_sentence(slip)) == ("grasp", "slip: lifted 60 mm, then lost")


def test_still_holding_it_at_the_end_or_never_closing_is_a_timeout(make_attempt):
    assert failure_class(make_attempt(success=False, peak_m=0.06, outcome="not lifted long enough")) == "timeout"
    idle = make_attempt(success=False, closed_m=None, peak_m=0.0, outcome="untouched")
    assert (failure_class(idle), failure_sentence(idle)) == ("timeout", "never closed; the object: untouched")


def test_every_class_is_explained(stopped, make_attempt):
    assert set(CLASSES) == {"perception", "motor", "grasp", "monitor", "timeout"}
