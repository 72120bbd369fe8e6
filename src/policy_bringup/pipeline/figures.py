"""The figures of an evaluation, from its attempts alone: each can be recomputed from the table of episodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from policy_bringup.pipeline.attempt import Attempt
from policy_bringup.pipeline.confidence import Calibration, calibration
from policy_bringup.pipeline.evaluate import Evaluation
from policy_bringup.pipeline.failures import CLASSES, alarmed, failure_class
from policy_bringup.pipeline.faults import FAULTS
from policy_bringup.pipeline.perturbations import PERTURBATIONS
from policy_bringup.pipeline.statistics import Paired, Rate, auc, paired, quantile, rate

GROUPS = 10
"""Evaluations with another seed each that the episodes are divided into."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, tail (share of `tail`) and worst of some numbers; None of none."""

    count: int
    median: float | None
    tail: float | None
    worst: float | None


@dataclass(frozen=True, slots=True)
class Groups:
    """Success of GROUPS evaluations with another first seed. deviation: standard deviation of their rates.

    expected: what chance alone gives groups of that size. None with less than an episode each.
    """

    rates: tuple[Rate, ...]
    deviation: float | None
    expected: float | None


@dataclass(frozen=True, slots=True)
class Alarms:
    """When safety acted on the policy's doubt or silence in undisturbed episodes.

    right: with the threshold off, the episode failed. wrong: it succeeded. refused: the policy itself had refused to
    look at sound pictures: wrong too. false_alarm: wrong ones among the episodes that would have succeeded.
    """

    right: int
    wrong: int
    refused: int
    false_alarm: Rate


@dataclass(frozen=True, slots=True)
class Effect:
    """Of one perturbation: the undisturbed and the perturbed episodes of the same seeds. stopped: by doubt or silence.

    failures: class -> perturbed episodes.
    """

    name: str
    words: str
    plain: Rate
    perturbed: Rate
    pairs: Paired
    stopped: int
    failures: dict[str, int]


@dataclass(frozen=True, slots=True)
class Detection:
    """Of one fault. stopped: by doubt or silence, after the onset. succeeded: done before anything was noticed.

    delay_s: from the onset to the stop. travel_m: the tool's way from the onset until it stood again, in stopped
    episodes. refused, refusal_s: of those stops the ones because the policy refused the pictures by rule, of all
    episodes, and their delays. doubted, auc: of the network alone, which no rule helps: in how many episodes its doubt
    was above the threshold, and how often it was above that of a successful undisturbed one.
    """

    name: str
    words: str
    stopped: Rate
    succeeded: int
    delay_s: Spread
    travel_m: Spread
    refused: Rate
    refusal_s: Spread
    doubted: Rate
    auc: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """All of them. failure_auc: how often a failed episode was more doubtful than a successful one, threshold off."""

    success: Rate
    time_s: Spread
    inference_ms: Spread
    groups: Groups
    failures: dict[str, int]
    alarms: Alarms
    confidence: Calibration | str
    failure_auc: float | None
    effects: tuple[Effect, ...]
    detections: tuple[Detection, ...]


def figures(evaluation: Evaluation) -> Figures:
    """Of a whole evaluation."""
    plain = evaluation.plain
    free = unhindered(evaluation)
    good, bad = ([a.doubt for a, done in zip(plain, free, strict=True) if done is wanted] for wanted in (True, False))
    taken_ms = [ms for attempt in plain for ms in attempt.taken_ms]
    return Figures(
        success=rate([attempt.success for attempt in plain]),
        time_s=spread([attempt.time_s for attempt in plain if attempt.success], 0.9),
        inference_ms=spread(taken_ms, 0.99),
        groups=_groups([attempt.success for attempt in plain]),
        failures=_failures(plain),
        alarms=_alarms(evaluation, free),
        confidence=calibration([attempt.doubt for attempt in plain], free),
        failure_auc=auc(good, bad),
        effects=tuple(_effect(evaluation, name) for name in PERTURBATIONS if name in evaluation.attempts),
        detections=tuple(_detection(evaluation, name) for name in FAULTS if name in evaluation.attempts),
    )


def spread(values: Sequence[float], tail: float) -> Spread:
    """Of any numbers."""
    return Spread(len(values), quantile(values, 0.5), quantile(values, tail), max(values, default=None))


