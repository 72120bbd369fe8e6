"""Where the robot is, in the words of the action: joint positions -> the contract's columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from policy_bringup.control.kinematics import Chain
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ObservationError
from policy_bringup.core.robot import Robot, pose_to_columns
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, ActionSpec, Array, Space, StateSample


class Proprioception:
    """Reads joint states of one robot. Names may come in any order and may include joints of other devices."""

    def __init__(self, robot: Robot, chain: Chain) -> None:
        self._robot = robot
        self._chain = chain
        self._wanted = (*robot.joint_names, robot.gripper.joint)
        self._order: dict[tuple[str, ...], list[int]] = {}

    def joints(self, sample: StateSample) -> tuple[Array, float]:
        """Arm joint positions `(n,)` rad and gripper width (m). Raises ObservationError when a joint is missing."""
        order = self._order.get(sample.names)
        if order is None:
            missing = [name for name in self._wanted if name not in sample.names]
            if missing:
                raise ObservationError(f"joint_states: {', '.join(missing)} missing; found {', '.join(sample.names)}")
            order = self._order[sample.names] = [sample.names.index(name) for name in self._wanted]
        values = sample.values[order]
        return values[:-1], 2.0 * float(values[-1])

    def tool(self, sample: StateSample) -> StateSample:
        """Tool pose and gripper of a joint sample as state columns: tool.x .. tool.rz, gripper.width, gripper.force.

        No sensor tells the grasping force; its column is 0. Raises ObservationError when a joint is missing or not a
        finite number.
        """
        positions, width = self.joints(sample)
        if not np.isfinite(positions).all():
            raise ObservationError("joint_states: a joint is not a finite number")
        pose = pose_to_columns(self._chain.forward(positions), self._robot.tool_reference)
        names = (*TOOL_COLUMNS, *GRIPPER_COLUMNS)
        return StateSample(sample.stamp_ns, sample.received_ns, names, np.array([*pose, width, 0.0]))

    def measured(self, sample: StateSample, action: ActionSpec) -> Array:
        """The action columns as measured, `(columns,)`. Raises as `tool` and `joints`."""
        if action.space is Space.TASK:
            return self.tool(sample).values
        positions, width = self.joints(sample)
        return np.array([*positions, width, 0.0])


def tool_columns(deployment: Path) -> Callable[[StateSample], StateSample]:
    """Joint sample -> tool columns of a deployment's robot. `partial` of it may be sent to other processes, which read
    the files anew. Raises ConfigError."""
    _, robot = load_deployment(deployment)
    chain = Chain.from_urdf(deployment.parent / robot.urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
    return Proprioception(robot, chain).tool
