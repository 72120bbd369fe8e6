"""ROS messages <-> the stack's own types; pictures, which safety and arm never load, are in image_messages.py."""

from __future__ import annotations

import array
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from policy_bringup.core.rotations import to_quaternion
from policy_bringup.core.types import (
    UNCERTAINTY_COLUMN,
    ActionChunk,
    Array,
    JointCommand,
    Pose,
    StateSample,
)

MAX_COLUMNS, MAX_STEPS = 64, 1024
"""A larger action table is passed on empty: converting it would take the time that it is meant to steal."""
LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


def stamp_of(time: Time) -> int:
    """builtin_interfaces/Time -> ns."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def time_of(stamp_ns: int) -> Time:
    """ns -> builtin_interfaces/Time."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def _duration_of(seconds: float) -> Duration:
    ns = round(seconds * 1e9)
    return Duration(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


def joint_positions(message: JointState, received_ns: int) -> StateSample:
    """Positions of a JointState, by name; NaN for every name without one, so that nobody reads a wrong joint."""
    names = tuple(message.name)
    positions = np.array(message.position, dtype=np.float64)
    if len(positions) != len(names):
        positions = np.full(len(names), math.nan)
    return StateSample(stamp_of(message.header.stamp), received_ns, names, positions)


def joint_state(sample: StateSample, velocities: Array, efforts: Array, frame: str) -> JointState:
    """The robot's state as a message; velocities and efforts in the order of `sample.names`."""
    message = JointState()
    message.header.stamp = time_of(sample.stamp_ns)
    message.header.frame_id = frame
    message.name = list(sample.names)
    message.position = array.array("d", sample.values)
    message.velocity = array.array("d", velocities)
    message.effort = array.array("d", efforts)
    return message


def pose_sample(message: PoseStamped, received_ns: int, prefix: str) -> StateSample:
    """A pose as the columns `<prefix>.x y z qx qy qz qw`."""
    position, turn = message.pose.position, message.pose.orientation
    names = tuple(f"{prefix}.{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw"))
    values = np.array([position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w])
    return StateSample(stamp_of(message.header.stamp), received_ns, names, values)


def pose_message(pose: Pose, stamp_ns: int, frame: str) -> PoseStamped:
    """A pose in `frame` as a message."""
    message = PoseStamped()
    message.header.stamp = time_of(stamp_ns)
    message.header.frame_id = frame
    position, turn = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = (float(value) for value in pose.position)
    turn.x, turn.y, turn.z, turn.w = to_quaternion(pose.rotation)
    return message


def table_message(chunk: ActionChunk, frame: str) -> JointTrajectory:
    """An action table: the chunk's columns and, last, `uncertainty`."""
    message = JointTrajectory()
    message.header.stamp = time_of(chunk.stamp_ns)
    message.header.frame_id = frame
    message.joint_names = [*chunk.names, UNCERTAINTY_COLUMN]
    rows = np.column_stack([chunk.values, chunk.uncertainty])
    message.points = [
        JointTrajectoryPoint(positions=array.array("d", row), time_from_start=_duration_of(float(t)))
        for row, t in zip(rows, chunk.times_s, strict=True)
    ]
    return message


def chunk_of(message: JointTrajectory, source: str, received_ns: int) -> ActionChunk:
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


def trajectory_message(command: JointCommand) -> JointTrajectory:
    """A command for the robot's controller. The stamp stays zero: for a joint trajectory controller, "start now"."""
    message = JointTrajectory()
    message.joint_names = list(command.names)
    effort = array.array("d", [0.0] * (len(command.names) - 1) + [command.gripper_effort])
    message.points = [
        JointTrajectoryPoint(
            positions=array.array("d", positions),
            velocities=array.array("d", velocities),
            effort=effort,
            time_from_start=_duration_of(float(t)),
        )
        for positions, velocities, t in zip(command.positions, command.velocities, command.times_s, strict=True)
    ]
    return message


def command_of(message: JointTrajectory) -> JointCommand:
    """The controller's side of `trajectory_message`. Raises ValueError for a ragged or empty one."""
    points, columns = message.points, len(message.joint_names)
    positions = np.array([point.positions for point in points], dtype=np.float64).reshape(len(points), columns)
    velocities = np.array([point.velocities for point in points], dtype=np.float64).reshape(len(points), columns)
    times = np.array([stamp_of(point.time_from_start) / 1e9 for point in points])
    return JointCommand(tuple(message.joint_names), times, positions, velocities, float(points[-1].effort[-1]))


def status(name: str, level: str, sentence: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    """One entry of a DiagnosticArray; `level` is ok, warn or error."""
    entries = [KeyValue(key=key, value=_word(value)) for key, value in values.items()]
    return DiagnosticStatus(level=LEVELS[level], name=name, message=sentence, hardware_id="", values=entries)


def diagnostics(stamp_ns: int, *statuses: DiagnosticStatus) -> DiagnosticArray:
    """Several entries under one stamp."""
    message = DiagnosticArray()
    message.header.stamp = time_of(stamp_ns)
    message.status = list(statuses)
    return message


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """The key-value pairs of one entry."""
    return {entry.key: entry.value for entry in status.values}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
