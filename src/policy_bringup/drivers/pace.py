"""Plays recorded times back at the speed at which they were recorded."""

from __future__ import annotations

from collections.abc import Callable

from policy_bringup.drivers.clocks import Clocks

MAX_LATE_NS = 100_000_000
"""A reader that is later than this is not caught up with: the rest of the recording moves back instead of rushing."""


class Pace:
    """Waits until a recorded moment is due. The first moment asked for is due at once; `sleep` takes seconds."""

    def __init__(self, clocks: Clocks, sleep: Callable[[float], None]) -> None:
        self._clocks = clocks
        self._sleep = sleep
        self._origin_ns: int | None = None

    def wait(self, offset_ns: int) -> tuple[int, int]:
        """Waits for the moment `offset_ns` of the recording; returns (ROS time at which it was due, receive time), ns.

        The first is the stamp: it keeps the recorded spacing, whatever the sleep's jitter.
        """
        now_ns = self._clocks.monotonic_ns()
        if self._origin_ns is None or now_ns - self._origin_ns - offset_ns > MAX_LATE_NS:
            self._origin_ns = now_ns - offset_ns
        due_ns = self._origin_ns + offset_ns
        if due_ns > now_ns:
            self._sleep((due_ns - now_ns) / 1e9)
            now_ns = self._clocks.monotonic_ns()
        return self._clocks.ros_ns() - (now_ns - due_ns), now_ns
