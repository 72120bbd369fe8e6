"""Before safety begins: does a monitor with the very limits in force still refuse what must be refused?

What it could find: limits that refuse everything or nothing, a checker changed by hand, a numeric library that compares
otherwise than it should. The monitor tried here is a scratch one; the one in force has heard nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from policy_bringup.core.types import ActionChunk, Array
from policy_bringup.safety.limits import Limits
from policy_bringup.safety.monitor import SafetyMonitor, Verdict
from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, EStop, Measured, Proposal

Case = tuple[str, Rule, ActionChunk]
START_NS = 10_000_000_000
BEATS = 2
"""Ticks until it is READY: the first one is late, since none came before it."""


def self_test(limits: Limits) -> str:
    """What is wrong with the monitor under these limits, in one sentence; "" when nothing is."""
    rest = np.where(limits.is_rate, 0.0, (limits.lower + limits.upper) / 2)
    stamp_ns = START_NS + BEATS * round(limits.period_s * 1e9)
    good = _standing(limits, rest, stamp_ns)
    judged = _judged(limits, rest, good)
    if judged.state is not State.ACTIVE:
        why = judged.reason.sentence if judged.reason is not None else f"it stays {judged.state.name}"
        return f"failed self-test: an action that only stands still was refused ({why})"
    for what, rule, chunk in _hostile(limits, good):
        judged = _judged(limits, rest, chunk)
        if judged.state is State.ACTIVE or judged.reason is None or judged.reason.rule is not rule:
            return f"failed self-test: {what} was not refused by rule {rule.name}"
    return ""


def _standing(limits: Limits, rest: Array, stamp_ns: int) -> ActionChunk:
    """A whole chunk of where the robot is."""
    steps, names = limits.spec.steps, limits.spec.names
    times_s = limits.spec.dt_s * np.arange(1.0, steps + 1.0)
    values = np.tile(rest, (steps, 1))
    return ActionChunk(limits.config.sources[0], stamp_ns, stamp_ns, names, times_s, values, np.zeros(steps))


def _hostile(limits: Limits, good: ActionChunk) -> Iterator[Case]:
    """The smallest violations there are, one at a time: a check that asks for less than it should lets them through."""
    yield "a number that is not finite", Rule.FINITE, _with(good, 0, np.nan)
    for i, name in enumerate(good.names):
        yield f"{name} just above its bounds", Rule.BOUNDS, _with(good, i, np.nextafter(limits.upper[i], np.inf))
        yield f"{name} just below its bounds", Rule.BOUNDS, _with(good, i, np.nextafter(limits.lower[i], -np.inf))
    yield "a wrong column name", Rule.TABLE, replace(good, names=(*good.names[:-1], f"{good.names[-1]}?"))
    unsure = np.full_like(good.uncertainty, np.nextafter(limits.threshold, np.inf))
    yield "an action too unsure", Rule.UNCERTAINTY, replace(good, uncertainty=unsure)
    old_ns = good.stamp_ns - round(limits.config.action_timeout_s * 1e9) - 1_000_000
    yield "an action too old", Rule.AGE, replace(good, stamp_ns=old_ns)


def _with(good: ActionChunk, column: int, value: float) -> ActionChunk:
    values = good.values.copy()
    values[:, column] = value
    return replace(good, values=values)


def _judged(limits: Limits, rest: Array, chunk: ActionChunk) -> Verdict:
    """A robot at rest, one action from the first source, and somebody who arms at once: ACTIVE if it may move."""
    monitor, joints = SafetyMonitor(limits), (limits.joint_lower + limits.joint_upper) / 2
    for beat in range(BEATS + 1):
        now_ns = START_NS + beat * round(limits.period_s * 1e9)
        monitor.step(Measured(now_ns, now_ns, joints, rest), now_ns)
        if limits.config.estop_heartbeat_s is not None:
            monitor.step(EStop(False), now_ns)
        if beat == BEATS:
            monitor.step(Proposal(chunk, 1), now_ns)
        judged = monitor.tick(now_ns, now_ns)
    armed = monitor.step(Arm(True), now_ns).accepted
    return replace(judged, state=State.ACTIVE if armed else judged.state)
