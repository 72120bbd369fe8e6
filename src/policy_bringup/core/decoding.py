"""Messages -> the stack's own types: the ONE reading of what travels and of what was recorded.

Any object with the fields of the ROS message will do: what rclpy delivers, and what rosbags deserialises from a bag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from policy_bringup.core.types import UNCERTAINTY_COLUMN, ActionChunk, Array, JointCommand, StateSample

MAX_COLUMNS, MAX_STEPS, MAX_TABLE_BYTES = 64, 1024, 1 << 16
"""A larger action table is passed on empty: converting it would take the time that it is meant to steal."""
DRIVEN = ("ACTIVE", "RETRY")
"""The safety monitor's states in which a source is in charge of the arm."""
ANSWERS = "answers "
"""How header.frame_id of a command for the robot's controller begins that answers a safe action, whose stamp follows.
A joint trajectory controller reads the stamp of a command as the moment to start, and its frame not at all."""
GUIDED = "guided"
"""The arm's state in which a person leads it by hand."""


def stamp_of(time: Any) -> int:
    """builtin_interfaces/Time -> ns."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def joint_positions(message: Any, received_ns: int) -> StateSample:
    """Positions of a JointState, by name; NaN for every name without one, so that nobody reads a wrong joint."""
    names = tuple(message.name)
    positions = np.array(message.position, dtype=np.float64)
    if len(positions) != len(names):
        positions = np.full(len(names), math.nan)
    return StateSample(stamp_of(message.header.stamp), received_ns, names, positions)


def pose_sample(message: Any, received_ns: int, prefix: str) -> StateSample:
    """A pose as the columns `<prefix>.x y z qx qy qz qw`."""
    position, turn = message.pose.position, message.pose.orientation
    names = tuple(f"{prefix}.{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw"))
    values = np.array([position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w])
    return StateSample(stamp_of(message.header.stamp), received_ns, names, values)


def chunk_of(message: Any, source: str, received_ns: int) -> ActionChunk:
    """An action table, as it is, for the safety monitor to judge: nothing is repaired here.

    Without an `uncertainty` column its values are NaN; ragged or oversized tables become empty ones.
    """
    names = tuple(message.joint_names[:MAX_COLUMNS])
    points = message.points
    table = np.empty((0, 0))
    if len(message.joint_names) <= MAX_COLUMNS and len(points) <= MAX_STEPS:
        rows = [point.positions for point in points]
        if all(len(row) == len(names) for row in rows):
            table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    times = np.array([stamp_of(point.time_from_start) / 1e9 for point in points[: len(table)]])
    uncertainty = np.full(len(table), math.nan)
    if UNCERTAINTY_COLUMN in names and table.size:
        column = names.index(UNCERTAINTY_COLUMN)
        uncertainty = table[:, column]
        table = np.delete(table, column, axis=1)
    names = tuple(name for name in names if name != UNCERTAINTY_COLUMN)
    return ActionChunk(source, stamp_of(message.header.stamp), received_ns, names, times, table, uncertainty)


def command_of(message: Any) -> JointCommand:
    """The controller's side of `trajectory_message`. Raises ValueError for a ragged or empty one."""
    points, columns = message.points, len(message.joint_names)
    positions = np.array([point.positions for point in points], dtype=np.float64).reshape(len(points), columns)
    velocities = np.array([point.velocities for point in points], dtype=np.float64).reshape(len(points), columns)
    times = np.array([stamp_of(point.time_from_start) / 1e9 for point in points])
    return JointCommand(tuple(message.joint_names), times, positions, velocities, float(points[-1].effort[-1]))


def answered_of(message: Any) -> int:
    """The stamp, ns, of the safe action that a command for the robot's controller answers; 0 for none: the arm made it
    by itself."""
    before, _, stamp = message.header.frame_id.partition(ANSWERS)
    return int(stamp) if not before and stamp.isascii() and stamp.isdecimal() and len(stamp) < 20 else 0


def values_of(status: Any) -> dict[str, str]:
    """The key-value pairs of one entry (DiagnosticStatus)."""
    return {entry.key: entry.value for entry in status.values}


def entry_of(message: Any, *names: str) -> Any | None:
    """A state's first entry (of DiagnosticArray); None if there is none, or it does not say all that is named."""
    entry = message.status[0] if message.status else None
    return entry if entry is not None and set(names) <= values_of(entry).keys() else None


def state_of(message: Any) -> dict[str, str] | None:
    """The pairs of a state's first entry (DiagnosticArray), which name at least "state"; None if there is none."""
    entry = entry_of(message, "state")
    return None if entry is None else values_of(entry)


def grip_of(message: Any, names: tuple[str, ...]) -> Array | None:
    """What its button has told the gripper, of what `arm/state` says: `(len(names),)` by action column, NaN where it
    says no number. None when it says nothing of it, or the arm follows safe actions."""
    values = values_of(message.status[0]) if message.status else {}
    said = [values.get(name, "") for name in names]
    return np.array([_number(text) for text in said]) if any(said) and values.get("follows") == "false" else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def driver_of(values: Mapping[str, str]) -> str:
    """Who moves the arm, from the values of a safety verdict or state: a source such as "policy"; "" for nobody."""
    return values.get("source", "") if values.get("state") in DRIVEN else ""


def text_of(value: Any) -> str:
    """How a value is written into an entry: the other side of `values_of`, wherever entries are made."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def newly_armed(before: str, state: str) -> bool:
    """Whether safety was armed between two of its states. One that was armed when it was first heard (before: "") does
    not count: who has just started must not begin to move by what was meant for another."""
    return state in DRIVEN and before not in ("", *DRIVEN)
