"""The gripper's button while a hand led the arm: from the commands it gave, else from how the fingers moved.

A gripper may have a button of its own, of which no command tells. Its fingers do: they begin to close, or to open. That
is seen once they have gone TRAVEL_M against what they did before, which neither noise nor a grasped thing that yields
a little makes them do. The button was pressed when that motion began, where the opening last was within BAND_M of its
turning point: by then it is known better than the noise, and at most that far late. Positions are used and not
velocities, since not every robot tells these and differences of noisy positions tell less.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from policy_bringup.core.types import Array

TRAVEL_M = 0.002
BAND_M = 0.0005
Closed = npt.NDArray[np.bool_]


def from_commands(times_s: Array, commands: Sequence[tuple[float, bool]], before: bool) -> Closed:
    """Whether the button says closed at `times_s` `(t,)`; commands: (s, whether it closes) by time; before: the first.

    A command counts from its own moment on.
    """
    at = np.array([time_s for time_s, _ in commands])
    said = np.array([before, *(closes for _, closes in commands)])
    closed: Closed = said[np.searchsorted(at, times_s, side="right")]
    return closed


def from_fingers(widths: Array, otherwise: bool) -> Closed:
    """Whether the button says closed, `(t,)` bool, from the measured openings `(t,)` m.

    Before the first motion it says the opposite of that motion; without any, `otherwise`. Raises ValueError for an
    opening that is not finite.
    """
    if not np.isfinite(widths).all():
        raise ValueError("the openings of a gripper must be finite numbers")
    turns = _turns(widths)
    closed = np.full(len(widths), not turns[0][1] if turns else otherwise, dtype=np.bool_)
    for begin, closes in turns:
        closed[begin:] = closes
    return closed


def _turns(widths: Array) -> list[tuple[int, bool]]:
    """Where the fingers began to move the other way, and whether they closed then."""
    turns: list[tuple[int, bool]] = []
    since, low, high = 0, float("inf"), -float("inf")
    for i, width in enumerate(widths.tolist()):
        low, high = min(low, width), max(high, width)
        closed = turns[-1][1] if turns else None
        if closed is not True and width < high - TRAVEL_M:
            turns.append((since + _last(widths[since : i + 1] >= high - BAND_M), True))
        elif closed is not False and width > low + TRAVEL_M:
            turns.append((since + _last(widths[since : i + 1] <= low + BAND_M), False))
        else:
            continue
        since, low, high = i, width, width
    return turns


def _last(found: Closed) -> int:
    return int(np.flatnonzero(found)[-1])
