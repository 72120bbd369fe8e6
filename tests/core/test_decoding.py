"""Messages as rosbags deserialises them; those of rclpy are in tests/nodes/test_messages.py."""

import math

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from policy_bringup.core import decoding

TYPES = get_typestore(Stores.ROS2_JAZZY).types
SEC, NANOSEC = 1_700_000_000, 123_456_789
STAMP = SEC * 10**9 + NANOSEC
NONE = np.empty(0)


def make(kind, **fields):
    package, name = kind.split("/")
    return TYPES[f"{package}/msg/{name}"](**fields)


def header(frame="base"):
    stamp = make("builtin_interfaces/Time", sec=SEC, nanosec=NANOSEC)
    return make("std_msgs/Header", stamp=stamp, frame_id=frame)


def joint_state(names, positions):
    return make(
        "sensor_msgs/JointState", header=header(), name=names, position=np.array(positions), velocity=NONE, effort=NONE
    )


def table(names, rows, period_ns=50_000_000):
    points = []
    for i, row in enumerate(rows):
        due = make("builtin_interfaces/Duration", sec=0, nanosec=i * period_ns)
        point = make(
            "trajectory_msgs/JointTrajectoryPoint",
            positions=np.array(row, dtype=float),
            velocities=NONE,
            accelerations=NONE,
            effort=NONE,
            time_from_start=due,
        )
        points.append(point)
    return make("trajectory_msgs/JointTrajectory", header=header(), joint_names=list(names), points=points)


def test_a_stamp_is_read_to_the_nanosecond():
    assert decoding.stamp_of(header().stamp) == STAMP


def test_joint_positions_keep_their_names_in_the_message_order():
    sample = decoding.joint_positions(joint_state(["b", "a"], [2.0, 1.0]), 9)
    assert (sample.stamp_ns, sample.received_ns, sample.names) == (STAMP, 9, ("b", "a"))
    np.testing.assert_array_equal(sample.values, [2.0, 1.0])


def test_a_joint_state_with_fewer_positions_than_names_gives_no_position_at_all():
    sample = decoding.joint_positions(joint_state(["a", "b"], [1.0]), 9)
    assert len(sample.values) == 2
    assert all(math.isnan(value) for value in sample.values)


def test_a_sample_outlives_the_message_it_was_read_from():
    message = joint_state(["a"], [1.0])
    sample = decoding.joint_positions(message, 9)
    message.position[0] = 5.0
    assert sample.values.tolist() == [1.0]


def test_a_pose_becomes_seven_columns_of_its_prefix():
    position = make("geometry_msgs/Point", x=1.0, y=2.0, z=3.0)
    turn = make("geometry_msgs/Quaternion", x=0.1, y=0.2, z=0.3, w=0.9)
    pose = make("geometry_msgs/Pose", position=position, orientation=turn)
    sample = decoding.pose_sample(make("geometry_msgs/PoseStamped", header=header(), pose=pose), 9, "object")
    assert sample.names == tuple(f"object.{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw"))
    assert (sample.stamp_ns, sample.values.tolist()) == (STAMP, [1.0, 2.0, 3.0, 0.1, 0.2, 0.3, 0.9])


def test_the_uncertainty_of_a_table_is_found_by_its_name_wherever_it_stands():
    chunk = decoding.chunk_of(table(("a", "uncertainty", "b"), [[1, 0.5, 2], [3, 0.7, 4]]), "policy", 5)
    assert (chunk.source, chunk.stamp_ns, chunk.received_ns, chunk.names) == ("policy", STAMP, 5, ("a", "b"))
    assert chunk.values.tolist() == [[1, 2], [3, 4]]
    assert chunk.uncertainty.tolist() == [0.5, 0.7]
    assert chunk.times_s.tolist() == [0.0, 0.05]


def test_a_table_without_uncertainty_is_passed_on_as_not_a_number():
    chunk = decoding.chunk_of(table(("a", "b", "c"), [[1, 2, 3]]), "policy", 5)
    assert chunk.values.shape == (1, 3)
    assert np.isnan(chunk.uncertainty).all()


def test_a_ragged_table_becomes_an_empty_one():
    chunk = decoding.chunk_of(table(("a", "b"), [[1, 2], [3]]), "policy", 5)
    assert chunk.values.size == 0
    assert len(chunk.times_s) == 0


@pytest.mark.parametrize(("columns", "kept"), [(decoding.MAX_COLUMNS, True), (decoding.MAX_COLUMNS + 1, False)])
def test_a_table_with_too_many_columns_is_not_converted(columns: int, kept: bool):
    chunk = decoding.chunk_of(table([f"c{i}" for i in range(columns)], [range(columns)]), "policy", 5)
    assert (chunk.values.size > 0) is kept
    assert len(chunk.names) <= decoding.MAX_COLUMNS


