"""What is wrong with an action table: each takes a good one, spoils it, and gives it back."""

import array
import math
import struct
import time
from collections.abc import Callable

import numpy as np
from rclpy.serialization import serialize_message
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from harness.standin import HOSTILE, Spoil
from policy_bringup.nodes.messages import time_of

Table = JointTrajectory
NOT_NUMBERS = (math.nan, math.inf, -math.inf)
MILLION = 1_000_000
WIDTH, UNCERTAINTY = 8, 8
"""Columns before the uncertainty, and where that stands."""


def always(change: Callable[[Table], None]) -> Spoil:
    return pattern(change, (True,))


def pattern(change: Callable[[Table], None], bad: tuple[bool, ...]) -> Spoil:
    """Spoils by turns, e.g. every other one: (True, False)."""

    def spoil(table: Table, count: int) -> Table | None:
        if not bad[count % len(bad)]:
            return None
        change(table)
        return table

    return spoil


def number(rng: np.random.Generator, column: int, value: float) -> Callable[[Table], None]:
    """One number in one column of the first steps, which are those that would be followed."""
    step = int(rng.integers(0, 3))

    def change(table: Table) -> None:
        for point in table.points[: step + 1]:
            point.positions[column] = value

    return change


def teleport(rng: np.random.Generator) -> Callable[[Table], None]:
    """All of it 0.1 m to 0.3 m aside, within the workspace."""
    column, distance = int(rng.integers(0, 3)), float(rng.uniform(0.1, 0.3))
    middle = (0.5, 0.0, 0.35)[column]

    def change(table: Table) -> None:
        aside = math.copysign(distance, middle - table.points[0].positions[column])
        for point in table.points:
            point.positions[column] += aside

    return change


def stamped(stamp_ns: Callable[[], int]) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.header.stamp = time_of(stamp_ns())

    return change


def stamps(kind: str, rng: np.random.Generator) -> Callable[[], int]:
    """An hour ahead, zero, of the monotonic clock, or 0.5 s to 100 s off."""
    off_ns = int(rng.choice([-1, 1]) * rng.integers(500_000_000, 100_000_000_000))
    return {
        "an hour ahead": lambda: time.time_ns() + 3_600_000_000_000,
        "zero": lambda: 0,
        "monotonic": time.monotonic_ns,
        "another clock": lambda: time.time_ns() + off_ns,
    }[kind]


def no_columns(table: Table) -> None:
    table.joint_names = []
    for point in table.points:
        point.positions = array.array("d")


def without(column: int) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        names = list(table.joint_names)
        del names[column]
        table.joint_names = names
        for point in table.points:
            del point.positions[column]

    return change


def with_another(column: int) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        names = list(table.joint_names)
        names.insert(column, "tool.w")
        table.joint_names = names
        for point in table.points:
            point.positions.insert(column, 0.0)

    return change


def exchanged(one: int, other: int) -> Callable[[Table], None]:
    """Two names, with their numbers left where they are."""

    def change(table: Table) -> None:
        names = list(table.joint_names)
        names[one], names[other] = names[other], names[one]
        table.joint_names = names

    return change


def a_million_columns() -> bytes:
    """Serialised once: what takes time is to be the reader's trouble, not the test's."""
    table = JointTrajectory(joint_names=[""] * MILLION)
    table.header.frame_id = HOSTILE
    table.points = [JointTrajectoryPoint(positions=array.array("d", bytes(8 * MILLION)))]
    return serialize_message(table)


def stamped_now(data: bytes) -> bytes:
    """A serialised table with a fresh stamp."""
    return data[:4] + struct.pack("<iI", *divmod(time.time_ns(), 10**9)) + data[12:]
