"""What a page shows of a bag: curves, who drove under which state of the safety monitor, and a few pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from policy_bringup.core import decoding
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Array
from policy_bringup.episodes.driving import ACTION, STATE, VERDICT, took_effect_ns
from policy_bringup.episodes.encoding import JOINT_STATE, STATUS, TABLE
from policy_bringup.episodes.film_strip import FilmStrip, Thumbnail, thumbnail
from policy_bringup.episodes.pictures import IMAGE_TYPES, picture
from policy_bringup.episodes.quality import spoken
from policy_bringup.episodes.reader import Bag, BagMessage, open_bag

PICTURES = 12
GRIPPER_WORDS = ("finger", "gripper")
"""A column whose name has one of these is drawn with the gripper: against a turn its few centimetres would be flat."""
JOINTS = "joint_states"
_TYPES = {JOINTS: JOINT_STATE, ACTION: TABLE, VERDICT: STATUS, STATE: STATUS}
_SOURCE = "/action"


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One column over time: times_s `(n,)` after the bag's start, values `(n,)`."""

    name: str
    times_s: Array
    values: Array


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Curves that share a unit."""

    title: str
    unit: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """From one time to another, s after the bag's start, something was so."""

    start_s: float
    end_s: float
    word: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the safety monitor's state."""

    time_s: float
    before: str
    after: str
    who: str
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """One episode.

    start_ns: ROS time of the bag's first message; strips: camera's topic -> its pictures; problems: what could not be
    read, one sentence each.
    """

    start_ns: int
    duration_s: float
    panels: tuple[Panel, ...]
    states: tuple[Span, ...]
    drivers: tuple[Span, ...]
    changes: tuple[Change, ...]
    strips: dict[str, tuple[Thumbnail, ...]]
    problems: tuple[str, ...]


def read_overview(folder: Path) -> Overview:
    """Reads an episode's bag once. What is damaged in it is left out and named in `problems`.

    Raises EpisodeError for a bag that cannot be opened.
    """
    with open_bag(folder) as bag:
        return _Collector(bag).overview()


def first_picture(folder: Path) -> Thumbnail | None:
    """Of an episode's first camera; None if it has none. Raises EpisodeError."""
    with open_bag(folder) as bag:
        cameras = [topic for topic in _cameras(bag) if bag.counts.get(topic, 0)]
        message = next(bag.messages(cameras[:1]), None) if cameras else None
        return None if message is None else _small(bag, message)


def _cameras(bag: Bag) -> list[str]:
    return sorted(topic for topic, type_name in bag.topics.items() if type_name in IMAGE_TYPES)


def _small(bag: Bag, message: BagMessage) -> Thumbnail:
    return thumbnail(took_effect_ns(message), picture(bag.decode(message), message.log_ns, message.topic).pixels)


class _Columns:
    """Named columns that grow row by row; a row need not have all of them."""

    def __init__(self) -> None:
        self._columns: dict[str, tuple[list[float], list[float]]] = {}

    def add(self, time_s: float, names: Sequence[str], values: Array) -> None:
        for name, value in zip(names, values.tolist(), strict=True):
            times, column = self._columns.setdefault(name, ([], []))
            times.append(time_s)
            column.append(value)

    def curves(self) -> list[Curve]:
        return [Curve(name, np.array(times), np.array(column)) for name, (times, column) in self._columns.items()]


