"""Latency of each stage, from header stamps and the publication times that DDS attaches to every message.

A picture's stamp goes all the way: an action and a safe action bear it, a command for the robot's controller names it.
"""

from __future__ import annotations

from policy_bringup.core.trials import Latencies

KEEP = 64


class StageClock:
    """Follows each picture's stamp through the stack. All times are ROS time in ns (one machine, one clock)."""

    def __init__(self) -> None:
        self.latencies = Latencies()
        self._camera: dict[int, int] = {}
        self._policy: dict[int, int] = {}
        self._safe: dict[int, int] = {}
        self._newest_safe = 0

    def camera(self, stamp_ns: int, published_ns: int) -> None:
        """A picture was published."""
        _remember(self._camera, stamp_ns, published_ns)
        self.latencies.add("camera", (published_ns - stamp_ns) / 1e6)

    def policy(self, stamp_ns: int, published_ns: int) -> None:
        """An action made from the picture of `stamp_ns` was published."""
        _remember(self._policy, stamp_ns, published_ns)
        if stamp_ns in self._camera:
            self.latencies.add("policy", (published_ns - self._camera[stamp_ns]) / 1e6)

    def safety(self, stamp_ns: int, published_ns: int) -> None:
        """A safe action was published; only the first one of a picture counts."""
        if stamp_ns > self._newest_safe and stamp_ns in self._policy:
            self._newest_safe = stamp_ns
            _remember(self._safe, stamp_ns, published_ns)
            self.latencies.add("safety", (published_ns - self._policy[stamp_ns]) / 1e6)

    def arm(self, stamp_ns: int, published_ns: int) -> None:
        """A command that answers the safe action of `stamp_ns` was published; only the first one counts."""
        safe_ns = self._safe.pop(stamp_ns, None)
        if safe_ns is not None:
            self.latencies.add("arm", (published_ns - safe_ns) / 1e6)
            self.latencies.add("total", (published_ns - stamp_ns) / 1e6)


def _remember(times: dict[int, int], stamp_ns: int, published_ns: int) -> None:
    times[stamp_ns] = published_ns
    if len(times) > KEEP:
        del times[next(iter(times))]
