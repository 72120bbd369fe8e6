from itertools import pairwise

import pytest

from policy_bringup.core.throttle import Throttle


def used(throttle: Throttle, stamps: list[int]) -> list[int]:
    return [stamp for stamp in stamps if throttle.due(stamp)]


@pytest.mark.parametrize(("source_hz", "rate_hz"), [(30, 20), (30, 30), (30, 10), (100, 30), (60, 25)])
def test_the_mean_rate_is_kept(source_hz: int, rate_hz: int):
    stamps = [round(i * 1e9 / source_hz) + 10**18 for i in range(source_hz * 10)]
    assert abs(len(used(Throttle(rate_hz), stamps)) - rate_hz * 10) <= 1


def test_jitter_of_a_third_of_a_period_does_not_change_the_rate():
    stamps = [round(i * 1e9 / 30 + (1e7 if i % 2 else 0)) for i in range(300)]
    assert 198 <= len(used(Throttle(20), stamps)) <= 202


def test_a_slower_source_is_used_whole():
    stamps = [i * 100_000_000 for i in range(50)]
    assert used(Throttle(20), stamps) == stamps


def test_a_gap_is_not_followed_by_a_burst():
    throttle = Throttle(20)
    used(throttle, [0, 50_000_000])
    burst = [10_000_000_000 + i * 5_000_000 for i in range(20)]
    chosen = used(throttle, burst)
    assert len(chosen) <= 3
    assert all(b - a >= 25_000_000 for a, b in pairwise(chosen))


def test_a_clock_that_is_set_back_does_not_end_the_stream():
    throttle = Throttle(20)
    used(throttle, [10**12 + i * 50_000_000 for i in range(10)])
    assert len(used(throttle, [i * 50_000_000 for i in range(10)])) == 10


@pytest.mark.parametrize("late", range(0, 100_000_001, 5_000_000))
def test_a_sample_that_comes_late_is_not_used_twice(late: int):
    throttle = Throttle(20)
    used(throttle, [0, 50_000_000])
    assert len(used(throttle, [100_000_000 + late] * 3)) == 1