class _Collector:
    def __init__(self, bag: Bag) -> None:
        self._bag = bag
        self._joints, self._actions, self._uncertainty = _Columns(), _Columns(), _Columns()
        self._said: list[tuple[float, str, str]] = []
        self._changes: list[Change] = []
        self._strips = {topic: FilmStrip(PICTURES) for topic in _cameras(bag)}
        self._sources = {
            topic: topic.removesuffix(_SOURCE)
            for topic, type_name in bag.topics.items()
            if type_name == TABLE and topic.endswith(_SOURCE) and topic != ACTION
        }
        self._unreadable: dict[str, tuple[int, str]] = {}
        self._problems: list[str] = []

    def overview(self) -> Overview:
        wanted = {*_TYPES, *self._strips, *self._sources}
        try:
            for message in self._bag.messages(wanted):
                self._try(message.topic, partial(self._take, message))
        except EpisodeError as error:
            self._problems.append(str(error))
        for topic, strip in self._strips.items():
            self._try(topic, strip.finish)
        for topic, (count, sentence) in self._unreadable.items():
            self._problems.append(
                f"{spoken(topic)}: {count} of the messages looked at cannot be read, the first because {sentence}"
            )
        end_s = (self._bag.end_ns - self._bag.start_ns) / 1e9
        self._said.sort()
        return Overview(
            self._bag.start_ns,
            end_s,
            tuple(panel for panel in self._panels() if panel.curves),
            _spans([(time_s, state) for time_s, state, _ in self._said], end_s),
            _spans([(time_s, driver or "nobody") for time_s, _, driver in self._said], end_s),
            tuple(self._changes),
            {topic: strip.pictures() for topic, strip in self._strips.items() if strip.pictures()},
            tuple(self._problems),
        )

    def _try(self, topic: str, work: Callable[[], None]) -> None:
        try:
            work()
        except EpisodeError as error:
            count, sentence = self._unreadable.get(topic, (0, str(error)))
            self._unreadable[topic] = count + 1, sentence

    def _take(self, message: BagMessage) -> None:
        topic = message.topic
        time_s = (took_effect_ns(message) - self._bag.start_ns) / 1e9
        if message.type != _TYPES.get(topic, message.type):
            raise EpisodeError(f"they are of type {message.type}")
        if topic in self._strips:
            self._strips[topic].offer(partial(_small, self._bag, message))
        elif topic == JOINTS:
            sample = decoding.joint_positions(self._bag.decode(message), message.log_ns)
            self._joints.add(time_s, sample.names, sample.values)
        elif topic in (VERDICT, STATE):
            self._hear(time_s, self._bag.decode(message))
        else:
            self._chunk(time_s, topic, self._bag.decode(message))

    def _chunk(self, time_s: float, topic: str, message: Any) -> None:
        chunk = decoding.chunk_of(message, topic, 0)
        if not chunk.values.size:
            return
        if topic == ACTION:
            self._actions.add(time_s, chunk.names, chunk.values[0])
        else:
            self._uncertainty.add(time_s, [self._sources[topic]], chunk.uncertainty.max(keepdims=True))

    def _hear(self, time_s: float, message: Any) -> None:
        for index, entry in enumerate(message.status):
            values = decoding.values_of(entry)
            if index == 0 and "state" in values:
                self._said.append((time_s, values["state"], decoding.driver_of(values)))
            elif entry.name == "transition":
                before, after = values.get("from", ""), values.get("to", "")
                self._changes.append(Change(time_s, before, after, values.get("who", ""), entry.message))

    def _panels(self) -> list[Panel]:
        joints, actions = self._joints.curves(), self._actions.curves()
        measured = [curve for curve in joints if _is_gripper(curve.name)]
        width = [Curve(f"{c.name} (commanded)", c.times_s, c.values) for c in actions if c.name == "gripper.width"]
        named = {"tool.x", "tool.y", "tool.z", "tool.rx", "tool.ry", "tool.rz", "gripper.width", "gripper.force"}
        return [
            Panel("Joint positions", "rad", tuple(curve for curve in joints if not _is_gripper(curve.name))),
            Panel("Gripper", "m", (*measured, *width)),
            Panel("Safe action: tool position", "m", _named(actions, "tool.x", "tool.y", "tool.z")),
            Panel("Safe action: tool rotation", "rad", _named(actions, "tool.rx", "tool.ry", "tool.rz")),
            Panel("Safe action: gripper force", "N", _named(actions, "gripper.force")),
            Panel("Safe action: other columns", "", tuple(curve for curve in actions if curve.name not in named)),
            Panel("Uncertainty, the largest of each chunk", "", tuple(self._uncertainty.curves())),
        ]


def _is_gripper(name: str) -> bool:
    return any(word in name for word in GRIPPER_WORDS)


def _named(curves: Sequence[Curve], *names: str) -> tuple[Curve, ...]:
    return tuple(curve for curve in curves if curve.name in names)


def _spans(said: Sequence[tuple[float, str]], end_s: float) -> tuple[Span, ...]:
    """What was said, each until something else was."""
    spans: list[Span] = []
    for time_s, word in said:
        if spans and spans[-1].word == word:
            continue
        if spans:
            spans[-1] = Span(spans[-1].start_s, time_s, spans[-1].word)
        spans.append(Span(time_s, end_s, word))
    return tuple(spans)
