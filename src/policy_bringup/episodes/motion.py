"""The motion of an episode, to be made again: what the arm was told while somebody drove it, and where things lay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policy_bringup.core import graph
from policy_bringup.core.decoding import pose_sample
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.rotations import from_quaternion
from policy_bringup.core.types import Array, Contract, Pose
from policy_bringup.episodes.driving import ACTION, STATE, VERDICT, read_driving, shows, took_effect_ns
from policy_bringup.episodes.reader import Bag, open_bag
from policy_bringup.episodes.recorded_input import OBJECT


@dataclass(frozen=True, slots=True, eq=False)
class RecordedMotion:
    """times_s `(m,)` since the first action, rising; values `(m, action columns)` in the contract's columns and units.

    T_base_object: where the simulated object lay when it began; None for an episode of a real robot.
    """

    times_s: Array
    values: Array
    T_base_object: Pose | None


def read_motion(folder: Path, contract: Contract) -> RecordedMotion:
    """The safe actions of an episode while the arm was driven, homing apart. In between it goes straight on.

    Raises EpisodeError for a bag that cannot be read, without actions, of other columns or types, or in which nobody
    drove.
    """
    with open_bag(folder) as bag:
        _check_types(bag)
        driving = read_driving(bag, contract)
        played = np.array([shows(driving.driver(ns)) for ns in driving.action_ns.tolist()], dtype=np.bool_)
        times_ns, values = driving.action_ns[played], driving.actions[played]
        if not len(times_ns):
            raise EpisodeError(f"{bag.path}: topic '{ACTION}' holds no action of the time in which the arm was driven")
        if not np.isfinite(values).all():
            raise EpisodeError(f"{bag.path}: topic '{ACTION}' holds an action that is not a finite number")
        began_ns = int(times_ns[0])
        return RecordedMotion((times_ns - began_ns) / 1e9, values, _object_at(bag, began_ns))


def _check_types(bag: Bag) -> None:
    for name in (ACTION, VERDICT, STATE, OBJECT):
        found, ours = bag.topics.get(name), graph.topic(name).type
        if found not in (None, ours):
            raise EpisodeError(f"{bag.path}: topic '{name}' is of type {found}, not {ours}")


def _object_at(bag: Bag, ns: int) -> Pose | None:
    """The newest pose by then, else the first of all."""
    found = None
    for message in bag.messages((OBJECT,)):
        if found is not None and took_effect_ns(message) > ns:
            break
        found = message
    if found is None:
        return None
    columns = pose_sample(bag.decode(found), found.log_ns, "object").values
    if not (np.isfinite(columns).all() and columns[3:].any()):
        raise EpisodeError(f"{bag.path}: topic '{OBJECT}' holds a pose that is none")
    return Pose(columns[:3], from_quaternion(*columns[3:].tolist()))
