"""What arrives is in the bag or in the counts."""

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mcap.reader import make_reader

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.bag_writer import BagTopic
from policy_bringup.episodes.journal import Journal, Outcome, Provenance, load_journal
from policy_bringup.episodes.layout import bag_path, begin_episode
from policy_bringup.episodes.quality import QualityMeter
from policy_bringup.episodes.quality_config import QualityConfig
from policy_bringup.episodes.recording import Recording, lost_in_all
from policy_bringup.episodes.recovery import is_clean, recover

ROOT = Path(__file__).resolve().parents[2]
PICTURE, STATE = "camera/front/image_raw", "joint_states"
TOPICS = [BagTopic(name, graph.topic(name).type, graph.topic(name).qos) for name in (PICTURE, STATE)]
PROVENANCE = Provenance("grasp", ("cube",), "7", "teleop", "sim", "c" * 64, "f" * 64, "0.1.0")
HEADER = b"\x00\x01\x00\x00"


@pytest.fixture
def begin(tmp_path: Path):
    """Begins a recording; every one has ended when the test has."""
    begun: list[Recording] = []

    def make(queue_bytes: int = 100_000_000, dataset: Path = tmp_path, flush_s: float = 0.1) -> Recording:
        meter = QualityMeter({}, load(ROOT / "config" / "quality.yaml", QualityConfig))
        recording = Recording(begin_episode(dataset), TOPICS, Journal(0, 1, PROVENANCE), meter, queue_bytes, flush_s)
        begun.append(recording)
        return recording

    yield make
    for recording in begun:
        if recording.folder.exists():
            recording.stop(2)


def in_bag(folder: Path) -> dict[str, list[int]]:
    """Log times by topic."""
    found: dict[str, list[int]] = {PICTURE: [], STATE: []}
    with bag_path(folder).open("rb") as stream:
        for _schema, channel, message in make_reader(stream).iter_messages():
            found[channel.topic.removeprefix("/")].append(message.log_time)
    return found


def test_everything_that_was_offered_is_in_the_bag_in_order(begin):
    recording = begin()
    for i in range(500):
        recording.offer(STATE, HEADER + bytes(60), 1000 + i, 900 + i, i + 1)
    journal = recording.stop(5000)
    assert in_bag(recording.folder)[STATE] == list(range(1000, 1500))
    count = journal.counts[STATE]
    assert (count.received, count.written, count.dropped, count.lost) == (500, 500, 0, 0)
    assert load_journal(recording.folder) == journal


def test_an_overload_costs_pictures_and_never_states_and_each_is_counted(begin):
    recording = begin(queue_bytes=3_000_000)
    picture = HEADER + os.urandom(900_000)
    for i in range(400):
        recording.offer(PICTURE, picture, i, i, i + 1)
        recording.offer(STATE, HEADER + bytes(60), i, i, i + 1)
    counts = recording.stop(1000).counts
    found = in_bag(recording.folder)
    assert counts[STATE].written == counts[STATE].received == len(found[STATE]) == 400
    assert counts[PICTURE].dropped > 0
    assert counts[PICTURE].received == counts[PICTURE].written + counts[PICTURE].dropped == 400
    assert len(found[PICTURE]) == counts[PICTURE].written
    assert lost_in_all(counts) == counts[PICTURE].dropped


def test_what_dds_has_lost_is_seen_in_the_sequence_numbers(begin):
    recording = begin()
    for sequence in (5, 6, 9, 10, 14):
        recording.offer(STATE, HEADER + bytes(60), sequence, sequence, sequence)
    count = recording.stop(100).counts[STATE]
    sent = 14 - 5 + 1
    assert count.written + count.dropped + count.lost == sent
    assert count.lost == 5


def test_a_publisher_that_starts_anew_has_lost_nothing(begin):
    recording = begin()
    for sequence in (5, 6, 1, 2):
        recording.offer(STATE, HEADER + bytes(60), sequence, sequence, sequence)
    assert recording.stop(100).counts[STATE].lost == 0


def test_without_sequence_numbers_nothing_is_claimed(begin):
    recording = begin()
    for i in (1, 2):
        recording.offer(STATE, HEADER + bytes(60), i, i, None)
    assert recording.stop(100).counts[STATE].lost == 0


def test_an_episode_is_a_failure_from_its_first_moment_until_somebody_says_otherwise(begin):
    recording = begin()
    assert load_journal(recording.folder).outcome is Outcome.FAILURE
    assert recording.stop(100).outcome is Outcome.FAILURE


def test_the_verdict_on_its_quality_is_kept(begin):
    recording = begin()
    journal = recording.stop(100)
    assert journal.quality is not None
    assert load_journal(recording.folder).quality == journal.quality


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_said_within_a_second_and_what_was_flushed_is_read_after_recovery(begin, tmp_path: Path):
    dataset = tmp_path / "small"
    dataset.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(dataset)], check=True)
    try:
        recording = begin(dataset=dataset)
        picture = HEADER + os.urandom(900_000)
        began = time.monotonic()
        sequence = 0
        while recording.failure is None and time.monotonic() - began < 30.0:
            sequence += 1
            recording.offer(PICTURE, picture, sequence, sequence, sequence)
            full = sequence * len(picture) > 8_000_000
            began = began if full else time.monotonic()
            time.sleep(0.002)
        assert time.monotonic() - began < 1.0
        assert "the disk is full" in recording.failure
        counts = recording.stop(100).counts[PICTURE]
        assert counts.received == counts.written + counts.dropped == sequence
        subprocess.run(["mount", "-o", "remount,size=32m", str(dataset)], check=True)  # somebody makes room
        journal = recover(recording.folder)
        assert is_clean(recording.folder)
        found = in_bag(recording.folder)[PICTURE]
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= 4  # of the eight that fit, all but those of the chunk for which there was no room
        rebuilt = journal.counts[PICTURE]
        assert (rebuilt.received, rebuilt.written, rebuilt.dropped) == (sequence, len(found), sequence - len(found))
        assert (journal.outcome, journal.provenance, journal.recovered) == (Outcome.FAILURE, PROVENANCE, True)
    finally:
        subprocess.run(["umount", "-l", str(dataset)], check=True)


def no_room(folder: Path, journal: Journal) -> None:
    raise EpisodeError(f"{folder}: the disk is full")


def test_where_there_is_no_room_even_for_the_journal_stopping_says_so_and_raises_nothing(begin, monkeypatch):
    recording = begin()
    recording.offer(STATE, HEADER + bytes(60), 1000, 900, 1)
    with monkeypatch.context() as patch:
        patch.setattr("policy_bringup.episodes.recording.save_journal", no_room)
        assert recording.stop(5000).counts[STATE].written == 1
    assert "the disk is full" in recording.failure
    assert not is_clean(recording.folder)
    assert recover(recording.folder).stopped_ns == 5000  # the bag had it
    assert in_bag(recording.folder)[STATE] == [1000]


def test_a_label_that_cannot_be_written_is_refused_and_not_believed(begin, monkeypatch):
    recording = begin()
    with monkeypatch.context() as patch:
        patch.setattr("policy_bringup.episodes.recording.save_journal", no_room)
        with pytest.raises(EpisodeError, match="the disk is full"):
            recording.amend(replace(recording.journal, outcome=Outcome.SUCCESS))
    assert recording.journal.outcome is Outcome.FAILURE
    recording.amend(replace(recording.journal, outcome=Outcome.SUCCESS))
    assert load_journal(recording.folder).outcome is Outcome.SUCCESS
