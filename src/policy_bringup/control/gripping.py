"""The gripper moved alone, as its button does."""

from __future__ import annotations

import numpy as np

from policy_bringup.control.trajectory import shortest_duration
from policy_bringup.core.robot import Gripper
from policy_bringup.core.types import JointCommand


def grip_command(gripper: Gripper, before: float, width: float, force: float) -> JointCommand:
    """From one opening (m) to another, as fast as the gripper can, pressing with `force` (N), both within its limits.

    The arm's joints stay out of the command, so that a compliant arm is left alone.
    """
    after = min(max(width, gripper.lower), gripper.upper)
    duration_s = shortest_duration(abs(after - before), gripper.velocity, gripper.acceleration)
    finger = np.array([[0.5 * after]])
    effort = min(max(force, 0.0), gripper.force)
    return JointCommand((gripper.joint,), np.array([duration_s]), finger, np.zeros_like(finger), effort)
