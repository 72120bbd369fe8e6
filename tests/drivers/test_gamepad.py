"""Joystick events through a FIFO in place of /dev/input/js0: the same open, read and close."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.operator_input import Button
from policy_bringup.control.teleop_config import MotionConfig, SticksConfig, TeleopConfig
from policy_bringup.core.config import load
from policy_bringup.core.errors import DeviceError
from policy_bringup.drivers.gamepad import Gamepad

BUTTON, AXIS, INIT = 1, 2, 0x80
DEADMAN, LEFT_Y, RECORD = 5, 1, 7


class Pad:
    """Writes what the kernel's driver would: struct js_event { u32 time; s16 value; u8 type; u8 number; }."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self.file = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def send(self, *events: tuple[int, int, int]) -> None:
        for kind, number, value in events:
            os.write(self.file, struct.pack("=IhBB", 0, value, kind, number))

    def introduce(self, held: tuple[int, ...] = ()) -> None:
        """All axes and buttons, as the driver sends them after opening."""
        self.send(*((INIT | BUTTON, number, int(number in held)) for number in range(11)))
        self.send(*((INIT | AXIS, number, 0) for number in range(8)))

    def unplug(self) -> None:
        os.close(self.file)
        self.file = -1


@pytest.fixture
def teleop(config_folder: Path) -> TeleopConfig:
    return load(config_folder / "teleop.yaml", TeleopConfig)


@pytest.fixture
def sticks(teleop: TeleopConfig) -> SticksConfig:
    return teleop.gamepad


@pytest.fixture
def motion(teleop: TeleopConfig) -> MotionConfig:
    return teleop.motion


@pytest.fixture
def pad(tmp_path: Path) -> Iterator[Pad]:
    pad = Pad(tmp_path / "js0")
    yield pad
    if pad.file >= 0:
        pad.unplug()


@pytest.fixture
def gamepad(pad: Pad, sticks: SticksConfig, motion: MotionConfig) -> Iterator[Gamepad]:
    gamepad = Gamepad(pad.path, sticks, motion)
    yield gamepad
    gamepad.close()


def test_a_pad_that_has_said_nothing_is_let_go(gamepad: Gamepad):
    now = gamepad.read(0)
    assert (now.command.deadman, now.pressed) == (False, ())


def test_the_stick_moves_the_tool_while_the_dead_man_is_held(pad: Pad, gamepad: Gamepad, motion: MotionConfig):
    pad.introduce()
    assert not gamepad.read(0).command.deadman
    pad.send((BUTTON, DEADMAN, 1), (AXIS, LEFT_Y, -32768))
    command = gamepad.read(0).command
    assert command.deadman
    np.testing.assert_allclose(command.linear, [motion.linear_speed, 0, 0])
    pad.send((BUTTON, DEADMAN, 0))
    released = gamepad.read(0).command
    assert not released.deadman
    assert not released.linear.any()


@pytest.mark.parametrize(
    ("value", "share"),
    [(0, 0.0), (3932, 0.0), (-3932, 0.0), (32767, -1.0), (-32767, 1.0), (18350, -0.5), (-18350, 0.5)],
)
def test_an_axis_is_silent_in_its_dead_zone_and_rises_from_there_to_its_end(
    pad: Pad, gamepad: Gamepad, motion: MotionConfig, value: int, share: float
):
    pad.introduce()
    gamepad.read(0)
    pad.send((BUTTON, DEADMAN, 1), (AXIS, LEFT_Y, value))
    assert gamepad.read(0).command.linear[0] == pytest.approx(share * motion.linear_speed, abs=1e-5)


def test_a_held_state_is_kept_without_further_events(pad: Pad, gamepad: Gamepad):
    pad.introduce()
    gamepad.read(0)
    pad.send((BUTTON, DEADMAN, 1))
    assert all(gamepad.read(0).command.deadman for _ in range(3))


def test_a_dead_man_that_is_held_while_the_pad_is_plugged_in_has_to_be_let_go_first(pad: Pad, gamepad: Gamepad):
    pad.introduce(held=(DEADMAN,))
    assert not gamepad.read(0).command.deadman
    pad.send((BUTTON, DEADMAN, 0))
    assert not gamepad.read(0).command.deadman
    pad.send((BUTTON, DEADMAN, 1))
    assert gamepad.read(0).command.deadman


def test_a_pad_that_lost_events_starts_anew(pad: Pad, gamepad: Gamepad):
    pad.introduce()
    gamepad.read(0)
    pad.send((BUTTON, DEADMAN, 1))
    assert gamepad.read(0).command.deadman
    pad.introduce(held=(DEADMAN,))
    assert not gamepad.read(0).command.deadman


def test_a_button_that_went_down_and_up_between_two_looks_was_pressed_once(pad: Pad, gamepad: Gamepad):
    pad.introduce()
    assert gamepad.read(0).pressed == ()
    pad.send((BUTTON, RECORD, 1), (BUTTON, RECORD, 0))
    assert gamepad.read(0).pressed == (Button.RECORD,)
    pad.send((BUTTON, RECORD, 1))
    assert gamepad.read(0).pressed == (Button.RECORD,)
    assert gamepad.read(0).pressed == ()


def test_a_tap_of_the_dead_man_between_two_looks_moves_nothing(pad: Pad, gamepad: Gamepad):
    pad.introduce()
    gamepad.read(0)
    pad.send((AXIS, LEFT_Y, -32767), (BUTTON, DEADMAN, 1), (BUTTON, DEADMAN, 0))
    assert not gamepad.read(0).command.linear.any()


def test_an_event_may_arrive_in_parts(pad: Pad, gamepad: Gamepad):
    pad.introduce()
    gamepad.read(0)
    event = struct.pack("=IhBB", 0, 1, BUTTON, DEADMAN)
    os.write(pad.file, event[:5])
    assert not gamepad.read(0).command.deadman
    os.write(pad.file, event[5:])
    assert gamepad.read(0).command.deadman


def test_axes_buttons_and_events_that_nobody_knows_do_no_harm(pad: Pad, gamepad: Gamepad):
    pad.introduce()
    pad.send((BUTTON, 255, 1), (AXIS, 255, 32767), (4, 0, 1))
    now = gamepad.read(0)
    assert (now.command.deadman, now.pressed) == (False, ())


def test_a_pad_that_is_unplugged_is_reported_in_one_sentence(pad: Pad, gamepad: Gamepad):
    pad.introduce()
    gamepad.read(0)
    pad.unplug()
    with pytest.raises(DeviceError, match=r"gamepad: .*js0 is gone; unplugged\?"):
        gamepad.read(0)


def test_a_pad_that_is_closed_is_an_error_and_closing_twice_is_none(pad: Pad, gamepad: Gamepad):
    gamepad.close()
    gamepad.close()
    with pytest.raises(DeviceError, match="cannot be read any more"):
        gamepad.read(0)


def test_a_pad_that_is_not_there_is_refused_and_says_how_to_find_one(sticks, motion, tmp_path: Path):
    with pytest.raises(DeviceError, match=r"cannot be opened \(No such file or directory\); list gamepads with: ls"):
        Gamepad(str(tmp_path / "js1"), sticks, motion)
