from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_bringup.control.operator_input import RELEASED, Button, Sticks, shaped
from policy_bringup.control.teleop_config import AxisMap, ButtonMap, MotionConfig, SticksConfig, TeleopConfig
from policy_bringup.core.config import build, load
from policy_bringup.core.errors import ConfigError

DEADMAN = 5
CONFIG = SticksConfig(
    0.1, DEADMAN,
    (AxisMap("x", 1, -1.0), AxisMap("y", 0, -1.0), AxisMap("rz", 3, 0.5)),
    (ButtonMap("close", 0), ButtonMap("open", 1), ButtonMap("estop", 6), ButtonMap("record", 7), ButtonMap("take", 4)),
)  # fmt: skip


@pytest.fixture
def motion(config_folder: Path) -> MotionConfig:
    return load(config_folder / "teleop.yaml", TeleopConfig).motion


@pytest.fixture
def sticks(motion: MotionConfig) -> Sticks:
    """Seen with nothing held."""
    sticks = Sticks(CONFIG, motion)
    sticks.take([], [])
    return sticks


def held(*numbers: int) -> list[int]:
    return [int(number in numbers) for number in range(8)]


def test_a_stick_moves_the_tool_while_the_dead_man_is_held(sticks: Sticks, motion: MotionConfig):
    command = sticks.take([0.0, -1.0, 0.0, 1.0], held(DEADMAN)).command
    assert command.deadman
    np.testing.assert_allclose(command.linear, [motion.linear_speed, 0, 0])
    np.testing.assert_allclose(command.angular, [0, 0, 0.5 * motion.angular_speed])


def test_without_the_dead_man_nothing_moves(sticks: Sticks):
    command = sticks.take([1.0, 1.0, 1.0, 1.0], held(0)).command
    assert not command.deadman
    assert not command.linear.any()
    assert not command.angular.any()
    assert command.gripper == 0.0


def test_a_diagonal_is_no_faster_than_an_axis(sticks: Sticks, motion: MotionConfig):
    command = sticks.take([1.0, 1.0], held(DEADMAN)).command
    assert np.linalg.norm(command.linear) == pytest.approx(motion.linear_speed)


@pytest.mark.parametrize(("buttons", "gripper"), [((0,), -1.0), ((1,), 1.0), ((0, 1), 0.0), ((), 0.0)])
def test_two_buttons_close_and_open_the_gripper(sticks: Sticks, buttons, gripper: float):
    assert sticks.take([], held(DEADMAN, *buttons)).command.gripper == gripper


def test_a_dead_man_that_is_held_from_the_start_has_to_be_let_go_first(motion: MotionConfig):
    sticks = Sticks(CONFIG, motion)
    assert not sticks.take([0.0, -1.0], held(DEADMAN)).command.deadman
    assert not sticks.take([0.0, -1.0], held(DEADMAN)).command.deadman
    sticks.take([0.0, -1.0], held())
    assert sticks.take([0.0, -1.0], held(DEADMAN)).command.deadman
    sticks.reset()
    assert not sticks.take([0.0, -1.0], held(DEADMAN)).command.deadman


def test_a_button_is_pressed_once_however_long_it_is_held(sticks: Sticks):
    pressed = [sticks.take([], held(*numbers)).pressed for numbers in ((7,), (7,), (4, 7), (), (7,))]
    assert pressed == [(Button.RECORD,), (), (Button.TAKE,), (), (Button.RECORD,)]


def test_of_the_buttons_that_are_held_from_the_start_only_the_e_stop_counts(motion: MotionConfig):
    sticks = Sticks(CONFIG, motion)
    assert sticks.take([], held(4, 6, 7)).pressed == (Button.ESTOP,)
    assert sticks.take([], held(4, 6, 7)).pressed == ()


def test_axes_and_buttons_that_a_device_does_not_have_are_at_rest(sticks: Sticks):
    now = sticks.take([], [])
    assert now.pressed == ()
    assert now.command.deadman is RELEASED.command.deadman is False


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.0, 0.9))
def test_an_axis_stays_within_its_ends_and_is_silent_in_the_dead_zone(value: float, dead_zone: float):
    result = shaped(value, dead_zone)
    assert -1.0 <= result <= 1.0
    if not math.isfinite(value) or abs(value) <= dead_zone:
        assert result == 0.0
    elif abs(value) >= 1.0:
        assert result == math.copysign(1.0, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"deadman": 0}, "a button, or the dead-man's, stands twice"),
        ({"axes": [{"motion": "x", "axis": 0, "scale": 1.0}] * 2}, "axes: a motion stands twice"),
        ({"axes": [{"motion": "w", "axis": 0, "scale": 1.0}]}, "must be one of x, y, z, rx, ry, rz, found 'w'"),
        ({"dead_zone": 1.0}, "dead_zone: must be a number from 0 to 0.9"),
        ({"buttons": [{"action": "jump", "button": 2}]}, "action: must be one of open, close, estop"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(change: dict, words: str):
    data = {"dead_zone": 0.1, "deadman": 5, "axes": [], "buttons": [{"action": "open", "button": 0}], **change}
    with pytest.raises(ConfigError, match=words):
        build(SticksConfig, data, "teleop.yaml: gamepad")


@pytest.mark.parametrize("device", ["gamepad", "joy"])
def test_the_shipped_mapping_has_a_number_for_everything_that_can_be_asked(config_folder: Path, device: str):
    config: SticksConfig = getattr(load(config_folder / "teleop.yaml", TeleopConfig), device)
    assert {entry.action for entry in config.buttons} == {button.value for button in Button} | {"open", "close"}
