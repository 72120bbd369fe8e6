"""A keyboard, read from the terminal that somebody types into.

A terminal tells of characters, not of keys that go down or up: a held key is a character, a pause of about half a
second, then a stream of the same. So a key counts as held for a while after its last character, and that while is the
dead-man: nothing moves longer than it after a key is let go. Of several held keys, only the last one repeats.
"""

from __future__ import annotations

import contextlib
import os
import termios
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from policy_bringup.control.operator_input import MOTIONS, Button, OperatorInput, command_of
from policy_bringup.control.teleop_config import KeyboardConfig, MotionConfig
from policy_bringup.core.errors import DeviceError

MOTION_KEYS: Mapping[str, tuple[str, float]] = {
    "w": ("x", 1.0), "s": ("x", -1.0), "a": ("y", 1.0), "d": ("y", -1.0), "r": ("z", 1.0), "f": ("z", -1.0),
    "u": ("rx", 1.0), "o": ("rx", -1.0), "i": ("ry", 1.0), "k": ("ry", -1.0), "j": ("rz", 1.0), "l": ("rz", -1.0),
}  # fmt: skip
GRIPPER_KEY = " "
BUTTON_KEYS: Mapping[str, Button] = {
    "e": Button.ESTOP, "1": Button.SUCCESS, "0": Button.FAILURE, "x": Button.DISCARD, "\n": Button.RECORD,
    "\r": Button.RECORD, "t": Button.TAKE, "h": Button.HAND_BACK, "g": Button.GUIDE,
}  # fmt: skip
TABLE = """\
  w s   forward, back        u o   turn about x      space  close the gripper; pressed again, open it
  a d   left, right          i k   turn about y      enter  start, stop recording
  r f   up, down             j l   turn about z      1 0 x  success, failure, discard
  t     take the arm         h     hand it back      e      EMERGENCY STOP
  g     lead the arm by hand, or end that; meanwhile space is the gripper's button, and no other key moves anything
Hold a key to move; let go to stop. All directions are those of the robot's base."""

_CHUNK = 1024
_ESCAPE, _INTRODUCERS = "\x1b", "[O"


class Keyboard:
    """The terminal at `path`, e.g. /dev/pts/3: without echo and line by line editing until `close`. Raises DeviceError.

    Whatever else reads that terminal, such as its shell, takes characters away: leave it waiting, e.g. in `sleep inf`.
    """

    def __init__(self, path: str, config: KeyboardConfig, motion: MotionConfig) -> None:
        self._path, self._motion = path, motion
        self._first_ns, self._repeat_ns = round(config.initial_hold_s * 1e9), round(config.repeat_hold_s * 1e9)
        self._tap_speed = config.tap_speed
        self._until: dict[str, int] = {}
        self._speed: dict[str, float] = {}
        self._direction = 1.0
        self._escape = ""
        self._file = _open(path)
        # Also when nobody closes it: at the end of the process, however it comes, short of being killed.
        self.close = weakref.finalize(self, _restore, self._file, _silence(self._file, path))

    def read(self, now_ns: int) -> OperatorInput:
        """What is held now, and pressed since the last time. Raises DeviceError when the terminal is gone."""
        pressed: list[Button] = []
        for key in self._keys():
            held = self._held(key, now_ns)
            self._until[key] = now_ns + (self._repeat_ns if held else self._first_ns)
            self._speed[key] = 1.0 if held else self._tap_speed
            if key == GRIPPER_KEY and not held:
                self._direction = -self._direction
            button = BUTTON_KEYS.get(key)
            if button is not None and (button is Button.ESTOP or not held):
                pressed.append(button)
        directions = np.zeros(len(MOTIONS))
        for key, (motion, sign) in MOTION_KEYS.items():
            directions[MOTIONS.index(motion)] += sign * self._speed_of(key, now_ns)
        gripper = self._direction if self._held(GRIPPER_KEY, now_ns) else 0.0
        deadman = any(self._held(key, now_ns) for key in (*MOTION_KEYS, GRIPPER_KEY))
        return OperatorInput(command_of(directions, gripper, deadman, self._motion), tuple(pressed))

    def _held(self, key: str, now_ns: int) -> bool:
        return now_ns < self._until.get(key, now_ns)

    def _speed_of(self, key: str, now_ns: int) -> float:
        return self._speed[key] if self._held(key, now_ns) else 0.0

    def _keys(self) -> list[str]:
        """The characters typed since, without those that arrow and function keys send: ESC [ A is no letter A."""
        try:
            data = os.read(self._file, _CHUNK) if self.close.alive else b""
        except BlockingIOError:
            return []
        except OSError as error:
            raise DeviceError(f"keyboard: {self._path} cannot be read any more ({error.strerror})") from error
        if not data:
            raise DeviceError(f"keyboard: {self._path} is closed")
        return [key for key in data.decode("ascii", "replace") if self._is_key(key)]

    def _is_key(self, character: str) -> bool:
        before, self._escape = self._escape, ""
        if character == _ESCAPE or (before == _ESCAPE and character in _INTRODUCERS):
            self._escape = character
        elif before and before in _INTRODUCERS and not "@" <= character <= "~":
            self._escape = before
        return not before and not self._escape


def _open(path: str) -> int:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise DeviceError(f"keyboard: {path} cannot be opened ({error.strerror}); `tty` prints yours") from error
    if not os.isatty(file):
        os.close(file)
        raise DeviceError(f"keyboard: {path} is no terminal; `tty` prints yours")
    return file


def _silence(file: int, path: str) -> list[Any]:
    """No echo, no waiting for the end of a line; what was typed before is forgotten. Returns what to restore."""
    try:
        before: list[Any] = termios.tcgetattr(file)
        mode = termios.tcgetattr(file)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        # At least one character: with none allowed, an empty terminal would read like one that is gone.
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(file, termios.TCSAFLUSH, mode)
        with contextlib.suppress(BlockingIOError):  # not every terminal forgets by itself
            while os.read(file, _CHUNK):
                pass
    except (termios.error, OSError) as error:
        os.close(file)
        raise DeviceError(f"keyboard: {path} cannot be set up ({error.args[-1]})") from error
    return before


def _restore(file: int, before: list[Any]) -> None:
    with contextlib.suppress(termios.error):  # a terminal that is gone has nothing to restore
        termios.tcsetattr(file, termios.TCSANOW, before)
    os.close(file)
