from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.pipeline.confidence import calibration


def test_doubt_that_tells_failures_apart_gives_confidence_that_is_right():
    doubts = [0.1, 0.1, 0.9, 0.9] * 10
    found = calibration(doubts, [doubt < 0.5 for doubt in doubts])
    assert found.error == 0.0
    assert [(b.confidence, b.success.count, b.success.trials) for b in found.bins] == [(0.0, 0, 20), (1.0, 20, 20)]


def test_an_episode_is_judged_by_the_other_half_alone():
    """Every second episode succeeds, whatever its doubt: the other half then always says the opposite."""
    found = calibration(np.linspace(0.0, 1.0, 40).tolist(), [True, False] * 20)
    assert found.error == 1.0
    assert [(b.confidence, b.success.share) for b in found.bins] == [(0.0, 1.0), (1.0, 0.0)]


def test_doubt_that_says_nothing_ends_near_the_mean():
    rng = np.random.default_rng(0)
    found = calibration(rng.uniform(size=1000).tolist(), (rng.uniform(size=1000) < 0.7).tolist())
    assert found.error < 0.06
    assert sum(b.success.trials for b in found.bins) == 1000


def test_infinite_doubt_counts_as_the_largest():
    doubts = [0.1, 0.1, np.inf, np.inf] * 10
    assert calibration(doubts, [doubt < 1 for doubt in doubts]).error == 0.0


@pytest.mark.parametrize(("doubts", "reason"), [([0.1, 0.2] * 9, "20 episodes"), ([0.0] * 30, "same uncertainty")])
def test_what_cannot_be_judged_is_not(doubts, reason):
    assert reason in calibration(doubts, [True] * len(doubts))
