"""The values that travel through the stack. All frozen; arrays are float64 unless stated, and are not to be written to.

Units: metre, radian, second, newton; stamps are integer nanoseconds.
Two clocks, never mixed: `stamp_ns` is the ROS time at which something was *measured* (a message's header stamp), used
to align streams; `received_ns` is this machine's monotonic time at which it *arrived*, used by watchdogs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

TOOL_COLUMNS = ("tool.x", "tool.y", "tool.z", "tool.rx", "tool.ry", "tool.rz")
"""Task-space columns: tool position in the base frame (m), and the rotation vector (rad) of the tool's orientation
relative to the robot's `tool_reference` orientation (see core/robot.py)."""
GRIPPER_COLUMNS = ("gripper.width", "gripper.force")
"""Opening between the fingers (m) and grasping force (N)."""
UNCERTAINTY_COLUMN = "uncertainty"


class Space(Enum):
    """What the columns of an action command."""

    JOINT = "joint"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a state or action table."""

    name: str
    unit: str


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """The action half of a contract.

    steps: length of the chunk a policy puts out; dt_s: time between its steps; execute: steps to use before the next
    inference must have arrived.
    """

    space: Space
    columns: tuple[Column, ...]
    steps: int
    dt_s: float
    execute: int

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """One image that a policy reads: uint8 `(height, width, 3)`, after `resize` ("area" over the whole picture)."""

    camera: str
    height: int
    width: int
    encoding: str = "rgb8"
    resize: str = "area"


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """The observation half of a contract.

    history: number of time steps, the newest last, `spacing_s` apart.
    """

    images: tuple[ImageSpec, ...]
    state: tuple[Column, ...]
    history: int = 1
    spacing_s: float = 0.05

    @property
    def names(self) -> tuple[str, ...]:
        """State column names in order."""
        return tuple(column.name for column in self.state)


@dataclass(frozen=True, slots=True)
class Contract:
    """What a policy reads and writes, and for which robot."""

    robot: str
    observation: ObservationSpec
    action: ActionSpec


@dataclass(frozen=True, slots=True, eq=False)
class StateSample:
    """One measurement of a vector stream, e.g. a JointState: `values` has shape `(len(names),)`."""

    stamp_ns: int
    received_ns: int
    names: tuple[str, ...]
    values: Array


@dataclass(frozen=True, slots=True, eq=False)
class ImageSample:
    """One picture: `pixels` uint8 RGB `(height, width, 3)`."""

    stamp_ns: int
    received_ns: int
    camera: str
    pixels: Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a policy sees at `stamp_ns`, the capture time of its newest picture (or state, if it reads no picture).

    images: camera -> uint8 `(history, height, width, 3)`; state: `(history, len(spec.state))`.
    """

    stamp_ns: int
    images: dict[str, Pixels]
    state: Array


@dataclass(frozen=True, slots=True, eq=False)
class ActionChunk:
    """An action table: what a source wants done after `stamp_ns`, the capture time of what it saw.

    times_s: `(steps,)` seconds after the stamp, strictly increasing; values: `(steps, len(names))`;
    uncertainty: `(steps,)`, >= 0, higher is less sure. `stamp_ns` doubles as the sequence number: a later chunk of the
    same source has a later stamp.
    """

    source: str
    stamp_ns: int
    received_ns: int
    names: tuple[str, ...]
    times_s: Array
    values: Array
    uncertainty: Array


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """A rigid transform: `position` `(3,)` m and `rotation` `(3, 3)`, in the frame its name states (T_base_tool)."""

    position: Array
    rotation: Array


@dataclass(frozen=True, slots=True, eq=False)
class JointCommand:
    """What the arm tells the robot's controller: points of a trajectory, `time_from_start` from now.

    times_s `(points,)`; positions, velocities `(points, len(names))`; effort: force limit of the gripper joint (N).
    """

    names: tuple[str, ...]
    times_s: Array
    positions: Array
    velocities: Array
    gripper_effort: float = field(default=0.0)
