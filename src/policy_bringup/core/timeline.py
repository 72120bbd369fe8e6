"""Streams aligned by header stamp.

The live policy and the dataset reader both look samples up here, so both see the same. The sample that belongs to a
moment is the newest one measured at or before it: nothing from the future, no interpolation between measurements. A
sample older than the stream's age limit is not used at all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from policy_bringup.core.errors import ObservationError


class Stamped(Protocol):
    """Anything with a header stamp."""

    @property
    def stamp_ns(self) -> int:
        """ROS time of the measurement, ns."""


S = TypeVar("S", bound=Stamped)


class Timeline(Generic[S]):
    """The recent samples of one stream, in order of their stamps.

    age_limit_s: a sample older than this at the moment asked for is refused. keep_s: how far back samples are kept.
    """

    def __init__(self, name: str, age_limit_s: float, keep_s: float) -> None:
        self.name = name
        self.out_of_order = 0
        self.restarts = 0
        self.age_limit_s = age_limit_s
        self._age_limit_ns = round(age_limit_s * 1e9)
        self._keep_ns = round(max(keep_s, age_limit_s) * 1e9)
        self._stamps: list[int] = []
        self._samples: list[S] = []

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[S]:
        return iter(self._samples)

    @property
    def newest(self) -> S | None:
        """The sample with the latest stamp, or None."""
        return self._samples[-1] if self._samples else None

    @property
    def oldest(self) -> S | None:
        """The sample with the earliest stamp that is still kept, or None."""
        return self._samples[0] if self._samples else None

    def add(self, sample: S) -> bool:
        """Takes a sample in; False if it came out of order and was left out (counted in `out_of_order`).

        A stamp further back than everything kept means that the clock was set back: the past is forgotten (`restarts`).
        """
        if self._stamps and sample.stamp_ns <= self._stamps[-1]:
            if sample.stamp_ns >= self._stamps[-1] - self._keep_ns:
                self.out_of_order += 1
                return False
            self.restarts += 1
            self._stamps.clear()
            self._samples.clear()
        self._stamps.append(sample.stamp_ns)
        self._samples.append(sample)
        self._forget_before(sample.stamp_ns - self._keep_ns)
        return True

    def at(self, stamp_ns: int) -> S:
        """The newest sample measured at or before `stamp_ns`. Raises ObservationError if there is none young enough."""
        index = bisect_right(self._stamps, stamp_ns) - 1
        if index < 0:
            had = (
                "nothing arrived yet" if not self._stamps else f"its oldest is {self._after_ms(stamp_ns):.1f} ms later"
            )
            raise ObservationError(f"{self.name}: no sample at or before the moment asked for; {had}")
        age_ns = stamp_ns - self._stamps[index]
        if age_ns > self._age_limit_ns:
            raise ObservationError(
                f"{self.name}: the newest sample is {age_ns / 1e6:.1f} ms old, "
                f"allowed are {self._age_limit_ns / 1e6:.1f} ms"
            )
        return self._samples[index]

    def _after_ms(self, stamp_ns: int) -> float:
        return (self._stamps[0] - stamp_ns) / 1e6

    def _forget_before(self, stamp_ns: int) -> None:
        # One sample at or before the edge stays: it is the one that holds at the edge.
        surplus = bisect_right(self._stamps, stamp_ns) - 1
        if surplus > 0:
            del self._stamps[:surplus]
            del self._samples[:surplus]
