"""An operator's keys while a person leads the arm by hand: the gripper's are its button, and no other moves it."""

from __future__ import annotations

from policy_bringup.core.decoding import GUIDED


class GuidingKeys:
    """Fed with what `arm/state` says, which counts for `stale_s`. Times are monotonic ns."""

    def __init__(self, stale_s: float) -> None:
        self._stale_ns = round(stale_s * 1e9)
        self._state, self._heard_ns = "", 0
        self._direction = 0

    def hear(self, state: str, now_ns: int) -> None:
        """The arm's state."""
        self._state, self._heard_ns = state, now_ns

    def led(self, now_ns: int) -> bool:
        """Whether a person leads the arm by hand; not if the arm node has not said so lately."""
        return self._state == GUIDED and now_ns - self._heard_ns <= self._stale_ns

    def grip(self, gripper: float, now_ns: int) -> bool | None:
        """What to ask of `arm/grip` now: True to close, False to open, None for nothing.

        gripper: TeleopCommand's, below 0 to close, above to open. To be called at every look: one press asks once, and
        one that began before the hand led the arm does not count.
        """
        before, self._direction = self._direction, (gripper > 0.0) - (gripper < 0.0)
        if self._direction in (0, before) or not self.led(now_ns):
            return None
        return self._direction < 0
