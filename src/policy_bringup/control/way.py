"""A planned way as a source of actions: chunks of what is due next."""

from __future__ import annotations

import numpy as np

from policy_bringup.core.types import ActionChunk, ActionSpec, Array


class Way:
    """Follows a table of actions: times_s `(m,)` rising, values `(m, columns)` in the contract's columns.

    Its time passes only from one `chunk` to the next with `moving`: it waits for a robot that is held.
    """

    def __init__(self, source: str, spec: ActionSpec, times_s: Array, values: Array) -> None:
        self._source, self._spec = source, spec
        self._times_s, self._values = times_s, values
        self._elapsed_s = 0.0
        self._stamp_ns: int | None = None

    @property
    def over(self) -> bool:
        """Whether its time has come to its end."""
        return self._elapsed_s >= float(self._times_s[-1])

    def chunk(self, stamp_ns: int, moving: bool) -> ActionChunk:
        """What is due after `stamp_ns` (ROS time): `spec.steps` steps, standing at the end when the way is done."""
        if moving and self._stamp_ns is not None:
            self._elapsed_s += (stamp_ns - self._stamp_ns) / 1e9
        self._stamp_ns = stamp_ns
        ahead_s = self._spec.dt_s * np.arange(1.0, self._spec.steps + 1.0)
        due = self._elapsed_s + ahead_s
        values: Array = np.column_stack([np.interp(due, self._times_s, column) for column in self._values.T])
        return ActionChunk(self._source, stamp_ns, 0, self._spec.names, ahead_s, values, np.zeros(len(ahead_s)))
