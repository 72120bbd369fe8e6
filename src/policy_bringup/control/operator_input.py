"""What an operator asks for, whatever the device: a motion, and buttons that were just pressed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from policy_bringup.control.teleop_config import MotionConfig, SticksConfig
from policy_bringup.core.types import Array

MOTIONS = ("x", "y", "z", "rx", "ry", "rz")


class Button(Enum):
    """What a key or button asks for once, when it goes down."""

    ESTOP = "estop"
    RECORD = "record"
    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"
    TAKE = "take"
    HAND_BACK = "hand_back"
    GUIDE = "guide"


@dataclass(frozen=True, slots=True, eq=False)
class TeleopCommand:
    """A motion of the tool. linear `(3,)` m/s and angular `(3,)` rad/s in the base frame; gripper: -1 close .. 1 open.

    deadman: whether the operator holds it. Without it nothing moves, whatever the rest says.
    """

    linear: Array
    angular: Array
    gripper: float
    deadman: bool


@dataclass(frozen=True, slots=True, eq=False)
class OperatorInput:
    """What a device says at one moment; pressed: since it was last asked."""

    command: TeleopCommand
    pressed: tuple[Button, ...] = ()


def command_of(directions: Array, gripper: float, deadman: bool, motion: MotionConfig) -> TeleopCommand:
    """Directions `(6,)` x y z rx ry rz, parts of the full speed -> a command; a diagonal is no faster than an axis."""
    linear, angular = (part / max(1.0, float(np.linalg.norm(part))) for part in (directions[:3], directions[3:]))
    if not deadman:
        linear, angular, gripper = np.zeros(3), np.zeros(3), 0.0
    return TeleopCommand(motion.linear_speed * linear, motion.angular_speed * angular, gripper, deadman)


RELEASED = OperatorInput(TeleopCommand(np.zeros(3), np.zeros(3), 0.0, False))
"""Nobody's hand on the device."""


class Sticks:
    """Axes and buttons of a gamepad -> what they mean.

    What is held down when it is first read has not been pressed: an operator has to let go of the dead-man, and press
    it, before anything moves. Only the e-stop counts at once.
    """

    def __init__(self, config: SticksConfig, motion: MotionConfig) -> None:
        self._config, self._motion = config, motion
        self._held: frozenset[int] | None = None
        self._trusted = False

    def reset(self) -> None:
        """What is read next is read first."""
        self._held, self._trusted = None, False

    def take(self, axes: Sequence[float], buttons: Sequence[int]) -> OperatorInput:
        """axes: -1 .. 1; buttons: 0 or 1. Those that the device does not have are in the middle, and up."""
        held = frozenset(number for number, value in enumerate(buttons) if value)
        deadman = self._config.deadman in held
        self._trusted = self._trusted or not deadman
        directions = np.zeros(len(MOTIONS))
        for entry in self._config.axes:
            value = axes[entry.axis] if entry.axis < len(axes) else 0.0
            directions[MOTIONS.index(entry.motion)] = entry.scale * shaped(value, self._config.dead_zone)
        numbers = {entry.action: entry.button for entry in self._config.buttons}
        gripper = float(numbers.get("open") in held) - float(numbers.get("close") in held)
        before = held - {numbers.get("estop", -1)} if self._held is None else self._held
        self._held = held
        pressed = tuple(button for button in Button if numbers.get(button.value) in held - before)
        return OperatorInput(command_of(directions, gripper, deadman and self._trusted, self._motion), pressed)


def shaped(value: float, dead_zone: float) -> float:
    """An axis without the play around its middle: 0 within the dead zone, from there rising to 1 (or -1) at its end."""
    if not math.isfinite(value):
        return 0.0
    way = min(max((abs(value) - dead_zone) / (1.0 - dead_zone), 0.0), 1.0)
    return math.copysign(way, value)
