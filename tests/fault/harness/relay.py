"""A process between the simulated robot and everybody who reads its joint states: passes them on, or lies.

Run: python relay.py LEVERS (see Levers and Relay in stack.py)
"""

import contextlib
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState

PASS, STOP, FREEZE, NUMBER, STAMP_BY, STAMP_ZERO, STAMP_MONOTONIC, NOISE = range(8)
STAMP_AT = 4
"""Byte of a serialised message at which its stamp stands: behind the four that say how it is serialised."""


class Relay(Node):
    """Joint states as they come; the newest is kept, to be told again."""

    def __init__(self, levers: mmap.mmap) -> None:
        super().__init__("relay")
        self._levers = levers
        self._kept = b""
        qos = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._output = self.create_publisher(JointState, "joint_states", qos)
        self.create_subscription(JointState, "fault/true_joint_states", self._take, qos, raw=True)

    def _take(self, data: bytes) -> None:
        mode, whole, number = struct.unpack_from("<qqd", self._levers, 0)
        if mode != FREEZE or not self._kept:
            self._kept = data
        if mode != STOP:
            self._output.publish(spoiled(data, self._kept, mode, whole, number))


def spoiled(data: bytes, kept: bytes, mode: int, whole: int, number: float) -> bytes:
    """What is told instead of `data`."""
    if mode == FREEZE:  # old joints under a fresh stamp
        return kept[:STAMP_AT] + data[STAMP_AT : STAMP_AT + 8] + kept[STAMP_AT + 8 :]
    if mode in (NUMBER, NOISE):
        message = deserialize_message(data, JointState)
        told = {NUMBER: number, NOISE: message.position[whole] + random.uniform(-number, number)}
        message.position[whole] = told[mode]
        return serialize_message(message)
    if mode in (STAMP_BY, STAMP_ZERO, STAMP_MONOTONIC):
        sec, nanosec = struct.unpack_from("<iI", data, STAMP_AT)
        stamps = {STAMP_BY: sec * 10**9 + nanosec + whole, STAMP_MONOTONIC: time.monotonic_ns()}
        stamp = struct.pack("<iI", *divmod(stamps.get(mode, 0), 10**9))
        return data[:STAMP_AT] + stamp + data[STAMP_AT + 8 :]
    return data


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # as the robot's own nodes, so that it adds no delay of its own
    with Path(sys.argv[1]).open("r+b") as file:
        levers = mmap.mmap(file.fileno(), 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    rclpy.spin(Relay(levers))


if __name__ == "__main__":
    main()
