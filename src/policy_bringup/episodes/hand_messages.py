"""What a bag says while a hand led the arm: the actions that were derived from the motion, and who was in charge.

`safety/state` names the hand as the one who is in charge: no monitor judged these actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from policy_bringup.core import graph
from policy_bringup.core.types import ActionChunk, Array
from policy_bringup.episodes import encoding
from policy_bringup.episodes.driving import ACTION, STATE

HAND = "hand"
"""The source that these messages name."""
_NOW_S, _SURE = np.zeros(1), np.zeros(1)


class MadeMessage(NamedTuple):
    """A message that was not recorded: topic, CDR bytes, ROS time (ns) at which it took effect."""

    topic: str
    data: bytes
    now_ns: int


def hand_messages(
    began_ns: int, times_s: Array, values: Array, names: Sequence[str], frame: str
) -> Iterator[MadeMessage]:
    """`safety/action` at its rate, and `safety/state` at its own, by time.

    times_s `(m,)` since `began_ns`, as far apart as safe actions are; values `(m, columns)`, named by `names`; poses in
    them are in `frame`.
    """
    every = round(graph.topic(ACTION).rate_hz / graph.topic(STATE).rate_hz)
    for number, (t, row) in enumerate(zip(times_s.tolist(), values, strict=True)):
        now_ns = began_ns + round(t * 1e9)
        if number % every == 0:
            sentence = "guided by hand; the actions were derived from the motion"
            said = {"state": "ACTIVE", "source": HAND, "offered": ""}
            yield MadeMessage(STATE, encoding.status(now_ns, "safety", "ok", sentence, said), now_ns)
        chunk = ActionChunk(HAND, now_ns, 0, tuple(names), _NOW_S, row[None], _SURE)
        yield MadeMessage(ACTION, encoding.table(chunk, frame), now_ns)


def hand_let_go(now_ns: int, last: bytes | None) -> MadeMessage:
    """`safety/state` as safety said it last, which counts again from now on; None where it had said nothing."""
    if last is not None:
        return MadeMessage(STATE, last, now_ns)
    said = {"state": "READY", "source": "", "offered": ""}
    return MadeMessage(STATE, encoding.status(now_ns, "safety", "ok", "no longer guided by hand", said), now_ns)
