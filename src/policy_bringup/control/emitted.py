"""What safety last emitted, and how fast that moves: where whoever takes over has to begin."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from policy_bringup.control.steering import Motion
from policy_bringup.core.types import Array

SHORTEST_NS, LONGEST_NS = 2_000_000, 50_000_000
"""Between two safe actions: of nearer ones the later counts, across a longer gap nothing is known of the velocity."""


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """The safe action `(m,)` of ROS time `stamp_ns`, and its rate of change."""

    stamp_ns: int
    position: Array
    velocity: Array

    def at(self, stamp_ns: int) -> Motion:
        """Moved on to another moment at the same velocity."""
        return Motion(self.position + self.velocity * ((stamp_ns - self.stamp_ns) / 1e9), self.velocity)


class EmittedTrack:
    """Safe actions as they come."""

    def __init__(self) -> None:
        self._last: deque[tuple[int, Array]] = deque(maxlen=3)

    def add(self, stamp_ns: int, position: Array) -> None:
        """One safe action `(m,)` and the ROS time at which it was published."""
        if self._last and stamp_ns - self._last[-1][0] < SHORTEST_NS:
            self._last.pop()
        if self._last and stamp_ns <= self._last[-1][0]:
            self._last.clear()  # the clock was set back
        self._last.append((stamp_ns, position))

    @property
    def newest(self) -> Emitted | None:
        """None before the first one."""
        if not self._last:
            return None
        stamp_ns, position = self._last[-1]
        return Emitted(stamp_ns, position, self._velocity())

    def _velocity(self) -> Array:
        """Per column the slower of the last two, 0 if their directions differ: a re-base is a jump, not a motion."""
        entries = list(self._last)
        still = np.zeros_like(entries[-1][1])
        if len(entries) < 3:
            return still
        rates = []
        for (t0, before), (t1, after) in pairwise(entries):
            if t1 - t0 > LONGEST_NS:
                return still
            rates.append((after - before) / ((t1 - t0) / 1e9))
        older, newer = rates
        slower: Array = np.where(older * newer > 0.0, np.sign(newer) * np.minimum(np.abs(older), np.abs(newer)), 0.0)
        return slower
