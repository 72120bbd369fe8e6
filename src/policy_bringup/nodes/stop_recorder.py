"""Keeps the safety monitor's inputs of the last 2 s, and saves them when it stops the arm.

Nothing here may cost a tick: inputs are kept as they came, without a copy; a stop is handed to a thread of its own,
which takes a breath after each line that it writes, since the interpreter is the tick thread's. A disk that is full or
slow costs the record and one warning.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rclpy.node import Node

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.input_ring import InputRing, Kept
from policy_bringup.episodes.stop_record import STOPS, Input, StopRecord, default_folder, write_record
from policy_bringup.nodes.parameters import text_parameter, whole_parameter
from policy_bringup.nodes.stop_inputs import LONGEST_TEXT, change_of, kept, values_of
from policy_bringup.safety.limits import Limits
from policy_bringup.safety.monitor import Reply, Verdict
from policy_bringup.safety.reasons import Transition

OFF = "off"
KEPT = 100
"""Stop records, by default; each takes about a quarter of a megabyte."""
WAITING = 4
"""Stops that may wait for the disk."""
BREATH_S = 0.001
END_S = 1.0
"""How long the end of the process may wait for the disk."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the numbers of a record stand for. units: of the action columns; fallback: the safe default."""

    fallback: str
    joints: tuple[str, ...]
    columns: tuple[str, ...]
    units: tuple[str, ...]


class _Stop(NamedTuple):
    """One stop as the tick thread hands it over: cut: stream -> monotonic ns."""

    transition: Transition
    wall_ns: int
    stamp_ns: int
    driver: str
    driven_s: float | None
    tries: int
    inputs: tuple[Kept, ...]
    cut: dict[str, int]


class StopRecorder:
    """Writes to `folder`, of which the newest `keep` records stay; None: nothing is recorded. warn: says a sentence."""

    def __init__(self, folder: Path | None, keep: int, context: Context, warn: Callable[[str], object]) -> None:
        self._folder, self._keep, self._context, self._warn = folder, keep, context, warn
        self._ring = InputRing()
        self._lock = threading.Lock()
        self._driver, self._driver_ns = "", 0
        self._stops: queue.Queue[_Stop | None] = queue.Queue(WAITING)
        self._closing, self._warned, self._broken = threading.Event(), False, folder is None
        self._thread = threading.Thread(target=self._run, daemon=True)
        if folder is not None:
            self._thread.start()

    def hear(self, event: object, reply: Reply, now_ns: int) -> None:
        """An event that the monitor has taken in at monotonic `now_ns`. From any thread; never raises."""
        if self._broken:
            return
        try:
            stream, item, size = kept(event, reply)
            with self._lock:
                self._ring.add(stream, now_ns, item, size)
        except Exception as error:  # whatever it is, the gate does not depend on it
            self._give_up(error)

    def watch(self, verdict: Verdict, stamp_ns: int, now_ns: int) -> None:
        """One tick of the monitor, at ROS time and monotonic time. From the tick thread; never waits, never raises."""
        if self._broken:
            return
        try:
            if verdict.transitions:
                self._save(verdict, stamp_ns)
            if verdict.selected != self._driver:
                self._driver, self._driver_ns = verdict.selected, now_ns
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Waits a little for stops that are still to be written."""
        self._closing.set()
        if self._thread.is_alive():
            with suppress(queue.Full):  # then it is awake anyhow
                self._stops.put_nowait(None)
            self._thread.join(END_S)

    def _save(self, verdict: Verdict, stamp_ns: int) -> None:
        for transition in verdict.transitions:
            if transition.to_state.name in STOPS:
                self._hand_over(transition, verdict.tries, stamp_ns)
            with self._lock:
                self._ring.add("transition", transition.now_ns, transition, len(transition.reason.sentence))

    def _hand_over(self, transition: Transition, tries: int, stamp_ns: int) -> None:
        driven_s = (transition.now_ns - self._driver_ns) / 1e9 if self._driver else None
        tries = tries if transition.from_state.name in ("ACTIVE", "RETRY") else 0
        with self._lock:
            inputs, cut = self._ring.last(transition.now_ns), self._ring.cut(transition.now_ns)
        stop = _Stop(transition, time.time_ns(), stamp_ns, self._driver, driven_s, tries, inputs, cut)
        try:
            self._stops.put_nowait(stop)
        except queue.Full:
            self._complain("a stop record is lost: the disk is too slow")

    def _run(self) -> None:
        while True:
            stop = self._stops.get()
            if stop is not None:
                self._write(stop)
            if self._closing.is_set() and self._stops.empty():
                return

    def _write(self, stop: _Stop) -> None:
        assert self._folder is not None
        try:
            write_record(self._folder, self._record(stop), self._keep, lambda: self._closing.wait(BREATH_S))
            self._warned = False
        except EpisodeError as error:
            self._complain(f"a stop record is lost: {error}")
        except Exception as error:  # the thread's edge: nothing above it would hear of it
            self._give_up(error)

    def _record(self, stop: _Stop) -> StopRecord:
        transition, context = stop.transition, self._context
        inputs = sorted(stop.inputs, key=lambda entry: entry.now_ns)
        return StopRecord(
            change_of(transition),
            stop.wall_ns,
            stop.stamp_ns,
            transition.now_ns,
            transition.stamp_ns,
            stop.driver,
            stop.driven_s,
            stop.tries,
            context.fallback,
            context.joints,
            context.columns,
            context.units,
            {stream: (cut_ns - transition.now_ns) / 1e9 for stream, cut_ns in stop.cut.items()},
            tuple(Input((e.now_ns - transition.now_ns) / 1e9, e.stream, values_of(e.item)) for e in inputs),
        )

    def _complain(self, sentence: str) -> None:
        """Once, until a record has been written again."""
        warned, self._warned = self._warned, True
        if not warned:
            self._warn(sentence)

    def _give_up(self, error: Exception) -> None:
        self._broken = True
        self._complain(f"no more stop records: {error!r}"[:LONGEST_TEXT])


def open_recorder(node: Node, limits: Limits) -> StopRecorder:
    """The recorder that a node's parameters ask for. stops: a folder, "off", or "" for the user's state folder;
    stops_kept: how many records stay. Raises ConfigError."""
    place = text_parameter(node, "stops", "")
    keep = whole_parameter(node, "stops_kept", KEPT, 1, 100_000)
    columns, joints = limits.spec.columns, tuple(joint.name for joint in limits.joints)
    units = tuple(column.unit for column in columns)
    context = Context(limits.config.fallback, joints, limits.spec.names, units)
    folder: Path | None = None
    try:
        folder = None if place == OFF else Path(place) if place else default_folder()
    except EpisodeError as error:
        node.get_logger().warn(str(error))
    return StopRecorder(folder, keep, context, node.get_logger().warn)
