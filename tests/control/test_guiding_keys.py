from __future__ import annotations

import pytest

from policy_bringup.control.guiding_keys import GuidingKeys

STALE_S, S = 0.5, 1_000_000_000


@pytest.fixture
def keys() -> GuidingKeys:
    """The arm has just been said to be led, at 1 s."""
    keys = GuidingKeys(STALE_S)
    keys.hear("guided", S)
    return keys


def test_one_press_asks_once_to_close_and_another_to_open(keys: GuidingKeys):
    asked = [keys.grip(gripper, S) for gripper in (0.0, -1.0, -1.0, 0.0, 1.0, 1.0, 0.0)]
    assert asked == [None, True, None, None, False, None, None]


def test_a_key_that_turns_around_without_a_pause_asks_again(keys: GuidingKeys):
    assert [keys.grip(gripper, S) for gripper in (-1.0, 1.0)] == [True, False]


@pytest.mark.parametrize("state", ["", "waiting", "holding", "following"])
def test_while_nobody_leads_the_arm_the_keys_ask_for_nothing(keys: GuidingKeys, state: str):
    keys.hear(state, S)
    assert not keys.led(S)
    assert keys.grip(-1.0, S) is None


def test_a_key_that_was_held_before_the_hand_led_the_arm_does_not_count():
    keys = GuidingKeys(STALE_S)
    assert keys.grip(-1.0, S) is None
    keys.hear("guided", S)
    assert keys.grip(-1.0, S) is None
    assert keys.grip(0.0, S) is None
    assert keys.grip(-1.0, S) is True


def test_each_side_of_what_the_arm_said_being_stale(keys: GuidingKeys):
    limit = S + round(STALE_S * S)
    assert keys.led(limit)
    assert not keys.led(limit + 1)
    assert keys.grip(-1.0, limit + 1) is None
