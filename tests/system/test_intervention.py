"""An operator takes over a running policy by the dead-man and gives it back: the bag says who drove each moment."""

from itertools import groupby
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import Joy

from policy_bringup.control.proprioception import tool_columns
from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.episodes.frames import read_frames
from policy_bringup.episodes.layout import episodes
from policy_bringup.nodes import endpoints

GRASP = Path(__file__).resolve().parents[2] / "config" / "grasp.yaml"
DEADMAN, HAND_BACK, BUTTONS = 5, 10, 11
FORWARD = 1
"""The axis of the stick that drives along x."""


class Operator:
    """A pad on the topic `joy`, which repeats what is held, and what safety/state says."""

    def __init__(self, listener) -> None:
        self._listener, node = listener, listener.node
        self.held: set[int] = set()
        self.forward = 0.0
        self._states: list[tuple[str, str]] = []
        self._joy = node.create_publisher(Joy, "joy", endpoints.profile(graph.topic("joy").qos))
        node.create_timer(0.05, self._repeat)
        latched = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(DiagnosticArray, "safety/state", self._take, latched)

    def watch(self, driver: str, timeout_s: float) -> None:
        """Until that one has driven for a second."""
        driven = lambda: self._states[-10:] == [("ACTIVE", driver)] * 10  # noqa: E731
        self._listener.wait(driven, timeout_s, f"a second in which {driver} drives")

    def _repeat(self) -> None:
        axes = [self.forward if axis == FORWARD else 0.0 for axis in range(8)]
        self._joy.publish(Joy(axes=axes, buttons=[int(button in self.held) for button in range(BUTTONS)]))

    def _take(self, message: DiagnosticArray) -> None:
        values = values_of(message.status[0])
        self._states.append((values["state"], values["source"]))


def test_policy_then_dead_man_then_policy_is_what_the_frames_of_the_bag_say(
    deploy, listener, recorder, grasp_bundle: Path, tmp_path: Path
):
    dataset, operator = tmp_path / "demos", Operator(listener)
    with deploy(source="bundle", bundle=grasp_bundle, record=dataset, teleop_device="joy"):
        operator.watch("policy", 60.0)  # the trial node has started the recording and armed
        recorder.wait_until(lambda state: state.get("state") == "recording", "the recording")
        operator.held, operator.forward = {DEADMAN}, 0.5
        operator.watch("teleop", 10.0)
        operator.held, operator.forward = {HAND_BACK}, 0.0
        operator.watch("policy", 10.0)
        recorder.press("stop")
    deployment = load_deployment(GRASP)[0]
    rate_hz = graph.topic("policy/action").rate_hz
    frames = read_frames(episodes(dataset)[0], deployment.contract, rate_hz, tool_columns(GRASP))
    in_turn = [driver for driver, _ in groupby(frames.driver)]
    assert [driver for driver in in_turn if driver] == ["policy", "teleop", "policy"]
    assert np.sum(frames.driver == "teleop") >= 0.5 * rate_hz  # in a second; a busy machine draws fewer pictures
    forward = frames.action[:, deployment.contract.action.names.index("tool.x")]
    led, alone = forward[frames.driver == "teleop"], forward[: int(np.argmax(frames.driver == "teleop"))]
    assert led[-1] - led[0] > 0.02
    assert np.ptp(alone) < 0.005  # this policy stays where it is
