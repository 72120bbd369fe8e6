"""A gamepad on Linux: the joystick device /dev/input/js0.

Source: Linux, Documentation/input/joydev/joystick-api.rst. After opening, the driver sends the present state of every
axis and button as events marked JS_EVENT_INIT, and so it does when events were lost; from then on, changes.
"""

from __future__ import annotations

import os
import struct

from policy_bringup.control.operator_input import Button, OperatorInput, Sticks
from policy_bringup.control.teleop_config import MotionConfig, SticksConfig
from policy_bringup.core.errors import DeviceError

EVENT = struct.Struct("=IhBB")
"""struct js_event: time in ms, value, type, number."""
BUTTON, AXIS, INIT = 0x01, 0x02, 0x80
FULL = 32767
_AT_ONCE = 64
_MOST = 64


class Gamepad:
    """The device at `path`, read without waiting until `close`. Raises DeviceError."""

    def __init__(self, path: str, config: SticksConfig, motion: MotionConfig) -> None:
        self._path = path
        self._sticks = Sticks(config, motion)
        self._axes = [0.0] * _MOST
        self._buttons = [0] * _MOST
        self._rest = b""
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise DeviceError(
                f"gamepad: {path} cannot be opened ({error.strerror}); list gamepads with: ls /dev/input/js*"
            ) from error

    def read(self, now_ns: int) -> OperatorInput:
        """What is held now, and pressed since the last time. Raises DeviceError when the device is gone."""
        pressed: list[Button] = []
        for _, value, kind, number in self._events():
            if number >= _MOST:
                continue
            if kind & ~INIT == AXIS:
                self._axes[number] = max(-1.0, value / FULL)
            elif kind & ~INIT == BUTTON:
                self._buttons[number] = value
                if not kind & INIT:
                    # One at a time: a button that goes down and up again between two looks was pressed.
                    pressed += self._sticks.take(self._axes, self._buttons).pressed
            if kind & INIT:
                self._sticks.reset()
        now = self._sticks.take(self._axes, self._buttons)
        return OperatorInput(now.command, (*pressed, *now.pressed))

    def close(self) -> None:
        """Gives the device back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _events(self) -> list[tuple[int, int, int, int]]:
        data = self._rest
        while True:
            try:
                more = os.read(self._file, _AT_ONCE * EVENT.size)
            except BlockingIOError:
                break
            except OSError as error:
                raise DeviceError(
                    f"gamepad: {self._path} cannot be read any more ({error.strerror}); unplugged?"
                ) from error
            if not more:
                raise DeviceError(f"gamepad: {self._path} is gone; unplugged?")
            data += more
        whole = len(data) - len(data) % EVENT.size
        self._rest = data[whole:]
        return list(EVENT.iter_unpack(data[:whole]))
