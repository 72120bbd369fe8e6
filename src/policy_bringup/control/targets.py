"""From a safe action to where the joints should go: inverse kinematics on one branch, and never a leap."""

from __future__ import annotations

import numpy as np

from policy_bringup.core.errors import ContractError, NoSolution
from policy_bringup.core.interfaces import IkSolver
from policy_bringup.core.robot import Robot, columns_to_pose
from policy_bringup.core.types import TOOL_COLUMNS, ActionSpec, Array, Space


class Targets:
    """Solves one action after the other. max_joint_jump: largest distance (rad) of a solution from where the arm is."""

    def __init__(self, robot: Robot, solver: IkSolver, spec: ActionSpec, max_joint_jump: float) -> None:
        self._robot, self._solver, self._spec = robot, solver, spec
        self._max_joint_jump = max_joint_jump
        self._asked = np.full(len(TOOL_COLUMNS), np.nan)
        self._answer: Array | None = None

    def forget(self) -> None:
        """The arm has stopped: the next solution starts from where it is, not from the last one."""
        self._answer = None

    def of(self, names: tuple[str, ...], values: Array, joints: Array) -> Array:
        """The joints and, last, the gripper's finger (m), `(n + 1,)`, for an action `(len(names),)`.

        joints: where the arm is, `(n,)` rad. Raises ContractError for another or a broken row, NoSolution for a pose
        that the arm cannot reach from there.
        """
        self._require_row(names, values)
        arm = values[:-2] if self._spec.space is Space.JOINT else self._solved(values[:6], joints)
        return np.append(arm, 0.5 * float(values[-2]))

    def standing(self, names: tuple[str, ...], values: Array, joints: Array) -> Array:
        """The same where the arm is to stay: only the gripper goes where the action has it. Raises ContractError."""
        self._require_row(names, values)
        self.forget()
        return np.append(joints, 0.5 * float(values[-2]))

    def _require_row(self, names: tuple[str, ...], values: Array) -> None:
        if names != self._spec.names or values.shape != (len(names),) or not bool(np.isfinite(values).all()):
            raise ContractError(f"the action is not a row of finite {', '.join(self._spec.names)}")

    def _solved(self, columns: Array, joints: Array) -> Array:
        """Inverse kinematics from the answer before, so that a path stays on its branch.

        The same pose again keeps its answer: while the tool is held, the elbow is not pulled home either.
        """
        if self._answer is not None and np.array_equal(columns, self._asked):
            return self._answer
        start = joints if self._answer is None else self._answer
        answer = self._solver.solve(columns_to_pose(columns, self._robot.tool_reference), start)
        jump = np.abs(answer - joints)
        if not bool((jump <= self._max_joint_jump).all()):
            joint = int(np.argmax(jump))
            raise NoSolution(
                f"{self._robot.joint_names[joint]} would have to move by {jump[joint]:.3f} rad at once; "
                f"allowed is {self._max_joint_jump:.3f}"
            )
        self._asked, self._answer = columns.copy(), answer
        return answer
