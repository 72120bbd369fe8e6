"""Who has the arm, as an operator with a dead-man sees it: taking it, keeping it, handing it back.

Pressing the dead-man takes a running arm over at once, since teleop ranks above the policy. Giving it back is never
automatic: safety hands an arm down to a lower source only by way of disarming (READY holds) and arming again.
"""

from __future__ import annotations

from enum import Enum

SOURCE = "teleop"
ARMABLE = ("READY", "FALLBACK")
LIVE = ("ACTIVE", "RETRY")
KEEP_NS = 300_000_000
"""Held poses go on for this long after a press, whoever is in charge: word of a takeover may come a tenth of a second
late, and silence would end it in FALLBACK."""
AGAIN_NS = 500_000_000
"""Time between two requests to arm."""


class _Wish(Enum):
    NOTHING = 0
    TAKE = 1
    DISARM = 2
    HAND_BACK = 3


class Handover:
    """Fed with what safety says and what the operator does. `sentence` is for the operator. Times are monotonic ns."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_ns = round(timeout_s * 1e9)
        self._wish = _Wish.NOTHING
        self._since_ns = self._asked_ns = 0
        self._pressed_ns: int | None = None
        self._state = self._source = self._offered = ""
        self.sentence = ""

    @property
    def live(self) -> bool:
        """Whether the arm follows somebody."""
        return self._state in LIVE

    @property
    def in_charge(self) -> bool:
        """Whether that is teleop."""
        return self.live and self._source == SOURCE

    def hear(self, state: str, source: str, offered: str) -> None:
        """What safety/state says."""
        self._state, self._source, self._offered = state, source, offered

    def take(self, now_ns: int) -> None:
        """The operator wants the arm: held poses are offered, and armed as soon as safety accepts them."""
        if self.in_charge:
            self.sentence = "teleop already has the arm"
            return
        self._begin(_Wish.TAKE, now_ns, "taking the arm")

    def hand_back(self, now_ns: int) -> None:
        """The operator gives the arm to whoever else offers an acceptable action."""
        if self.live and not self.in_charge:
            self.sentence = f"{self._source} already has the arm"
            return
        wish = _Wish.DISARM if self.live else _Wish.HAND_BACK
        self._begin(wish, now_ns, "handing the arm back")

    def tick(self, deadman: bool, now_ns: int) -> bool | None:
        """To be called often: what to ask of safety/arm now, None for nothing."""
        if deadman:
            self._pressed_ns = now_ns
            if self._wish in (_Wish.DISARM, _Wish.HAND_BACK):
                self._end("handing back is called off: the dead-man is pressed")
        if self._wish is _Wish.NOTHING:
            return None
        if self._done():
            self._end("teleop has the arm" if self._wish is _Wish.TAKE else f"{self._source} has the arm")
            return None
        if now_ns - self._since_ns > self._timeout_ns:
            self._end(f"gave up: safety is {self._state or 'not heard'} and offers {self._offered or 'nobody'}")
            return None
        return self._request(now_ns)

    def proposes(self, now_ns: int) -> bool:
        """Whether action tables are to be published."""
        if self._wish in (_Wish.DISARM, _Wish.HAND_BACK):
            return False
        pressed = self._pressed_ns is not None and now_ns - self._pressed_ns <= KEEP_NS
        return pressed or self.in_charge or self._wish is _Wish.TAKE

    def _done(self) -> bool:
        if self._wish is _Wish.TAKE:
            return self.in_charge
        return self._wish is _Wish.HAND_BACK and self.live and self._source != SOURCE

    def _request(self, now_ns: int) -> bool | None:
        if self._wish is _Wish.DISARM and not self.live:
            self._wish, self._asked_ns = _Wish.HAND_BACK, 0
        if self._asked_ns and now_ns - self._asked_ns < AGAIN_NS:
            return None
        someone = self._offered == SOURCE if self._wish is _Wish.TAKE else self._offered not in ("", SOURCE)
        if self._wish is not _Wish.DISARM and not (self._state in ARMABLE and someone):
            return None
        self._asked_ns = now_ns
        return self._wish is not _Wish.DISARM

    def _begin(self, wish: _Wish, now_ns: int, sentence: str) -> None:
        self._wish, self._since_ns, self._asked_ns, self.sentence = wish, now_ns, 0, sentence
        self._pressed_ns = None

    def _end(self, sentence: str) -> None:
        self._wish, self.sentence = _Wish.NOTHING, sentence
