"""Whether somebody has moved an arm that holds: several measurements in a row must say so, for one may lie.

A joint goes from where it was to where it is through everything between, no faster than it can. A measurement to which
the last believed one cannot have led is not believed, and what comes after it neither, until it is near that again.
"""

from __future__ import annotations

import numpy as np

from policy_bringup.core.types import Array

LONGEST_GAP_S = 0.1
"""What may have happened while nothing was measured counts for so long at most."""
NOISE_RAD = 0.02
"""Between two measurements of a joint that stands."""


class Displacement:
    """velocity: `(n,)` rad/s that the joints can reach. tolerance: rad that a joint may be away from its command.

    lasting_s: for so long it has to be further away to count. `begin` comes first. All `now_ns` are monotonic.
    """

    def __init__(self, velocity: Array, tolerance: float, lasting_s: float) -> None:
        self._velocity, self._tolerance, self._lasting_ns = velocity, tolerance, round(1e9 * lasting_s)
        self._believed = np.zeros(len(velocity))
        self._believed_ns = 0
        self._away_since_ns: int | None = None
        self._jump: float | None = None

    @property
    def disbelief(self) -> str:
        """Why the newest measurement is not believed; "" if it is."""
        if self._jump is None:
            return ""
        return (
            f"the joints are measured {self._jump:.2f} rad from where they were, faster than they can move: not "
            "believed; if the arm really is there, start the arm node anew"
        )

    def begin(self, joints: Array, now_ns: int) -> None:
        """From this measurement `(n,)` rad on."""
        self._believed, self._believed_ns = joints, now_ns
        self._away_since_ns, self._jump = None, None

    def believes(self, joints: Array, now_ns: int) -> bool:
        """Whether this measurement, of finite numbers, may be true."""
        gap_s = min(max(1e-9 * (now_ns - self._believed_ns), 0.0), LONGEST_GAP_S)
        way = np.abs(joints - self._believed)
        if not bool((way <= self._velocity * gap_s + NOISE_RAD).all()):
            self._jump, self._away_since_ns = float(way.max()), None
            return False
        self._believed, self._believed_ns, self._jump = joints, now_ns, None
        return True

    def moved(self, joints: Array, command: Array, now_ns: int) -> bool:
        """Whether measurements that are believed, this one the newest, have been away from `command`, where the arm
        rests, for long enough."""
        if float(np.abs(joints - command).max()) <= self._tolerance:
            self._away_since_ns = None
            return False
        if self._away_since_ns is None:
            self._away_since_ns = now_ns
        return now_ns - self._away_since_ns >= self._lasting_ns

    def forget(self) -> None:
        """The command is another now: whether the arm is away from it is seen from here on."""
        self._away_since_ns = None
