"""What the libraries below the recorder need alone to write the same messages: no counting, judging or syncing."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as RosbagsWriter
from rosbags.typesys import Stores, get_typestore

from policy_bringup.episodes.reader import open_bag

COMPARED_BYTES = 1_000_000_000


def compared(bag: Any) -> Iterator[Any]:
    """The first gigabyte, as the writers below get it."""
    left = COMPARED_BYTES
    for message in bag.messages():
        left -= len(message.data)
        if left < 0:
            return
        yield message


def plain_mcap(folder: Path, out: Path) -> float:
    """CPU seconds of the mcap library alone, for the same messages."""
    with open_bag(folder) as bag, out.open("wb") as stream:
        writer = McapWriter(stream, compression=CompressionType.NONE)
        writer.start("ros2")
        channels: dict[str, int] = {}
        spent = 0.0
        for message in compared(bag):
            began = time.process_time()
            if message.topic not in channels:
                schema = writer.register_schema(message.type, "ros2msg", b"")
                channels[message.topic] = writer.register_channel(message.topic, "cdr", schema)
            writer.add_message(channels[message.topic], message.log_ns, message.data, message.publish_ns)
            spent += time.process_time() - began
        began = time.process_time()
        writer.finish()
    return spent + time.process_time() - began


def plain_rosbags(folder: Path, out: Path) -> float:
    """CPU seconds of the rosbags library alone, for the same messages."""
    store = get_typestore(Stores.ROS2_JAZZY)
    spent = 0.0
    with (
        open_bag(folder) as bag,
        RosbagsWriter(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections: dict[str, Any] = {}
        for message in compared(bag):
            began = time.process_time()
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(message.topic, message.type, typestore=store)
            writer.write(connections[message.topic], message.log_ns, message.data)
            spent += time.process_time() - began
    return spent
