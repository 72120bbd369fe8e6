"""One episode being recorded: what arrives is queued, counted, written and judged, and nothing vanishes uncounted.

The journal comes first, as a failure; then the bag. A thread of its own writes, so that a slow disk delays nobody, and
another one waits for the disk, so that what arrives meanwhile leaves this process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.journal import Journal, TopicCount, save_journal, to_record
from policy_bringup.episodes.quality import QualityMeter

HAND_OVER_S = 0.1
"""How often a chunk is closed: what arrived longer ago survives the end of this process, whatever the disk does."""
PICTURE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


class _Waiting(NamedTuple):
    topic: str
    data: bytes
    log_ns: int
    publish_ns: int


@dataclass(slots=True)
class _Tally:
    """Of one topic. sequence: the newest one seen, None before the first."""

    received: int = 0
    written: int = 0
    dropped: int = 0
    lost: int = 0
    sequence: int | None = None


class Recording:
    """Begins with its construction. `offer` from one thread; `stop` once.

    folder: the episode's, empty. queue_bytes: of messages that wait for the disk. flush_s: see config/recorder.yaml.
    Raises EpisodeError when the bag cannot be begun.
    """

    def __init__(
        self,
        folder: Path,
        topics: Sequence[BagTopic],
        journal: Journal,
        meter: QualityMeter,
        queue_bytes: int,
        flush_s: float,
    ) -> None:
        self.folder, self.journal = folder, journal
        self.failure: str | None = None
        self._meter, self._queue_bytes, self._flush_s = meter, queue_bytes, flush_s
        self._pictures = {topic.name for topic in topics if topic.type in PICTURE_TYPES}
        self._tallies = {topic.name: _Tally() for topic in topics}
        self._queue: deque[_Waiting] = deque()
        self._waiting_bytes = self._written_bytes = 0
        self._condition = threading.Condition()
        self._stopping = False
        save_journal(folder, journal)
        self._writer = BagWriter(folder, topics, to_record(journal))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._run, self._sync)]
        for thread in self._threads:
            thread.start()

    @property
    def counts(self) -> dict[str, TopicCount]:
        """By topic, so far."""
        with self._condition:
            broken = self.failure is not None  # then whatever was received and is not in the bag is dropped
            return {
                name: TopicCount(t.received, t.written, t.received - t.written if broken else t.dropped, t.lost)
                for name, t in self._tallies.items()
            }

    @property
    def written_bytes(self) -> int:
        """Of messages, so far."""
        return self._written_bytes

    def offer(self, topic: str, data: bytes, log_ns: int, publish_ns: int, sequence: int | None) -> None:
        """Takes a message in, without waiting. sequence: its number at its publisher, to see what DDS has lost; None
        where several publish. When the disk is too slow the oldest waiting picture makes room; other messages are
        dropped only when no picture waits. Dropped messages are counted."""
        with self._condition:
            tally = self._tallies[topic]
            tally.received += 1
            if sequence is not None:
                if tally.sequence is not None and sequence > tally.sequence + 1:
                    tally.lost += sequence - tally.sequence - 1
                tally.sequence = sequence
            if self.failure is not None or not self._make_room(len(data), topic in self._pictures):
                tally.dropped += 1
                return
            self._queue.append(_Waiting(topic, data, log_ns, publish_ns))
            self._waiting_bytes += len(data)
            self._condition.notify()

    def amend(self, journal: Journal) -> None:
        """Replaces the journal, e.g. with another outcome. Raises EpisodeError, and changes nothing, where it cannot be
        written: nobody is told of a label that is on no disk."""
        save_journal(self.folder, journal)
        self.journal = journal

    def stop(self, stopped_ns: int) -> Journal:
        """Writes what waits, closes the bag, and returns the journal with counts and quality verdict, saved.

        After a failure of the disk the bag is left as it is, for recovery; the journal is saved if that is possible,
        else it stays the one on disk, without counts, and `failure` says why.
        """
        with self._condition:
            self._stopping = True
            self._condition.notify()
        for thread in self._threads:
            thread.join()
        quality = self._meter.verdict()
        journal = replace(self.journal, stopped_ns=stopped_ns, counts=self.counts, quality=quality)
        if self.failure is None:
            try:
                self._writer.close(to_record(journal))
            except EpisodeError as error:
                self.failure = str(error)
        if self.failure is not None:
            self._writer.abandon()
            journal = replace(journal, note=self.failure)
        try:
            self.amend(journal)
        except EpisodeError as error:
            self.failure = self.failure or str(error)
        return journal

    def _make_room(self, size: int, is_picture: bool) -> bool:
        """Within the condition: whether a message of that size may wait. Only pictures are kept out by pictures."""
        excess = self._waiting_bytes + size - self._queue_bytes * (1 if is_picture else 2)
        kept: deque[_Waiting] = deque()
        while self._queue and excess > 0:
            oldest = self._queue.popleft()
            if oldest.topic in self._pictures:
                self._tallies[oldest.topic].dropped += 1
                self._waiting_bytes -= len(oldest.data)
                excess -= len(oldest.data)
            else:
                kept.append(oldest)
        self._queue.extendleft(reversed(kept))
        return excess <= 0

    def _run(self) -> None:
        try:
            self._drain()
        except EpisodeError as error:
            self._give_up(str(error))
        except Exception as error:  # the thread's edge: nothing above it would hear of it
            self._give_up(f"{self.folder.name}: writing failed ({error!r})")
        finally:
            self._ended.set()

    def _drain(self) -> None:
        handed_s = time.monotonic()
        while True:
            with self._condition:
                due_s = handed_s + HAND_OVER_S - time.monotonic()
                self._condition.wait_for(lambda: self._queue or self._stopping, max(0.0, due_s))
                message = self._queue.popleft() if self._queue else None
                ending = self._stopping
            if message is not None:
                self._write(message)
            elif ending:
                return
            if time.monotonic() - handed_s >= HAND_OVER_S:
                self._writer.hand_over()
                handed_s = time.monotonic()

    def _sync(self) -> None:
        while not self._ended.wait(self._flush_s):
            try:
                self._writer.sync()
            except EpisodeError as error:
                self._give_up(str(error))
                return

    def _write(self, message: _Waiting) -> None:
        self._writer.write(message.topic, message.data, message.log_ns, message.publish_ns)
        self._meter.observe(message.topic, message.data, message.log_ns)
        with self._condition:
            self._tallies[message.topic].written += 1
            self._waiting_bytes -= len(message.data)
        self._written_bytes += len(message.data)

    def _give_up(self, sentence: str) -> None:
        with self._condition:
            self.failure = self.failure or sentence
            self._queue.clear()


def lost_in_all(counts: Mapping[str, TopicCount]) -> int:
    """Messages that were sent and are not in the bag."""
    return sum(count.dropped + count.lost for count in counts.values())
