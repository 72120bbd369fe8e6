"""The rules. They ask for membership, `lo <= x <= hi`, which a NaN fails; never for violation, which a NaN passes.

A Finding is the first bad step of `(k, m)` values and the reason, or None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policy_bringup.core.types import UNCERTAINTY_COLUMN, ActionChunk, Array, Column
from policy_bringup.safety.limits import WINDOW_S, Limits
from policy_bringup.safety.reasons import Reason, Rule, outside
from policy_bringup.safety.state import Measured, Memory, Proposal, Reference, Source

Finding = tuple[int, Reason] | None
UNCERTAINTY, CERTAIN = (Column(UNCERTAINTY_COLUMN, ""),), np.zeros(1)


def judge(m: Memory, proposal: Proposal, source: Source) -> tuple[Source, Reference] | Reason:
    """All nine rules: the source with its new plan and where that leads on this tick, or why not.

    A path that cannot start from what was last emitted, but lies at the measured pose, starts there: holding recovers.
    """
    chunk, limits = proposal.chunk, m.limits
    refused = _envelope(m, proposal, source.stamp_ns) or m.hazard
    if refused is not None:
        return refused
    origin_ns = min(m.now_ns, chunk.received_ns, m.now_ns - m.stamp_now_ns + chunk.stamp_ns)
    ahead_s = chunk.times_s - (m.now_ns - origin_ns) / 1e9
    first = int(ahead_s.searchsorted(limits.period_s / 2))
    found = _first(
        _sure(chunk.uncertainty, len(ahead_s), limits),
        _within(Rule.BOUNDS, limits.spec.columns, chunk.values, limits.lower, limits.upper),
    )
    cut, reason = found or (len(ahead_s), Reason(Rule.AGE, "every step of the action lies in the past"))
    start, path = m.reference, chunk.values[first:cut]
    found = _path(m, start, path, ahead_s[first:cut])
    if found is not None and found[0] == 0 and m.alike(path[0], m.rebased().value):
        start = m.rebased()
        found = _path(m, start, path, ahead_s[first:cut])
    cut, reason = (first + found[0], found[1]) if found is not None else (cut, reason)
    if cut <= first:
        return reason
    calm = cut == len(ahead_s) and chunk.uncertainty.max() <= limits.calm
    expires_ns = origin_ns + round(limits.config.action_timeout_s * 1e9)
    plan = (origin_ns, expires_ns, chunk.times_s[first:cut], chunk.values[first:cut], bool(calm))
    source = Source(source.name, None, chunk.stamp_ns, *plan)
    moved = follow(m, source, start)
    return moved if isinstance(moved, Reason) else (source, moved)


def follow(m: Memory, source: Source, start: Reference) -> Reference | Reason:
    """One tick along a plan: straight towards its next step so as to be there in time; after the last, brake and stand.

    The next step is the first at least half a tick ahead. What is about to be emitted is checked once more.
    """
    limits, ahead_s = m.limits, source.times_s - (m.now_ns - source.origin_ns) / 1e9
    k = int(ahead_s.searchsorted(limits.period_s / 2))
    if k == len(ahead_s):
        return start.braked(limits, m.dt_s)
    step = (source.values[k] - start.value) * (m.dt_s / (ahead_s[k] + m.dt_s))
    value = start.value + step
    net = value - start.recent[0]
    found = _motion(limits, start, value[None], step[None] / m.dt_s, net[None], step[None], value[None])
    return found[1] if found is not None else start.moved(value, m.dt_s)


def hazard(m: Memory, gap_s: float) -> Reason | None:
    """The hard causes: a joint state that is invalid, stale or frozen, a joint beyond its limits, a late tick."""
    limits, config = m.limits, m.limits.config
    if isinstance(m.measured, Reason):
        return m.measured
    if m.now_ns - m.echo_ns > config.frozen_time_s * 1e9:
        return Reason(Rule.STATE, "the joint state is frozen: the command has changed and it has not")
    bounds = limits.joint_lower, limits.joint_upper
    found = _within(Rule.BREACH, limits.joints, m.measured.joints[None], *bounds)
    late = None if 0.0 < gap_s <= config.late_tick_s else Reason(Rule.LATE_TICK, f"a tick came after {gap_s:.3f} s")
    return _age(m, m.measured, config.state_timeout_s, Rule.STATE) or (found[1] if found is not None else late)


def payload(event: Measured, limits: Limits) -> Reason | None:
    """What is wrong with a joint state in itself."""
    tables = ((event.joints, (len(limits.joints),)), (event.columns, limits.lower.shape))
    stamped = type(event.stamp_ns) is int and type(event.received_ns) is int
    if stamped and all(_is_table(table, shape) and np.isfinite(table).all() for table, shape in tables):
        return None
    return Reason(Rule.STATE, "the joint state has a wrong shape or type, or a number that is not finite")


def _envelope(m: Memory, proposal: Proposal, last_ns: int) -> Reason | None:
    """Rules 1 to 5. Types and shapes come before numbers, so that no payload is expensive."""
    chunk, names, steps = proposal.chunk, m.limits.spec.names, m.limits.spec.steps
    if type(proposal.publishers) is not int or proposal.publishers != 1:
        return Reason(Rule.SOURCE, f"{chunk.source} must have exactly one publisher on its topic")
    named = type(chunk.names) is tuple and len(chunk.names) == len(names) and set(map(type, chunk.names)) == {str}
    if not named or chunk.names != names:
        return Reason(Rule.TABLE, f"the columns of the action must be {', '.join(names)}")
    k = len(chunk.times_s) if type(chunk.times_s) is np.ndarray and chunk.times_s.ndim == 1 else 0
    tables = _is_table(chunk.times_s, (k,)) and _is_table(chunk.values, (k, len(names)))
    if not (1 <= k <= steps and tables and type(chunk.stamp_ns) is int and type(chunk.received_ns) is int):
        return Reason(Rule.TABLE, f"the action must have 1 to {steps} steps of {len(names)} numbers, times and stamps")
    if not (np.isfinite(chunk.values).all() and np.isfinite(chunk.times_s).all()):
        return Reason(Rule.FINITE, "a number of the action is not finite")
    if not (chunk.times_s[0] >= 0.0 and (chunk.times_s[1:] - chunk.times_s[:-1] >= m.limits.period_s / 2).all()):
        return Reason(Rule.TABLE, "the times of the action must not be negative, and at least half a tick apart")
    if not chunk.stamp_ns > last_ns:
        return Reason(Rule.SEQUENCE, "the stamp of the action is not newer than that of the last accepted one")
    return _age(m, chunk, m.limits.config.action_timeout_s, Rule.AGE)


def _age(m: Memory, item: ActionChunk | Measured, timeout_s: float, rule: Rule) -> Reason | None:
    """Rule 5, by both clocks: a stamp from the future must not live for ever."""
    lower_ns, upper_ns = round(-m.limits.config.future_tolerance_s * 1e9), round(timeout_s * 1e9)
    for clock, age_ns in (("stamp", m.stamp_now_ns - item.stamp_ns), ("arrival", m.now_ns - item.received_ns)):
        if not lower_ns <= age_ns <= upper_ns:
            age_s = max(-(10**18), min(10**18, age_ns)) / 1e9  # a hostile stamp is too large for a float
            return outside(rule, Column(f"age by {clock}", "s"), age_s, lower_ns / 1e9, timeout_s)
    return None


def _sure(uncertainty: Array, steps: int, limits: Limits) -> Finding:
    """Rule 7."""
    if not _is_table(uncertainty, (steps,)) or not np.isfinite(uncertainty).all():
        return 0, Reason(Rule.UNCERTAINTY, "the uncertainty of the action is missing or not finite")
    return _within(Rule.UNCERTAINTY, UNCERTAINTY, uncertainty[:, None], CERTAIN, limits.most_unsure)


def _path(m: Memory, start: Reference, path: Array, ahead_s: Array) -> Finding:
    """Rule 9 for the straight lines from `start` through `path` `(k, m)`, whose steps lie `ahead_s` `(k,)` from now."""
    points, when = np.concatenate((start.value[None], path)), np.concatenate(([-m.dt_s], ahead_s))
    velocity = (points[1:] - points[:-1]) / (when[1:] - when[:-1])[:, None]
    before = points[when.searchsorted(when[1:] - WINDOW_S)]
    return _motion(m.limits, start, path, velocity, path - before)


def _motion(limits: Limits, start: Reference, path: Array, velocity: Array, *more: Array) -> Finding:
    """Room to brake before a bound (none for what one tick can stop, else v^2 / 2a), velocity, its change, which takes
    place within one tick, and `more`: tables `(k, m)` side by side in the order of limits.motion."""
    speed = np.abs(velocity)
    stand = path + np.where(speed <= limits.stops_at_once, 0.0, velocity * speed / limits.twice_acceleration)
    change = velocity - np.concatenate((start.velocity[None], velocity[:-1]))
    table = np.concatenate((stand, velocity, change, *more), axis=1)
    n = table.shape[1]
    return _within(Rule.ABRUPTNESS, limits.motion, table, limits.motion_lower[:n], limits.motion_upper[:n])


def _within(rule: Rule, columns: Sequence[Column], values: Array, lower: Array, upper: Array) -> Finding:
    good = (lower <= values) & (values <= upper)
    if np.count_nonzero(good) == good.size:
        return None
    k, i = divmod(int(np.argmin(good)), values.shape[1])
    return k, outside(rule, columns[i], float(values[k, i]), float(lower[i]), float(upper[i]))


def _first(*findings: Finding) -> Finding:
    """The one with the earliest step; of equals, the first."""
    return min((finding for finding in findings if finding is not None), key=lambda f: f[0], default=None)


def _is_table(array: object, shape: tuple[int, ...]) -> bool:
    return type(array) is np.ndarray and array.dtype == np.float64 and array.shape == shape
