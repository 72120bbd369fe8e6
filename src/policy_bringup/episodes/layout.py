"""Where an episode lies: <dataset>/episode_000042/{episode_000042_0.mcap, metadata.yaml, journal.yaml}.

`ros2 bag reindex` looks for files named after their folder with `_0`; another name would not be found.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError

PARTIAL = ".partial"
"""Ends the name of a file that is still being written; a crash may leave one behind, and nobody reads it."""

_EPISODE = re.compile(r"episode_(\d{6,})", re.ASCII)
_ABSOLUTE = frozenset(topic.name for topic in graph.TOPICS if topic.name.startswith("/"))
_FULL = (errno.ENOSPC, errno.EDQUOT)


def episode_name(number: int) -> str:
    """Folder name of an episode, e.g. "episode_000042"."""
    return f"episode_{number:06d}"


def episode_number(folder: Path) -> int:
    """The number in a folder's name. Raises EpisodeError for a folder that is not named like an episode."""
    match = _EPISODE.fullmatch(folder.name)
    if match is None:
        raise EpisodeError(f"{folder}: is not an episode; its folder's name must be like {episode_name(42)}")
    return int(match[1])


def bag_path(folder: Path) -> Path:
    """The bag file of an episode's folder."""
    return folder / f"{folder.name}_0.mcap"


def episodes(dataset: Path) -> tuple[Path, ...]:
    """The folders of all episodes, by number. Raises EpisodeError if there is no such dataset."""
    try:
        found = [entry for entry in dataset.iterdir() if _EPISODE.fullmatch(entry.name) and entry.is_dir()]
    except OSError as error:
        raise EpisodeError(f"{dataset}: cannot be read as a dataset ({error.strerror})") from error
    return tuple(sorted(found, key=episode_number))


def begin_episode(dataset: Path) -> Path:
    """Creates the folder of the next episode, and the dataset if need be; two recorders never get the same one.

    Raises EpisodeError if it cannot be created.
    """
    with naming(dataset):
        dataset.mkdir(parents=True, exist_ok=True)
        number = max((episode_number(folder) for folder in episodes(dataset)), default=-1) + 1
        while True:
            folder = dataset / episode_name(number)
            try:
                folder.mkdir()
            except FileExistsError:  # taken since, or by a file
                number += 1
                continue
            sync_folder(dataset)
            return folder


def absolute_name(topic: str) -> str:
    """A topic's name inside a bag: "joint_states" -> "/joint_states"."""
    return "/" + topic.lstrip("/")


def graph_name(absolute: str) -> str:
    """A topic's name in core/graph.py: "/joint_states" -> "joint_states", but "/diagnostics" stays."""
    return absolute if absolute in _ABSOLUTE else absolute.lstrip("/")


def write_durably(path: Path, text: str) -> None:
    """Writes a file whole or not at all, also through a power cut. Raises EpisodeError."""
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{PARTIAL}")
    with naming(path):
        try:
            with partial.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes created, renamed and removed names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(folder: Path) -> int:
    """A descriptor that holds an episode for one writer; closing it, or the end of the process, lets go.

    Raises EpisodeError if somebody else writes there.
    """
    with naming(folder, "opened"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise EpisodeError(f"{folder}: is being written by somebody else; wait until that is over") from error
    except OSError:
        pass  # a file system without locks: nothing better to be had
    return descriptor


@contextmanager
def naming(path: Path, done: str = "written") -> Iterator[None]:
    """Turns an OSError into an EpisodeError: `path` cannot be `done`, and why."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise EpisodeError(f"{path}: the disk is full") from error
        raise EpisodeError(f"{path}: cannot be {done} ({error.strerror or error})") from error
