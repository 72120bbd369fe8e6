"""Reads the bag of one episode, without ROS: message by message in the order in which they were recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mcap.reader import SeekingReader
from mcap.summary import Summary

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.cdr import deserialised
from policy_bringup.episodes.encoding import typestore
from policy_bringup.episodes.layout import bag_path, graph_name

MAGIC = b"\x89MCAP0\r\n"
MAX_RECORD_BYTES = 2**30
"""A larger record is taken for a damaged length: reading it would fill the memory."""


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One recorded message.

    topic: as in core/graph.py. log_ns: ROS time at which it was recorded; publish_ns: the publisher's stamp of it.
    data: serialised (CDR).
    """

    topic: str
    type: str
    log_ns: int
    publish_ns: int
    data: bytes


class Bag:
    """An open bag; made by `open_bag`, closed by leaving its `with` block.

    topics: topic -> type, names as in core/graph.py. counts: topic -> number of messages. start_ns, end_ns: log times
    of the first and the last message.
    """

    def __init__(self, path: Path, stream: IO[bytes], reader: SeekingReader, summary: Summary) -> None:
        self.path = path
        self._stream = stream
        self._reader = reader
        self._names = {channel.topic: graph_name(channel.topic) for channel in summary.channels.values()}
        assert summary.statistics is not None  # open_bag looked
        self.start_ns = summary.statistics.message_start_time
        self.end_ns = summary.statistics.message_end_time
        self.topics: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        for number, channel in summary.channels.items():
            name, schema = self._names[channel.topic], summary.schemas.get(channel.schema_id)
            self.topics.setdefault(name, schema.name if schema is not None else "")
            count = summary.statistics.channel_message_counts.get(number, 0)
            self.counts[name] = self.counts.get(name, 0) + count

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """All messages, or those of some topics, by log time. Raises EpisodeError where the bag is damaged."""
        wanted = [absolute for absolute, name in self._names.items() if topics is None or name in topics]
        if not wanted:
            return
        found = self._reader.iter_messages(topics=wanted)
        log_ns = self.start_ns
        while True:
            try:
                entry = next(found, None)
            except Exception as error:  # whatever the library and its decompressors raise
                at = f"{(log_ns - self.start_ns) / 1e9:.1f} s after its start"
                raise EpisodeError(f"{self.path}: is damaged {at} ({_said(error)})") from error
            if entry is None:
                return
            schema, channel, message = entry
            log_ns = message.log_time
            kind = schema.name if schema is not None else ""
            yield BagMessage(self._names[channel.topic], kind, log_ns, message.publish_time, message.data)

    def decode(self, message: BagMessage) -> Any:
        """The message as an object with the fields of its ROS type. Raises EpisodeError, naming the topic."""
        if message.type not in typestore().types:
            raise EpisodeError(f"{self.path}: topic '{message.topic}' has messages of unknown type '{message.type}'")
        try:
            if bytes(message.data[:2]) not in (b"\x00\x00", b"\x00\x01"):
                raise ValueError("it is not CDR")
            return deserialised(message.data, message.type)
        except Exception as error:
            raise EpisodeError(
                f"{self.path}: a message on topic '{message.topic}' cannot be read as {message.type} ({_said(error)})"
            ) from error


def open_bag(folder: Path) -> Bag:
    """The bag of an episode, to be used in a `with` statement.

    Raises EpisodeError for a folder without one, a file that is no MCAP bag, one that was not closed, and an empty one.
    """
    path = _bag_file(folder)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _opened(path, stream)
    except BaseException:
        stream.close()
        raise


def _opened(path: Path, stream: IO[bytes]) -> Bag:
    start = stream.read(len(MAGIC))
    if not start:
        raise EpisodeError(f"{path}: is empty; `policy episodes recover` tells whether anything can be rebuilt")
    if start != MAGIC:
        raise EpisodeError(f"{path}: is not an MCAP bag")
    stream.seek(0)
    try:
        reader = SeekingReader(stream, validate_crcs=True, record_size_limit=MAX_RECORD_BYTES)
        summary = reader.get_summary()
    except Exception as error:
        raise _unclosed(path) from error
    if summary is None or summary.statistics is None:
        raise _unclosed(path)
    if summary.statistics.message_count == 0:
        raise EpisodeError(f"{path}: holds no messages")
    return Bag(path, stream, reader, summary)


def _bag_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: there is no such episode")
    found = sorted(folder.glob("*.mcap"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise EpisodeError(f"{folder}: holds {len(found)} bags ({names}); an episode has one")
    if not found:
        raise EpisodeError(f"{folder}: holds no bag; there should be {bag_path(folder).name}")
    return found[0]


def _unclosed(path: Path) -> EpisodeError:
    return EpisodeError(f"{path}: is truncated or was never closed; rebuild it with `policy episodes recover`")


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
