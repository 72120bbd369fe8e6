"""What the monitor judges by: the numbers of config/safety.yaml, and the limits of one contract on one robot."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from policy_bringup.core.config import bounded, required
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import ColumnLimits, JointLimits
from policy_bringup.core.types import ActionSpec, Array, Column

WINDOW_S = 0.25
REPEAT_S = 0.1
CATCH_UP = 0.05
"""How much faster than its own pace, on average, a plan is followed while it is behind its time."""
_POSITIVE = ("max_step", "max_velocity", "max_acceleration", "max_window", "tolerance")
_ORDERED = ("action_timeout_s", "state_timeout_s", "future_tolerance_s", "frozen_time_s", "following_time_s",
            "following_tolerance", "late_tick_s", "joint_margin_rad", "max_retries")  # fmt: skip


@dataclass(frozen=True, slots=True)
class SafetyConfig:
    """config/safety.yaml, which explains every key."""

    sources: tuple[str, ...] = required()
    tick_rate_hz: float = bounded(10.0, 1000.0, "Hz")
    late_tick_s: float = bounded(0.002, 0.2, "s")
    action_timeout_s: float = bounded(0.02, 1.0, "s")
    state_timeout_s: float = bounded(0.01, 0.5, "s")
    future_tolerance_s: float = bounded(0.0, 0.1, "s")
    frozen_time_s: float = bounded(0.05, 2.0, "s")
    following_time_s: float = bounded(0.0, 2.0, "s")
    following_tolerance: float = bounded(1.0, 10.0)
    joint_margin_rad: float = bounded(0.0, 0.2, "rad")
    max_retries: int = bounded(0, 10)
    retry_refill: float | None = bounded(0.0, 1.0)
    fallback: Literal["hold", "stop", "open_gripper"] = required()
    open_on_estop: bool = required()
    gripper_column: str | None = required()
    gripper_open_after_s: float = bounded(0.0, 5.0, "s")
    estop_heartbeat_s: float | None = bounded(0.05, 1.0, "s")
    still_time_s: float = bounded(0.1, 5.0, "s")
    still_tolerance_rad: float = bounded(0.0, 0.05, "rad")
    auto_resume: bool = required()
    resume_proposals: int = bounded(1, 1000)
    resume_time_s: float = bounded(0.0, 60.0, "s")
    resume_uncertainty: float = bounded(0.0, 1.0)


class Limits:
    """Configuration, contract and robot, cross-checked, as vectors `(m,)` by action column. Not to be written to.

    max_change: largest change of the emitted velocity in one tick. creep: a speed that one tick can start and stop.
    is_rate: the column commands a velocity (unit "../s"). window: ticks in 250 ms. joint_*: `(n,)` with the margin.
    stops_at_once: the speed that half a tick can stop. following: how far the arm may be from where it was asked to be,
    inf where a command says nothing of that. motion*: names and bounds of what checks.py puts side by side.
    Raises ConfigError.
    """

    def __init__(self, config: SafetyConfig, spec: ActionSpec, columns: tuple[ColumnLimits, ...],
                 joints: tuple[JointLimits, ...], uncertainty_threshold: float) -> None:  # fmt: skip
        self.config, self.spec, self.threshold = config, spec, uncertainty_threshold
        self._check(columns, joints)

        def vector(name: str) -> Array:
            return np.array([getattr(column, name) for column in columns], dtype=np.float64)

        self.lower, self.upper, self.tolerance = vector("lower"), vector("upper"), vector("tolerance")
        self.max_step, self.max_velocity = vector("max_step"), vector("max_velocity")
        self.max_acceleration, self.max_window = vector("max_acceleration"), vector("max_window")
        self.holds_command = np.array([column.holds_command for column in columns])
        self.is_rate = np.array([column.unit.endswith("/s") for column in spec.columns])
        self.following = np.where(
            self.holds_command | self.is_rate, np.inf, config.following_tolerance * self.tolerance
        )
        self.joints = tuple(Column(joint.name, "rad") for joint in joints)
        self.joint_lower = np.array([joint.lower for joint in joints]) - config.joint_margin_rad
        self.joint_upper = np.array([joint.upper for joint in joints]) + config.joint_margin_rad
        self.period_s, self.window = 1.0 / config.tick_rate_hz, round(WINDOW_S * config.tick_rate_hz)
        self.max_change, self.twice_acceleration = self.max_acceleration * self.period_s, 2.0 * self.max_acceleration
        self.stops_at_once = np.where(self.is_rate, np.inf, self.max_change / 2)
        self.calm, self.most_unsure = config.resume_uncertainty * self.threshold, np.array([self.threshold])
        slow = (self.max_step / (2.0 * self.period_s), self.max_window / (2.0 * WINDOW_S))  # a tick: up to two periods
        self.creep = np.minimum.reduce([self.max_velocity, self.max_change, *slow])
        tables = ((" after braking", "", self.upper), (" velocity", "/s", self.max_velocity),
                  (" velocity change in a tick", "/s", self.max_change), (" change in 250 ms", "", self.max_window),
                  (" step", "", self.max_step), ("", "", self.upper))  # fmt: skip
        self.motion = tuple(Column(c.name + what, c.unit + per) for what, per, _ in tables for c in spec.columns)
        self.motion_upper = np.concatenate([upper for _, _, upper in tables])
        self.motion_lower = np.concatenate([self.lower, *(-upper for _, _, upper in tables[1:-1]), self.lower])

    def _check(self, columns: tuple[ColumnLimits, ...], joints: tuple[JointLimits, ...]) -> None:
        config, names = self.config, self.spec.names
        _require(tuple(c.name for c in columns) == names, "must list the action columns in order")
        _require(len(set(names)) == len(names) > 0, "must name each column once")
        for c, unit in zip(columns, (column.unit for column in self.spec.columns), strict=True):
            positive = all(0.0 < getattr(c, name) < math.inf for name in _POSITIVE)
            _require(positive, f"{c.name} needs {', '.join(_POSITIVE)} finite and above zero")
            rests = not unit.endswith("/s") or c.lower <= 0.0 <= c.upper
            _require(rests, f"{c.name} commands a velocity: its bounds must contain zero")
        ranges = [(c.name, c.lower, c.upper) for c in columns] + [(j.name, j.lower, j.upper) for j in joints]
        for name, lower, upper in ranges:
            _require(-math.inf < lower <= upper < math.inf, f"{name} needs finite lower <= upper")
        _require(0.0 <= self.threshold < math.inf, "need a finite uncertainty_threshold >= 0")
        _require(len(set(config.sources)) == len(config.sources) > 0, "need sources, each named once")
        _require(config.late_tick_s * config.tick_rate_hz >= 2.0, "need a late_tick_s of at least two ticks")
        opens = config.fallback == "open_gripper" or config.open_on_estop
        _require(not opens or config.gripper_column in names, f"need a gripper_column out of {', '.join(names)}")

    def fits(self, new: Limits) -> bool:
        """Whether `new` is for the same contract, robot, sources and ticks."""
        same = self.spec == new.spec and self.joints == new.joints and self.config.sources == new.config.sources
        return same and self.period_s == new.period_s

    def widens(self, new: Limits) -> bool:
        """Whether `new`, which fits, allows anything that this does not. What has no order has to stay equal."""
        return bool((new._widths() > self._widths()).any()) or new._rest() != self._rest()

    def _widths(self) -> Array:
        vectors = (self.motion_upper, -self.motion_lower, self.joint_upper, -self.joint_lower, self.tolerance)
        return np.concatenate([*vectors, [self.threshold], [getattr(self.config, name) for name in _ORDERED]])

    def _rest(self) -> tuple[object, ...]:
        alike: dict[str, Any] = dict.fromkeys(_ORDERED, 0)
        return replace(self.config, **alike), *self.holds_command


def _require(condition: bool, needs: str) -> None:
    if not condition:
        raise ConfigError(f"safety limits {needs}")
