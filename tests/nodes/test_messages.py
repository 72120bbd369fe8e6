"""Real ROS messages to the stack's types and back."""

import array
import importlib.util
import math
import sys
import types

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from policy_bringup.core import decoding
from policy_bringup.core.types import ActionChunk, JointCommand, Pose, StateSample
from policy_bringup.nodes import image_messages, messages

STAMP = 1_700_000_000_123_456_789


def make_chunk(steps: int = 3) -> ActionChunk:
    values = np.arange(2.0 * steps).reshape(steps, 2)
    return ActionChunk("policy", STAMP, 5, ("a", "b"), 0.05 * np.arange(1, steps + 1), values, 0.1 * np.arange(steps))


def test_a_stamp_survives_the_round_trip_to_the_nanosecond():
    assert decoding.stamp_of(messages.time_of(STAMP)) == STAMP


def test_an_action_table_survives_the_round_trip():
    chunk = make_chunk()
    back = decoding.chunk_of(messages.table_message(chunk, "base"), "policy", 5)
    assert (back.source, back.stamp_ns, back.received_ns, back.names) == ("policy", STAMP, 5, ("a", "b"))
    np.testing.assert_allclose(back.times_s, chunk.times_s, atol=1e-9)
    np.testing.assert_array_equal(back.values, chunk.values)
    np.testing.assert_array_equal(back.uncertainty, chunk.uncertainty)


def test_an_action_table_names_its_uncertainty_so_that_a_trajectory_controller_refuses_it():
    assert messages.table_message(make_chunk(), "base").joint_names == ["a", "b", "uncertainty"]


def test_a_ragged_table_becomes_an_empty_one():
    message = messages.table_message(make_chunk(), "base")
    message.points[1].positions = array.array("d", [1.0])
    back = decoding.chunk_of(message, "policy", 5)
    assert back.values.size == 0
    assert len(back.times_s) == 0


def test_an_empty_message_becomes_an_empty_table():
    assert decoding.chunk_of(JointTrajectory(), "policy", 5).values.size == 0


def test_joint_positions_keep_their_names_in_the_message_order():
    message = JointState(name=["b", "a"], position=[2.0, 1.0])
    sample = decoding.joint_positions(message, 9)
    assert sample.names == ("b", "a")
    np.testing.assert_array_equal(sample.values, [2.0, 1.0])


def test_a_joint_state_with_fewer_positions_than_names_gives_no_position_at_all():
    sample = decoding.joint_positions(JointState(name=["a", "b"], position=[1.0]), 9)
    assert len(sample.values) == 2
    assert all(math.isnan(value) for value in sample.values)


def test_a_joint_state_message_carries_stamp_names_and_all_three_kinds_of_values():
    sample = StateSample(STAMP, 0, ("a",), np.array([1.0]))
    message = messages.joint_state(sample, np.array([2.0]), np.array([3.0]), "base")
    assert decoding.stamp_of(message.header.stamp) == STAMP
    assert (list(message.position), list(message.velocity), list(message.effort)) == ([1.0], [2.0], [3.0])


def test_a_pose_survives_the_round_trip_as_columns():
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    message = messages.pose_message(Pose(np.array([1.0, 2.0, 3.0]), turn), STAMP, "base")
    sample = decoding.pose_sample(message, 9, "object")
    assert sample.names == tuple(f"object.{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw"))
    np.testing.assert_allclose(sample.values, [1, 2, 3, 0, 0, math.sqrt(0.5), math.sqrt(0.5)], atol=1e-12)


def test_a_picture_survives_the_round_trip_bit_for_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    sample = image_messages.image_sample(image_messages.image_message(pixels, STAMP, "front"), 9, "front")
    assert (sample.stamp_ns, sample.received_ns, sample.camera) == (STAMP, 9, "front")
    np.testing.assert_array_equal(sample.pixels, pixels)


def test_a_bgr_picture_arrives_as_rgb():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 200
    message = image_messages.image_message(pixels, STAMP, "front")
    message.encoding = "bgr8"
    assert image_messages.image_sample(message, 9, "front").pixels[0, 0].tolist() == [0, 0, 200]


