import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_bringup.episodes.quantile import Quantiles


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_is_right_to_within_a_bin(values, share):
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert quantiles.at(share) == pytest.approx(exact, rel=0.023)
    assert quantiles.count == len(values)


def test_nothing_and_zeros_are_zero():
    quantiles = Quantiles()
    assert quantiles.at(0.95) == 0.0
    quantiles.add(0.0)
    assert quantiles.at(0.95) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_what_is_no_number_or_too_large_counts_as_the_largest(value):
    quantiles = Quantiles()
    quantiles.add(value)
    assert 1e14 < quantiles.at(0.5) < math.inf
