"""A new MCAP file that is only ever extended by whole records, and the tally of what went into it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import yaml
from mcap.data_stream import RecordBuilder
from mcap.records import Attachment, Channel, Schema
from mcap.writer import CompressionType, Writer

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.layout import naming
from policy_bringup.episodes.metadata import BagSummary, TopicEntry

PROFILE = "ros2"
QOS_KEY, HASH_KEY = "offered_qos_profiles", "topic_type_hash"
"""What rosbag2 writes to the metadata of a channel."""

_MAX_NS = 1 << 63


class BagFile:
    """A new MCAP file and the tally of what went into it. After an error it takes nothing more.

    Raises EpisodeError for every failure of the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failure = ""
        with naming(path):
            self._disk = _Disk(path)
        # Any: the library leaves half of its methods without types.
        self._writer: Any = Writer(cast(IO[Any], self._disk), compression=CompressionType.NONE)
        self._schemas: dict[tuple[str, str, bytes], int] = {}
        self._entries: dict[int, tuple[str, str, Mapping[str, str]]] = {}
        self._messages: dict[int, int] = {}
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        with self._guard():
            self._writer.start(PROFILE)

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """A message definition -> its id in this file; the same one twice is written once."""
        key = (name, encoding, data)
        if key not in self._schemas:
            with self._guard():
                number: int = self._writer.register_schema(name, encoding, data)
                self._schemas[key] = number
                self._put(Schema(id=number, data=data, encoding=encoding, name=name))
        return self._schemas[key]

    def add_channel(self, topic: str, type_name: str, schema: int, encoding: str, metadata: Mapping[str, str]) -> int:
        """A topic (absolute name) -> its channel's id in this file."""
        extra = dict(metadata)
        with self._guard():
            number: int = self._writer.register_channel(topic, encoding, schema, extra)
            self._put(Channel(id=number, topic=topic, message_encoding=encoding, metadata=extra, schema_id=schema))
        self._entries[number] = (topic, type_name, extra)
        self._messages[number] = 0
        return number

    def add_message(self, channel: int, data: bytes, log_ns: int, publish_ns: int, sequence: int = 0) -> None:
        """One message; it is on the disk after the next `flush`."""
        if not (0 <= log_ns < _MAX_NS and 0 <= publish_ns < _MAX_NS):
            # Refused before the library has written half a record into the chunk.
            raise EpisodeError(
                f"{self._path}: '{self._entries[channel][0]}' came with the times {log_ns} and {publish_ns} ns; "
                f"allowed are 0 to {_MAX_NS - 1}"
            )
        with self._guard():
            self._writer.add_message(channel, log_ns, data, publish_ns, sequence)
        self._messages[channel] += 1
        self._first_ns = log_ns if self._first_ns is None else min(self._first_ns, log_ns)
        self._last_ns = log_ns if self._last_ns is None else max(self._last_ns, log_ns)

    def add_metadata(self, name: str, record: Mapping[str, str]) -> None:
        """A metadata record, behind all messages so far."""
        with self._guard():
            self._writer.flush()
            self._writer.add_metadata(name, dict(record))

    def add_attachment(self, attachment: Attachment) -> None:
        """A file inside the file, as another tool put it there."""
        with self._guard():
            self._writer.flush()
            self._writer.add_attachment(
                attachment.create_time, attachment.log_time, attachment.name, attachment.media_type, attachment.data
            )

    def hand_over(self) -> None:
        """Closes the chunk: what is in it survives the end of this process, if not yet a power cut."""
        with self._guard():
            self._writer.flush()

    def sync(self) -> None:
        """Waits until the disk has what was handed over. May be called from a thread of its own."""
        with self._guard():
            self._disk.sync()

    def flush(self) -> None:
        """Both: the disk has everything."""
        self.hand_over()
        self.sync()

    def finish(self) -> None:
        """Index and footer; the file is complete and durable when this returns."""
        with self._guard():
            self._writer.finish()
            self._disk.sync()
        self.abandon()

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._failure = self._failure or f"{self._path}: is closed"
        self._disk.close()

    def summary(self, custom: Mapping[str, str]) -> BagSummary:
        """What metadata.yaml says about the file as it is now."""
        entries = (self._entry(number) for number in self._entries)
        return BagSummary(tuple(entries), self._first_ns, self._last_ns, custom)

    def _entry(self, number: int) -> TopicEntry:
        topic, type_name, metadata = self._entries[number]
        qos = _parse_qos(metadata.get(QOS_KEY, ""))
        return TopicEntry(topic, type_name, qos, metadata.get(HASH_KEY, ""), self._messages[number])

    def _put(self, record: Schema | Channel) -> None:
        builder: Any = RecordBuilder()
        record.write(builder)
        self._disk.write(builder.end())

    @contextmanager
    def _guard(self) -> Iterator[None]:
        if self._failure:
            raise EpisodeError(self._failure)
        try:
            with naming(self._path):
                yield
        except BaseException as error:
            # After an interruption the library's index no longer fits the file: an index like that is never written.
            known = isinstance(error, EpisodeError)
            self._failure = str(error) if known else f"{self._path}: writing it was interrupted"
            raise


class _Disk:
    """The stream below the library: without a buffer, and a write that fails leaves no half of it behind."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self._size = 0

    def write(self, data: bytes) -> int:
        descriptor = self._open()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except BaseException:
            with suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back here; waiting for the disk is `sync`."""

    def sync(self) -> None:
        os.fsync(self._open())

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor


def _parse_qos(text: str) -> list[dict[str, Any]]:
    try:
        profiles = yaml.safe_load(text)
    except yaml.YAMLError:  # a bag that somebody else wrote: its messages are worth more than its QoS
        return []
    return profiles if isinstance(profiles, list) else []
