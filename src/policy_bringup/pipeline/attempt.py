"""One evaluated episode in a few numbers, small enough to come back from a worker process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_bringup.core.types import Array
from policy_bringup.sim.rollout import Rollout
from policy_bringup.sim.trace import Stop, Trace

PLAIN = "plain"
"""The condition of an episode that nothing disturbs."""
CLOSED = 0.5
"""Share of its full opening below which the gripper counts as closing on something."""
MOVING_M_S = 0.02
"""Tool speed above which the arm is in motion."""
_SMOOTH_S = 0.05

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One episode under one condition (PLAIN, a perturbation or a fault). Times in s since its start.

    outcome: the task's word for what went wrong, "" for a success. time_s: from arming to success or the end; 0 if it
    was never armed. doubt: see Trace.doubt. closed_m: horizontal distance between tool and object when the gripper
    first closed, None if it never did. peak_m: how high the object was lifted. unanswered: predictions that the policy
    refused, and the first reason; jumps: chunks refused because the robot would have jumped. arm_refusals: safe actions
    that the arm did not follow, and the last reason. motion: when the tool was moving. onset_s: when the fault began;
    travel_m: the tool's way since then. taken_ms: duration of each prediction.
    """

    condition: str
    seed: int
    backend: str
    success: bool
    outcome: str
    time_s: float
    doubt: float
    closed_m: float | None
    peak_m: float
    unanswered: int
    unanswered_reason: str
    jumps: int
    arm_refusals: int
    arm_reason: str
    stop: Stop | None
    motion: tuple[Span, ...]
    onset_s: float | None
    travel_m: float
    taken_ms: tuple[float, ...]


def attempt_of(
    rollout: Rollout, condition: str, seed: int, backend: str, full_opening_m: float, onset_s: float | None,
    taken_ms: tuple[float, ...],
) -> Attempt:  # fmt: skip
    """What an evaluation keeps of a rollout. full_opening_m: of the gripper."""
    trace = rollout.trace
    return Attempt(
        condition=condition,
        seed=seed,
        backend=backend,
        success=rollout.success,
        outcome=rollout.outcome.failure,
        time_s=rollout.time_s,
        doubt=trace.doubt,
        closed_m=closed_at(trace, CLOSED * full_opening_m),
        peak_m=rollout.outcome.peak,
        unanswered=len(trace.refusals),
        unanswered_reason=trace.refusals[0][1] if trace.refusals else "",
        jumps=rollout.refused - len(trace.refusals),
        arm_refusals=trace.arm_refusals,
        arm_reason=trace.arm_reason,
        stop=trace.stops[0] if trace.stops else None,
        motion=motion_spans(trace.time_s, trace.tool),
        onset_s=onset_s,
        travel_m=0.0 if onset_s is None else path_length(trace.tool[trace.time_s >= onset_s]),
        taken_ms=taken_ms,
    )


def closed_at(trace: Trace, opening_m: float) -> float | None:
    """Horizontal distance (m) of tool and object when the opening asked for first fell below `opening_m`."""
    closing = np.flatnonzero(trace.width < opening_m)
    if not len(closing):
        return None
    return float(np.hypot(*(trace.tool - trace.object)[closing[0], :2]))


def motion_spans(time_s: Array, tool: Array) -> tuple[Span, ...]:
    """From when to when the tool, `(n, 3)` m at `time_s` `(n,)`, was faster than MOVING_M_S over the last 50 ms."""
    before = time_s.searchsorted(time_s - _SMOOTH_S)
    elapsed = time_s - time_s[before]
    way = np.linalg.norm(tool - tool[before], axis=1)
    moving = (way > MOVING_M_S * elapsed) & (elapsed > 0.0)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], moving, [False]))))
    return tuple((float(time_s[start]), float(time_s[end - 1])) for start, end in edges.reshape(-1, 2).tolist())


def path_length(points: Array) -> float:
    """Of the way through `(n, 3)` m."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
