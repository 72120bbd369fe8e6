"""From a motion that a hand made to the actions that would make it again.

A hand-guided arm gives no commands, only joint positions. The action of a moment is therefore the pose measured
`shift_s` later: an arm that is commanded there now arrives about then. Before that, the joints are smoothed by a
centred window, which takes the hand's tremor out and delays nothing. The gripper's button already is a command: its
width is not shifted, only slowed down to what the gripper can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.config import bounded, build, read_yaml
from policy_bringup.core.robot import Gripper
from policy_bringup.core.types import ActionSpec, Array, StateSample


@dataclass(frozen=True, slots=True)
class Derivation:
    """How actions follow from a motion.

    shift_s: how long after its command the arm is where it was told to be. smoothing_s: width of the window (raised
    cosine) that joint positions are averaged over; its edges count for nothing. grip_force: what the gripper presses
    with.
    """

    shift_s: float = bounded(0.0, 0.5, "s")
    smoothing_s: float = bounded(0.0, 1.0, "s")
    grip_force: float = bounded(0.1, 200.0, "N")


def load_derivation(config_folder: Path) -> Derivation:
    """Of config/hand.yaml, whose other parts are the simulated hand's. Raises ConfigError."""
    path = config_folder / "hand.yaml"
    return build(Derivation, read_yaml(path).get("actions"), f"{path}: actions")


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What was recorded while a hand led the arm.

    times_s `(t,)` rising; joints `(t, n)` rad in the robot's order; closed `(t,)` bool: the gripper's button.
    """

    times_s: Array
    joints: Array
    closed: np.ndarray[tuple[int], np.dtype[np.bool_]]


class HandGuiding:
    """Derives actions for one robot and action space; gripper: its range, and how fast it moves."""

    def __init__(
        self, proprioception: Proprioception, names: tuple[str, ...], gripper: Gripper, config: Derivation
    ) -> None:
        self._proprioception, self._names = proprioception, (*names, gripper.joint)
        self._gripper, self._config = gripper, config

    def derive(self, motion: Motion, action: ActionSpec, period_s: float) -> tuple[Array, Array]:
        """Times `(m,)` s since the motion's first moment, `period_s` apart, and actions `(m, columns)` at them.

        After the motion's end the last pose stays. Raises ValueError for fewer than two moments, times that do not
        rise, or numbers that are not finite.
        """
        _check(motion)
        elapsed = motion.times_s - motion.times_s[0]
        times = period_s * np.arange(np.floor(elapsed[-1] / period_s + 1e-9) + 1.0)
        smooth = _smoothed(_resampled(times, elapsed, motion.joints), self._config.smoothing_s, period_s)
        ahead = _resampled(times + self._config.shift_s, times, smooth)
        values = np.array([self._columns(joints, action) for joints in ahead])
        values[:, -2] = self._widths(motion.closed[np.searchsorted(elapsed, times + 1e-9, side="right") - 1], period_s)
        values[:, -1] = self._config.grip_force
        return times, values

    def _columns(self, joints: Array, action: ActionSpec) -> Array:
        return self._proprioception.measured(StateSample(0, 0, self._names, np.append(joints, 0.0)), action)

    def _widths(self, closed: np.ndarray[tuple[int], np.dtype[np.bool_]], period_s: float) -> Array:
        """Opening asked for, `(m,)` m: from where the button is at first, as fast as the gripper moves."""
        goals = np.where(closed, self._gripper.lower, self._gripper.upper)
        step = self._gripper.velocity * period_s
        widths = goals.copy()
        for i in range(1, len(goals)):
            widths[i] = widths[i - 1] + np.clip(goals[i] - widths[i - 1], -step, step)
        return widths


def _check(motion: Motion) -> None:
    count = len(motion.times_s)
    if count < 2 or motion.joints.ndim != 2 or len(motion.joints) != count or motion.closed.shape != (count,):
        raise ValueError(f"a motion needs two moments or more, each with joints and a button; found {count} moments")
    if not np.isfinite(motion.joints).all() or not np.isfinite(motion.times_s).all():
        raise ValueError("a motion must be made of finite numbers")
    if not (np.diff(motion.times_s) > 0.0).all():
        raise ValueError("the times of a motion must rise")


def _resampled(times: Array, source_times: Array, rows: Array) -> Array:
    """`(m, n)` at `times`, linear between `(t, n)` at `source_times`; the ends stay before and after."""
    result: Array = np.column_stack([np.interp(times, source_times, column) for column in rows.T])
    return result


def _smoothed(rows: Array, width_s: float, period_s: float) -> Array:
    """Each column `(m,)` averaged with a raised cosine of full width `width_s`; the ends count as standing still."""
    half = int(np.floor(0.5 * width_s / period_s))
    if half == 0:
        return rows
    window = 1.0 + np.cos(np.pi * np.arange(-half, half + 1) / (half + 1))
    padded = np.concatenate([np.repeat(rows[:1], half, axis=0), rows, np.repeat(rows[-1:], half, axis=0)])
    return np.column_stack([np.convolve(column, window / window.sum(), mode="valid") for column in padded.T])
