"""The two clocks that a camera reads: given by whoever opens it, so that simulated time and tests can set them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """`ros_ns`: ROS time, for stamps. `monotonic_ns`: this machine's monotonic time, for receive times and waiting."""

    ros_ns: Callable[[], int]
    monotonic_ns: Callable[[], int]
