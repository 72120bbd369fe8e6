import numpy as np
import pytest

from policy_bringup.sim.wander import FAR_M, FASTEST_HZ, LEAST, NEAR_M, Wander

ACTION = np.array([0.5, 0.1, 0.3, 0.0, 0.1, -0.2, 0.08, 30.0])
TIMES_S = np.arange(0.0, 20.0, 0.01)


def offsets(clearance_m: float, seed: int = 0) -> np.ndarray:
    """`(times, action columns)`"""
    wander = Wander(0.015, 0.06, np.random.default_rng(seed))
    return np.array([wander.followed(ACTION, t, clearance_m) - ACTION for t in TIMES_S])


def test_the_tool_strays_within_its_bounds_and_uses_them_and_the_gripper_does_not():
    far = np.abs(offsets(2.0 * FAR_M)).max(axis=0)
    assert (far[:3] <= 0.015).all()
    assert (far[:3] > 0.008).all()
    assert (far[3:6] <= 0.06).all()
    assert (far[3:6] > 0.03).all()
    assert (far[6:] == 0.0).all()


def test_it_begins_where_it_is_told_and_strays_smoothly():
    strayed = offsets(FAR_M)
    assert (strayed[0] == 0.0).all()
    fastest = 0.015 * (2.0 * np.pi * FASTEST_HZ + 2.0)  # the waves, and the onset
    assert np.abs(np.diff(strayed[:, :3], axis=0)).max() <= fastest * 0.01


def test_close_to_the_object_it_strays_less():
    np.testing.assert_allclose(offsets(0.5 * NEAR_M), LEAST * offsets(FAR_M), atol=1e-12)


def test_a_seed_is_a_way():
    np.testing.assert_array_equal(offsets(FAR_M, 3), offsets(FAR_M, 3))
    assert np.abs(offsets(FAR_M, 3) - offsets(FAR_M, 4)).max() > 0.01


def test_what_it_was_told_is_not_changed():
    told = ACTION.copy()
    Wander(0.015, 0.06, np.random.default_rng(0)).followed(told, 1.0, 1.0)
    assert told == pytest.approx(ACTION)
