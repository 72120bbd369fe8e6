"""The logic of the arm node: one safe action in, one joint command out, and a hold whenever there is silence or doubt.

If nothing follows a command, because safety is silent or this process is gone, the robot runs to its end, at rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.arm_counts import ArmCounts
from policy_bringup.control.braking import onwards
from policy_bringup.control.displacement import Displacement
from policy_bringup.control.gripping import GripMotion, grip_command
from policy_bringup.control.homing import plan_home
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.motion import Motion
from policy_bringup.control.solvers import load_solver
from policy_bringup.control.targets import Targets
from policy_bringup.control.workspace import Workspace
from policy_bringup.core.errors import ConfigError, ContractError, NoSolution
from policy_bringup.core.interfaces import IkSolver
from policy_bringup.core.robot import ColumnLimits, Robot
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, ActionSpec, Array, JointCommand, Space


class Arm:
    """One arm with its gripper. All `now_ns` are monotonic. `begin` comes first: before it, nothing can be followed.

    Joints below are the arm's and, last, the gripper's commanded finger (m, half the width): `(n + 1,)`.
    """

    def __init__(
        self,
        robot: Robot,
        chain: Chain,
        solver: IkSolver,
        action_spec: ActionSpec,
        config: ArmConfig,
        workspace: Workspace,
    ) -> None:
        arm_columns = TOOL_COLUMNS if action_spec.space is Space.TASK else robot.joint_names
        if action_spec.names != (*arm_columns, *GRIPPER_COLUMNS):
            raise ConfigError(
                f"an arm in {action_spec.space.value} space needs the action columns "
                f"{', '.join((*arm_columns, *GRIPPER_COLUMNS))}, found {', '.join(action_spec.names)}"
            )
        self._robot, self._chain, self._spec, self._config = robot, chain, action_spec, config
        self._targets = Targets(robot, solver, action_spec, config.max_joint_jump)
        self._motion = Motion(robot, config, workspace)
        self._displacement = Displacement(robot.velocity, config.resync_tolerance, config.resync_s)
        self._grip: GripMotion | None = None
        self._gripped = False
        self._last_action_ns = 0
        self._force = robot.gripper.force
        self._holding = True
        self._refusal: str | None = None
        self._counts = ArmCounts()

    @property
    def holding(self) -> bool:
        """Whether it decelerates or stands, rather than follows."""
        return self._holding

    @property
    def braking(self) -> bool:
        """Whether it makes no step towards what it follows, since the tool could not stop within its workspace then."""
        return self._motion.braking and not self._holding

    @property
    def last_refusal(self) -> str | None:
        """Why the latest refused action was refused; kept until the next `begin`."""
        return self._refusal

    @property
    def disbelief(self) -> str:
        """Why the newest measurement of the joints is not believed; "" if it is."""
        return self._displacement.disbelief

    @property
    def counts(self) -> ArmCounts:
        """What has happened so far."""
        return self._counts

    @property
    def joints(self) -> Array:
        """Commanded arm joints `(n,)` rad, at the end of the last command's first point."""
        return self._motion.point[:-1]

    @property
    def width(self) -> float:
        """Commanded opening between the fingers, m."""
        return 2.0 * float(self._motion.point[-1])

    @property
    def gripped(self) -> tuple[float, float] | None:
        """The opening (m) and the force (N) that `grip` has left the gripper with; None once an action was followed."""
        if not self._gripped:
            return None
        return self.width if self._grip is None else 2.0 * self._grip.end, self._force

    def begin(self, joints: Array, width: float, now_ns: int) -> JointCommand:
        """Takes over a robot at rest at the measured joints `(n,)` rad and finger opening (m), and holds it there.

        The gripper keeps its opening with full force: it may have something in its grasp. Raises DeviceError if the
        measurement is not finite, or a joint is out of its range by more than the resync tolerance.
        """
        force = self._robot.gripper.force
        command = self._motion.begin(np.append(joints, 0.5 * width), force, now_ns)
        self._displacement.begin(joints, now_ns)
        self._last_action_ns, self._grip, self._gripped = now_ns, None, False
        self._force, self._refusal = force, None
        self._rest()
        return command

    def follow(self, names: tuple[str, ...], values: Array, now_ns: int) -> JointCommand:
        """The command for one action that safety let pass, `(len(names),)`; a hold, with its reason, if it cannot be.

        Raises DeviceError before `begin`.
        """
        return self._obey(names, values, now_ns, stops=False)

    def stop(self, names: tuple[str, ...], values: Array, now_ns: int) -> JointCommand:
        """The command for a safe action after an emergency stop: all joints brake together, straight to rest, and stay.

        Such an action stands still at once, which joints cannot: an arm that followed it would pass it, each joint
        braking by itself, and come back. Once the arm rests, the gripper goes where the action has it. Raises
        DeviceError before `begin`.
        """
        return self._obey(names, values, now_ns, stops=True)

    def _obey(self, names: tuple[str, ...], values: Array, now_ns: int, stops: bool) -> JointCommand:
        last, elapsed_s = self._motion.last(now_ns)
        if elapsed_s < self._config.min_step_s:
            return last
        target = self._target(names, values, stops)
        if target is None:
            return self.hold(now_ns)
        self._force = min(max(float(values[-1]), 0.0), self._robot.gripper.force)
        command = self._move(None if stops and not self._motion.arm_rests else target, now_ns)
        if command is None:
            return self.hold(now_ns)
        self._grip, self._gripped = None, False
        self._last_action_ns, self._holding = now_ns, False
        self._counts = replace(self._counts, followed=self._counts.followed + 1)
        return command

    def hold(self, now_ns: int) -> JointCommand:
        """Decelerates within limits to rest, and stays; a gripper that `grip` has set off goes on to its end.

        Raises DeviceError before `begin`.
        """
        last, elapsed_s = self._motion.last(now_ns)
        self._rest()
        self._counts = replace(self._counts, held=self._counts.held + 1)
        if elapsed_s < self._config.min_step_s:
            return last
        gripping = None if self._grip is None else np.append(self.joints, self._grip.end)
        command = self._move(gripping, now_ns)
        return command if command is not None else onwards(last, elapsed_s, self._config.horizon_s)

    def in_time(self, command: JointCommand, made_ns: int, now_ns: int) -> JointCommand:
        """What is to be sent of a command made at `made_ns`: a hold in its place where it is older than the watchdog
        allows, because this process stood still between thinking and sending.

        The robot has gone on to the end of the command before, and rests there: one from then would tear it back.
        Raises DeviceError before `begin`.
        """
        if now_ns - made_ns <= self._config.watchdog_s * 1e9:
            return command
        self._motion.retract(made_ns)
        return self.hold(now_ns)

    def tick(self, now_ns: int) -> JointCommand | None:
        """The watchdog: a hold when the last safe action is too old, or while holding; None while actions come."""
        if not self._motion.begun:
            return None
        silent = now_ns - self._last_action_ns > self._config.watchdog_s * 1e9
        return self.hold(now_ns) if silent or self._holding else None

    def measured(self, joints: Array, now_ns: int) -> None:
        """A measurement of the joints `(n,)` rad.

        While holding at rest, it becomes the command if for some time the joints have been elsewhere (somebody pushes
        the arm), and have got there as joints do. The gripper's never does: one that has closed on something would let
        go. Ignored if not finite.
        """
        if not self._motion.begun or not self._believes(joints, now_ns):
            return
        if not self._holding or not self._motion.at_rest:
            self._displacement.forget()
        elif self._displacement.moved(joints, self.joints, now_ns):
            self.adopt(joints, now_ns)
            self._counts = replace(self._counts, resyncs=self._counts.resyncs + 1)

    def led(self, joints: Array, now_ns: int) -> None:
        """A measurement of the joints `(n,)` rad of an arm that a hand leads: the command, unless it is not believed.

        Raises DeviceError before `begin`.
        """
        self._motion.require_begun()
        if self._believes(joints, now_ns):
            self.adopt(joints, now_ns)

    def adopt(self, joints: Array, now_ns: int) -> None:
        """The measured joints `(n,)` rad become the command, at rest: somebody else has moved the arm.

        Nothing is to be sent for it; the gripper's command stays, or is as far as `grip` has come. Raises DeviceError
        before `begin`, ValueError for a number that is not finite.
        """
        self._motion.require_begun()
        finger = self._motion.point[-1] if self._grip is None else self._grip.finger(now_ns)
        self._motion.place(np.append(joints, finger), self._force, now_ns)
        self._displacement.forget()
        self._rest()

    def grip(self, measured: float, width: float, force: float, now_ns: int) -> JointCommand:
        """Moves the gripper alone, from its measured opening (m) to `width` (m), pressing with `force` (N).

        For an arm that somebody else moves: no joint of it is in the command. Raises DeviceError before `begin`.
        """
        self._motion.require_begun()
        command = grip_command(self._robot.gripper, measured, width, force)
        self._grip = GripMotion(command, 0.5 * self._robot.gripper.within(measured), now_ns)
        self._force, self._gripped = command.gripper_effort, True
        return command

    def stop_grip(self, now_ns: int) -> None:
        """A gripper that `grip` has set off stays where it has come to; nothing otherwise."""
        if self._grip is not None:
            self.adopt(self.joints, now_ns)
            self._grip = None

    def plan_home(self, dt_s: float) -> tuple[Array, Array]:
        """The way home from where the arm is commanded, as its own actions: see homing.plan_home."""
        gripper = np.array([self._robot.gripper.within(self.width), self._force])
        return plan_home(self._robot, self._chain, self._spec.space, self.joints, gripper, self._config.homing, dt_s)

    def _believes(self, joints: Array, now_ns: int) -> bool:
        return bool(np.isfinite(joints).all()) and self._displacement.believes(joints, now_ns)

    def _rest(self) -> None:
        self._holding = True
        self._targets.forget()

    def _target(self, names: tuple[str, ...], values: Array, stands: bool) -> Array | None:
        """Where the action wants the joints, `(n + 1,)`; None, with the refusal kept, if it says nothing usable."""
        try:
            return (self._targets.standing if stands else self._targets.of)(names, values, self.joints)
        except ContractError as error:
            self._refusal = str(error)
            self._counts = replace(self._counts, malformed=self._counts.malformed + 1)
        except NoSolution as error:
            self._refusal = str(error)
            self._counts = replace(self._counts, unsolved=self._counts.unsolved + 1)
        return None

    def _move(self, target: Array | None, now_ns: int) -> JointCommand | None:
        """The next command, towards `target` or braking; None, with the refusal kept, if the second line refuses it."""
        command = self._motion.move(target, self._force, now_ns)
        if target is not None:
            self._counts = replace(self._counts, braked=self._counts.braked + self._motion.braking)
        if command is None:
            self._refusal = self._motion.refusal
            self._counts = replace(self._counts, second_line=self._counts.second_line + 1)
        return command


def load_arm(
    robot: Robot, urdf_path: Path | str, action_spec: ActionSpec, config: ArmConfig, limits: Sequence[ColumnLimits]
) -> Arm:
    """An arm with the configured solver. limits: of the action columns. Raises ConfigError."""
    chain = Chain.from_urdf(urdf_path, robot.base_frame, robot.tool_frame, robot.joint_names)
    solver = load_solver(config.solver, chain, robot, urdf_path, config.ik)
    workspace = Workspace(chain, limits, config.workspace_tolerance)
    return Arm(robot, chain, solver, action_spec, config, workspace)
