"""When a person led the arm by hand, as a bag tells it on `arm/state`."""

from __future__ import annotations

from typing import NamedTuple

from policy_bringup.core import graph
from policy_bringup.core.decoding import GUIDED, values_of
from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.driving import took_effect_ns
from policy_bringup.episodes.reader import Bag

ARM = "arm/state"


class Interval(NamedTuple):
    """ROS times in ns: from `began_ns` on, and before `ended_ns`."""

    began_ns: int
    ended_ns: int

    def holds(self, ns: int) -> bool:
        """Whether a moment lies in it."""
        return self.began_ns <= ns < self.ended_ns


def led_intervals(bag: Bag) -> tuple[Interval, ...]:
    """In order, none empty, no two touching. What the arm says counts until it says something else, or has become stale
    (core/graph.py), or the bag ends.

    Raises EpisodeError where the bag does not tell of it, or nobody led the arm.
    """
    if not bag.counts.get(ARM):
        raise EpisodeError(f"{bag.path}: topic '{ARM}' is missing: whether a hand led the arm is not known")
    said: list[tuple[int, bool]] = []
    for message in bag.messages((ARM,)):
        status = bag.decode(message).status
        said.append((took_effect_ns(message), bool(status) and values_of(status[0]).get("state") == GUIDED))
    found = _intervals(sorted(said), bag.end_ns + 1, round(graph.topic(ARM).stale_s * 1e9))
    if not found:
        raise EpisodeError(f"{bag.path}: nobody led the arm by hand, says topic '{ARM}'")
    return found


def _intervals(said: list[tuple[int, bool]], end_ns: int, stale_ns: int) -> tuple[Interval, ...]:
    found: list[Interval] = []
    for (ns, led), following in zip(said, [*(ns for ns, _ in said[1:]), end_ns], strict=True):
        until = min(following, ns + stale_ns)
        if not led or until <= ns:
            continue
        if found and found[-1].ended_ns == ns:
            found[-1] = Interval(found[-1].began_ns, until)
        else:
            found.append(Interval(ns, until))
    return tuple(found)
