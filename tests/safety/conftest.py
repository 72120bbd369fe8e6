"""A robot stack of one dictionary: a clock, an arm that follows perfectly, and sources that can be bent at will."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from policy_bringup.core.config import load
from policy_bringup.core.robot import ColumnLimits, JointLimits
from policy_bringup.core.types import ActionChunk, ActionSpec, Column, Space
from policy_bringup.safety.limits import Limits, SafetyConfig
from policy_bringup.safety.monitor import Reply, SafetyMonitor, Verdict
from policy_bringup.safety.state import Arm, Measured, Proposal

MS = 1_000_000
# Pinned here, so that retuning the shipped file changes no test.
OVERRIDES = {
    **{"tick_rate_hz": 100.0, "sources": ["teleop", "home", "policy"], "late_tick_s": 0.06},
    **{"action_timeout_s": 0.25, "state_timeout_s": 0.1, "future_tolerance_s": 0.02},
    **{"frozen_time_s": 0.3, "following_time_s": 0.3, "following_tolerance": 1.0},
    **{"joint_margin_rad": 0.02, "still_time_s": 0.5, "still_tolerance_rad": 0.005},
    **{"max_retries": 3, "retry_refill": 0.25, "fallback": "hold", "gripper_column": "gripper.width"},
    **{"gripper_open_after_s": 1.0, "open_on_estop": False, "estop_heartbeat_s": None, "auto_resume": False},
    **{"resume_proposals": 10, "resume_time_s": 1.0, "resume_uncertainty": 0.8},
}
CONFIG = load(Path(__file__).parents[2] / "config" / "safety.yaml", SafetyConfig, OVERRIDES)
NAMES = ("tool.x", "tool.y", "tool.z", "tool.rx", "tool.ry", "tool.rz", "gripper.width", "gripper.force")
UNITS = ("m", "m", "m", "rad", "rad", "rad", "m", "N")
HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.04, 10.0])


def make_columns(**changes: dict[str, Any]) -> tuple[ColumnLimits, ...]:
    """Limits of the eight columns; `changes` by column name with dots as underscores."""
    arm = {"max_step": 0.02, "max_velocity": 0.6, "max_acceleration": 12.0, "max_window": 0.12, "tolerance": 0.01}
    turn = {"max_step": 0.1, "max_velocity": 2.0, "max_acceleration": 40.0, "max_window": 0.4, "tolerance": 0.05}
    grip = {"max_step": 0.02, "max_velocity": 1.0, "max_acceleration": 200.0, "max_window": 0.08, "tolerance": 0.08}
    force = {"max_step": 60, "max_velocity": 2000, "max_acceleration": 1e5, "max_window": 60.0, "tolerance": 60.0}
    bounds = {"tool.x": (0.25, 0.75), "tool.y": (-0.4, 0.4), "tool.z": (0.02, 0.7)}
    result = []
    for name, unit in zip(NAMES, UNITS, strict=True):
        lower, upper = bounds.get(name, {"rad": (-0.6, 0.6), "m": (0.0, 0.08), "N": (0.0, 60.0)}[unit])
        numbers = {"m": grip if "gripper" in name else arm, "rad": turn, "N": force}[unit]
        values = {"name": name, "lower": lower, "upper": upper, **numbers, "holds_command": "gripper" in name}
        result.append(ColumnLimits(**{**values, **changes.get(name.replace(".", "_"), {})}))
    return tuple(result)


def make_joints(n: int = 7) -> tuple[JointLimits, ...]:
    """Joints from -2 to 2 rad."""
    return tuple(
        JointLimits(name=f"joint{i}", lower=-2.0, upper=2.0, velocity=2.0, acceleration=10.0, effort=80.0, home=0.0)
        for i in range(n)
    )


def make_spec(names: tuple[str, ...] = NAMES, units: tuple[str, ...] = UNITS, steps: int = 16) -> ActionSpec:
    """The contract's action half."""
    return ActionSpec(
        Space.TASK, tuple(Column(n, u) for n, u in zip(names, units, strict=True)), steps=steps, dt_s=0.05, execute=8
    )


def make_limits(
    columns: tuple[ColumnLimits, ...] | None = None,
    spec: ActionSpec | None = None,
    joints: tuple[JointLimits, ...] | None = None,
    threshold: float = 1.0,
    **config: Any,
) -> Limits:
    """The test robot's limits; `config` replaces keys of config/safety.yaml."""
    return Limits(
        dataclasses.replace(CONFIG, **config),
        spec or make_spec(),
        columns or make_columns(),
        joints or make_joints(),
        threshold,
    )


