import numpy as np
import pytest

from policy_bringup.control.emitted import EmittedTrack

MS = 1_000_000


def track(*entries: tuple[int, float]) -> EmittedTrack:
    made = EmittedTrack()
    for stamp_ms, value in entries:
        made.add(stamp_ms * MS, np.array([value]))
    return made


def velocity(*entries: tuple[int, float]) -> float:
    return float(track(*entries).newest.velocity[0])


def test_before_the_first_action_there_is_none():
    assert EmittedTrack().newest is None


def test_the_newest_action_moves_on_at_its_velocity():
    newest = track((100, 0.0), (110, 0.002), (120, 0.004)).newest
    assert newest.stamp_ns == 120 * MS
    assert newest.at(130 * MS).position[0] == pytest.approx(0.006)
    assert newest.at(130 * MS).velocity[0] == pytest.approx(0.2)
    assert newest.at(110 * MS).position[0] == pytest.approx(0.002)


@pytest.mark.parametrize("entries", [[(100, 0.3)], [(100, 0.3), (110, 0.4)]], ids=["one", "two"])
def test_too_few_actions_have_no_velocity(entries):
    assert velocity(*entries) == 0.0


def test_of_two_velocities_the_slower_counts():
    assert velocity((100, 0.0), (110, 0.001), (120, 0.003)) == pytest.approx(0.1)
    assert velocity((100, 0.0), (110, -0.003), (120, -0.004)) == pytest.approx(-0.1)


def test_a_jump_is_no_motion():
    assert velocity((100, 0.0), (110, 0.0), (120, 0.01)) == 0.0
    assert velocity((100, 0.0), (110, 0.01), (120, 0.009)) == 0.0


@pytest.mark.parametrize(("gap_ms", "known"), [(50, True), (51, False)])
def test_nothing_is_known_across_a_long_gap(gap_ms: int, known: bool):
    assert (velocity((100, 0.0), (110, 0.01), (110 + gap_ms, 0.02)) != 0.0) is known


def test_of_two_actions_at_almost_the_same_moment_the_later_counts():
    assert velocity((100, 0.0), (110, 0.001), (120, 0.5), (121, 0.0021)) == pytest.approx(0.1)


def test_a_clock_that_was_set_back_begins_anew():
    made = track((100, 0.0), (110, 0.001), (120, 0.002), (50, 0.7))
    assert (made.newest.position[0], made.newest.velocity[0]) == (0.7, 0.0)
