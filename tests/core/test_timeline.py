import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.timeline import Timeline
from policy_bringup.core.types import StateSample

MS = 1_000_000
START = 1_700_000_000 * 1_000_000_000
"""An epoch time: a float cannot hold it to the nanosecond."""


def sample(stamp_ns):
    return StateSample(stamp_ns, 0, ("a",), np.zeros(1))


def timeline(*stamps, age_limit_s=0.1, keep_s=1.0):
    line = Timeline("joint_states", age_limit_s, keep_s)
    for stamp in stamps:
        line.add(sample(stamp))
    return line


def stamps(line):
    return [kept.stamp_ns for kept in line]


def test_the_sample_of_a_moment_is_the_newest_one_at_or_before_it():
    line = timeline(START, START + 10, START + 20)
    for moment, expected in ((0, 0), (9, 0), (10, 10), (19, 10), (20, 20), (21, 20)):
        assert line.at(START + moment).stamp_ns == START + expected


def test_a_sample_from_the_future_is_never_used():
    line = timeline(START)
    with pytest.raises(ObservationError) as refusal:
        line.at(START - 1_500_000)
    assert str(refusal.value) == (
        "joint_states: no sample at or before the moment asked for; its oldest is 1.5 ms later"
    )
    with pytest.raises(ObservationError):
        line.at(START - 1)
    assert line.at(START).stamp_ns == START


def test_a_stream_that_never_spoke_says_so():
    with pytest.raises(ObservationError) as refusal:
        timeline().at(START)
    assert str(refusal.value) == "joint_states: no sample at or before the moment asked for; nothing arrived yet"


def test_a_sample_serves_up_to_its_age_limit_and_not_one_nanosecond_longer():
    line = timeline(START)
    assert line.at(START + 100 * MS).stamp_ns == START
    with pytest.raises(ObservationError):
        line.at(START + 100 * MS + 1)


def test_a_sample_that_is_too_old_is_refused_with_both_numbers():
    with pytest.raises(ObservationError) as refusal:
        timeline(START).at(START + 150 * MS)
    assert str(refusal.value) == "joint_states: the newest sample is 150.0 ms old, allowed are 100.0 ms"


def test_the_newest_sample_is_none_before_the_first():
    assert timeline().newest is None
    assert timeline(START, START + 5).newest.stamp_ns == START + 5


@pytest.mark.parametrize("late_ns", [0, 1, 1000 * MS])
def test_a_sample_out_of_order_is_left_out_and_counted(late_ns):
    line = timeline(START)
    assert line.add(sample(START - late_ns)) is False
    assert (line.out_of_order, line.restarts, stamps(line)) == (1, 0, [START])


def test_a_stamp_further_back_than_everything_kept_is_a_clock_set_back():
    line = timeline(START - 10, START)
    assert line.add(sample(START - 1000 * MS - 1)) is True
    assert (line.out_of_order, line.restarts, stamps(line)) == (0, 1, [START - 1000 * MS - 1])
    assert line.add(sample(START - 1000 * MS)) is True


def test_one_stamp_from_a_far_future_does_not_block_the_stream():
    line = timeline(START, START + 3600 * 1000 * MS)
    assert line.add(sample(START + 10 * MS)) is True
    assert line.at(START + 20 * MS).stamp_ns == START + 10 * MS


def test_samples_are_kept_for_the_time_asked_and_the_one_that_holds_at_its_edge():
    line = timeline(START, START + 400 * MS, START + 800 * MS, START + 1399 * MS)
    assert stamps(line) == [START, START + 400 * MS, START + 800 * MS, START + 1399 * MS]
    line.add(sample(START + 1400 * MS))
    assert stamps(line) == [START + 400 * MS, START + 800 * MS, START + 1399 * MS, START + 1400 * MS]
    line.add(sample(START + 1401 * MS))
    assert stamps(line)[0] == START + 400 * MS


def test_samples_are_kept_at_least_as_long_as_they_may_serve():
    line = timeline(START, START + 90 * MS, age_limit_s=0.1, keep_s=0.0)
    assert line.at(START + 89 * MS).stamp_ns == START


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=40), st.integers(0, 3_200))
def test_the_answer_is_that_of_a_plain_search_through_the_samples_taken_in(arrivals_ms, moment_ms):
    line, taken = timeline(age_limit_s=0.3), []
    for stamp in (START + ms * MS for ms in arrivals_ms):
        if taken and stamp < taken[-1] - 1000 * MS:
            taken.clear()
        if line.add(sample(stamp)):
            taken.append(stamp)
    assert taken == sorted(set(taken))
    assert stamps(line) == taken[-len(line) :]
    moment = START + moment_ms * MS
    fitting = [stamp for stamp in taken if stamp <= moment]
    if moment < taken[-1] - 1000 * MS:
        return  # further back than anything is kept
    best = max(fitting, default=-math.inf)
    if moment - best > 300 * MS:
        with pytest.raises(ObservationError):
            line.at(moment)
    else:
        assert line.at(moment).stamp_ns == best
