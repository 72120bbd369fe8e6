"""How the robot moved: idle time, jerk, whether the gripper was used, and numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policy_bringup.core.types import ActionChunk, Array, StateSample
from policy_bringup.episodes.quality_config import QualityConfig
from policy_bringup.episodes.quantile import Quantiles

GAP_WINDOWS = 5.0
"""After a pause of so many windows, speed and jerk begin anew: nothing is known about the time between."""


class MotionCheck:
    """All joints, streaming. Several publishers may each send some of the joints.

    gripper_joints: their travel counts as the gripper's, and their jerk (they close on things) not at all.
    moved_s, judged_s: how long some joint moved, out of the time that could be judged. bad_numbers: messages with a
    position that is not finite, or none.
    """

    def __init__(self, config: QualityConfig, gripper_joints: Sequence[str]) -> None:
        self.moved_s = self.judged_s = 0.0
        self.bad_numbers = 0
        self._config, self._gripper = config, frozenset(gripper_joints)
        self._window_ns = round(config.motion_window_s * 1e9)
        self._positions: Array = np.zeros(0)
        self._lowest: Array = np.zeros(0)
        self._highest: Array = np.zeros(0)
        self._arm = np.zeros(0, dtype=bool)
        self._names: tuple[str, ...] = ()
        self._seen: dict[str, int] = {}
        self._places = np.zeros(0, dtype=np.intp)
        self._jerk = Quantiles()
        self._began_ns = self._offset_ns = self._count = 0
        self._sum: Array = np.zeros(0)
        self._derivatives: list[Array] = []
        self._middle_ns: int | None = None

    def observe(self, sample: StateSample) -> None:
        """One joint state."""
        if len(sample.values) == 0 or not np.isfinite(sample.values).all():
            self.bad_numbers += 1
            return
        if sample.names != self._names:
            self._learn(sample)
        self._positions[self._places] = sample.values
        np.minimum(self._lowest, self._positions, out=self._lowest)
        np.maximum(self._highest, self._positions, out=self._highest)
        offset_ns = sample.stamp_ns - self._began_ns if self._count else 0
        if not 0 <= offset_ns <= GAP_WINDOWS * self._window_ns:
            self._restart()
            offset_ns = 0
        if offset_ns >= self._window_ns:
            self._close()
            offset_ns = 0
        if self._count == 0:
            self._began_ns = sample.stamp_ns
        self._count += 1
        self._offset_ns += offset_ns
        self._sum += self._positions

    @property
    def has_gripper(self) -> bool:
        """Whether every gripper joint has been seen, and there is one."""
        return bool(self._gripper) and self._gripper <= self._seen.keys()

    @property
    def idle_share(self) -> float:
        """Of the time that could be judged; 0 if none could."""
        return 1.0 - self.moved_s / self.judged_s if self.judged_s else 0.0

    @property
    def jerk(self) -> float:
        """rad/s^3: in 95 of 100 windows no joint of the arm had more."""
        return self._jerk.at(0.95)

    @property
    def gripper_travel_m(self) -> float:
        """How far the gripper joint that moved most went, from its lowest position to its highest."""
        travels = [
            self._highest[place] - self._lowest[place] for name, place in self._seen.items() if name in self._gripper
        ]
        return float(max(travels, default=0.0))

    def _learn(self, sample: StateSample) -> None:
        """Joints that have not been seen yet take their places; the others keep theirs."""
        self._names = sample.names
        new = [name for name in dict.fromkeys(sample.names) if name not in self._seen]
        if new:
            self._seen |= {name: place for place, name in enumerate(new, len(self._seen))}
            first = sample.values[[sample.names.index(name) for name in new]]
            self._positions, self._lowest, self._highest = (
                np.append(values, first) for values in (self._positions, self._lowest, self._highest)
            )
            self._arm = np.array([name not in self._gripper for name in self._seen])
            self._restart()
        self._places = np.array([self._seen[name] for name in sample.names], dtype=np.intp)

    def _restart(self) -> None:
        """Forgets the window under way and the derivatives."""
        self._count = self._offset_ns = self._began_ns = 0
        self._sum = np.zeros(len(self._positions))
        self._derivatives = []
        self._middle_ns = None

    def _close(self) -> None:
        """Ends a window: speed, then acceleration and jerk, from the means of the windows before."""
        with np.errstate(over="ignore", invalid="ignore"):  # positions without bounds may be sent
            self._differentiate()
        self._count = self._offset_ns = 0
        self._sum = np.zeros(len(self._positions))

    def _differentiate(self) -> None:
        middle_ns = self._began_ns + self._offset_ns // self._count
        chain = [self._sum / self._count]
        if self._middle_ns is not None:
            dt = (middle_ns - self._middle_ns) / 1e9
            for before in self._derivatives[:3]:
                chain.append((chain[-1] - before) / dt)
            self.judged_s += dt
            if np.abs(chain[1]).max() > self._config.idle_speed:
                self.moved_s += dt
            if len(chain) == 4 and self._arm.any():
                self._jerk.add(float(np.abs(chain[3][self._arm]).max()))
        self._derivatives, self._middle_ns = chain, middle_ns


def is_sound(chunk: ActionChunk) -> bool:
    """Whether an action table has at least one step, and every value, time and uncertainty in it is finite."""
    parts = (chunk.values, chunk.times_s, chunk.uncertainty)
    return chunk.values.size > 0 and all(np.isfinite(part).all() for part in parts)
