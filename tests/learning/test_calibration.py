import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.core.errors import LearningError
from policy_bringup.learning.calibration import conformal_threshold, episodes_needed

DRAWS = 3000
DISTRIBUTIONS = {
    "uniform": lambda random, shape: random.uniform(size=shape),
    "exponential": lambda random, shape: random.exponential(size=shape),
    "heavy-tailed": lambda random, shape: np.abs(random.standard_cauchy(size=shape)),
    "in two groups": lambda random, shape: random.uniform(size=shape) + 10.0 * (random.uniform(size=shape) < 0.1),
    "with ties": lambda random, shape: random.poisson(3.0, size=shape).astype(float),
}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(DISTRIBUTIONS)),
    episodes=st.integers(19, 120),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_fresh_episodes_are_above_the_threshold_no_more_often_than_promised(name, episodes, share, seed):
    """On the average over calibrations, for whatever distribution; and hardly less often, unless there are ties."""
    rate = 1.0 / (episodes + 1) + share * (0.5 - 1.0 / (episodes + 1))
    scores = DISTRIBUTIONS[name](np.random.default_rng(seed), (DRAWS, episodes + 1))
    alarms = np.mean([fresh > conformal_threshold(rest, rate) for fresh, *rest in scores.tolist()])
    doubt = 4.5 * np.sqrt(rate * (1.0 - rate) / DRAWS)
    assert alarms <= rate + doubt
    if name != "with ties":
        assert alarms >= rate - 1.0 / (episodes + 1) - doubt


@pytest.mark.parametrize(
    ("episodes", "rate", "rank"),
    [(19, 0.05, 19), (38, 0.05, 38), (39, 0.05, 38), (59, 0.05, 57), (99, 0.01, 99), (199, 0.01, 198), (19, 0.15, 17),
     (29, 0.1, 27), (100, 0.05, 96), (19, 0.999, 1)],
)  # fmt: skip
def test_the_rank_is_the_one_for_a_finite_number_of_episodes(episodes, rate, rank):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, episodes + 1.0))
    assert conformal_threshold(scores.tolist(), rate) == rank


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.05, 19), (0.5, 19), (0.051, 19), (0.049, 20), (0.01, 99), (0.001, 999)]
)
def test_fewer_episodes_than_the_rate_needs_are_refused(rate, needed):
    assert episodes_needed(rate) == needed
    assert conformal_threshold([1.0] * needed, rate) == 1.0
    with pytest.raises(LearningError, match=f"rate of {rate:g} needs {needed} successful episodes or more, there are"):
        conformal_threshold([1.0] * (needed - 1), rate)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(LearningError, match="must be above 0 and below 1"):
        conformal_threshold([1.0] * 100, rate)


@pytest.mark.parametrize("wrong", [float("nan"), -1e-9, -float("inf")])
def test_a_score_that_is_no_uncertainty_is_refused(wrong):
    with pytest.raises(LearningError, match="must be a number from 0 up, found"):
        conformal_threshold([*[1.0] * 30, wrong], 0.05)


def test_infinite_scores_count_like_any_other():
    infinite = float("inf")
    assert conformal_threshold([*[1.0] * 38, infinite], 0.05) == 1.0
    assert conformal_threshold([*[1.0] * 37, infinite, infinite], 0.05) == infinite


def test_calibration_does_without_torch():
    code = "import sys, policy_bringup.learning.calibration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