@pytest.mark.parametrize(("steps", "kept"), [(decoding.MAX_STEPS, True), (decoding.MAX_STEPS + 1, False)])
def test_a_table_with_too_many_steps_is_not_converted(steps: int, kept: bool):
    chunk = decoding.chunk_of(table(("a",), [[0.0]] * steps, period_ns=1000), "policy", 5)
    assert (chunk.values.size > 0) is kept


def test_a_table_without_points_becomes_an_empty_one():
    assert decoding.chunk_of(table((), []), "policy", 5).values.size == 0


def test_the_values_of_a_status_are_found_by_their_keys():
    values = [make("diagnostic_msgs/KeyValue", key=key, value=value) for key, value in (("a", "1"), ("b", ""))]
    status = make("diagnostic_msgs/DiagnosticStatus", level=0, name="n", message="m", hardware_id="", values=values)
    assert decoding.values_of(status) == {"a": "1", "b": ""}


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (0.12345678, "0.123457"), (None, ""), (3, "3"), ("x", "x")]
)
def test_a_value_in_a_status_is_written_as_a_person_would_read_it(value, text: str):
    assert decoding.text_of(value) == text


@pytest.mark.parametrize(
    ("state", "source", "driver"),
    [
        ("ACTIVE", "teleop", "teleop"),
        ("RETRY", "policy", "policy"),
        ("READY", "policy", ""),
        ("FALLBACK", "policy", ""),
    ],
)
def test_a_source_drives_only_while_the_monitor_lets_it(state: str, source: str, driver: str):
    assert decoding.driver_of({"state": state, "source": source}) == driver


GRIPPED = {"state": "holding", "follows": "false", "gripper.width": "0.0312", "gripper.force": "30"}
COLUMNS = ("tool.x", "gripper.width", "gripper.force")


def arm_state(*entries):
    status = [
        make("diagnostic_msgs/DiagnosticStatus", level=0, name="arm", message="", hardware_id="", values=[
            make("diagnostic_msgs/KeyValue", key=key, value=value) for key, value in values.items()
        ])
        for values in entries
    ]  # fmt: skip
    return make("diagnostic_msgs/DiagnosticArray", header=header(), status=status)


def test_where_its_button_left_a_gripper_is_read_by_column():
    np.testing.assert_array_equal(decoding.grip_of(arm_state(GRIPPED), COLUMNS), [np.nan, 0.0312, 30.0])
    np.testing.assert_array_equal(decoding.grip_of(arm_state(GRIPPED), COLUMNS[::-1]), [30.0, 0.0312, np.nan])
    assert decoding.grip_of(arm_state(GRIPPED), COLUMNS).dtype == np.float64


@pytest.mark.parametrize("text", ["", "closed", "0,03", "nan"])
def test_a_gripper_of_which_half_is_said_is_not_a_number_in_the_other_half(text: str):
    found = decoding.grip_of(arm_state({**GRIPPED, "gripper.width": text}), COLUMNS)
    np.testing.assert_array_equal(found, [np.nan, np.nan, 30.0])


@pytest.mark.parametrize("follows", ["true", "", "False", "0"])
def test_the_gripper_of_an_arm_that_may_follow_safe_actions_is_not_its_buttons(follows: str):
    assert decoding.grip_of(arm_state({**GRIPPED, "follows": follows}), COLUMNS) is None


def test_an_arm_that_says_nothing_of_its_gripper_says_nothing():
    assert decoding.grip_of(arm_state(), COLUMNS) is None
    assert decoding.grip_of(arm_state({"state": "guided", "follows": "false"}), COLUMNS) is None
    assert decoding.grip_of(arm_state({"gripper.width": "0", "gripper.force": "30"}), COLUMNS) is None
    assert decoding.grip_of(arm_state(GRIPPED), COLUMNS[:1]) is None


def test_the_first_entry_of_a_state_is_read_if_it_says_all_that_is_named():
    both = arm_state({"state": "holding", "source": ""}, {"state": "following"})
    assert decoding.entry_of(both, "state", "source") is both.status[0]
    assert decoding.entry_of(both) is both.status[0]
    assert decoding.state_of(both) == {"state": "holding", "source": ""}


def test_a_state_that_says_nothing_of_what_is_named_is_none():
    assert decoding.entry_of(arm_state()) is None
    assert decoding.entry_of(arm_state({"state": "holding"}, {"source": ""}), "state", "source") is None
    assert decoding.state_of(arm_state({"source": ""})) is None
