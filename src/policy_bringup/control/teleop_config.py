"""config/teleop.yaml, which explains every key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policy_bringup.core.config import bounded, required

Motions = Literal["x", "y", "z", "rx", "ry", "rz"]
Actions = Literal["open", "close", "estop", "record", "success", "failure", "discard", "take", "hand_back", "guide"]


@dataclass(frozen=True, slots=True)
class MotionConfig:
    """How the arm moves under a hand. joint_speed: part of what the joints can do, where actions are joint positions.

    A leash is how far ahead of the measured arm a target may be, per column; horizon_s: every action table ends at rest
    this long after its stamp.
    """

    linear_speed: float = bounded(0.001, 1.0, "m/s")
    linear_acceleration: float = bounded(0.01, 10.0, "m/s^2")
    linear_leash: float = bounded(0.005, 0.5, "m")
    angular_speed: float = bounded(0.001, 3.0, "rad/s")
    angular_acceleration: float = bounded(0.01, 30.0, "rad/s^2")
    angular_leash: float = bounded(0.01, 1.0, "rad")
    joint_speed: float = bounded(0.01, 1.0)
    joint_leash: float = bounded(0.01, 1.0, "rad")
    gripper_speed: float = bounded(0.001, 1.0, "m/s")
    gripper_acceleration: float = bounded(0.01, 20.0, "m/s^2")
    grip_force: float = bounded(0.1, 200.0, "N")
    force_rate: float = bounded(1.0, 10000.0, "N/s")
    horizon_s: float = bounded(0.1, 1.0, "s")


@dataclass(frozen=True, slots=True)
class KeyboardConfig:
    """How long a key counts as held: after its first character, and after each repeated one.

    tap_speed: part of the full speed before the first repeated one, so that a tap is a small step.
    """

    initial_hold_s: float = bounded(0.05, 1.0, "s")
    repeat_hold_s: float = bounded(0.03, 0.5, "s")
    tap_speed: float = bounded(0.01, 1.0)


@dataclass(frozen=True, slots=True)
class AxisMap:
    """One axis of a gamepad, -1 to 1, times `scale`, is a part of the full speed of one motion in the base frame."""

    motion: Motions = required()
    axis: int = bounded(0, 63)
    scale: float = bounded(-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class ButtonMap:
    """What one button of a gamepad does."""

    action: Actions = required()
    button: int = bounded(0, 63)


@dataclass(frozen=True, slots=True)
class SticksConfig:
    """A gamepad. dead_zone: part of an axis' way that counts as its middle. deadman: button to hold while moving."""

    dead_zone: float = bounded(0.0, 0.9)
    deadman: int = bounded(0, 63)
    axes: tuple[AxisMap, ...] = required()
    buttons: tuple[ButtonMap, ...] = required()

    def __post_init__(self) -> None:
        numbers = [self.deadman, *(entry.button for entry in self.buttons)]
        if len(set(numbers)) != len(numbers):
            raise ValueError("a button, or the dead-man's, stands twice")
        if len({entry.motion for entry in self.axes}) != len(self.axes):
            raise ValueError("axes: a motion stands twice")


@dataclass(frozen=True, slots=True)
class LeaderJoint:
    """A joint of the arm is sign * scale * (the leader's joint) + offset. The leader's has the prefix in its name."""

    name: str = required()
    sign: int = bounded(-1, 1)
    scale: float = bounded(0.1, 10.0)
    offset: float = bounded(-6.2832, 6.2832, "rad")

    def __post_init__(self) -> None:
        if self.sign == 0:
            raise ValueError("sign must be -1 or 1")


@dataclass(frozen=True, slots=True)
class LeaderGripper:
    """The leader's joint, by its full name, that opens and closes the gripper; at `opened` it is fully open."""

    joint: str = required()
    closed: float = bounded(-10.0, 10.0, "rad")
    opened: float = bounded(-10.0, 10.0, "rad")

    def __post_init__(self) -> None:
        if self.closed == self.opened:
            raise ValueError("closed and opened must differ")


@dataclass(frozen=True, slots=True)
class LeaderConfig:
    """A leader arm. match_*: how near to the arm it must be, in every joint or column, before the arm follows it."""

    prefix: str = required()
    joints: tuple[LeaderJoint, ...] = required()
    gripper: LeaderGripper = required()
    match_rad: float = bounded(0.01, 1.0, "rad")
    match_m: float = bounded(0.001, 0.2, "m")


@dataclass(frozen=True, slots=True)
class TeleopConfig:
    """handover_timeout_s: how long taking the arm, or handing it back, may wait for an acceptable action."""

    motion: MotionConfig = required()
    keyboard: KeyboardConfig = required()
    gamepad: SticksConfig = required()
    joy: SticksConfig = required()
    leader: LeaderConfig = required()
    handover_timeout_s: float = bounded(0.5, 30.0, "s")
