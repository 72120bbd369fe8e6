"""A bag that survives the end of its writer: everything flushed is on the disk, whole chunk by whole chunk.

Schemas and channels stand in front of the first chunk as well as in it, so that even a bag that was cut short says what
it was meant to hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.graph import Qos
from policy_bringup.episodes.bag_file import HASH_KEY, QOS_KEY, BagFile
from policy_bringup.episodes.journal import RECORD_NAME
from policy_bringup.episodes.layout import absolute_name, bag_path, lock, naming, sync_folder
from policy_bringup.episodes.metadata import (
    BagSummary,
    bag_information,
    offered_qos,
    to_yaml,
    write_metadata,
)

ROSBAG2_RECORD = "rosbag2"
"""Name of the metadata record in which rosbag2 keeps a copy of metadata.yaml."""


@dataclass(frozen=True, slots=True)
class BagTopic:
    """A topic to record. name: as in core/graph.py; type: e.g. "sensor_msgs/msg/JointState"."""

    name: str
    type: str
    qos: Qos


class BagWriter:
    """Writes the bag of one episode into `folder`, which it holds alone until it is closed.

    record: what the bag says about itself from its first byte on (journal.to_record). The file with all its topics is
    durable when this returns. Every method raises EpisodeError where the disk is full or fails; then the bag stays as
    it was after the last whole chunk, and recovery.recover completes it.
    """

    def __init__(self, folder: Path, topics: Sequence[BagTopic], record: Mapping[str, str]) -> None:
        self._folder = folder
        self._definitions = {topic.type: _definition(topic.type) for topic in topics}
        with ExitStack() as held:
            held.callback(os.close, lock(folder))
            self._file = BagFile(bag_path(folder))
            held.callback(self._file.abandon)
            self._channels = {topic.name: self._channel(topic) for topic in topics}
            self._file.add_metadata(RECORD_NAME, record)
            self._file.flush()
            with naming(folder):
                sync_folder(folder)
            self._held: ExitStack | None = held.pop_all()

    def write(self, topic: str, data: bytes, log_ns: int, publish_ns: int) -> None:
        """One message as it was received: CDR bytes, time of receipt and time of its source (ROS times, ns)."""
        channel = self._channels.get(topic)
        if channel is None:
            raise EpisodeError(
                f"{self._folder}: topic '{topic}' is not recorded here; it has {', '.join(self._channels)}"
            )
        self._file.add_message(channel, data, log_ns, publish_ns)

    def hand_over(self) -> None:
        """Everything written so far survives the end of this process when this returns, if not yet a power cut."""
        self._file.hand_over()

    def sync(self) -> None:
        """What was handed over so far is on the disk when this returns. May be called from a thread of its own: a disk
        can take its time."""
        self._file.sync()

    def flush(self) -> None:
        """Everything written so far is on the disk when this returns."""
        self._file.flush()

    def close(self, record: Mapping[str, str]) -> None:
        """Completes the bag: final record, index, footer, metadata.yaml, all durable. A second call does nothing."""
        held, self._held = self._held, None
        if held is None:
            return
        with held:
            summary = self._file.summary(record)
            self._file.add_metadata(RECORD_NAME, record)
            self._file.add_metadata(ROSBAG2_RECORD, rosbag2_record(self._folder, summary))
            self._file.finish()
            write_metadata(self._folder, summary)

    def abandon(self) -> None:
        """Lets go of the bag as it is, without index: recovery.recover completes it."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _channel(self, topic: BagTopic) -> int:
        text, type_hash = self._definitions[topic.type]
        schema = self._file.add_schema(topic.type, "ros2msg", text.encode())
        metadata = {QOS_KEY: to_yaml(offered_qos(topic.qos)), HASH_KEY: type_hash}
        return self._file.add_channel(absolute_name(topic.name), topic.type, schema, "cdr", metadata)


def rosbag2_record(folder: Path, summary: BagSummary) -> dict[str, str]:
    """The copy of metadata.yaml inside the bag, for a file that lost its folder."""
    return {"serialized_metadata": to_yaml(bag_information(folder, summary))}


@lru_cache(maxsize=1)
def _store() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


@lru_cache(maxsize=256)
def _definition(type_name: str) -> tuple[str, str]:
    """Message definition with all it is made of, and its type hash."""
    try:
        text, _ = _store().generate_msgdef(type_name, ros_version=2)
        return text, _store().hash_rihs01(type_name)
    except (KeyError, TypesysError) as error:
        raise EpisodeError(f"message type '{type_name}' cannot be recorded: its definition is not known") from error
