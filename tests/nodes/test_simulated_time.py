"""Mode gazebo: a robot whose clock began a moment ago, heard by the real safety node over real DDS."""

import time

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import StateSample
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.safety_node import SafetyNode

STEP_S = 0.01


class Gazebo:
    """Says what time it is, and where the arm is at that time."""

    def __init__(self, robot: Robot) -> None:
        self.node = Node("robot")
        self._names = (*robot.joint_names, robot.gripper.joint)
        self._joints = np.array([*robot.home, 0.04])
        self._now_ns = 10**9
        entry = graph.topic("joint_states")
        kind, qos = endpoints.interface(entry.type), endpoints.profile(entry.qos)
        self._states = self.node.create_publisher(kind, entry.name, qos)
        self._clock = self.node.create_publisher(Clock, "/clock", 10)
        self.failed: BaseException | None = None
        self._beat = Beat(STEP_S, self._step, self._fail)

    def _step(self) -> None:
        self._now_ns += round(STEP_S * 1e9)
        sample = StateSample(self._now_ns, 0, self._names, self._joints)
        self._clock.publish(Clock(clock=messages.time_of(self._now_ns)))
        self._states.publish(messages.joint_state(sample, np.zeros(8), np.zeros(8), "base"))

    def _fail(self, error: BaseException) -> None:
        self.failed = error

    def close(self) -> None:
        self._beat.stop()
        self.node.destroy_node()


@pytest.mark.parametrize("simulated", [True, False])
def test_a_joint_state_of_the_simulated_clock_is_fresh_for_a_node_that_goes_by_it_and_too_old_for_another(
    ros_environment, config_folder, simulated: bool
):
    given = {"deployment": config_folder / "grasp.yaml", "source": "expert", "use_sim_time": str(simulated).lower()}
    rclpy.init(args=["--ros-args", *(text for key, value in given.items() for text in ("-p", f"{key}:={value}"))])
    safety, executor = SafetyNode(), SingleThreadedExecutor()
    gazebo = Gazebo(load(config_folder / "robot.yaml", Robot))
    try:
        safety.trigger_configure()
        assert safety.refusal is None
        safety.trigger_activate()
        executor.add_node(safety)
        judged = lambda: safety._monitor._m.hazard and "by stamp" in safety._monitor._m.hazard.sentence  # noqa: E731
        ready = lambda: safety._monitor.state.name == "READY"  # noqa: E731
        deadline = time.monotonic() + 20.0
        while not (ready() if simulated else judged()):
            assert time.monotonic() < deadline, (safety._monitor.state, safety._monitor._m.hazard)
            executor.spin_once(timeout_sec=0.01)
        assert ready() is simulated
        assert gazebo.failed is None
    finally:
        safety.wind_down()
        gazebo.close()
        executor.shutdown()
        safety.destroy_node()
        rclpy.try_shutdown()
