"""Action tables that a node takes by hand, on real DDS."""

import array
import time

import pytest
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from policy_bringup.core import graph
from policy_bringup.core.decoding import MAX_TABLE_BYTES
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.inbox import Inbox

ACTION = "safety/action"


@pytest.fixture
def tables(ros):
    """`send(table)` publishes it, and gives what the arm node's inbox makes of it."""
    arm, safety, heard = Node("arm"), Node("safety"), []
    inbox = Inbox(arm)
    inbox.hear_small(ACTION, heard.append)
    output = safety.create_publisher(JointTrajectory, ACTION, endpoints.profile(graph.topic(ACTION).qos))
    deadline = time.monotonic() + 20.0

    def send(table: JointTrajectory) -> JointTrajectory:
        """Again and again until it arrives: that the writer has found the reader does not say that the reader has found
        it."""
        while not inbox.take():
            assert time.monotonic() < deadline, "the table does not arrive"
            output.publish(table)
            time.sleep(0.01)
        return heard.pop()

    yield send
    arm.destroy_node()
    safety.destroy_node()


def table_of(columns: int) -> JointTrajectory:
    point = JointTrajectoryPoint(positions=array.array("d", [0.5] * columns))
    return JointTrajectory(joint_names=["tool.x"], points=[point])


def test_a_table_arrives_as_it_was_sent(tables):
    sent = table_of(columns=9)
    assert tables(sent) == sent


def test_a_table_that_is_far_too_large_arrives_empty(tables):
    assert tables(table_of(columns=MAX_TABLE_BYTES // 8 - 1)) == JointTrajectory()


def test_a_large_table_arrives_whole(tables):
    sent = table_of(columns=(MAX_TABLE_BYTES - 200) // 8)
    assert tables(sent) == sent
