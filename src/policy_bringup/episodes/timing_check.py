"""When the messages of one stream came: rate, silences, jitter, latency, and stamps that cannot be."""

from __future__ import annotations

from policy_bringup.episodes.quantile import Quantiles


class StreamTiming:
    """One stream, in the order of its recording. All times in ns.

    stamped: its header stamps say when each message was measured, and rate and silences go by them. Otherwise (an
    action carries the stamp of what its source saw) they go by the times of recording.
    """

    def __init__(self, rate_hz: float, stamped: bool) -> None:
        self.count = self.zero_stamps = self.disordered_stamps = 0
        self.first_log_ns = self.last_log_ns = 0
        self._period_ns = 1e9 / rate_hz
        self._stamped = stamped
        self._last_ns: int | None = None
        self._intervals = self._spanned_ns = self._longest_ns = 0
        self._latencies = self._latency_ns = 0
        self._jitter = Quantiles()

    def observe(self, stamp_ns: int, log_ns: int) -> None:
        """One message."""
        self.first_log_ns = log_ns if self.count == 0 else min(self.first_log_ns, log_ns)
        self.last_log_ns = log_ns if self.count == 0 else max(self.last_log_ns, log_ns)
        self.count += 1
        if not self._stamped:
            self._place(log_ns)
        elif stamp_ns <= 0:
            self.zero_stamps += 1
        else:
            self._latencies += 1
            self._latency_ns += log_ns - stamp_ns
            self._place(stamp_ns)

    @property
    def rate_hz(self) -> float | None:
        """Mean over the stream's own time; None while it has no two messages with different times."""
        return self._intervals * 1e9 / self._spanned_ns if self._spanned_ns else None

    @property
    def latency_s(self) -> float | None:
        """Mean age of a message when it was recorded, by its stamp; None for a stream without usable stamps."""
        return self._latency_ns / self._latencies / 1e9 if self._latencies else None

    @property
    def jitter_s(self) -> float:
        """How far the time between two messages is from the period: 95 of 100 are nearer."""
        return self._jitter.at(0.95) / 1e9

    def silence_s(self, start_ns: int, end_ns: int) -> float:
        """The longest time without a message; for a stamped stream with the ends of the episode, `start_ns` to
        `end_ns` of the recording. A stream of actions may begin late and end early: nobody was driving yet."""
        ends_ns = (self.first_log_ns - start_ns, end_ns - self.last_log_ns) if self._stamped else ()
        return max(self._longest_ns, *ends_ns, 0) / 1e9

    def _place(self, time_ns: int) -> None:
        if self._last_ns is not None:
            interval_ns = time_ns - self._last_ns
            if interval_ns > 0:
                self._intervals += 1
                self._spanned_ns += interval_ns
                self._longest_ns = max(self._longest_ns, interval_ns)
                self._jitter.add(abs(interval_ns - self._period_ns))
            else:
                self.disordered_stamps += self._stamped
        self._last_ns = time_ns
