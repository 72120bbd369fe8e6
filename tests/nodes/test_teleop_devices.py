"""A device that is lost and comes back, and a Joy topic that falls silent; no node needed."""

import os
import struct
from pathlib import Path

import pytest
from sensor_msgs.msg import Joy

from policy_bringup.control.operator_input import Button
from policy_bringup.control.teleop_config import TeleopConfig
from policy_bringup.core.config import load
from policy_bringup.core.errors import DeviceError
from policy_bringup.nodes.teleop_devices import RETRY_NS, Hand, JoyTopic

MS = 1_000_000
DEADMAN, RECORD = 5, 7


@pytest.fixture
def config(config_folder: Path) -> TeleopConfig:
    return load(config_folder / "teleop.yaml", TeleopConfig)


def joy(*held: int) -> Joy:
    return Joy(axes=[0.0] * 8, buttons=[int(number in held) for number in range(11)])


def test_a_device_that_is_gone_is_let_go_and_opened_again_when_it_is_back(tmp_path: Path, config: TeleopConfig):
    os.mkfifo(tmp_path / "js0")
    pad = os.open(tmp_path / "js0", os.O_RDWR)
    hand = Hand(f"gamepad:{tmp_path / 'js0'}", config)
    hand.read(0)
    os.write(pad, struct.pack("=IhBB", 0, 1, 1, DEADMAN))
    assert hand.read(0).command.deadman
    os.close(pad)
    assert not hand.read(0).command.deadman
    assert hand.lost.endswith("js0 is gone; unplugged?")
    pad = os.open(tmp_path / "js0", os.O_RDWR)
    hand.read(RETRY_NS - 1)
    assert hand.lost
    hand.read(RETRY_NS)
    assert not hand.lost
    os.write(pad, struct.pack("=IhBB", 0, 1, 1, DEADMAN))
    assert hand.read(RETRY_NS).command.deadman
    hand.close()
    os.close(pad)


def test_a_device_that_is_not_there_at_first_is_an_error(tmp_path: Path, config: TeleopConfig):
    with pytest.raises(DeviceError, match="cannot be opened"):
        Hand(f"keyboard:{tmp_path / 'tty'}", config)


def test_a_joy_topic_that_falls_silent_has_been_let_go_and_has_to_be_pressed_anew(config: TeleopConfig):
    topic = JoyTopic(config)
    topic.take(joy(), 0)
    topic.take(joy(DEADMAN), 10 * MS)
    assert topic.read(510 * MS).command.deadman
    assert not topic.read(511 * MS).command.deadman
    topic.take(joy(DEADMAN), 600 * MS)
    assert not topic.read(600 * MS).command.deadman
    topic.take(joy(), 620 * MS)
    topic.take(joy(DEADMAN), 640 * MS)
    assert topic.read(640 * MS).command.deadman


def test_a_button_between_two_looks_is_told_once(config: TeleopConfig):
    topic = JoyTopic(config)
    for message in (joy(), joy(RECORD), joy()):
        topic.take(message, 0)
    assert topic.read(0).pressed == (Button.RECORD,)
    assert topic.read(0).pressed == ()
