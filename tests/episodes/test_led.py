from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.led import Interval, led_intervals
from policy_bringup.episodes.reader import open_bag

START, MS = 1_700_000_000_000_000_000, 1_000_000
ARM, JOINTS = "arm/state", "joint_states"


@pytest.fixture
def bag(tmp_path: Path) -> Callable[..., Path]:
    """A bag from 0 to `until_ms` in which the arm says these words at these times; by the publisher's clock, if given
    another time."""

    def write(said: Sequence[tuple[int, str]], until_ms: int = 2000, early_ms: int = 0) -> Path:
        folder = tmp_path / "episode_000003"
        folder.mkdir()
        entries = {name: graph.topic(name) for name in (ARM, "safety/estop")}
        writer = BagWriter(folder, [BagTopic(name, entry.type, entry.qos) for name, entry in entries.items()], {})
        for ms in (0, until_ms):
            writer.write("safety/estop", b"\x00\x01\x00\x00\x00", START + ms * MS, START + ms * MS)
        for ms, word in said:
            data = encoding.status(START, "arm", "ok", word, {"state": word} if word else {})
            writer.write(ARM, data, START + ms * MS, START + (ms - early_ms) * MS)
        writer.close({})
        return folder

    return write


def found(folder: Path) -> list[tuple[float, float]]:
    with open_bag(folder) as opened:
        return [((one.began_ns - START) / MS, (one.ended_ns - START) / MS) for one in led_intervals(opened)]


def steps(words: str) -> list[tuple[int, str]]:
    """One letter every 100 ms: g guided, h holding, f following."""
    names = {"g": "guided", "h": "holding", "f": "following"}
    return [(100 * i, names[letter]) for i, letter in enumerate(words)]


def test_an_interval_lasts_from_the_first_word_of_it_to_the_next_other_word(bag):
    assert found(bag(steps("hhggggfff"))) == [(200, 600)]


def test_two_intervals_stay_apart(bag):
    assert found(bag(steps("ghhgggh"))) == [(0, 100), (300, 600)]


def test_what_the_arm_said_last_counts_until_the_bag_ends(bag):
    ((began, ended),) = found(bag(steps("hg"), until_ms=300))
    assert (began, ended) == (100, pytest.approx(300, abs=1e-3))
    assert ended > 300


def test_an_arm_that_falls_silent_is_believed_as_long_as_the_graph_says(bag):
    stale_ms = 1e3 * graph.topic(ARM).stale_s
    assert found(bag([(0, "guided"), (100, "guided"), (1500, "guided"), (1600, "holding")])) == [
        (0, 100 + stale_ms),
        (1500, 1600),
    ]


def test_a_word_counts_from_when_it_was_published(bag):
    assert found(bag(steps("hgggh"), early_ms=7)) == [(93, 393)]


def test_words_of_another_form_are_no_guiding(bag):
    assert found(bag([(0, ""), (100, "guided"), (200, "")])) == [(100, 200)]


def test_a_bag_in_which_nobody_led_the_arm_says_so(bag):
    with pytest.raises(EpisodeError, match="nobody led the arm by hand, says topic 'arm/state'"):
        found(bag(steps("hhff")))


def test_a_bag_without_the_arms_word_says_so(bag):
    with pytest.raises(EpisodeError, match="topic 'arm/state' is missing"):
        found(bag([]))


def test_an_interval_holds_its_beginning_and_not_its_end():
    interval = Interval(10, 20)
    assert [interval.holds(ns) for ns in (9, 10, 19, 20)] == [False, True, True, False]
