"""What an episode leaves for its evaluation: where things were, what the policy thought, and what stopped it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_bringup.core.types import Array
from policy_bringup.safety.monitor import Verdict
from policy_bringup.safety.reasons import State


@dataclass(frozen=True, slots=True)
class Stop:
    """Safety took the robot out of the policy's hands. time_s: since the start; rule: a name of safety/reasons.py."""

    time_s: float
    rule: str
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One row per tick of the monitor, `n` of them, and one per question to the policy, `k`. Times since the start, s.

    tool, object `(n, 3)` m: their origins in the base frame. width `(n,)` m: the opening between the fingers that
    safety asked for, NaN while it was silent. uncertainty `(k, steps)`: of each chunk, NaN where the policy refused to
    answer; refusals: why, `(time, sentence)` each. arm_refusals: safe actions that the arm could not or would not
    follow; arm_reason: why, the last time.
    """

    time_s: Array
    tool: Array
    object: Array
    width: Array
    asked_s: Array
    uncertainty: Array
    refusals: tuple[tuple[float, str], ...]
    stops: tuple[Stop, ...]
    arm_refusals: int
    arm_reason: str

    @property
    def doubt(self) -> float:
        """The largest uncertainty that could have made safety reject a chunk, up to the first stop: of its first step.

        Later steps only cut a chunk short. Infinite if the policy once refused to answer; 0 if it was never asked.
        """
        until_s = self.stops[0].time_s if self.stops else np.inf
        first = self.uncertainty[self.asked_s <= until_s, 0]
        return float(np.nan_to_num(first, nan=np.inf).max(initial=0.0))


class Tracer:
    """Collects a Trace. steps: of one chunk."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._ticks: list[tuple[float, ...]] = []
        self._answers: list[tuple[float, Array]] = []
        self._refusals: list[tuple[float, str]] = []
        self.stops: list[Stop] = []

    def answer(self, time_s: float, uncertainty: Array) -> None:
        """The policy's chunk, `(steps,)`."""
        self._answers.append((time_s, uncertainty))

    def refusal(self, time_s: float, sentence: str) -> None:
        """The policy gave none."""
        self._answers.append((time_s, np.full(self._steps, np.nan)))
        self._refusals.append((time_s, sentence))

    def tick(self, time_s: float, tool: Array, thing: Array, verdict: Verdict, width: int) -> None:
        """Where tool and object are, `(3,)` each, and what safety said. width: index of the action column."""
        opening = np.nan if verdict.output is None else float(verdict.output[width])
        self._ticks.append((time_s, *tool.tolist(), *thing.tolist(), opening))
        for transition in verdict.transitions:
            if transition.to_state >= State.FALLBACK:
                reason = transition.reason
                self.stops.append(Stop(time_s, reason.rule.name, reason.sentence))

    def trace(self, arm_refusals: int, arm_reason: str) -> Trace:
        """All of it."""
        table = np.array(self._ticks).reshape(-1, 8)
        unsure = np.array([row for _, row in self._answers]).reshape(-1, self._steps)
        return Trace(
            table[:, 0], table[:, 1:4], table[:, 4:7], table[:, 7], np.array([t for t, _ in self._answers]), unsure,
            tuple(self._refusals), tuple(self.stops), arm_refusals, arm_reason,
        )  # fmt: skip
