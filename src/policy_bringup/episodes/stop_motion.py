"""How something moved around a stop, from samples of it: how fast before, and when it came to rest after.

Samples are times `(t,)` in ns, ascending, and a table `(t, n)` of positions (m, rad).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from policy_bringup.core.types import Array

Times = npt.NDArray[np.int64]

SPEED_S = 0.2
"""A speed is the mean over this time: shorter than any braking, longer than the noise of one sample."""
STILL_TOLERANCE = 0.005
STILL_S = 0.5
"""At rest: no column moves further than that (m, rad) for so long. As config/safety.yaml has it."""


def velocity(times_ns: Times, table: Array, at_ns: int) -> Array | None:
    """The mean velocity `(n,)` (m/s, rad/s) over SPEED_S before `at_ns`; None if the samples do not tell."""
    first = int(np.searchsorted(times_ns, at_ns - round(SPEED_S * 1e9)))
    last = int(np.searchsorted(times_ns, at_ns, side="right")) - 1
    span_s = (times_ns[last] - times_ns[first]) / 1e9 if 0 <= first < last else 0.0
    if span_s < SPEED_S / 2:
        return None
    moved: Array = (table[last] - table[first]) / span_s
    return moved if np.isfinite(moved).all() else None


def rest_s(times_ns: Times, table: Array, from_ns: int, to_ns: int) -> float | None:
    """How long after `from_ns` it was at rest, s; None if the samples until `to_ns` do not show it at rest."""
    still_ns = round(STILL_S * 1e9)
    until = int(np.searchsorted(times_ns, to_ns, side="right"))
    for i in range(int(np.searchsorted(times_ns, from_ns)), until):
        end = int(np.searchsorted(times_ns, times_ns[i] + still_ns))
        if end >= until:
            return None
        # Membership, so that a NaN is no rest.
        if (np.abs(table[i : end + 1] - table[i]) <= STILL_TOLERANCE).all():
            return float(times_ns[i] - from_ns) / 1e9
    return None


def stand_s(times_ns: Times, table: Array, from_ns: int, to_ns: int) -> float | None:
    """How long after `from_ns` it changed for the last time before `to_ns`, s; 0 for never, None without samples."""
    inside = (from_ns <= times_ns) & (times_ns <= to_ns)
    when, rows = times_ns[inside], table[inside]
    if len(rows) < 2:
        return None
    changes = np.flatnonzero((np.abs(np.diff(rows, axis=0)) > 1e-6).any(axis=1))
    return float(when[changes[-1] + 1] - from_ns) / 1e9 if len(changes) else 0.0
