"""Does the policy's doubt say how likely it is to succeed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy_bringup.core.types import Array
from policy_bringup.pipeline.statistics import Rate, falling_fit, rate

LEAST = 20
BINS = 5
ONE_BIN = "one bin: not informative, the doubt gives nearly all episodes the same confidence"


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
    second one), shows at its doubt: no episode is judged by a curve that knows it. Bins hold as many episodes each, as
    far as episodes of one confidence stay together: those of equal width would nearly all be empty where most episodes
    succeed. The error is that of Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI
    2015. A single bin only compares the means of both halves, which are nearly the same whatever the doubt says.
    """
    if len(doubts) < LEAST:
        return f"needs {LEAST} episodes or more"
    if len(set(doubts)) == 1:
        return "every episode has the same uncertainty"
    confidence = _confidence(np.array(doubts), np.array(successes))
    place = _places(confidence)
    if len(np.unique(place)) == 1:
        return ONE_BIN
    bins, error = [], 0.0
    for index in np.unique(place):
        inside = place == index
        share = rate([bool(done) for done in np.array(successes)[inside]])
        mean = float(confidence[inside].mean())
        bins.append(Bin(mean, share))
        error += inside.sum() / len(doubts) * abs(mean - share.share)
    return Calibration(float(error), tuple(bins))


def _places(confidence: Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The bin of each episode: by its rank, equal ones by the middle of their ranks."""
    ordered = np.sort(confidence)
    below, upto = (ordered.searchsorted(confidence, side=side) for side in ("left", "right"))
    return (below + upto) * BINS // (2 * len(confidence))


def _confidence(doubts: Array, successes: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Array:
    confidence = np.empty(len(doubts))
    for half in (0, 1):
        levels, values = falling_fit(doubts[1 - half :: 2].tolist(), successes[1 - half :: 2].tolist())
        at = np.clip(levels.searchsorted(doubts[half::2], side="right") - 1, 0, len(levels) - 1)
        confidence[half::2] = values[at]
    return confidence
