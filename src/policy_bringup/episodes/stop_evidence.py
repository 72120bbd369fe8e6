"""What a bag tells about stops: everything that safety said of itself, and how the arm moved around some moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from policy_bringup.core.decoding import DRIVEN, chunk_of, driver_of, joint_positions, values_of
from policy_bringup.core.types import Array
from policy_bringup.episodes.driving import ACTION, STATE, VERDICT, took_effect_ns
from policy_bringup.episodes.overview import JOINTS
from policy_bringup.episodes.reader import Bag, BagMessage
from policy_bringup.episodes.stop_motion import Times
from policy_bringup.episodes.stop_record import STOPS, Change

SILENT = "SILENT"
"""After a change: nothing was heard of safety any more, though it tells its state ten times a second."""
ACCEPTED = "accepted"
SILENT_S = 1.0
BEFORE_S, AFTER_S = 2.0, 10.0
"""What is looked at around a stop."""
SAME_S = 0.3
"""A change that the state tells of, and no verdict within this time, has lost its record."""


class Said(NamedTuple):
    """What safety said of itself at `now_ns` (ROS time)."""

    now_ns: int
    state: str
    driver: str
    sentence: str


class Moment(NamedTuple):
    """One change of state; tries: as said with it."""

    now_ns: int
    change: Change
    tries: int


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Columns over time, `(t,)` ns and `(t, n)`."""

    times_ns: Times
    names: tuple[str, ...]
    table: Array

    def of(self, names: Sequence[str]) -> Array | None:
        """Some columns `(t, k)`; None if one is missing."""
        found = [self.names.index(name) for name in names if name in self.names]
        return self.table[:, found] if len(found) == len(names) and found else None


class Heard:
    """Everything that safety said in a bag."""

    def __init__(self, bag: Bag) -> None:
        self.said: list[Said] = []
        self.verdicts: list[tuple[int, str]] = []
        self._changes: list[Moment] = []
        self._end_ns = bag.end_ns
        for message in bag.messages((VERDICT, STATE)):
            self._take(took_effect_ns(message), message.topic, bag.decode(message).status)
        self.said.sort(key=lambda said: said.now_ns)

    def moments(self) -> list[Moment]:
        """All changes of state by time: those that were recorded, those whose record is lost, and silences."""
        found = [*self._changes, *self._lost(), *self._silences()]
        return sorted(found, key=lambda moment: moment.now_ns)

    def driving(self, now_ns: int) -> tuple[str, float | None]:
        """Who was in charge just before, and for how long."""
        before = [said for said in self.said if said.now_ns < now_ns]
        driver, since_ns = before[-1].driver if before else "", None
        for said in reversed(before):
            if said.driver != driver:
                break
            since_ns = said.now_ns
        whole = bool(before) and since_ns == before[0].now_ns
        return driver, None if since_ns is None or whole else (now_ns - since_ns) / 1e9

    def judged(self, now_ns: int) -> dict[str, int]:
        """Rule -> verdicts shortly before."""
        since_ns = now_ns - round(BEFORE_S * 1e9)
        return dict(Counter(rule or ACCEPTED for at_ns, rule in self.verdicts if since_ns <= at_ns <= now_ns))

    def _take(self, now_ns: int, topic: str, entries: Sequence[object]) -> None:
        tries = 0
        for index, entry in enumerate(entries):
            values, sentence = values_of(entry), str(getattr(entry, "message", ""))
            if index == 0:
                self.said.append(Said(now_ns, values.get("state", ""), driver_of(values), sentence))
                tries = int(values["tries"]) if values.get("tries", "").isdecimal() else 0
                if topic == VERDICT:
                    self.verdicts.append((now_ns, values.get("rule", "")))
            elif topic == VERDICT and "to" in values:
                change = _change(values, sentence)
                self._changes.append(Moment(now_ns, change, tries if change.before in DRIVEN else 0))

    def _lost(self) -> list[Moment]:
        """Stops that only the state tells of."""
        found = []
        for before, said in zip(self.said, self.said[1:], strict=False):
            if said.state in STOPS and said.state != before.state:
                known = (m for m in self._changes if m.change.after == said.state)
                if not any(abs(moment.now_ns - said.now_ns) <= SAME_S * 1e9 for moment in known):
                    found.append(Moment(said.now_ns, Change("", before.state, said.state, "", said.sentence), 0))
        return found

    def _silences(self) -> list[Moment]:
        found = []
        for index, said in enumerate(self.said):
            after = self.said[index + 1] if index + 1 < len(self.said) else None
            until_ns = self._end_ns if after is None else after.now_ns
            if until_ns - said.now_ns <= SILENT_S * 1e9 or said.state == "FAULT":
                continue
            change = Change("", said.state, SILENT, "SILENCE", "nothing was heard of safety any more")
            found.append(Moment(said.now_ns, change, 0))
            if after is not None:
                again = Change("monitor", SILENT, after.state, "", "safety is heard again")
                found.append(Moment(after.now_ns, again, 0))
        return found


class Motion:
    """Joint states and safe actions around some moments (ROS time)."""

    def __init__(self, bag: Bag, around: Sequence[int]) -> None:
        self._around = [(now - round(BEFORE_S * 1e9), now + round((AFTER_S + BEFORE_S) * 1e9)) for now in around]
        self._rows: dict[str, list[tuple[int, Array]]] = {JOINTS: [], ACTION: []}
        self._names: dict[str, tuple[str, ...]] = {JOINTS: (), ACTION: ()}
        for message in bag.messages((JOINTS, ACTION)) if around else ():
            if any(start_ns <= message.log_ns <= end_ns for start_ns, end_ns in self._around):
                self._take(bag, message)

    def track(self, topic: str) -> Track:
        """The columns of the topic's first message, from all messages that have just these."""
        names, rows = self._names[topic], sorted(self._rows[topic], key=lambda row: row[0])
        times = np.array([now_ns for now_ns, _ in rows], dtype=np.int64)
        return Track(times, names, np.array([row for _, row in rows]).reshape(len(rows), len(names)))

    def _take(self, bag: Bag, message: BagMessage) -> None:
        decoded = bag.decode(message)
        if message.topic == JOINTS:
            sample = joint_positions(decoded, message.log_ns)
            names, row = sample.names, sample.values
        else:
            chunk = chunk_of(decoded, "safety", message.log_ns)
            if not chunk.values.size:
                return
            names, row = chunk.names, chunk.values[0]
        self._names[message.topic] = self._names[message.topic] or names
        if names == self._names[message.topic]:
            self._rows[message.topic].append((took_effect_ns(message), row))


def _change(values: Mapping[str, str], sentence: str) -> Change:
    who, before, after, rule, column = (values.get(key, "") for key in ("who", "from", "to", "rule", "column"))
    return Change(
        who, before, after, rule, sentence, column, _number(values.get("value")), _number(values.get("limit"))
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
