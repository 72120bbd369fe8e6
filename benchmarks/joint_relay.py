"""A process between the simulated robot and everybody who reads its joint states: passes on what the robot says, and
what benchmarks/provocations.py says in its place. From two publishers safety would believe neither.

Run: python joint_relay.py
"""

from __future__ import annotations

import signal

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState

from policy_bringup.core import graph
from policy_bringup.nodes import endpoints

TRUE, FALSE, JOINTS = "benchmark/true_joint_states", "benchmark/false_joint_states", "joint_states"


def main() -> None:
    """Until SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node, qos = Node("joint_relay"), endpoints.profile(graph.topic(JOINTS).qos)
    output = node.create_publisher(JointState, JOINTS, qos)
    for topic in (TRUE, FALSE):
        node.create_subscription(JointState, topic, output.publish, qos, raw=True)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
