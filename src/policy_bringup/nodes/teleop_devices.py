"""What an operator holds, by name: the parameter `teleop_device` of the teleop node."""

from __future__ import annotations

import dataclasses
import time
from typing import Protocol

from sensor_msgs.msg import Joy

from policy_bringup.control.operator_input import RELEASED, OperatorInput, Sticks
from policy_bringup.control.teleop_config import TeleopConfig
from policy_bringup.core import graph
from policy_bringup.core.errors import ConfigError, DeviceError
from policy_bringup.drivers.gamepad import Gamepad
from policy_bringup.drivers.keyboard import Keyboard

ALLOWED = (
    "keyboard:TERMINAL (e.g. keyboard:/dev/pts/3, see `tty`), gamepad:DEVICE (e.g. gamepad:/dev/input/js0), joy, "
    "leader, or leader+ and one of the others"
)
LEADER = "leader"
RETRY_NS = 1_000_000_000
"""Between two attempts to open a device that was lost."""


class Device(Protocol):
    """Somebody's hand."""

    def read(self, now_ns: int) -> OperatorInput:
        """What it says now; never waits. Raises DeviceError when the device is gone."""

    def close(self) -> object:
        """Gives it back."""


class JoyTopic:
    """sensor_msgs/Joy from another node. A pad that falls silent has been let go, and starts anew."""

    def __init__(self, config: TeleopConfig) -> None:
        self._sticks = Sticks(config.joy, config.motion)
        self._stale_ns = round(graph.topic("joy").stale_s * 1e9)
        self._heard_ns: int | None = None
        self._input = RELEASED

    def take(self, message: Joy, now_ns: int) -> None:
        """One message."""
        new = self._sticks.take(message.axes, message.buttons)
        self._input = dataclasses.replace(new, pressed=(*self._input.pressed, *new.pressed))
        self._heard_ns = now_ns

    def read(self, now_ns: int) -> OperatorInput:
        """As the newest message says."""
        now = self._input
        if self._heard_ns is not None and now_ns - self._heard_ns > self._stale_ns:
            self._sticks.reset()
            self._heard_ns, now = None, dataclasses.replace(RELEASED, pressed=now.pressed)
        self._input = dataclasses.replace(now, pressed=())
        return now

    def close(self) -> None:
        """Nothing is held."""


def split(name: str) -> tuple[bool, str]:
    """The parameter -> whether a leader arm leads, and the device with the dead-man. Raises ConfigError."""
    first, _, rest = name.partition("+")
    leads = first == LEADER
    hand = (rest if "+" in name else "joy") if leads else name
    kind, _, path = hand.partition(":")
    if not (hand == "joy" or (kind in ("keyboard", "gamepad") and path)):
        raise ConfigError(f"teleop: parameter 'teleop_device' must be {ALLOWED}; found '{name}'")
    return leads, hand


def open_device(hand: str, config: TeleopConfig) -> Device:
    """Opens the device with the dead-man. Raises DeviceError."""
    kind, _, path = hand.partition(":")
    if kind == "keyboard":
        return Keyboard(path, config.keyboard, config.motion)
    if kind == "gamepad":
        return Gamepad(path, config.gamepad, config.motion)
    return JoyTopic(config)


class Hand:
    """The device with the dead-man, opened again when it comes back. lost: why it is not there now, "" if it is.

    Raises DeviceError if it is not there at first.
    """

    def __init__(self, name: str, config: TeleopConfig) -> None:
        self.name, self._config = name, config
        self.lost = ""
        self._retry_ns = 0
        self._device: Device | None = open_device(name, config)

    def read(self, now_ns: int) -> OperatorInput:
        """What it says now; never waits. A device that is gone has been let go."""
        if self._device is None and now_ns < self._retry_ns:
            return RELEASED
        try:
            self._device = self._device or open_device(self.name, self._config)
            now = self._device.read(now_ns)
        except DeviceError as error:
            self.close()
            self.lost, self._retry_ns = str(error), now_ns + RETRY_NS
            return RELEASED
        self.lost = ""
        return now

    def take_joy(self, message: Joy) -> None:
        """A message of the topic `joy`, where that is the device."""
        if isinstance(self._device, JoyTopic):
            self._device.take(message, time.monotonic_ns())

    def close(self) -> None:
        """Gives the device back."""
        if self._device is not None:
            self._device.close()
            self._device = None
