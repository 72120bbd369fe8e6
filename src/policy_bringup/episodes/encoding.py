"""The stack's own types -> serialised messages (CDR), without ROS: for bags that are made outside of a running robot.

A reader finds in them, field by field, what the nodes publish (policy_bringup.nodes.messages). core/decoding.py is the
way back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from policy_bringup.core.decoding import text_of
from policy_bringup.core.rotations import to_quaternion
from policy_bringup.core.types import (
    UNCERTAINTY_COLUMN,
    ActionChunk,
    Array,
    ImageSample,
    JointCommand,
    Pose,
    StateSample,
)

IMAGE, JOINT_STATE = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"
INFO = "sensor_msgs/msg/CameraInfo"
POSE, TABLE, STATUS = (
    "geometry_msgs/msg/PoseStamped",
    "trajectory_msgs/msg/JointTrajectory",
    "diagnostic_msgs/msg/DiagnosticArray",
)
LEVELS = {"ok": 0, "warn": 1, "error": 2}
_NONE = np.empty(0)


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The message types of ROS 2 Jazzy; the ones used here are the same in every later distribution."""
    return get_typestore(Stores.ROS2_JAZZY)


def image(sample: ImageSample, frame: str) -> bytes:
    """A sensor_msgs/Image in rgb8, from uint8 RGB `(height, width, 3)`."""
    height, width = sample.pixels.shape[:2]
    data: npt.NDArray[np.uint8] = np.ascontiguousarray(sample.pixels).reshape(-1)
    fields = {"height": height, "width": width, "encoding": "rgb8", "is_bigendian": 0, "step": 3 * width, "data": data}
    return _serialised(IMAGE, header=_header(sample.stamp_ns, frame), **fields)


def joint_state(sample: StateSample, velocities: Array, efforts: Array, frame: str) -> bytes:
    """A sensor_msgs/JointState; velocities (rad/s, m/s) and efforts (N m, N) in the order of `sample.names`."""
    return _serialised(
        JOINT_STATE,
        header=_header(sample.stamp_ns, frame),
        name=list(sample.names),
        position=_floats(sample.values),
        velocity=_floats(velocities),
        effort=_floats(efforts),
    )


def pose(value: Pose, stamp_ns: int, frame: str) -> bytes:
    """A geometry_msgs/PoseStamped in `frame`; position in m."""
    position = _make("geometry_msgs/msg/Point", **dict(zip("xyz", map(float, value.position), strict=True)))
    turn = dict(zip("xyzw", map(float, to_quaternion(value.rotation)), strict=True))
    orientation = _make("geometry_msgs/msg/Quaternion", **turn)
    posture = _make("geometry_msgs/msg/Pose", position=position, orientation=orientation)
    return _serialised(POSE, header=_header(stamp_ns, frame), pose=posture)


def table(chunk: ActionChunk, frame: str) -> bytes:
    """An action table (trajectory_msgs/JointTrajectory): the chunk's columns and, last, `uncertainty`."""
    rows = np.column_stack([chunk.values, chunk.uncertainty])
    points = [
        _make(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=_floats(row),
            velocities=_NONE,
            accelerations=_NONE,
            effort=_NONE,
            time_from_start=_time("Duration", round(float(t) * 1e9)),
        )
        for row, t in zip(rows, chunk.times_s, strict=True)
    ]
    names = [*chunk.names, UNCERTAINTY_COLUMN]
    return _serialised(TABLE, header=_header(chunk.stamp_ns, frame), joint_names=names, points=points)


def status(stamp_ns: int, name: str, level: str, sentence: str, values: Mapping[str, Any]) -> bytes:
    """A diagnostic_msgs/DiagnosticArray with one entry; `level` is ok, warn or error."""
    return statuses(stamp_ns, [(name, level, sentence, values)])


def statuses(stamp_ns: int, entries: Sequence[tuple[str, str, str, Mapping[str, Any]]]) -> bytes:
    """A diagnostic_msgs/DiagnosticArray; each entry is name, level, sentence and values, as in `status`."""
    status = [
        _make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=LEVELS[level],
            name=name,
            message=sentence,
            hardware_id="",
            values=[_make("diagnostic_msgs/msg/KeyValue", key=key, value=text_of(v)) for key, v in values.items()],
        )
        for name, level, sentence, values in entries
    ]
    return _serialised(STATUS, header=_header(stamp_ns, ""), status=status)


def command(value: JointCommand) -> bytes:
    """A command for the robot's controller (trajectory_msgs/JointTrajectory); its stamp stays zero: "start now"."""
    effort = np.append(np.zeros(len(value.names) - 1), value.gripper_effort)
    points = [
        _make(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=_floats(positions),
            velocities=_floats(velocities),
            accelerations=_NONE,
            effort=effort,
            time_from_start=_time("Duration", round(float(t) * 1e9)),
        )
        for positions, velocities, t in zip(value.positions, value.velocities, value.times_s, strict=True)
    ]
    return _serialised(TABLE, header=_header(0, ""), joint_names=list(value.names), points=points)


def camera_info(stamp_ns: int, frame: str, width: int, height: int, matrix: Sequence[float]) -> bytes:
    """A sensor_msgs/CameraInfo of a pinhole camera; `matrix` is K, row by row."""
    k = _floats(matrix)
    fields = {
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": k,
        "r": np.eye(3).ravel(),
        "p": np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).ravel(),
        "binning_x": 0,
        "binning_y": 0,
        "roi": _make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    }
    return _serialised(INFO, header=_header(stamp_ns, frame), **fields)


def _serialised(type_name: str, **fields: Any) -> bytes:
    return bytes(typestore().serialize_cdr(_make(type_name, **fields), type_name))


def _make(type_name: str, **fields: Any) -> Any:
    return typestore().types[type_name](**fields)


def _header(stamp_ns: int, frame: str) -> Any:
    return _make("std_msgs/msg/Header", stamp=_time("Time", stamp_ns), frame_id=frame)


def _time(kind: str, ns: int) -> Any:
    sec, nanosec = divmod(int(ns), 1_000_000_000)
    return _make(f"builtin_interfaces/msg/{kind}", sec=sec, nanosec=nanosec)


def _floats(values: Any) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)
