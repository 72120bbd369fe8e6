import numpy as np
import pytest

from policy_bringup.episodes.timing_check import StreamTiming

MS = 1_000_000
START = 1_700_000_000_000 * MS


def timed(stamps_ms, *, rate_hz: float = 100.0, stamped: bool = True, latency_ms: float = 0.0) -> StreamTiming:
    timing = StreamTiming(rate_hz, stamped)
    for ms in stamps_ms:
        timing.observe(START + round(ms * MS), START + round((ms + latency_ms) * MS))
    return timing


def test_a_steady_stream_has_its_rate_and_nothing_else():
    timing = timed(range(0, 1010, 10))
    assert timing.rate_hz == pytest.approx(100.0)
    assert timing.silence_s(START, START + 1000 * MS) == pytest.approx(0.01)
    assert timing.jitter_s == 0.0
    assert timing.latency_s == 0.0
    assert (timing.count, timing.zero_stamps, timing.disordered_stamps) == (101, 0, 0)


def test_every_second_message_lost_halves_the_rate():
    assert timed(range(0, 1010, 20)).rate_hz == pytest.approx(50.0)


def test_one_message_has_no_rate():
    assert timed([0]).rate_hz is None


def test_a_silence_in_the_middle_is_found():
    timing = timed([*range(0, 500, 10), *range(700, 1000, 10)])
    assert timing.silence_s(START, START + 990 * MS) == pytest.approx(0.21)


@pytest.mark.parametrize(("begin", "end"), [(300, 1000), (0, 700)])
def test_a_measured_stream_that_is_silent_at_an_end_of_the_episode_was_silent(begin, end):
    timing = timed(range(begin, end + 10, 10))
    assert timing.silence_s(START, START + 1000 * MS) == pytest.approx(0.3)


def test_actions_may_begin_late_and_end_early():
    timing = timed(range(300, 710, 10), stamped=False)
    assert timing.silence_s(START, START + 1000 * MS) == pytest.approx(0.01)


def test_actions_are_timed_by_their_recording_whatever_their_stamps():
    timing = StreamTiming(100.0, False)
    for ms in range(0, 1010, 10):
        timing.observe(START + ms // 50 * 50 * MS, START + ms * MS)
    timing.observe(0, START + 1010 * MS)
    assert timing.rate_hz == pytest.approx(100.0)
    assert timing.latency_s is None
    assert (timing.zero_stamps, timing.disordered_stamps) == (0, 0)


def test_jitter_is_what_95_of_100_intervals_are_nearer_than():
    steps = np.where(np.arange(1000) % 10 < 1, 16.0, 10.0)
    assert timed(np.cumsum(steps)).jitter_s == pytest.approx(0.006, rel=0.03)
    rarer = np.where(np.arange(1000) % 25 < 1, 16.0, 10.0)
    assert timed(np.cumsum(rarer)).jitter_s == pytest.approx(0.0, abs=1e-6)


def test_latency_is_the_mean_age():
    assert timed(range(0, 100, 10), latency_ms=40.0).latency_s == pytest.approx(0.04)


def test_stamps_that_repeat_or_go_backwards_are_counted_once_each():
    assert timed([0, 10, 10, 20, 5, 15, 25]).disordered_stamps == 2


def test_zero_stamps_are_counted_and_not_timed():
    timing = StreamTiming(100.0, True)
    for ms in (0, 10, 20):
        timing.observe(0, START + ms * MS)
    assert timing.zero_stamps == 3
    assert (timing.rate_hz, timing.latency_s) == (None, None)
