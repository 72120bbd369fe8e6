"""The rules. They ask for membership, `lo <= x <= hi`, which a NaN fails; never for violation, which a NaN passes.

A Finding is how many steps are good before the first bad one, and what is wrong with that one (None: there is none).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from policy_bringup.core.types import UNCERTAINTY_COLUMN, ActionChunk, Array, Column
from policy_bringup.safety.limits import WINDOW_S, Limits
from policy_bringup.safety.reasons import Reason, Rule, State, outside
from policy_bringup.safety.state import Measured, Memory, Proposal, Reference, Source

Finding = tuple[int, Reason | None]
UNCERTAINTY, CERTAIN = (Column(UNCERTAINTY_COLUMN, ""),), np.zeros(1)


def judge(m: Memory, proposal: Proposal, source: Source) -> tuple[Source, Reference] | Reason:
    """All nine rules: the source with its new plan and where that leads on this tick, or why it is refused.

    A path that cannot start from what was last emitted, but lies at the measured pose, starts there: holding recovers.
    """
    chunk, limits = proposal.chunk, m.limits
    refused = _envelope(m, proposal, source.stamp_ns) or m.hazard or _unsure(chunk)
    if refused is not None:
        return refused
    origin_ns = min(m.now_ns, chunk.received_ns, m.now_ns - m.stamp_now_ns + chunk.stamp_ns)
    ahead_s = chunk.times_s - (m.plan_ns - origin_ns) / 1e9
    first = int(ahead_s.searchsorted(limits.period_s / 2))
    unsure = _within(Rule.UNCERTAINTY, UNCERTAINTY, chunk.uncertainty[:, None], CERTAIN, limits.most_unsure)
    beyond = _within(Rule.BOUNDS, limits.spec.columns, chunk.values, limits.lower, limits.upper)
    end, reason = unsure if unsure[0] <= beyond[0] else beyond
    start, path = m.reference, chunk.values[first:end]
    good, abrupt = _path(m, start, path, ahead_s[first:end])
    if good == 0 and abrupt is not None and m.alike(path[0], m.rebased().value):
        start = m.rebased()
        good, abrupt = _path(m, start, path, ahead_s[first:end])
    if good == 0:
        return abrupt or reason or Reason(Rule.AGE, "every step of the action lies in the past")
    end = first + good
    calm = end == len(ahead_s) and bool(chunk.uncertainty.max() <= limits.calm)
    expires_ns = origin_ns + round(limits.config.action_timeout_s * 1e9)
    plan = Source(None, chunk.stamp_ns, origin_ns, expires_ns, chunk.times_s[first:end], path[:good], calm)
    moved = follow(m, plan, start)
    return moved if isinstance(moved, Reason) else (plan, moved)


def follow(m: Memory, source: Source, start: Reference) -> Reference | Reason:
    """One tick along a plan: straight towards its next step so as to be there in time; after the last, brake and stand.

    The next step is the first at least half a tick ahead. What is about to be emitted is checked once more.
    """
    limits, ahead_s = m.limits, source.times_s - (m.plan_ns - source.origin_ns) / 1e9
    k = int(ahead_s.searchsorted(limits.period_s / 2))
    if k == len(ahead_s):
        return start.braked(limits, m.dt_s)
    step = (source.values[k] - start.value) * (m.dt_s / (ahead_s[k] + m.dt_s))
    value, velocity = start.value + step, step / m.dt_s
    change, net = velocity - start.velocity, value - start.recent[0]
    _, abrupt = _motion(limits, value, velocity, change, net, step, value)
    return abrupt or start.moved(value, m.dt_s)


def hazard(m: Memory, gap_s: float) -> Reason | None:
    """The hard causes: a joint state that is invalid, stale or frozen, a joint beyond its limits, a late tick, an arm
    that does not follow what drives it."""
    limits, config = m.limits, m.limits.config
    if isinstance(m.measured, Reason):
        return m.measured
    if m.now_ns - m.echo_ns > config.frozen_time_s * 1e9:
        return Reason(Rule.STATE, "the joint state is frozen: the command has changed and it has not")
    stale = _age(m, m.measured, config.state_timeout_s, Rule.STATE)
    bounds = limits.joint_lower, limits.joint_upper
    _, breach = _within(Rule.BREACH, limits.joints, m.measured.joints, *bounds)
    late = None if 0.0 < gap_s <= config.late_tick_s else Reason(Rule.LATE_TICK, f"a tick came after {gap_s:.3f} s")
    lost = m.now_ns - m.near_ns > config.following_time_s * 1e9 and State.READY < m.state < State.FALLBACK
    return stale or breach or late or (m.astray if lost else None)


def astray(emitted: Reference, measured: Array, limits: Limits) -> Reason | None:
    """What is wrong where the arm is measured, `(m,)`, beyond all that was emitted in the last window: it may be late
    by that, and `limits.following` off besides."""
    lower, upper = emitted.recent.min(axis=0) - limits.following, emitted.recent.max(axis=0) + limits.following
    _, reason = _within(Rule.FOLLOWING, limits.spec.columns, measured, lower, upper)
    return reason and replace(reason, sentence=f"the arm does not follow: {reason.sentence}")


def payload(event: Measured, limits: Limits) -> Reason | None:
    """What is wrong with a joint state in itself."""
    if type(event.publishers) is not int or event.publishers != 1:
        return Reason(Rule.STATE, "joint_states must have exactly one publisher, the same all along")
    tables = ((event.joints, (len(limits.joints),)), (event.columns, limits.lower.shape))
    stamped = type(event.stamp_ns) is int and type(event.received_ns) is int
    if stamped and all(_is_table(table, shape) and np.isfinite(table).all() for table, shape in tables):
        return None
    return Reason(Rule.STATE, "the joint state has a wrong shape or type, or a number that is not finite")


def gripped(start: Reference, command: Array, limits: Limits) -> Reference | Reason:
    """The reference with the gripper where its button has left it, or what is wrong with that command."""
    if not _is_table(command, limits.holds_command.shape):
        return Reason(Rule.TABLE, "the gripper's command has a wrong shape or type")
    there = start.gripping(limits, command)
    _, beyond = _within(Rule.BOUNDS, limits.spec.columns, there.value, limits.lower, limits.upper)
    return beyond or there


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
    youngest_s = -m.limits.config.future_tolerance_s
    for clock, age_ns in (("stamp", m.stamp_now_ns - item.stamp_ns), ("arrival", m.now_ns - item.received_ns)):
        age_s = max(-(10**18), min(10**18, age_ns)) / 1e9  # a hostile stamp is too large for a float
        if not youngest_s <= age_s <= timeout_s:
            what = "action" if rule is Rule.AGE else "joint state"
            return outside(rule, Column(f"age of the {what} by {clock}", "s"), age_s, youngest_s, timeout_s)
    return None


def _unsure(chunk: ActionChunk) -> Reason | None:
    """Rule 7 without the threshold, which cuts a chunk."""
    if _is_table(chunk.uncertainty, chunk.times_s.shape) and np.isfinite(chunk.uncertainty).all():
        return None
    return Reason(Rule.UNCERTAINTY, "the uncertainty of the action is missing or not finite")


def _path(m: Memory, start: Reference, path: Array, ahead_s: Array) -> Finding:
    """Rule 9 for the straight lines from `start` through `path` `(k, m)`, whose steps lie `ahead_s` `(k,)` from now."""
    points, when = np.concatenate((start.value[None], path)), np.concatenate(([-m.dt_s], ahead_s))
    velocity = (points[1:] - points[:-1]) / (when[1:] - when[:-1])[:, None]
    change = velocity - np.concatenate((start.velocity[None], velocity[:-1]))
    before = points.take(when.searchsorted(when[1:] - WINDOW_S), axis=0)
    return _motion(m.limits, path, velocity, change, path - before)


def _motion(limits: Limits, path: Array, velocity: Array, *more: Array) -> Finding:
    """Where braking would end (v^2 / 2a further; at once for what one tick can stop), velocity, and `more`: `(m,)`, or
    tables `(k, m)`, side by side in the order of limits.motion. A change of velocity takes place within one tick."""
    speed = np.abs(velocity)
    stand = path + velocity * speed * (speed > limits.stops_at_once) / limits.twice_acceleration
    table = np.concatenate((stand, velocity, *more), axis=-1)
    n = table.shape[-1]
    return _within(Rule.ABRUPTNESS, limits.motion, table, limits.motion_lower[:n], limits.motion_upper[:n])


def _within(rule: Rule, columns: Sequence[Column], values: Array, lower: Array, upper: Array) -> Finding:
    """For `values` `(k, m)`, or `(m,)`: one step, of which only the reason counts."""
    good = (lower <= values) & (values <= upper)
    if np.count_nonzero(good) == good.size:
        return len(values), None
    at = int(good.argmin())
    k, i = divmod(at, values.shape[-1])
    return k, outside(rule, columns[i], float(values.flat[at]), float(lower[i]), float(upper[i]))


def _is_table(array: object, shape: tuple[int, ...]) -> bool:
    return type(array) is np.ndarray and array.dtype == np.float64 and array.shape == shape
