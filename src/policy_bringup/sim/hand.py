"""A person's hand on the simulated arm: it pushes the tool along a path, like a spring with a damper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy_bringup.control.hand_guiding import Derivation
from policy_bringup.control.trajectory import Line, LineLimits
from policy_bringup.core.config import bounded, required
from policy_bringup.core.rotations import log
from policy_bringup.core.types import Array, Pose
from policy_bringup.sim.world import World


@dataclass(frozen=True, slots=True)
class HandConfig:
    """How strong and how steady a hand is. tremor: standard deviation of a force that changes from tick to tick."""

    stiffness: float = bounded(1.0, 5000.0, "N/m")
    damping: float = bounded(0.0, 500.0, "N s/m")
    turn_stiffness: float = bounded(0.1, 500.0, "N m/rad")
    turn_damping: float = bounded(0.0, 50.0, "N m s/rad")
    max_force: float = bounded(1.0, 200.0, "N")
    max_torque: float = bounded(0.1, 50.0, "N m")
    tremor: float = bounded(0.0, 20.0, "N")
    pause_s: float = bounded(0.0, 5.0, "s")


@dataclass(frozen=True, slots=True)
class HandGuidingConfig:
    """config/hand.yaml. pace: of the hand's path, and of the gripper's motion along it."""

    actions: Derivation = required()
    hand: HandConfig = required()
    pace: LineLimits = required()


class SimulatedHand:
    """Follows `lines` one after the other, with a pause after each. Its time starts at 0 and is an argument.

    rng: of its tremor. The world's arm must be compliant, else hand and servos pull at each other.
    """

    def __init__(self, config: HandConfig, lines: Sequence[Line], rng: np.random.Generator) -> None:
        self._config, self._lines, self._rng = config, tuple(lines), rng
        self._tremor = np.zeros(3)

    @property
    def duration_s(self) -> float:
        """Until the end of the path, pauses included."""
        return sum(line.duration_s + self._config.pause_s for line in self._lines)

    def wanted(self, t: float) -> tuple[Pose, float]:
        """Where the hand wants the tool (T_base_tool) at `t`, and the opening (m) that its button asks for."""
        for line in self._lines:
            if t < line.duration_s + self._config.pause_s:
                return line.sample(t), float(line.gripper_to[0])
            t -= line.duration_s + self._config.pause_s
        return self._lines[-1].sample(t), float(self._lines[-1].gripper_to[0])

    def tremble(self) -> None:
        """The tremor changes: once per tick."""
        self._tremor = self._rng.normal(0.0, self._config.tremor, 3)

    def push(self, world: World, t: float) -> None:
        """Sets the force on the tool for the next physics step."""
        config, tool, twist = self._config, world.tool_pose(), world.tool_twist()
        wanted, _ = self.wanted(t)
        force = config.stiffness * (wanted.position - tool.position) - config.damping * twist[:3]
        turn = log(wanted.rotation @ tool.rotation.T)
        torque = config.turn_stiffness * turn - config.turn_damping * twist[3:]
        world.push(_within(force + self._tremor, config.max_force), _within(torque, config.max_torque))


def let_go(world: World) -> None:
    """No hand touches the arm any more."""
    world.push(np.zeros(3), np.zeros(3))


def _within(vector: Array, limit: float) -> Array:
    length = float(np.linalg.norm(vector))
    return vector if length <= limit else vector * (limit / length)
