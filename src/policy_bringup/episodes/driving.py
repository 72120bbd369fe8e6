"""What was done in an episode, and by whom: the safe actions and the safety monitor's states over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_bringup.core.decoding import chunk_of, driver_of, values_of
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Array, Contract
from policy_bringup.episodes.reader import Bag, BagMessage

ACTION, VERDICT, STATE = "safety/action", "safety/verdict", "safety/state"
HOMING = "home"
"""The source that drives the arm back between episodes: it shows nothing to learn from."""
SAME_CLOCK_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Driving:
    """Safe actions and drivers, each from its time until the next one's. Times are ROS times in ns, ascending.

    actions `(n, action columns)` with action_ns `(n,)`; drivers of length m with driver_ns `(m,)`; end_ns: of the bag.
    """

    action_ns: npt.NDArray[np.int64]
    actions: Array
    driver_ns: npt.NDArray[np.int64]
    drivers: tuple[str, ...]
    end_ns: int

    def action(self, at_ns: int) -> Array:
        """The action in force, `(action columns,)`; NaN before the first."""
        index = int(np.searchsorted(self.action_ns, at_ns, side="right")) - 1
        return self.actions[index] if index >= 0 else np.full(self.actions.shape[1], np.nan)

    def driver(self, at_ns: int) -> str:
        """Who was in charge; "" for nobody."""
        index = int(np.searchsorted(self.driver_ns, at_ns, side="right")) - 1
        return self.drivers[index] if index >= 0 else ""

    def covers(self, at_ns: int) -> bool:
        """Whether it lies between the first and the last moment at which the arm was driven, homing apart."""
        driven = [i for i, driver in enumerate(self.drivers) if shows(driver)]
        if not driven or not len(self.action_ns):
            return False
        ended = driven[-1] + 1
        end_ns = int(self.driver_ns[ended]) - 1 if ended < len(self.drivers) else self.end_ns
        return max(int(self.driver_ns[driven[0]]), int(self.action_ns[0])) <= at_ns <= end_ns


def shows(driver: str) -> bool:
    """Whether what this one did is the episode's own: somebody drove, and not only back home."""
    return driver not in ("", HOMING)


def read_driving(bag: Bag, contract: Contract, required: bool = True) -> Driving:
    """Actions and drivers of a whole bag. Raises EpisodeError for an action table without a column of the contract.

    required: also for a bag without safe actions, and for one in which nobody drove.
    """
    actions: list[tuple[int, Array]] = []
    drivers: list[tuple[int, str]] = []
    for message in bag.messages((ACTION, VERDICT, STATE)):
        if message.topic == ACTION:
            actions.extend((took_effect_ns(message), row) for row in _rows(bag, message, contract))
        else:
            drivers.extend((took_effect_ns(message), driver) for driver in _drivers(bag, message))
    if required and not actions:
        raise EpisodeError(f"{bag.path}: topic '{ACTION}' is missing or holds no action")
    if required and not any(shows(driver) for _, driver in drivers):
        raise EpisodeError(
            f"{bag.path}: nobody drove the arm, says topic '{STATE}'; there is nothing to learn from it "
            "(a motion led by hand gets its actions by `policy episodes derive`)"
        )
    actions.sort(key=lambda entry: entry[0])
    drivers.sort(key=lambda entry: entry[0])
    rows = np.array([row for _, row in actions]).reshape(len(actions), len(contract.action.columns))
    return Driving(_times(actions), rows, _times(drivers), tuple(driver for _, driver in drivers), bag.end_ns)


def took_effect_ns(message: BagMessage) -> int:
    """When a message took effect, ROS time: when it was published, if that is on the clock of the recording."""
    waited_ns = message.log_ns - message.publish_ns
    return message.publish_ns if 0 <= waited_ns <= SAME_CLOCK_NS else message.log_ns


def _rows(bag: Bag, message: BagMessage, contract: Contract) -> list[Array]:
    chunk = chunk_of(bag.decode(message), "safety", message.log_ns)
    if not chunk.values.size:
        return []
    missing = [name for name in contract.action.names if name not in chunk.names]
    if missing:
        raise EpisodeError(
            f"{bag.path}: topic '{ACTION}' has no column '{missing[0]}', only {', '.join(chunk.names)}; "
            "it was recorded under another contract"
        )
    if len(chunk.values) != 1:
        raise EpisodeError(
            f"{bag.path}: topic '{ACTION}' holds {len(chunk.values)} steps at once; a safe action has one"
        )
    return [chunk.values[0, [chunk.names.index(name) for name in contract.action.names]]]


def _drivers(bag: Bag, message: BagMessage) -> list[str]:
    status = bag.decode(message).status
    return [driver_of(values_of(status[0]))] if status else []


def _times(entries: Iterable[tuple[int, object]]) -> npt.NDArray[np.int64]:
    return np.array([time for time, _ in entries], dtype=np.int64)
