"""Does the policy's doubt say how likely it is to succeed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy_bringup.core.types import Array
from policy_bringup.pipeline.statistics import Rate, falling_fit, rate

LEAST = 20
BINS = 5


@dataclass(frozen=True, slots=True)
class Bin:
    """Episodes with about the same confidence: its mean, and how many of them did succeed."""

    confidence: float
    success: Rate


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence against success. error: mean distance of the two over all episodes (expected calibration error)."""

    error: float
    bins: tuple[Bin, ...]


def calibration(doubts: Sequence[float], successes: Sequence[bool]) -> Calibration | str:
    """Of episodes in order of their seeds; or, in words, why there is nothing to say.

    An episode's confidence is the success rate that a falling curve, fitted to the other half of the episodes (every
    second one), shows at its doubt: no episode is judged by a curve that knows it. Bins are of equal width; the error
    is that of Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    if len(doubts) < LEAST:
        return f"needs {LEAST} episodes or more"
    if len(set(doubts)) == 1:
        return "every episode has the same uncertainty"
    confidence = _confidence(np.array(doubts), np.array(successes))
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for index in np.unique(place):
        inside = place == index
        share = rate([bool(done) for done in np.array(successes)[inside]])
        mean = float(confidence[inside].mean())
        bins.append(Bin(mean, share))
        error += inside.sum() / len(doubts) * abs(mean - share.share)
    return Calibration(float(error), tuple(bins))


def _confidence(doubts: Array, successes: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Array:
    confidence = np.empty(len(doubts))
    for half in (0, 1):
        levels, values = falling_fit(doubts[1 - half :: 2].tolist(), successes[1 - half :: 2].tolist())
        at = np.clip(levels.searchsorted(doubts[half::2], side="right") - 1, 0, len(levels) - 1)
        confidence[half::2] = values[at]
    return confidence
