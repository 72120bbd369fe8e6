"""Keys typed into a real pseudo terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.operator_input import MOTIONS, Button, OperatorInput
from policy_bringup.control.teleop_config import KeyboardConfig, MotionConfig, TeleopConfig
from policy_bringup.core.config import load
from policy_bringup.core.errors import DeviceError
from policy_bringup.drivers.keyboard import BUTTON_KEYS, GRIPPER_KEY, MOTION_KEYS, TABLE, Keyboard

MS = 1_000_000
HOLDS = KeyboardConfig(0.6, 0.15, 0.25)
START = 1_000_000 * MS


class Terminal:
    """A terminal with somebody at it."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        self.path = os.ttyname(self._slave)

    @property
    def mode(self) -> list:
        return termios.tcgetattr(self._slave)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        for file in (self.master, self._slave):
            if file >= 0:
                os.close(file)
        self.master = self._slave = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def motion(config_folder: Path) -> MotionConfig:
    return load(config_folder / "teleop.yaml", TeleopConfig).motion


@pytest.fixture
def keyboard(terminal: Terminal, motion: MotionConfig) -> Iterator[Keyboard]:
    keyboard = Keyboard(terminal.path, HOLDS, motion)
    yield keyboard
    keyboard.close()


@pytest.fixture
def press(terminal: Terminal, keyboard: Keyboard) -> Callable[[str, int], OperatorInput]:
    """Types, waits until the terminal has passed it on, and reads `after_ms` from the start."""

    def typed(keys: str, after_ms: int) -> OperatorInput:
        terminal.type(keys)
        return keyboard.read(START + after_ms * MS)

    return typed


def speed(now: OperatorInput) -> float:
    return float(np.linalg.norm(now.command.linear))


def test_nothing_typed_is_nothing_held(keyboard: Keyboard):
    now = keyboard.read(START)
    assert (now.command.deadman, now.pressed) == (False, ())
    assert not now.command.linear.any()


@pytest.mark.parametrize("key", MOTION_KEYS)
def test_every_motion_key_moves_one_way_in_the_base_frame(press, motion: MotionConfig, key: str):
    press(key, 0)
    command = press(key, 100).command
    name, sign = MOTION_KEYS[key]
    full = np.repeat([motion.linear_speed, motion.angular_speed], 3)
    expected = sign * full * (np.arange(6) == MOTIONS.index(name))
    np.testing.assert_allclose([*command.linear, *command.angular], expected)
    assert command.deadman


@pytest.mark.parametrize(("after_ms", "held"), [(599, True), (600, False)])
def test_a_key_counts_as_held_for_a_while_after_it_was_typed(press, keyboard, after_ms: int, held: bool):
    press("w", 0)
    assert keyboard.read(START + after_ms * MS).command.deadman is held


@pytest.mark.parametrize(("after_ms", "held"), [(149, True), (150, False)])
def test_a_key_that_repeats_is_let_go_soon_after_its_last_repeat(press, keyboard, after_ms: int, held: bool):
    press("w", 0)
    for repeat_ms in (500, 530, 560):
        assert press("w", repeat_ms).command.deadman
    now = keyboard.read(START + (560 + after_ms) * MS)
    assert now.command.deadman is held
    assert (speed(now) > 0.0) is held


def test_a_tap_is_a_slow_step_and_a_held_key_moves_at_full_speed(press, motion: MotionConfig):
    assert speed(press("w", 0)) == pytest.approx(0.25 * motion.linear_speed)
    assert speed(press("w", 500)) == pytest.approx(motion.linear_speed)


def test_two_keys_at_once_add_up_and_opposite_ones_cancel_out(press, motion: MotionConfig):
    press("wa", 0)
    command = press("wa", 10).command
    np.testing.assert_allclose(command.linear, np.array([1, 1, 0]) * motion.linear_speed / np.sqrt(2))
    press("d", 20)
    assert press("d", 30).command.linear[1] == pytest.approx(0.0)


def test_the_gripper_key_closes_then_opens_and_a_repeat_changes_nothing(press, keyboard):
    assert press(GRIPPER_KEY, 0).command.gripper == -1.0
    assert press(GRIPPER_KEY, 400).command.gripper == -1.0
    assert press(GRIPPER_KEY, 450).command.deadman
    assert keyboard.read(START + 700 * MS).command.gripper == 0.0
    assert press(GRIPPER_KEY, 800).command.gripper == 1.0


