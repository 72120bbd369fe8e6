"""Journals, and small real bags of joint states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from policy_bringup.core.graph import STATE
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.journal import Journal, Provenance, TopicCount, save_journal, to_record
from policy_bringup.episodes.layout import episode_name

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 10_000_000
JOINT_STATE = "sensor_msgs/msg/JointState"


@pytest.fixture(scope="session")
def store() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope="session")
def joint_state(store: Typestore) -> Callable[[int], bytes]:
    """CDR bytes of the n-th joint state, stamped START_NS + n * 10 ms, joint j at n + j / 10 rad."""

    def serialised(number: int) -> bytes:
        seconds, nanoseconds = divmod(START_NS + number * PERIOD_NS, 1_000_000_000)
        stamp = store.types["builtin_interfaces/msg/Time"](seconds, nanoseconds)
        header = store.types["std_msgs/msg/Header"](stamp, "base")
        positions, nothing = number + np.arange(7) / 10, np.zeros(0)
        names = [f"joint{j}" for j in range(7)]
        message = store.types[JOINT_STATE](header, names, positions, nothing, nothing)
        return bytes(store.serialize_cdr(message, JOINT_STATE))

    return serialised


@pytest.fixture
def journal() -> Journal:
    """An episode that has just begun."""
    provenance = Provenance("grasp", ("cube", "tray"), "Zoë", "teleop", "sim", "c0ffee", "f00d", "0.3.0")
    return Journal(42, START_NS, provenance)


@pytest.fixture
def write_bag(
    tmp_path: Path, journal: Journal, joint_state: Callable[[int], bytes]
) -> Callable[..., tuple[Path, list[tuple[int, int]]]]:
    """Writes an episode of joint states -> its folder, and after every flush (bytes, messages) on the disk.

    A bag that is not closed is let go as the end of its process would leave it.
    """

    def write(
        messages: int = 60, flush_every: int = 5, close: bool = True, dataset: Path = tmp_path / "dataset"
    ) -> tuple[Path, list[tuple[int, int]]]:
        folder = dataset / episode_name(journal.episode)
        folder.mkdir(parents=True)
        save_journal(folder, journal)
        writer = BagWriter(folder, [BagTopic("joint_states", JOINT_STATE, STATE)], to_record(journal))
        file = folder / f"{folder.name}_0.mcap"
        flushed = [(file.stat().st_size, 0)]
        for number in range(messages):
            log_ns = START_NS + number * PERIOD_NS
            writer.write("joint_states", joint_state(number), log_ns + 2_000_000, log_ns + 1_000_000)
            if (number + 1) % flush_every == 0:
                writer.flush()
                flushed.append((file.stat().st_size, number + 1))
        if close:
            counts = {"joint_states": TopicCount(messages, messages, 0, 0)}
            final = replace(journal, stopped_ns=START_NS + messages * PERIOD_NS, counts=counts)
            writer.close(to_record(final))
            save_journal(folder, final)
        else:
            writer.abandon()
        return folder, flushed

    return write