class Bench:
    """A monitor with a clock, a perfect arm and ready-made events. `stamp_offset_ns`: ROS time minus monotonic time."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or make_limits()
        self.monitor = SafetyMonitor(self.limits)
        self.period_ns = round(self.limits.period_s * 1e9)
        self.now_ns = 10_000_000 * MS
        self.stamp_offset_ns = 77 * MS
        self.pose = HOME[: len(self.limits.lower)].copy()
        self.joints = np.zeros(len(self.limits.joints))
        self.follows = True
        self.wiggle = 0
        self.verdicts: list[Verdict] = []
        self.times: list[int] = []
        self.poses: list[Any] = []  # as measured before each verdict

    @property
    def stamp_ns(self) -> int:
        """ROS time."""
        return self.now_ns + self.stamp_offset_ns

    @property
    def last(self) -> Verdict:
        """The newest verdict."""
        return self.verdicts[-1]

    def step(self, event: object) -> Reply:
        """Hands one event over at the present time."""
        return self.monitor.step(event, self.now_ns)

    def measure(self, **changes: Any) -> Reply:
        """A fresh joint state, in which the last bits of a real encoder flicker."""
        self.wiggle += 1
        joints = self.joints.copy()
        joints[0] += 1e-9 * (self.wiggle % 2)
        event = Measured(self.stamp_ns, self.now_ns, joints, self.pose.copy())
        return self.step(dataclasses.replace(event, **changes))

    def chunk(
        self,
        target: Any = None,
        source: str = "policy",
        steps: int = 16,
        spacing_s: float = 0.05,
        velocity: Any = 0.0,
        **changes: Any,
    ) -> ActionChunk:
        """Steps from now on: at `target`, or moving on from where the output is at `velocity` per second."""
        times_s = spacing_s * np.arange(1, steps + 1)
        if target is None:
            start = self.last.output if self.verdicts and self.last.output is not None else self.pose
            values = start + times_s[:, None] * np.asarray(velocity, dtype=float)
        else:
            values = np.tile(np.asarray(target, dtype=float), (steps, 1))
        chunk = ActionChunk(
            source, self.stamp_ns, self.now_ns, self.limits.spec.names, times_s, values, np.zeros(steps)
        )
        return dataclasses.replace(chunk, **changes)

    def propose(self, *args: Any, publishers: Any = 1, **kwargs: Any) -> Reply:
        """Sends `chunk(...)`."""
        return self.step(Proposal(self.chunk(*args, **kwargs), publishers))

    def tick(self, after_ns: int | None = None, measure: bool = True) -> Verdict:
        """Time passes, the arm reports, the monitor ticks, the arm follows."""
        self.now_ns += self.period_ns if after_ns is None else after_ns
        if measure:
            self.measure()
        verdict = self.monitor.tick(self.now_ns, self.stamp_ns)
        self.verdicts.append(verdict)
        self.times.append(self.now_ns)
        self.poses.append(self.pose.copy())
        if verdict.output is not None and self.follows:
            self.pose = verdict.output.copy()
        return verdict

    def ticks(self, count: int, each: Callable[[int], Any] | None = None) -> list[Verdict]:
        """Several ticks, with `each(i)` before the i-th."""
        result = []
        for i in range(count):
            if each is not None:
                each(i)
            result.append(self.tick())
        return result

    def ready(self) -> Bench:
        """Up to READY."""
        self.ticks(2)
        assert self.last.state.name == "READY"
        return self

    def active(self, source: str = "policy", **kwargs: Any) -> Bench:
        """Up to ACTIVE, holding still."""
        self.ready()
        self.propose(source=source, **kwargs)
        self.tick()
        reply = self.step(Arm(True))
        assert reply.accepted, reply.sentence
        self.tick()
        assert self.last.state.name == "ACTIVE"
        return self


@pytest.fixture
def kit() -> SimpleNamespace:
    """The makers above, and the shipped configuration."""
    return SimpleNamespace(
        columns=make_columns, joints=make_joints, spec=make_spec, limits=make_limits, config=CONFIG, bench=Bench
    )


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Makes a Bench; keywords are keys of config/safety.yaml or arguments of make_limits."""
    return lambda **kwargs: Bench(make_limits(**kwargs))
