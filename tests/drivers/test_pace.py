import pytest

from policy_bringup.drivers.pace import MAX_LATE_NS, Pace

MS = 1_000_000


@pytest.fixture
def pace(time):
    return Pace(time.clocks, time.sleep)


def test_the_first_moment_is_due_at_once(pace, time):
    start = time.clocks.ros_ns()
    assert pace.wait(7 * MS) == (start, time.clocks.monotonic_ns())
    assert time.slept == []


def test_recorded_distances_are_kept(pace, time):
    start = time.clocks.ros_ns()
    stamps = [pace.wait(offset * MS)[0] - start for offset in (50, 83, 117, 217)]
    assert stamps == [0, 33 * MS, 67 * MS, 167 * MS]
    assert time.slept == [0.033, 0.034, 0.1]


def test_stamps_keep_their_distance_when_sleep_is_late(pace, time):
    start, time.oversleep_ns = time.clocks.ros_ns(), 3 * MS
    results = [pace.wait(offset * MS) for offset in (0, 33, 66)]
    assert [stamp - start for stamp, _ in results] == [0, 33 * MS, 66 * MS]
    assert [received - results[0][1] for _, received in results] == [0, 36 * MS, 69 * MS]


def test_what_a_slow_reader_missed_is_due_at_once(pace, time):
    start, _ = pace.wait(0)
    time.elapsed_ns += MAX_LATE_NS
    assert pace.wait(0)[0] == start
    assert pace.wait(33 * MS)[0] == start + 33 * MS
    assert time.slept == []


def test_a_reader_that_is_far_behind_is_not_rushed(pace, time):
    start, _ = pace.wait(0)
    time.elapsed_ns += MAX_LATE_NS + 1
    assert pace.wait(0)[0] == start + MAX_LATE_NS + 1
    assert pace.wait(33 * MS)[0] == start + MAX_LATE_NS + 1 + 33 * MS
    assert time.slept == [0.033]
