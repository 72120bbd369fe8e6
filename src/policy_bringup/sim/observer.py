"""Who looks on while a closed loop runs, e.g. to record it."""

from __future__ import annotations

from typing import Protocol

from policy_bringup.core.types import ActionChunk, ImageSample, JointCommand, Pose
from policy_bringup.safety.monitor import Verdict
from policy_bringup.sim.tasks import Outcome
from policy_bringup.sim.world import JointSample


class RolloutObserver(Protocol):
    """Hears what the nodes would publish, in the order and at the (ROS) times at which they would. Changes nothing."""

    def on_world(self, now_ns: int, joints: JointSample, T_base_object: Pose, outcome: Outcome) -> None:
        """Robot, object and task, once per tick."""

    def on_image(self, sample: ImageSample) -> None:
        """A picture, of every camera of the deployment in turn."""

    def on_chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        """What the policy proposes to the monitor."""

    def on_verdict(self, verdict: Verdict, offered: str, now_ns: int) -> None:
        """One tick of the monitor; offered: the source that arming would put in charge."""

    def on_command(self, command: JointCommand, now_ns: int) -> None:
        """What the arm tells the robot's controller."""
