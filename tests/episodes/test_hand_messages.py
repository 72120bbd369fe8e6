from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.decoding import chunk_of, driver_of, values_of
from policy_bringup.episodes import encoding
from policy_bringup.episodes.cdr import deserialised
from policy_bringup.episodes.hand_messages import hand_let_go, hand_messages

BEGAN = 1_700_000_000_000_000_000
NAMES = ("x", "gripper.width")


@pytest.fixture
def messages():
    times = np.arange(101) / graph.topic("safety/action").rate_hz
    return list(hand_messages(BEGAN, times, np.column_stack([times, 0.08 - 0.01 * times]), NAMES, "base"))


def test_every_action_is_a_table_of_one_row_at_its_time(messages):
    actions = [message for message in messages if message.topic == "safety/action"]
    assert len(actions) == 101
    for i, message in enumerate(actions):
        table = deserialised(message.data, encoding.TABLE)
        chunk = chunk_of(table, "safety", 0)
        assert message.now_ns == chunk.stamp_ns == BEGAN + i * 10_000_000
        assert (chunk.names, table.header.frame_id) == (NAMES, "base")
        np.testing.assert_allclose(chunk.values, [[0.01 * i, 0.08 - 0.01 * (0.01 * i)]], atol=1e-15)
        assert chunk.uncertainty.tolist() == [0.0]


def test_the_hand_is_named_as_the_one_in_charge_at_the_states_rate_and_from_the_first_action_on(messages):
    states = [message for message in messages if message.topic == "safety/state"]
    rate = graph.topic("safety/state").rate_hz
    np.testing.assert_allclose(np.diff([message.now_ns for message in states]), 1e9 / rate)
    assert states[0].now_ns == BEGAN
    drivers = {driver_of(values_of(deserialised(each.data, encoding.STATUS).status[0])) for each in states}
    assert drivers == {"hand"}


def test_messages_come_by_time(messages):
    times = [message.now_ns for message in messages]
    assert times == sorted(times)


def test_afterwards_safety_has_its_word_again_or_nobody_is_in_charge():
    assert hand_let_go(7, b"what it said") == ("safety/state", b"what it said", 7)
    made = hand_let_go(BEGAN, None)
    (status,) = deserialised(made.data, encoding.STATUS).status
    assert driver_of(values_of(status)) == ""
