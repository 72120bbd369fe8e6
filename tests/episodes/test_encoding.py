"""Bytes are read back with rosbags and core/decoding.py; tests/nodes/test_parity.py reads them with rclpy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.core import decoding
from policy_bringup.core.types import ActionChunk, ImageSample, JointCommand, Pose, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.pictures import picture

STAMP = 1_700_000_000_123_456_789


def decoded(data: bytes, kind: str):
    return encoding.typestore().deserialize_cdr(data, kind)


@pytest.mark.parametrize("shape", [(1, 1, 3), (48, 64, 3), (5, 7, 3)])
def test_a_picture_survives_bit_for_bit(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = encoding.image(ImageSample(STAMP, 0, "front", pixels), "front_optical_frame")
    message = decoded(data, encoding.IMAGE)
    assert (message.header.frame_id, message.encoding, message.step) == ("front_optical_frame", "rgb8", 3 * shape[1])
    sample = picture(message, 9, "front")
    assert (sample.stamp_ns, sample.received_ns, sample.camera) == (STAMP, 9, "front")
    np.testing.assert_array_equal(sample.pixels, pixels)


def test_a_picture_that_is_a_view_is_written_as_it_looks():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)[::-1, ::2]
    message = decoded(encoding.image(ImageSample(STAMP, 0, "front", pixels), "f"), encoding.IMAGE)
    np.testing.assert_array_equal(picture(message, 0, "front").pixels, pixels)


def test_a_joint_state_carries_stamp_names_and_all_three_kinds_of_values():
    sample = StateSample(STAMP, 0, ("a", "b"), np.array([1.0, -2.0]))
    message = decoded(
        encoding.joint_state(sample, np.array([3.0, 4.0]), np.array([5, 6]), "base"), encoding.JOINT_STATE
    )
    back = decoding.joint_positions(message, 0)
    assert (back.stamp_ns, back.names, back.values.tolist()) == (STAMP, ("a", "b"), [1.0, -2.0])
    assert (message.velocity.tolist(), message.effort.tolist()) == ([3.0, 4.0], [5.0, 6.0])
    assert message.header.frame_id == "base"


def test_a_pose_survives_as_columns():
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    data = encoding.pose(Pose(np.array([1.0, 2.0, 3.0]), turn), STAMP, "base")
    sample = decoding.pose_sample(decoded(data, encoding.POSE), 0, "object")
    np.testing.assert_allclose(sample.values, [1, 2, 3, 0, 0, math.sqrt(0.5), math.sqrt(0.5)], atol=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    values=st.lists(st.lists(st.floats(allow_nan=False), min_size=2, max_size=2), min_size=1, max_size=20),
    period_ns=st.integers(0, 2_000_000_000),
)
def test_an_action_table_survives_to_the_last_bit(values, period_ns):
    times = np.arange(len(values)) * period_ns / 1e9
    chunk = ActionChunk("policy", STAMP, 0, ("a", "b"), times, np.array(values), 0.1 * np.arange(len(values)))
    back = decoding.chunk_of(decoded(encoding.table(chunk, "base"), encoding.TABLE), "policy", 0)
    assert (back.stamp_ns, back.names) == (STAMP, ("a", "b"))
    np.testing.assert_array_equal(back.values, chunk.values)
    np.testing.assert_array_equal(back.uncertainty, chunk.uncertainty)
    np.testing.assert_allclose(back.times_s, times, atol=1e-9)


def test_a_status_carries_level_sentence_and_values():
    data = encoding.status(STAMP, "safety", "error", "why: ä", {"a": True, "b": 0.12345678, "c": None, "d": 3})
    message = decoded(data, encoding.STATUS)
    entry = message.status[0]
    assert decoding.stamp_of(message.header.stamp) == STAMP
    assert (entry.name, entry.level, entry.message) == ("safety", 2, "why: ä")
    assert decoding.values_of(entry) == {"a": "true", "b": "0.123457", "c": "", "d": "3"}


def test_several_entries_stand_under_one_stamp_in_order():
    entries = [("safety", "ok", "accepted", {"a": 1}), ("transition", "warn", "armed", {})]
    message = decoded(encoding.statuses(STAMP, entries), encoding.STATUS)
    assert [(entry.name, entry.level, entry.message) for entry in message.status] == [
        ("safety", 0, "accepted"), ("transition", 1, "armed"),
    ]  # fmt: skip
    assert decoding.values_of(message.status[0]) == {"a": "1"}


def test_a_command_survives_and_says_start_now():
    positions, velocities = np.array([[1.0, 0.02], [1.5, 0.01]]), np.array([[5.0, 0.0], [0.0, 0.0]])
    command = JointCommand(("a", "finger"), np.array([0.015, 0.1]), positions, velocities, 30.0)
    message = decoded(encoding.command(command), encoding.TABLE)
    back = decoding.command_of(message)
    assert decoding.stamp_of(message.header.stamp) == 0
    assert (back.names, back.gripper_effort) == (command.names, 30.0)
    np.testing.assert_allclose(back.times_s, command.times_s, atol=1e-9)
    np.testing.assert_array_equal(back.positions, command.positions)
    np.testing.assert_array_equal(back.velocities, command.velocities)


def test_a_camera_info_describes_a_pinhole():
    k = [100.0, 0.0, 64.0, 0.0, 100.0, 32.0, 0.0, 0.0, 1.0]
    message = decoded(encoding.camera_info(STAMP, "front_optical_frame", 128, 64, k), encoding.INFO)
    assert (message.width, message.height, message.distortion_model) == (128, 64, "plumb_bob")
    assert message.k.tolist() == k
    np.testing.assert_array_equal(message.p.reshape(3, 4)[:, :3].ravel(), k)
    assert message.header.frame_id == "front_optical_frame"
