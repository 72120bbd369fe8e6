from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.pipeline.confidence import ONE_BIN, calibration
from policy_bringup.pipeline.wording import confidence_words


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


def test_bins_hold_as_many_episodes_each_where_confidences_differ():
    """Nineteen in twenty succeed, so that every confidence lies near 1; bins of equal width would be one or two."""
    rng = np.random.default_rng(1)
    doubts = rng.uniform(size=2000)
    found = calibration(doubts.tolist(), (rng.uniform(size=2000) < 0.99 - 0.08 * doubts).tolist())
    sizes = [b.success.trials for b in found.bins]
    assert sum(sizes) == 2000
    assert len(sizes) >= 4
    assert max(sizes) < 800
    confidences = [b.confidence for b in found.bins]
    assert confidences == sorted(confidences)
    assert confidences[0] > 0.8


def test_episodes_of_one_confidence_stay_in_one_bin():
    """One in ten is doubtful and fails: nine tenths lie in one bin, far more than its fifth."""
    doubts = [*[0.1] * 18, 0.9, 0.9] * 5
    found = calibration(doubts, [doubt < 0.5 for doubt in doubts])
    assert [(b.confidence, b.success.count, b.success.trials) for b in found.bins] == [(0.0, 0, 10), (1.0, 90, 90)]


def test_a_single_bin_is_no_evidence_and_is_not_called_a_small_error():
    """Two failures in 200, the least doubtful of all: the falling curve is flat."""
    doubts = np.linspace(0.0, 1.0, 200).tolist()
    assert calibration(doubts, [False] * 2 + [True] * 198) == ONE_BIN
    assert ONE_BIN.startswith("one bin: not informative")
    assert confidence_words(ONE_BIN) == f"not judged: {ONE_BIN}"


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
