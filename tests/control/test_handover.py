from __future__ import annotations

import pytest

from policy_bringup.control.handover import AGAIN_NS, KEEP_NS, Handover

S = 1_000_000_000


@pytest.fixture
def handover() -> Handover:
    handover = Handover(5.0)
    handover.hear("READY", "", "")
    return handover


def test_at_first_it_is_silent(handover: Handover):
    assert handover.tick(False, 0) is None
    assert not handover.proposes(0)
    assert not handover.live


def test_pressing_proposes_at_once_and_letting_go_ends_it_when_nobody_took_it_up(handover: Handover):
    handover.tick(True, S)
    assert handover.proposes(S)
    handover.tick(False, S + KEEP_NS)
    assert handover.proposes(S + KEEP_NS)
    assert not handover.proposes(S + KEEP_NS + 1)


def test_in_charge_it_holds_for_as_long_as_that_lasts(handover: Handover):
    handover.hear("ACTIVE", "teleop", "teleop")
    assert handover.in_charge
    assert handover.proposes(1000 * S)
    handover.hear("RETRY", "teleop", "teleop")
    assert handover.proposes(2000 * S)
    handover.hear("FALLBACK", "", "")
    assert not handover.proposes(3000 * S)


def test_another_source_in_charge_is_left_alone(handover: Handover):
    handover.hear("ACTIVE", "policy", "")
    assert handover.live
    assert not handover.in_charge
    assert not handover.proposes(S)


def test_taking_offers_a_held_pose_and_arms_once_safety_accepts_it(handover: Handover):
    handover.take(S)
    assert handover.proposes(S)
    assert handover.tick(False, S) is None
    handover.hear("READY", "", "policy")
    assert handover.tick(False, S + 1) is None
    handover.hear("READY", "", "teleop")
    assert handover.tick(False, S + 2) is True
    assert handover.tick(False, S + 3) is None
    handover.hear("ACTIVE", "teleop", "teleop")
    assert handover.tick(False, S + 4) is None
    assert handover.sentence == "teleop has the arm"


def test_a_refused_request_is_made_again_after_a_moment(handover: Handover):
    handover.take(S)
    handover.hear("FALLBACK", "", "teleop")
    assert handover.tick(False, S) is True
    assert handover.tick(False, S + AGAIN_NS - 1) is None
    assert handover.tick(False, S + AGAIN_NS) is True


@pytest.mark.parametrize(("after_s", "goes_on"), [(5.0, True), (5.001, False)])
def test_taking_is_given_up_after_a_while_with_the_reason(handover: Handover, after_s: float, goes_on: bool):
    handover.take(S)
    handover.hear("ESTOP", "", "")
    assert handover.tick(False, S + round(after_s * S)) is None
    assert handover.proposes(S + round(after_s * S)) is goes_on
    if not goes_on:
        assert handover.sentence == "gave up: safety is ESTOP and offers nobody"


def test_handing_back_disarms_falls_silent_and_arms_for_the_other_source(handover: Handover):
    handover.hear("ACTIVE", "teleop", "teleop")
    handover.hand_back(S)
    assert not handover.proposes(S)
    assert handover.tick(False, S) is False
    assert handover.tick(False, S + 1) is None
    handover.hear("READY", "", "teleop")  # its last table has not expired yet
    assert handover.tick(False, S + 2) is None
    handover.hear("READY", "", "")
    assert handover.tick(False, S + 3) is None
    handover.hear("READY", "", "policy")
    assert handover.tick(False, S + 4) is True
    handover.hear("ACTIVE", "policy", "policy")
    assert handover.tick(False, S + 5) is None
    assert handover.sentence == "policy has the arm"
    assert not handover.proposes(S + 6)


def test_pressing_the_dead_man_calls_handing_back_off(handover: Handover):
    handover.hear("ACTIVE", "teleop", "teleop")
    handover.hand_back(S)
    handover.tick(False, S)
    handover.hear("READY", "", "policy")
    assert handover.tick(True, S + 1) is None
    assert handover.tick(False, S + 2) is None
    assert handover.proposes(S + 2)
    assert "called off" in handover.sentence


def test_without_a_source_to_hand_back_to_the_arm_is_left_disarmed_and_held(handover: Handover):
    handover.hear("ACTIVE", "teleop", "teleop")
    handover.hand_back(S)
    assert handover.tick(False, S) is False
    handover.hear("READY", "", "")
    assert handover.tick(False, 7 * S) is None
    assert handover.sentence == "gave up: safety is READY and offers nobody"


def test_an_arm_that_somebody_else_has_is_not_disarmed_by_handing_it_back(handover: Handover):
    handover.hear("ACTIVE", "policy", "policy")
    handover.hand_back(S)
    assert handover.tick(False, S) is None
    assert handover.sentence == "policy already has the arm"


def test_taking_a_running_arm_needs_no_arming(handover: Handover):
    handover.hear("ACTIVE", "policy", "policy")
    handover.take(S)
    assert handover.proposes(S)
    assert handover.tick(False, S) is None
    handover.hear("ACTIVE", "teleop", "teleop")
    handover.tick(False, S + 1)
    assert handover.sentence == "teleop has the arm"
    handover.take(S + 2)
    assert handover.sentence == "teleop already has the arm"
