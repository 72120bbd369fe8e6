"""From which uncertainty on must a policy not act? Split conformal prediction, on the worst moment of each episode.

The score of an episode is the largest uncertainty in it. The threshold is the r-th smallest score of n episodes that
training did not see, with r = ceil((n + 1)(1 - a)). If a fresh episode and those n are exchangeable (drawn alike and
independently, by one policy), its score is above the threshold with probability at most a, whatever the distribution
of scores and however good the policy is; without ties the probability is at least a - 1 / (n + 1). It is a mean over
draws of the n episodes too: for one draw, the probability itself scatters around a (as a Beta distribution), less so
the more episodes there are. Nothing is promised for episodes of another kind, e.g. under another light: to notice those
is what the threshold is for.

Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; in this form, Angelopoulos, Bates, "A
Gentle Introduction to Conformal Prediction and Distribution-Free Uncertainty Quantification", 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policy_bringup.core.errors import LearningError

LEAST_EPISODES = 19
"""Fewer are refused at any rate. With 19 and a rate of 0.05, the largest score is the threshold."""
_ROUNDING = 1e-9  # 20 * 0.05 is 1, whatever the last digit says


def episodes_needed(false_alarm_rate: float) -> int:
    """How many episodes a threshold for this rate needs at least. Raises LearningError for a rate outside (0, 1)."""
    if not 0.0 < false_alarm_rate < 1.0:
        raise LearningError(f"a false-alarm rate must be above 0 and below 1, found {false_alarm_rate}")
    return max(LEAST_EPISODES, math.ceil(1.0 / false_alarm_rate - _ROUNDING) - 1)


def conformal_threshold(scores: Sequence[float], false_alarm_rate: float) -> float:
    """The value that the score of a fresh episode exceeds with probability `false_alarm_rate` at most.

    scores: the largest uncertainty of each episode, >= 0; infinite if no threshold would do. The result is infinite if
    too many of them are. Raises LearningError for too few episodes, another score, and a rate outside (0, 1).
    """
    needed = episodes_needed(false_alarm_rate)
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if ordered.ndim != 1 or len(ordered) < needed:
        raise LearningError(
            f"a false-alarm rate of {false_alarm_rate:g} needs {needed} successful episodes or more, "
            f"there are {len(ordered)}"
        )
    if not (ordered >= 0.0).all():
        wrong = next(score for score in scores if not score >= 0.0)
        raise LearningError(f"the uncertainty of an episode must be a number from 0 up, found {wrong}")
    rank = len(ordered) + 1 - math.floor((len(ordered) + 1) * false_alarm_rate + _ROUNDING)
    return float(ordered[rank - 1])
