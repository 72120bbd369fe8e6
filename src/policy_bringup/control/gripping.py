"""The gripper moved alone, as its button does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_bringup.control.trajectory import shortest_duration
from policy_bringup.core.robot import Gripper
from policy_bringup.core.types import JointCommand


def grip_command(gripper: Gripper, before: float, width: float, force: float) -> JointCommand:
    """From one opening (m) to another, as fast as the gripper can, pressing with `force` (N), both within its limits.

    The arm's joints stay out of the command, so that a compliant arm is left alone.
    """
    after = gripper.within(width)
    duration_s = shortest_duration(abs(after - before), gripper.velocity, gripper.acceleration)
    finger = np.array([[0.5 * after]])
    effort = min(max(force, 0.0), gripper.force)
    return JointCommand((gripper.joint,), np.array([duration_s]), finger, np.zeros_like(finger), effort)


@dataclass(frozen=True, slots=True, eq=False)
class GripMotion:
    """A grip_command under way from the finger position `before` (m), since `began_ns`, along a cubic spline."""

    command: JointCommand
    before: float
    began_ns: int

    @property
    def end(self) -> float:
        """Where the finger is to come to rest, m."""
        return float(self.command.positions[-1, 0])

    def finger(self, now_ns: int) -> float:
        """Where the finger is commanded to be now, m."""
        s = min(1e-9 * (now_ns - self.began_ns) / max(float(self.command.times_s[-1]), 1e-9), 1.0)
        return self.before + (self.end - self.before) * s * s * (3.0 - 2.0 * s)
