"""What the libraries below the recorder need alone to write the same messages: no counting, judging or syncing.

And what this package's own writer needs beside them: it hands chunks over early, and its bag is durable at the end.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as RosbagsWriter
from rosbags.typesys import Stores, get_typestore

from policy_bringup.core import graph
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.layout import begin_episode
from policy_bringup.episodes.reader import open_bag

COMPARED_BYTES = 1_000_000_000
FLUSH_BYTES = 10_000_000
"""How much the recorder writes in about the time after which it hands a chunk over."""


@dataclass
class Spent:
    """On writing alone, not on reading what is written. megabytes: of messages."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    megabytes: float = 0.0

    @property
    def cpu_s_per_gb(self) -> float:
        """Of all threads."""
        return self.cpu_s / self.megabytes * 1000

    @property
    def mb_per_s(self) -> float:
        """Messages alone."""
        return self.megabytes / self.wall_s

    @contextmanager
    def writing(self, size: int = 0) -> Iterator[None]:
        """Adds what happens within; size: bytes of the message that is written."""
        cpu, wall = time.process_time(), time.monotonic()
        yield
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.monotonic() - wall
        self.megabytes += size / 1e6


def compared(bag: Any) -> Iterator[Any]:
    """The first gigabyte, as the writers below get it."""
    left = COMPARED_BYTES
    for message in bag.messages():
        left -= len(message.data)
        if left < 0:
            return
        yield message


def plain_mcap(folder: Path, out: Path) -> Spent:
    """The mcap library alone, for the same messages."""
    spent = Spent()
    with open_bag(folder) as bag, out.open("wb") as stream:
        writer = McapWriter(stream, compression=CompressionType.NONE)
        writer.start("ros2")
        channels: dict[str, int] = {}
        for message in compared(bag):
            with spent.writing(len(message.data)):
                if message.topic not in channels:
                    schema = writer.register_schema(message.type, "ros2msg", b"")
                    channels[message.topic] = writer.register_channel(message.topic, "cdr", schema)
                writer.add_message(channels[message.topic], message.log_ns, message.data, message.publish_ns)
        with spent.writing():
            writer.finish()
    return spent


def plain_rosbags(folder: Path, out: Path) -> Spent:
    """The rosbags library alone, for the same messages."""
    store, spent = get_typestore(Stores.ROS2_JAZZY), Spent()
    with open_bag(folder) as bag:
        writer = RosbagsWriter(out, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.open()
        connections: dict[str, Any] = {}
        for message in compared(bag):
            with spent.writing(len(message.data)):
                if message.topic not in connections:
                    connections[message.topic] = writer.add_connection(message.topic, message.type, typestore=store)
                writer.write(connections[message.topic], message.log_ns, message.data)
        with spent.writing():
            writer.close()
    return spent


def own_writer(folder: Path, out: Path) -> Spent:
    """This package's writer alone, for the same messages, handed over as often as the recorder does."""
    spent, unflushed = Spent(), 0
    with open_bag(folder) as bag:
        topics = [BagTopic(name, kind, graph.topic(name).qos) for name, kind in bag.topics.items()]
        writer = BagWriter(begin_episode(out), topics, {})
        for message in compared(bag):
            with spent.writing(len(message.data)):
                writer.write(message.topic, message.data, message.log_ns, message.publish_ns)
                unflushed += len(message.data)
                if unflushed >= FLUSH_BYTES:
                    writer.hand_over()
                    unflushed = 0
        with spent.writing():
            writer.close({})
    return spent
