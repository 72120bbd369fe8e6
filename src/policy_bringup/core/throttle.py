"""Thins a stream of stamps out to a mean rate."""

from __future__ import annotations


class Throttle:
    """Says which samples of a faster stream to use so that their mean rate is `rate_hz`.

    From 30 Hz pictures, 20 Hz uses two of every three. A gap is not made up for by a burst.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(1e9 / rate_hz)
        self._next_ns = 0
        self._used_ns: int | None = None

    def due(self, stamp_ns: int) -> bool:
        """True if the sample of this stamp is to be used; never twice in a row for the same one."""
        if stamp_ns == self._used_ns:
            return False
        if stamp_ns < self._next_ns - 2 * self._period_ns:
            self._next_ns = stamp_ns  # the clock was set back
        # Half a period early counts: stamps jitter, and waiting for the next one would halve the rate.
        if stamp_ns < self._next_ns - self._period_ns // 2:
            return False
        after_a_gap = stamp_ns > self._next_ns + self._period_ns
        self._next_ns = (stamp_ns if after_a_gap else self._next_ns) + self._period_ns
        self._used_ns = stamp_ns
        return True