@pytest.mark.parametrize("key", BUTTON_KEYS)
def test_every_button_key_asks_for_one_thing_and_moves_nothing(press, key: str):
    now = press(key, 0)
    assert now.pressed == (BUTTON_KEYS[key],)
    assert not now.command.deadman


def test_a_held_button_key_asks_once_and_again_after_it_was_let_go(press, keyboard):
    pressed = [press("\n", ms).pressed for ms in (0, 500, 530)]
    assert pressed == [(Button.RECORD,), (), ()]
    keyboard.read(START + 700 * MS)
    assert press("\n", 800).pressed == (Button.RECORD,)


def test_the_emergency_stop_is_asked_for_with_every_character(press):
    assert press("eee", 0).pressed == (Button.ESTOP,) * 3


@pytest.mark.parametrize("keys", ["\x1b[A", "\x1bOA", "\x1b[1;5d", "\x1b[15~", "\x1ba", "WSAD", "\xe4", "z"])
def test_arrow_and_other_keys_do_nothing(press, keys: str):
    now = press(keys, 0)
    assert (now.command.deadman, now.pressed) == (False, ())


def test_an_escape_sequence_may_arrive_in_parts(press):
    for part in ("\x1b", "[", "1", ";", "5"):
        press(part, 0)
    assert not press("a", 0).command.deadman
    assert press("a", 0).command.deadman


def test_the_terminal_neither_echoes_nor_waits_for_a_line_and_is_restored(terminal: Terminal, motion: MotionConfig):
    before = terminal.mode
    keyboard = Keyboard(terminal.path, HOLDS, motion)
    assert not terminal.mode[3] & (termios.ECHO | termios.ICANON)
    assert terminal.mode[3] & termios.ISIG  # Ctrl+C still stops what runs there
    keyboard.close()
    keyboard.close()
    assert terminal.mode == before
    with pytest.raises(DeviceError, match="is closed"):
        keyboard.read(START)


def test_a_keyboard_that_is_forgotten_restores_its_terminal(terminal: Terminal, motion: MotionConfig):
    before = terminal.mode
    keyboard = Keyboard(terminal.path, HOLDS, motion)
    assert terminal.mode != before
    del keyboard
    assert terminal.mode == before


def test_a_process_that_ends_by_an_exception_restores_the_terminal(terminal: Terminal, config_folder: Path):
    before = terminal.mode
    program = (
        "import sys; from policy_bringup.core.config import load\n"
        "from policy_bringup.control.teleop_config import TeleopConfig\n"
        "from policy_bringup.drivers.keyboard import Keyboard\n"
        "config = load(sys.argv[2], TeleopConfig)\n"
        "keyboard = Keyboard(sys.argv[1], config.keyboard, config.motion)\n"
        "print('open', flush=True); sys.stdin.readline(); raise RuntimeError\n"
    )
    command = [sys.executable, "-c", program, terminal.path, str(config_folder / "teleop.yaml")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "open\n"
        assert terminal.mode != before
        process.communicate("\n", timeout=20.0)
    assert process.returncode == 1
    assert terminal.mode == before


def test_what_was_typed_before_does_not_move_the_arm(terminal: Terminal, motion: MotionConfig):
    terminal.type("wwwwww\n")
    keyboard = Keyboard(terminal.path, HOLDS, motion)
    assert not keyboard.read(START).command.deadman
    keyboard.close()


def test_a_terminal_that_is_closed_is_reported_in_one_sentence(terminal: Terminal, keyboard: Keyboard):
    path = terminal.path
    os.close(terminal.master)
    terminal.master = -1
    with pytest.raises(DeviceError, match=f"keyboard: {path} "):
        keyboard.read(START)


def test_what_is_no_terminal_is_refused(tmp_path: Path, motion: MotionConfig):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DeviceError, match="is no terminal"):
        Keyboard(str(file), HOLDS, motion)
    with pytest.raises(DeviceError, match=r"cannot be opened \(No such file"):
        Keyboard(str(tmp_path / "none"), HOLDS, motion)


def test_the_printed_table_names_every_key():
    words = set(TABLE.split())
    names = {GRIPPER_KEY: "space", "\n": "enter", "\r": "enter"}
    assert {names.get(key, key) for key in (*MOTION_KEYS, *BUTTON_KEYS, GRIPPER_KEY)} <= words
