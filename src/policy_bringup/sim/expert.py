"""The scripted expert: grasps an object whose pose it is told, to show learned policies how and to test the stack."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from policy_bringup.control.trajectory import Line, LineLimits
from policy_bringup.core.errors import ContractError, ObservationError
from policy_bringup.core.robot import Robot, columns_to_pose
from policy_bringup.core.rotations import exp, from_quaternion, log
from policy_bringup.core.types import (
    GRIPPER_COLUMNS,
    TOOL_COLUMNS,
    ActionChunk,
    Array,
    Column,
    Contract,
    Observation,
    Pose,
    Space,
)

OBJECT_COLUMNS = tuple(f"object.{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw"))

APPROACH_M = 0.12
LIFT_M = 0.16
LOWEST_M = 0.015  # the finger tips reach 9 mm below the tool frame
GRIP_N = 30.0
LAG_M, LAG_RAD = 0.06, 0.3  # a tool further than this from the plan makes the plan wait


class Expert:
    """A core.interfaces.Policy: above the object, down, close, up, hold. Plans once, at the first prediction.

    The plan's time stands still while the tool lags behind it, so that it never runs away from a robot that is held.
    Uncertainty is 0: it knows where the object is. Raises ContractError for another action than a task-space one.
    """

    def __init__(self, contract: Contract, robot: Robot) -> None:
        if contract.action.space is not Space.TASK or contract.action.names != (*TOOL_COLUMNS, *GRIPPER_COLUMNS):
            raise ContractError(f"expert: acts on {', '.join((*TOOL_COLUMNS, *GRIPPER_COLUMNS))} and nothing else")
        self._robot = robot
        names = [*robot.joint_names, robot.gripper.joint, robot.gripper.mimic, *TOOL_COLUMNS, *OBJECT_COLUMNS]
        state = tuple(Column(name, _unit(name)) for name in names)
        # It looks at no picture; the first camera only sets its pace.
        observation = replace(contract.observation, state=state, images=contract.observation.images[:1])
        self._contract = replace(contract, observation=observation)
        self._tool, self._object = names.index(TOOL_COLUMNS[0]), names.index(OBJECT_COLUMNS[0])
        self._finger = names.index(robot.gripper.joint)
        self._stages: tuple[Line, ...] = ()
        self._pace = _pace(robot)
        self._elapsed_s = 0.0
        self._stamp_ns = 0

    @property
    def contract(self) -> Contract:
        """The deployment's, with its own state columns (joints, fingers, tool, object) and its first camera as pace."""
        return self._contract

    def reset(self) -> None:
        """The next prediction makes a new plan from where the tool and the object are then."""
        self._stages = ()

    def predict(self, observation: Observation) -> ActionChunk:
        """The plan's next steps. Raises ObservationError for another shape of state."""
        if observation.state.shape[1:] != (len(self._contract.observation.state),):
            raise ObservationError(
                f"expert: the state must have {len(self._contract.observation.state)} columns, "
                f"found shape {observation.state.shape}"
            )
        state = observation.state[-1]
        tool = columns_to_pose(state[self._tool : self._tool + 6], self._robot.tool_reference)
        if not self._stages:
            gripper, target = self._robot.gripper, _pose(state[self._object :])
            # Fingers at their stop may measure a hair beyond it, and safety would rightly refuse to ask for that.
            width = float(np.clip(2.0 * state[self._finger], gripper.lower, gripper.upper))
            self._stages = plan_grasp(self._robot, tool, width, target, self._pace)
            self._elapsed_s = 0.0
        elif not self._lags(tool):
            self._elapsed_s += (observation.stamp_ns - self._stamp_ns) / 1e9
        self._stamp_ns = observation.stamp_ns
        action = self._contract.action
        times_s = action.dt_s * np.arange(1.0, action.steps + 1.0)
        values = np.array([self._columns(self._elapsed_s + t) for t in times_s])
        return ActionChunk("expert", observation.stamp_ns, 0, action.names, times_s, values, np.zeros(action.steps))

    def _lags(self, tool: Pose) -> bool:
        stage, t = self._at(self._elapsed_s)
        due = stage.sample(t)
        turned = float(np.linalg.norm(log(due.rotation.T @ tool.rotation)))
        return float(np.linalg.norm(due.position - tool.position)) > LAG_M or turned > LAG_RAD

    def _columns(self, t: float) -> Array:
        stage, t = self._at(t)
        return stage.columns(t, self._robot.tool_reference)

    def _at(self, t: float) -> tuple[Line, float]:
        """The stage that the plan is in after `t` seconds, and the time since that one's start."""
        for stage in self._stages[:-1]:
            if t < stage.duration_s:
                return stage, t
            t -= stage.duration_s
        return self._stages[-1], t


def plan_grasp(robot: Robot, tool: Pose, width: float, target: Pose, pace: LineLimits) -> tuple[Line, ...]:
    """Above the object, down, close, up: from T_base_tool and opening (m) now, for T_base_object, one line each."""
    rotation = _grasp_rotation(robot, tool, target)
    x, y, z = target.position
    low = np.array([x, y, max(z, LOWEST_M)])
    above, down, up = (Pose(low + np.array([0.0, 0.0, height]), rotation) for height in (APPROACH_M, 0.0, LIFT_M))
    opened, closed = robot.gripper.upper, robot.gripper.lower
    legs = ((above, opened), (down, opened), (down, closed), (up, closed))
    stages: list[Line] = []
    for pose, opening in legs:
        rows = np.array([[width, GRIP_N], [opening, GRIP_N]])
        stages.append(Line.plan(tool, pose, rows[0], rows[1], pace))
        tool, width = pose, opening
    return tuple(stages)


def _grasp_rotation(robot: Robot, tool: Pose, target: Pose) -> Array:
    """Straight down with the fingers along two sides of the object.

    Of the four ways, the nearest one within a quarter turn of the reference orientation: the wrist never winds up.
    """
    reference = exp(np.array(robot.tool_reference))
    side = target.rotation[:, int(np.argmin(np.abs(target.rotation[2])))]
    yaw = math.atan2(side[1], side[0]) - math.atan2(reference[1, 0], reference[0, 0])
    aligned = (yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4
    turns = [
        exp(np.array([0.0, 0.0, angle])) @ reference
        for angle in (aligned - math.copysign(math.pi / 2, aligned), aligned)
    ]
    return min(turns, key=lambda turn: float(np.linalg.norm(log(turn.T @ tool.rotation))))


def load_expert(contract: Contract, robot: Robot) -> Expert:
    """The expert of a deployment: its contract's action, images and rate. Raises ContractError."""
    return Expert(contract, robot)


def _pace(robot: Robot) -> LineLimits:
    """Well within the robot's limits and the monitor's; the gripper as fast as it can."""
    gripper = robot.gripper
    return LineLimits(
        linear_velocity=0.35, linear_acceleration=1.2, angular_velocity=1.0, angular_acceleration=4.0,
        gripper_velocity=gripper.velocity, gripper_acceleration=gripper.acceleration,
    )  # fmt: skip


def _unit(name: str) -> str:
    if name.startswith("object.q"):
        return "1"
    angular = name.startswith("panda_joint") or name.startswith("tool.r")
    return "rad" if angular else "m"


def _pose(columns: Array) -> Pose:
    return Pose(columns[:3].copy(), from_quaternion(*(float(part) for part in columns[3:7])))
