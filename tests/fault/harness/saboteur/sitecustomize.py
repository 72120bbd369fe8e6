"""Python loads this before anything else in a process whose PYTHONPATH names this folder: how a test gets into a node.

The two levers, 64-bit numbers in a file mapped into memory: how far the process's ROS clock is off (ns), and which of
its callbacks raises (1: on the next action table, 2: on the next joint state).
"""

import mmap
import os
import struct
from pathlib import Path

import rclpy.clock
from rclpy.time import Time

from policy_bringup.core import decoding

with Path(os.environ["FAULT_LEVERS"]).open("r+b") as _file:
    _levers = mmap.mmap(_file.fileno(), 0)


def _lever(index: int) -> int:
    return struct.unpack_from("<q", _levers, 8 * index)[0]


def _off(now):
    def told(clock):
        true = now(clock)
        return Time(nanoseconds=true.nanoseconds + _lever(0), clock_type=true.clock_type)

    return told


def _raising(decode, number):
    def called(*arguments):
        if _lever(1) == number:
            raise RuntimeError("sabotage")
        return decode(*arguments)

    return called


rclpy.clock.Clock.now = _off(rclpy.clock.Clock.now)
decoding.chunk_of = _raising(decoding.chunk_of, 1)
decoding.joint_positions = _raising(decoding.joint_positions, 2)