@pytest.fixture
def with_cv_bridge(monkeypatch):
    """The module as it is loaded where cv_bridge is installed, which has no wheel: a stand-in with its signature."""
    asked: list[tuple] = []

    class CvBridge:
        def imgmsg_to_cv2(self, img_msg, desired_encoding="passthrough"):
            asked.append((img_msg, desired_encoding))
            table = np.frombuffer(img_msg.data, np.uint8).reshape(img_msg.height, img_msg.width, 3)
            return table[..., ::-1] if img_msg.encoding == "bgr8" else table

    stand_in = types.ModuleType("cv_bridge")
    stand_in.CvBridge = CvBridge
    monkeypatch.setitem(sys.modules, "cv_bridge", stand_in)
    spec = importlib.util.find_spec(image_messages.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, asked


@pytest.mark.parametrize(("encoding", "first"), [("rgb8", [200, 0, 0]), ("bgr8", [0, 0, 200])])
def test_where_cv_bridge_is_installed_it_converts_and_is_asked_for_rgb(with_cv_bridge, encoding: str, first: list[int]):
    module, asked = with_cv_bridge
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = 200
    message = module.image_message(pixels, STAMP, "front")
    message.encoding = encoding
    sample = module.image_sample(message, 9, "front")
    assert [(heard is message, wanted) for heard, wanted in asked] == [(True, "rgb8")]
    assert sample.pixels.shape == (4, 6, 3)
    assert sample.pixels.dtype == np.uint8
    assert sample.pixels[0, 0].tolist() == first
    assert (sample.stamp_ns, sample.received_ns, sample.camera) == (STAMP, 9, "front")


def test_camera_info_carries_the_intrinsic_matrix():
    matrix = [100.0, 0.0, 32.0, 0.0, 100.0, 24.0, 0.0, 0.0, 1.0]
    message = image_messages.camera_info("front", 64, 48, STAMP, matrix)
    assert (message.width, message.height, list(message.k)) == (64, 48, matrix)
    assert list(message.p) == [100.0, 0.0, 32.0, 0.0, 0.0, 100.0, 24.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_a_command_survives_the_round_trip():
    command = JointCommand(("a", "f"), np.array([0.01, 0.1]), np.eye(2), 2 * np.eye(2), 30.0)
    back = decoding.command_of(messages.trajectory_message(command))
    assert back.names == ("a", "f")
    np.testing.assert_allclose(back.times_s, command.times_s, atol=1e-9)
    np.testing.assert_array_equal(back.positions, command.positions)
    np.testing.assert_array_equal(back.velocities, command.velocities)
    assert back.gripper_effort == 30.0


def test_a_command_starts_now_whatever_the_clocks_say():
    command = JointCommand(("a",), np.array([0.01]), np.ones((1, 1)), np.ones((1, 1)))
    assert decoding.stamp_of(messages.trajectory_message(command).header.stamp) == 0


def test_a_command_names_the_safe_action_that_it_answers_or_none():
    command = JointCommand(("a",), np.array([0.01]), np.ones((1, 1)), np.ones((1, 1)))
    assert decoding.answered_of(messages.trajectory_message(command, STAMP)) == STAMP
    assert decoding.answered_of(messages.trajectory_message(command)) == 0


@pytest.mark.parametrize(
    "frame", ["base", "answers", "answers ", "answers x", "answers -1", "answers 1.5", "answers ²"]
)
def test_a_frame_of_anybody_elses_answers_nothing(frame: str):
    message = JointTrajectory()
    message.header.frame_id = frame
    assert decoding.answered_of(message) == 0


def test_a_ragged_command_is_an_error():
    message = JointTrajectory(joint_names=["a", "b"], points=[JointTrajectoryPoint(positions=[1.0])])
    with pytest.raises(ValueError, match="reshape"):
        decoding.command_of(message)


def test_a_status_is_readable_by_any_diagnostics_viewer():
    status = messages.status("safety", "warn", "why", {"a": True, "b": 0.12345678, "c": None, "d": 3})
    assert status.level == b"\x01"
    assert decoding.values_of(status) == {"a": "true", "b": "0.123457", "c": "", "d": "3"}
