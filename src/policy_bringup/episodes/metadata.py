"""metadata.yaml of a bag, version 9, as rosbag2 on Jazzy writes it: `ros2 bag info` and `play` start from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from policy_bringup.core.graph import Qos
from policy_bringup.episodes.layout import bag_path, write_durably

METADATA_FILE = "metadata.yaml"
ROS_DISTRO = "jazzy"
"""The distribution whose message definitions and type hashes the bags carry."""

_VERSION = 9
_NEVER = (1 << 63) - 1  # start of a bag without messages, ns: the end of rosbag2's clock
_FOREVER = {"sec": 9223372036, "nsec": 854775807}  # rmw's infinite duration


@dataclass(frozen=True, slots=True)
class TopicEntry:
    """One topic of a bag. name: absolute; qos: what `offered_qos` gives; messages: how many the bag holds."""

    name: str
    type: str
    qos: list[dict[str, Any]]
    type_hash: str
    messages: int


@dataclass(frozen=True, slots=True)
class BagSummary:
    """What metadata.yaml says. first_ns, last_ns: log times, None without messages; custom: the journal's record."""

    topics: tuple[TopicEntry, ...]
    first_ns: int | None
    last_ns: int | None
    custom: Mapping[str, str]


def offered_qos(qos: Qos) -> list[dict[str, Any]]:
    """The list of QoS profiles that rosbag2 keeps per topic, in its words."""
    return [
        {
            "history": "keep_last",
            "depth": qos.depth,
            "reliability": qos.reliability,
            "durability": qos.durability,
            "deadline": dict(_FOREVER),
            "lifespan": dict(_FOREVER),
            "liveliness": "automatic",
            "liveliness_lease_duration": dict(_FOREVER),
            "avoid_ros_namespace_conventions": False,
        }
    ]


def write_metadata(folder: Path, summary: BagSummary) -> None:
    """Writes metadata.yaml, whole or not at all, and durably. Raises EpisodeError."""
    information = {"rosbag2_bagfile_information": bag_information(folder, summary)}
    write_durably(folder / METADATA_FILE, to_yaml(information))


def bag_information(folder: Path, summary: BagSummary) -> dict[str, Any]:
    """What metadata.yaml holds, and the bag's own metadata record "rosbag2" once more."""
    file = bag_path(folder).name
    messages = sum(entry.messages for entry in summary.topics)
    first_ns = _NEVER if summary.first_ns is None else summary.first_ns
    start = {"nanoseconds_since_epoch": first_ns}
    duration = {"nanoseconds": 0 if summary.last_ns is None else summary.last_ns - first_ns}
    return {
        "version": _VERSION,
        "storage_identifier": "mcap",
        "duration": duration,
        "starting_time": start,
        "message_count": messages,
        "topics_with_message_count": [_topic(entry) for entry in summary.topics],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file],
        "files": [{"path": file, "starting_time": start, "duration": duration, "message_count": messages}],
        "custom_data": dict(summary.custom) or None,
        "ros_distro": ROS_DISTRO,
    }


def to_yaml(data: Any) -> str:
    """Plain YAML in the order given, without anchors and without folded lines: other readers take it as it stands."""
    return yaml.dump(data, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=1 << 20)


def _topic(entry: TopicEntry) -> dict[str, Any]:
    return {
        "topic_metadata": {
            "name": entry.name,
            "type": entry.type,
            "serialization_format": "cdr",
            "offered_qos_profiles": entry.qos,
            "type_description_hash": entry.type_hash,
        },
        "message_count": entry.messages,
    }


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
