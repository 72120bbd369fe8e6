"""Rates with their intervals, paired differences, and how well a score tells two groups apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy_bringup.core.trials import wilson
from policy_bringup.core.types import Array

_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many, with the 95 % Wilson interval."""

    count: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Observed; NaN without trials."""
        return self.count / self.trials if self.trials else math.nan


def rate(outcomes: Sequence[bool]) -> Rate:
    """Of the true ones."""
    count = sum(outcomes)
    return Rate(count, len(outcomes), *wilson(count, len(outcomes)))


@dataclass(frozen=True, slots=True)
class Paired:
    """Two conditions on the same seeds. lost: only the first succeeded; gained: only the second.

    difference: second minus first, as observed, with a 95 % interval.
    """

    trials: int
    lost: int
    gained: int
    difference: float
    low: float
    high: float


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Pairs in order. Interval: Agresti and Min, Statistics in Medicine 24 (2005), with half a pair in each cell."""
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    n = len(first) + 2.0
    more, less = gained + 0.5, lost + 0.5
    centre = (more - less) / n
    spread = _Z * math.sqrt(more + less - (more - less) ** 2 / n) / n
    observed = (gained - lost) / len(first) if first else math.nan
    return Paired(len(first), lost, gained, observed, max(-1.0, centre - spread), min(1.0, centre + spread))


def quantile(values: Sequence[float], share: float) -> float | None:
    """Linear between the two nearest; None of nothing."""
    return float(np.quantile(np.asarray(values), share)) if len(values) else None


def auc(good: Sequence[float], bad: Sequence[float]) -> float | None:
    """Probability that a bad one's score is above a good one's, ties counting half; None without either.

    The area under the ROC curve (Hanley and McNeil, Radiology 143, 1982). Scores may be infinite.
    """
    if not len(good) or not len(bad):
        return None
    ordered = np.sort(np.asarray(good, dtype=np.float64))
    below, upto = (ordered.searchsorted(np.asarray(bad, dtype=np.float64), side=side) for side in ("left", "right"))
    return float((below + upto).mean() / 2.0 / len(ordered))


def roc(good: Sequence[float], bad: Sequence[float]) -> Array:
    """`(k, 2)`: shares of good and of bad ones whose score reaches a threshold, as it falls; (0, 0) first."""
    good_scores, bad_scores = np.asarray(good, dtype=np.float64), np.asarray(bad, dtype=np.float64)
    levels = np.unique(np.concatenate([good_scores, bad_scores]))[::-1]
    points = [[0.0, 0.0]]
    points += [[float((good_scores >= level).mean()), float((bad_scores >= level).mean())] for level in levels]
    return np.array(points)


def falling_fit(scores: Sequence[float], outcomes: Sequence[bool]) -> tuple[Array, Array]:
    """The non-increasing step function nearest to the outcomes: sorted scores, and its value at each.

    By pooling adjacent violators: Ayer et al., Annals of Mathematical Statistics 26 (1955). Equal scores are one.
    """
    levels, index = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    count = np.bincount(index, minlength=len(levels)).astype(np.float64)
    total = np.bincount(index, weights=np.asarray(outcomes, dtype=np.float64), minlength=len(levels))
    pools: list[list[float]] = []  # total, count, levels in it
    for level in range(len(levels)):
        pools.append([float(total[level]), float(count[level]), 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] <= pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    return levels, np.repeat([pool[0] / pool[1] for pool in pools], [int(pool[2]) for pool in pools])
