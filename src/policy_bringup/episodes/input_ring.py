"""The inputs of the last seconds, kept in memory until somebody wants them: what a stop record is made from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

WINDOW_S = 2.0
MOST_UNITS = 40_000
"""Of one stream, in numbers and characters: 1000 joint states a second, or four times as many actions as allowed."""
MOST_INPUTS = 4_000
"""Of one stream."""


class Kept(NamedTuple):
    """One input: when it arrived (monotonic, ns), on which stream, and what came, which nobody changes any more."""

    now_ns: int
    stream: str
    item: object


@dataclass(slots=True)
class _Stream:
    """Inputs with their sizes, oldest first; units: sum of the sizes; cut_ns: arrival of the newest that made room."""

    inputs: deque[tuple[Kept, int]] = field(default_factory=deque)
    units: int = 0
    cut_ns: int | None = None

    def drop(self) -> Kept:
        kept, size = self.inputs.popleft()
        self.units -= size
        return kept


class InputRing:
    """Remembers each stream for WINDOW_S, and within a fixed size: one that floods makes its own oldest inputs go, not
    those of the others. For one thread."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def add(self, stream: str, now_ns: int, item: object, size: int) -> None:
        """Takes an input in. now_ns: monotonic, never older than the one before; size: its numbers and characters."""
        entries = self._streams.setdefault(stream, _Stream())
        entries.inputs.append((Kept(now_ns, stream, item), size))
        entries.units += size
        while entries.units > MOST_UNITS or len(entries.inputs) > MOST_INPUTS:
            entries.cut_ns = entries.drop().now_ns
        too_old_ns = now_ns - round(WINDOW_S * 1e9)
        while entries.inputs and entries.inputs[0][0].now_ns < too_old_ns:
            entries.drop()

    def last(self, now_ns: int) -> tuple[Kept, ...]:
        """What arrived in the window before `now_ns`, and since; stream by stream, oldest first."""
        since_ns = now_ns - round(WINDOW_S * 1e9)
        streams = self._streams.values()
        return tuple(kept for entries in streams for kept, _ in entries.inputs if kept.now_ns >= since_ns)

    def cut(self, now_ns: int) -> dict[str, int]:
        """Streams of which the window before `now_ns` is not complete -> arrival (monotonic, ns) of the newest input
        that had to make room for others."""
        since_ns = now_ns - round(WINDOW_S * 1e9)
        cut = {name: entries.cut_ns for name, entries in self._streams.items()}
        return {name: cut_ns for name, cut_ns in cut.items() if cut_ns is not None and cut_ns >= since_ns}
