from __future__ import annotations

import math

import numpy as np
import pytest

from policy_bringup.pipeline.statistics import auc, falling_fit, paired, quantile, rate, roc


def test_a_rate_has_wilsons_interval():
    found = rate([True] * 9 + [False])
    assert (found.count, found.trials, found.share) == (9, 10, 0.9)
    assert found.low == pytest.approx(0.5958, abs=1e-4)
    assert found.high == pytest.approx(0.9821, abs=1e-4)


def test_a_rate_of_nothing_says_nothing():
    found = rate([])
    assert (found.low, found.high) == (0.0, 1.0)
    assert math.isnan(found.share)


def test_pairs_are_compared_seed_by_seed():
    """10 pairs: 3 lost, 1 gained. With half a pair more in each of four cells: (1.5 - 3.5) / 12, and its spread."""
    first = [True] * 8 + [False] * 2
    second = [True] * 5 + [False] * 3 + [True, False]
    found = paired(first, second)
    assert (found.trials, found.lost, found.gained, found.difference) == (10, 3, 1, -0.2)
    spread = 1.959964 * math.sqrt(5.0 - 4.0 / 12.0) / 12.0
    assert found.low == pytest.approx(-2.0 / 12.0 - spread)
    assert found.high == pytest.approx(-2.0 / 12.0 + spread)


def test_the_same_outcomes_differ_by_nothing_and_more_pairs_say_so_more_surely():
    few, many = paired([True] * 10, [True] * 10), paired([True] * 200, [True] * 200)
    assert few.difference == many.difference == 0.0
    assert few.low < many.low < 0.0 < many.high < few.high


def test_unequal_numbers_are_no_pairs():
    with pytest.raises(ValueError, match="zip"):
        paired([True], [True, False])


def test_quantiles():
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([], 0.5) is None


def test_the_area_under_the_curve_counts_pairs():
    """Of the six pairs, bad is above good in four and level in one."""
    assert auc([1.0, 2.0, 3.0], [2.0, 9.0]) == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert auc([1.0, 2.0], [3.0, math.inf]) == 1.0
    assert auc([1.0], [1.0]) == 0.5
    assert auc([], [1.0]) is None


def test_the_roc_curve_goes_from_corner_to_corner_over_every_threshold():
    np.testing.assert_allclose(roc([1.0, 2.0], [2.0, math.inf]), [[0, 0], [0, 0.5], [0.5, 1.0], [1.0, 1.0]])


def test_the_area_is_the_one_below_the_curve():
    rng = np.random.default_rng(3)
    good, bad = rng.normal(size=40).round(1), (rng.normal(size=30) + 1).round(1)
    points = roc(good, bad)
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(auc(good, bad))


def test_a_falling_fit_pools_what_rises():
    """Successes 1 1 0 1 0: the third and fourth are pooled to a half."""
    levels, values = falling_fit([0.1, 0.2, 0.3, 0.4, 0.5], [True, True, False, True, False])
    np.testing.assert_allclose(levels, [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(values, [1.0, 1.0, 0.5, 0.5, 0.0])


def test_equal_scores_are_one_level():
    levels, values = falling_fit([0.2, 0.1, 0.2], [False, True, True])
    np.testing.assert_allclose(levels, [0.1, 0.2])
    np.testing.assert_allclose(values, [1.0, 0.5])
