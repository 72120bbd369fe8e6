"""The stack's own types -> ROS messages; core/decoding.py is the way back.

Pictures, which safety and arm never load, are in image_messages.py.
"""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from policy_bringup.core.decoding import ANSWERS, text_of
from policy_bringup.core.rotations import to_quaternion
from policy_bringup.core.types import (
    UNCERTAINTY_COLUMN,
    ActionChunk,
    Array,
    JointCommand,
    Pose,
    StateSample,
)

LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


def time_of(stamp_ns: int) -> Time:
    """ns -> builtin_interfaces/Time."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def _duration_of(seconds: float) -> Duration:
    ns = round(seconds * 1e9)
    return Duration(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


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


def trajectory_message(command: JointCommand, answers_ns: int = 0) -> JointTrajectory:
    """A command for the robot's controller. The stamp stays zero: for a joint trajectory controller, "start now".

    answers_ns: stamp of the safe action that it answers; 0: none.
    """
    message = JointTrajectory()
    message.header.frame_id = f"{ANSWERS}{answers_ns}" if answers_ns else ""
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


def status(name: str, level: str, sentence: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    """One entry of a DiagnosticArray; `level` is ok, warn or error."""
    entries = [KeyValue(key=key, value=text_of(value)) for key, value in values.items()]
    return DiagnosticStatus(level=LEVELS[level], name=name, message=sentence, hardware_id="", values=entries)


def diagnostics(stamp_ns: int, *statuses: DiagnosticStatus) -> DiagnosticArray:
    """Several entries under one stamp."""
    message = DiagnosticArray()
    message.header.stamp = time_of(stamp_ns)
    message.status = list(statuses)
    return message
