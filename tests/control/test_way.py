import numpy as np
import pytest

from policy_bringup.control.way import Way
from policy_bringup.core.types import ActionSpec, Column, Space

SPEC = ActionSpec(Space.JOINT, (Column("a", "rad"), Column("b", "rad")), steps=4, dt_s=0.05, execute=2)
MS = 1_000_000


@pytest.fixture
def way() -> Way:
    """One second from (0, 10) to (1, 20)."""
    times = np.linspace(0.05, 1.0, 20)
    return Way("home", SPEC, times, np.column_stack([times, 10.0 + 10.0 * times]))


def test_the_first_chunk_begins_at_the_beginning(way: Way):
    chunk = way.chunk(5_000 * MS, moving=False)
    assert (chunk.source, chunk.stamp_ns, chunk.names) == ("home", 5_000 * MS, ("a", "b"))
    np.testing.assert_allclose(chunk.times_s, [0.05, 0.1, 0.15, 0.2])
    np.testing.assert_allclose(chunk.values[:, 0], [0.05, 0.1, 0.15, 0.2])
    assert not chunk.uncertainty.any()


def test_its_time_passes_with_the_stamps_while_the_robot_moves(way: Way):
    way.chunk(0, moving=True)
    np.testing.assert_allclose(way.chunk(300 * MS, moving=True).values[0], [0.35, 13.5])


def test_it_waits_for_a_robot_that_is_held(way: Way):
    way.chunk(0, moving=True)
    way.chunk(100 * MS, moving=True)
    way.chunk(900 * MS, moving=False)
    np.testing.assert_allclose(way.chunk(1000 * MS, moving=True).values[0], [0.25, 12.5])


def test_it_stands_at_the_end(way: Way):
    way.chunk(0, moving=True)
    assert not way.over
    np.testing.assert_allclose(way.chunk(5_000 * MS, moving=True).values, [[1.0, 20.0]] * 4)
    assert way.over