def unhindered(evaluation: Evaluation) -> list[bool]:
    """Whether each plain episode succeeded, or would have if safety had not acted on doubt."""
    return [
        attempt.success or (attempt.seed in evaluation.unguarded and evaluation.unguarded[attempt.seed].success)
        for attempt in evaluation.plain
    ]


def sound_doubts(evaluation: Evaluation) -> list[float]:
    """The network's doubt in each undisturbed episode that succeeded, or would have.

    Where safety had acted on it, that of the episode without a threshold, which went on. Without those whose pictures
    were refused: there the network was not asked.
    """
    doubts = []
    for attempt, done in zip(evaluation.plain, unhindered(evaluation), strict=True):
        if done and not attempt.unanswered:
            doubts.append(evaluation.unguarded.get(attempt.seed, attempt).doubt)
    return doubts


def faulted_doubts(evaluation: Evaluation) -> dict[str, list[float]]:
    """Fault -> the doubt, in each of its episodes, of the network alone."""
    return {name: [a.doubt for a in evaluation.network[name]] for name in FAULTS if name in evaluation.network}


def _groups(successes: Sequence[bool]) -> Groups:
    size = len(successes) // GROUPS
    if size == 0:
        return Groups((), None, None)
    rates = tuple(rate(successes[start : start + size]) for start in range(0, GROUPS * size, size))
    mean = sum(group.share for group in rates) / GROUPS
    variance = sum((group.share - mean) ** 2 for group in rates) / (GROUPS - 1)
    return Groups(rates, math.sqrt(variance), math.sqrt(mean * (1.0 - mean) / size))


def _failures(attempts: Sequence[Attempt]) -> dict[str, int]:
    found = Counter(failure_class(attempt) for attempt in attempts)
    return {kind: found[kind] for kind in CLASSES}


def _alarms(evaluation: Evaluation, free: Sequence[bool]) -> Alarms:
    right = wrong = refused = 0
    for attempt, done in zip(evaluation.plain, free, strict=True):
        if alarmed(attempt) and attempt.unanswered:
            refused += 1
        elif alarmed(attempt):
            wrong, right = wrong + done, right + (not done)
    quiet = sum(attempt.success and not alarmed(attempt) for attempt in evaluation.plain)
    return Alarms(right, wrong, refused, rate([True] * (wrong + refused) + [False] * quiet))


def _effect(evaluation: Evaluation, name: str) -> Effect:
    attempts = evaluation.attempts[name]
    before = {attempt.seed: attempt.success for attempt in evaluation.plain}
    first, second = [before[attempt.seed] for attempt in attempts], [attempt.success for attempt in attempts]
    stopped = sum(alarmed(attempt) for attempt in attempts)
    pairs = paired(first, second)
    return Effect(name, PERTURBATIONS[name].words, rate(first), rate(second), pairs, stopped, _failures(attempts))


def _detection(evaluation: Evaluation, name: str) -> Detection:
    attempts, doubts = evaluation.attempts[name], faulted_doubts(evaluation).get(name, [])
    delays = {a.seed: a.stop.time_s - a.onset_s for a in attempts if a.stop and a.onset_s is not None and alarmed(a)}
    noticed = {seed: delay_s for seed, delay_s in delays.items() if delay_s >= 0.0}
    refused = {a.seed: noticed[a.seed] for a in attempts if a.seed in noticed and _refused(a)}
    return Detection(
        name,
        FAULTS[name],
        rate([attempt.seed in noticed for attempt in attempts]),
        sum(attempt.success and attempt.seed not in noticed for attempt in attempts),
        spread(list(noticed.values()), 0.9),
        spread([attempt.travel_m for attempt in attempts if attempt.seed in noticed], 0.9),
        rate([attempt.seed in refused for attempt in attempts]),
        spread(list(refused.values()), 0.9),
        rate([doubt > evaluation.threshold for doubt in doubts]),
        auc(sound_doubts(evaluation), doubts),
    )


def _refused(attempt: Attempt) -> bool:
    """Stopped because the policy gave no chunk, not because it gave a doubtful one."""
    return attempt.unanswered > 0 and attempt.stop is not None and attempt.stop.rule != "UNCERTAINTY"
