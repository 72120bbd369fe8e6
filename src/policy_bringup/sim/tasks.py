"""What is to be done in the simulated world, and whether it was: one class per task.

Another task on the same table is one more class with these four members; nothing else needs to know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.types import Pose
from policy_bringup.sim.config import Region, SimConfig
from policy_bringup.sim.world import World, object_at


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt stands.

    failure: "" when done, else the class of what went wrong so far. height, peak: the object above its start, now and
    at most (m). shift: how far it moved sideways (m). time_s: since the reset.
    """

    success: bool
    failure: str
    height: float
    peak: float
    shift: float
    time_s: float


class Task(Protocol):
    """A goal in the world. `reset` before the first `update`; then `update` after every few physics steps."""

    def reset(self, world: World, rng: np.random.Generator, at_home: bool = True, place: Pose | None = None) -> Pose:
        """Puts object (and, with `at_home`, robot) at a start; returns T_base_object, drawn from `rng` or `place`."""

    def update(self, world: World) -> None:
        """Looks at the world as it is now."""

    @property
    def success(self) -> bool:
        """The goal was reached since the reset."""

    @property
    def outcome(self) -> Outcome:
        """Everything a report needs."""


def draw_start(region: Region, rng: np.random.Generator) -> tuple[float, float, float]:
    """x, y (m) and yaw (rad) at which an object starts, uniform over the region."""
    x, y, yaw = (float(rng.uniform(*limits)) for limits in (region.x, region.y, region.yaw))
    return x, y, yaw


class Grasp:
    """Lift the object by `LIFT_M` and keep it there for `HOLD_S`."""

    LIFT_M = 0.10
    HOLD_S = 0.5
    _MOVED_M = 0.005
    _RAISED_M = 0.01

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self._outcome = Outcome(False, "not started", 0.0, 0.0, 0.0, 0.0)
        self._start = np.zeros(3)
        self._start_s = 0.0
        self._held_since_s: float | None = None

    @property
    def success(self) -> bool:
        """It was held up for long enough, at least once."""
        return self._outcome.success

    @property
    def outcome(self) -> Outcome:
        """As of the last `update`."""
        return self._outcome

    def reset(self, world: World, rng: np.random.Generator, at_home: bool = True, place: Pose | None = None) -> Pose:
        """The object at `place`, else at a uniformly random one of the region, with a random yaw."""
        if place is None:
            x, y, yaw = draw_start(self._config.region, rng)
            place = object_at(self._config, (x, y), yaw)
        world.reset(place, at_home)
        self._start, self._start_s, self._held_since_s = place.position, world.time_s, None
        self._outcome = Outcome(False, "untouched", 0.0, 0.0, 0.0, 0.0)
        return place

    def update(self, world: World) -> None:
        """Follows the object's height."""
        position, now_s = world.object_pose().position, world.time_s
        height = float(position[2] - self._start[2])
        if height < self.LIFT_M:
            self._held_since_s = None
        elif self._held_since_s is None:
            self._held_since_s = now_s
        held = self._held_since_s is not None and now_s - self._held_since_s >= self.HOLD_S - 1e-9
        peak = max(self._outcome.peak, height)
        shift = float(np.hypot(*(position - self._start)[:2]))
        success = self._outcome.success or held
        failure = "" if success else self._failure(height, peak, shift)
        self._outcome = Outcome(success, failure, height, peak, shift, now_s - self._start_s)

    def _failure(self, height: float, peak: float, shift: float) -> str:
        if height < -self._config.cube.size:
            return "off the table"
        if peak >= self._RAISED_M:
            return "dropped" if height < peak / 2 else "not lifted long enough"
        return "pushed" if shift >= self._MOVED_M else "untouched"


TASKS = {"grasp": Grasp}


def make_task(name: str, config: SimConfig) -> Task:
    """The task that a deployment names. Raises ConfigError for one that is not in `TASKS`."""
    if name not in TASKS:
        raise ConfigError(f"task: must be one of {', '.join(TASKS)}, found '{name}'")
    return TASKS[name](config)
