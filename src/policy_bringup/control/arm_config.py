"""config/arm.yaml as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from policy_bringup.control.homing import HomingConfig
from policy_bringup.control.ik import IkConfig
from policy_bringup.control.solvers import SolverName
from policy_bringup.core.config import bounded, required


@dataclass(frozen=True, slots=True)
class ArmConfig:
    """config/arm.yaml.

    horizon_s: how far ahead a command's next point lies; a little more than the period of safe actions, else every
    late one makes the robot begin to brake. min_step_s: an action that follows faster than this changes nothing.
    watchdog_s: the arm holds when the last safe action is older. resync_tolerance, resync_s: while holding at rest, a
    measured joint further from its command than this for so long (somebody pushes the arm) becomes the new command;
    one that got there faster than it can move does not. max_joint_jump: largest
    distance of a solution from where the arm is: further is another branch, or faster than the arm can follow.
    acceleration_margin: see second_line. workspace_tolerance: see workspace.
    """

    solver: SolverName = required()
    horizon_s: float = bounded(0.005, 0.1, "s")
    min_step_s: float = bounded(0.0001, 0.005, "s")
    watchdog_s: float = bounded(0.02, 0.5, "s")
    resync_tolerance: float = bounded(0.001, 0.5, "rad")
    resync_s: float = bounded(0.0, 1.0, "s")
    max_joint_jump: float = bounded(0.01, 1.0, "rad")
    acceleration_margin: float = bounded(1.0, 1.5)
    workspace_tolerance: float = bounded(0.0, 0.02, "m")
    ik: IkConfig = required()
    homing: HomingConfig = required()
