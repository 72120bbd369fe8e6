"""What is known about an episode besides its messages: label, provenance, losses and the verdict on its quality.

It is written first, with the outcome `failure` until somebody confirms a success, lies beside the bag as journal.yaml
(where a label may change later) and inside the bag as a metadata record, so that it survives whatever happens to one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import yaml

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.layout import write_durably

JOURNAL_FILE = "journal.yaml"
RECORD_NAME = "policy_bringup"
"""Name of the MCAP metadata record; the last one in a bag wins."""

_OUTCOME = "outcome"  # plain in a record, for people; everything else is JSON there
T = TypeVar("T")


class Outcome(Enum):
    """The label of an episode."""

    FAILURE = "failure"
    SUCCESS = "success"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an episode comes from. driver: who was meant to drive: "policy", "expert", "teleop", "hand", or
    "replay" of another episode's motion."""

    task: str
    objects: tuple[str, ...]
    operator: str
    driver: str
    mode: str
    contract_sha256: str
    config_sha256: str
    code_version: str


@dataclass(frozen=True, slots=True)
class TopicCount:
    """What became of one topic's messages: received = written + dropped; lost: by DDS, before they were received."""

    received: int
    written: int
    dropped: int
    lost: int


@dataclass(frozen=True, slots=True)
class Quality:
    """The verdict on a recording. reasons: why to redo it, one phrase each; figures: what was measured."""

    ok: bool
    reasons: tuple[str, ...]
    figures: Mapping[str, float]

    @property
    def sentence(self) -> str:
        """ "ok" or "redo because ..."."""
        return "ok" if self.ok else f"redo because {'; '.join(self.reasons)}"


@dataclass(frozen=True, slots=True)
class Journal:
    """One episode's journal. Times are ROS times in ns; counts by the topic's name in core/graph.py.

    stopped_ns: None while it is being recorded. recovered: the bag was rebuilt after a crash.
    """

    episode: int
    started_ns: int
    provenance: Provenance
    outcome: Outcome = Outcome.FAILURE
    stopped_ns: int | None = None
    counts: Mapping[str, TopicCount] = field(default_factory=dict)
    quality: Quality | None = None
    recovered: bool = False
    note: str = ""


def save_journal(folder: Path, journal: Journal) -> None:
    """Writes journal.yaml, whole or not at all, and durably. Raises EpisodeError."""
    text = yaml.safe_dump(_plain(journal), sort_keys=False, allow_unicode=True, width=120)
    write_durably(folder / JOURNAL_FILE, text)


def load_journal(folder: Path) -> Journal:
    """Reads journal.yaml. Raises EpisodeError that names the file and the key."""
    path = folder / JOURNAL_FILE
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EpisodeError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    return _journal(data, str(path))


def to_record(journal: Journal) -> dict[str, str]:
    """The journal as the texts of a metadata record: the outcome plain, everything else as JSON."""
    return {key: value if key == _OUTCOME else json.dumps(value) for key, value in _plain(journal).items()}


def from_record(record: Mapping[str, str]) -> Journal:
    """The journal of a bag's metadata record. Raises EpisodeError that names the key."""
    where = f"metadata record '{RECORD_NAME}'"
    data: dict[str, Any] = {}
    for key, text in record.items():
        try:
            data[key] = text if key == _OUTCOME else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EpisodeError(f"{where}: {key}: is not valid JSON ({error})") from error
    return _journal(data, where)


def _plain(journal: Journal) -> dict[str, Any]:
    provenance = {spec.name: getattr(journal.provenance, spec.name) for spec in fields(Provenance)}
    return {
        "episode": journal.episode,
        "started_ns": journal.started_ns,
        "outcome": journal.outcome.value,
        "provenance": {**provenance, "objects": list(journal.provenance.objects)},
        "stopped_ns": journal.stopped_ns,
        "counts": {topic: asdict(count) for topic, count in journal.counts.items()},
        "quality": None if journal.quality is None else _plain_quality(journal.quality),
        "recovered": journal.recovered,
        "note": journal.note,
    }


def _plain_quality(quality: Quality) -> dict[str, Any]:
    # What is measured comes as numpy's numbers, which neither YAML nor JSON can write.
    figures = {name: float(value) for name, value in quality.figures.items()}
    return {"ok": bool(quality.ok), "reasons": list(quality.reasons), "figures": figures}


def _journal(data: Any, where: str) -> Journal:
    group = _group(data, where, Journal)
    readers: dict[str, Callable[[Any, str], Any]] = {
        "episode": _whole,
        "started_ns": _whole,
        "provenance": _provenance,
        "outcome": _outcome,
        "stopped_ns": lambda value, at: None if value is None else _whole(value, at),
        "counts": lambda value, at: _entries(value, at, _count),
        "quality": lambda value, at: None if value is None else _quality(value, at),
        "recovered": _flag,
        "note": _text,
    }
    return Journal(**{key: readers[key](value, f"{where}: {key}") for key, value in group.items()})


def _provenance(data: Any, where: str) -> Provenance:
    group = _group(data, where, Provenance)
    read: dict[str, Any] = {
        key: _texts(value, f"{where}.{key}") if key == "objects" else _text(value, f"{where}.{key}")
        for key, value in group.items()
    }
    return Provenance(**read)


def _count(data: Any, where: str) -> TopicCount:
    return TopicCount(
        **{key: _whole(value, f"{where}.{key}") for key, value in _group(data, where, TopicCount).items()}
    )


def _quality(data: Any, where: str) -> Quality:
    group = _group(data, where, Quality)
    figures = _entries(group["figures"], f"{where}.figures", _number)
    return Quality(_flag(group["ok"], f"{where}.ok"), _texts(group["reasons"], f"{where}.reasons"), figures)


def _group(data: Any, where: str, cls: type) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise _refusal(data, where, "a group of keys")
    known = {spec.name: spec for spec in fields(cls)}
    for key in data:
        if key not in known:
            raise EpisodeError(f"{where}: unknown key '{key}'; allowed are {', '.join(known)}")
    # The outcome has a default in memory only: a label that is on no disk is not guessed.
    required = {"episode", "started_ns", "provenance", "outcome"} if cls is Journal else set(known)
    for key in known:
        if key in required and key not in data:
            raise EpisodeError(f"{where}: key '{key}' is missing")
    return data


def _entries(data: Any, where: str, read: Callable[[Any, str], T]) -> dict[str, T]:
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise _refusal(data, where, "named entries")
    return {key: read(value, f"{where}.{key}") for key, value in data.items()}


_OUTCOMES = ", ".join(outcome.value for outcome in Outcome)


def _outcome(value: Any, where: str) -> Outcome:
    if value not in [outcome.value for outcome in Outcome]:
        raise _refusal(value, where, f"one of {_OUTCOMES}")
    return Outcome(value)


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _refusal(value, where, "a whole number from 0 on")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _refusal(value, where, "a number")
    return float(value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _refusal(value, where, "true or false")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _refusal(value, where, "a text")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _refusal(value, where, "a list of texts")
    return tuple(_text(item, f"{where}[{index}]") for index, item in enumerate(value))


def _refusal(value: Any, where: str, allowed: str) -> EpisodeError:
    return EpisodeError(f"{where}: must be {allowed}, found {repr(value)[:60]}")
