from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from policy_bringup.safety.state import Reference, start


def at(limits, velocity=0.0, column=0, value=None):
    v = np.zeros(len(limits.lower))
    v[column] = velocity
    x = (limits.lower + limits.upper) / 2 if value is None else np.asarray(value, dtype=float)
    return Reference(x, v, np.tile(x, (limits.window, 1)))


def test_braking_takes_max_acceleration_off_the_velocity_each_tick(kit):
    limits = kit.limits()
    reference = at(limits, velocity=0.3)
    braked = reference.braked(limits, 0.01)
    assert braked.velocity[0] == pytest.approx(0.3 - 0.12)
    assert braked.value[0] - reference.value[0] == pytest.approx(0.18 * 0.01)
    assert reference._replace(velocity=-reference.velocity).braked(limits, 0.01).velocity[0] == pytest.approx(-0.18)


def test_braking_ends_in_standing_exactly(kit):
    limits = kit.limits()
    reference = at(limits, velocity=0.119)
    for _ in range(3):
        after = reference.braked(limits, 0.01)
        assert np.array_equal(after.value, reference.value)
        assert not after.velocity.any()
        reference = after


def test_braking_never_leaves_the_bounds(kit):
    limits = kit.limits()
    for edge, velocity in ((limits.upper, 0.5), (limits.lower, -0.5)):
        reference = at(limits, velocity, value=edge)
        assert np.array_equal(reference.braked(limits, 0.01).value, edge)


def test_a_move_is_remembered_for_one_window(kit):
    limits = kit.limits()
    reference = at(limits)
    for i in range(limits.window):
        assert reference.recent[0, 0] == 0.5
        reference = reference.moved(reference.value + 0.001, 0.01)
        assert reference.recent.shape == (25, 8)
        assert reference.recent[-1, 0] == reference.value[0]
        assert reference.velocity[0] == pytest.approx(0.1)
        assert i < 24 or reference.recent[0, 0] == pytest.approx(0.501)


def test_what_was_emitted_cannot_be_written_to(kit):
    limits = kit.limits()
    with pytest.raises(ValueError, match="read-only"):
        at(limits).braked(limits, 0.01).value[0] = 1.0


def test_a_velocity_column_goes_towards_its_goal_at_creep(kit):
    columns = (dataclasses.replace(kit.columns()[0], name="vx", lower=-1.0, upper=1.0),)
    limits = kit.limits(spec=kit.spec(("vx",), ("m/s",)), columns=columns)
    reference = at(limits, value=[0.5])
    ramp = limits.creep[0] * 0.01
    assert reference.braked(limits, 0.01).value[0] == pytest.approx(0.5 - ramp)
    assert reference.braked(limits, 0.01, np.array([0.8])).value[0] == pytest.approx(0.5 + ramp)
    assert reference.braked(limits, 0.01, np.array([0.5 + ramp / 3])).value[0] == 0.5 + ramp / 3


def test_opening_creeps_to_the_upper_bound_and_stands_there(kit):
    limits = kit.limits()
    reference = at(limits, velocity=0.05)
    start = reference.value.copy()
    creep = limits.creep[6] * 0.01
    after = reference.opened(limits, 0.01)
    assert limits.creep[6] == pytest.approx(0.16)
    assert after.value[6] - start[6] == pytest.approx(creep)
    assert np.array_equal(np.delete(after.value, 6), np.delete(start, 6))
    for _ in range(30):
        after = after.opened(limits, 0.01)
    assert after.value[6] == limits.upper[6]


def test_a_grip_stands_as_if_it_always_had_and_the_rest_goes_on_moving(kit):
    limits = kit.limits()
    before = at(limits, velocity=0.3)
    before.velocity[6:] = 0.1
    after = before.gripping(limits, np.full(8, 0.03))
    np.testing.assert_array_equal(after.value, [*before.value[:6], 0.03, 0.03])
    np.testing.assert_array_equal(after.velocity, [*before.velocity[:6], 0.0, 0.0])
    assert after.recent.shape == (limits.window, 8)
    np.testing.assert_array_equal(after.recent, np.tile(after.value, (limits.window, 1)))


def test_poses_are_alike_up_to_and_including_the_tolerance(kit):
    memory = start(kit.limits(columns=kit.columns(tool_x={"tolerance": 2.0**-7})))
    pose, other = np.full(8, 0.5), np.full(8, 0.5)
    other[0] += 2.0**-7
    assert memory.alike(pose, other)
    assert memory.alike(other, pose)
    other[0] = np.nextafter(other[0], 1.0)
    assert not memory.alike(pose, other)
    assert not memory.alike(other, pose)


def test_columns_that_hold_their_command_do_not_count_as_unlike(kit):
    memory = start(kit.limits())
    pose, other = np.zeros(8), np.zeros(8)
    other[6:] = 50.0
    assert memory.alike(pose, other)
    other[5] = 0.051
    assert not memory.alike(pose, other)


def test_a_velocity_column_at_rest_stays_at_rest(kit):
    columns = (dataclasses.replace(kit.columns()[0], name="vx", lower=-1.0, upper=1.0),)
    limits = kit.limits(spec=kit.spec(("vx",), ("m/s",)), columns=columns)
    assert at(limits, value=[0.0]).braked(limits, 0.01).value[0] == 0.0
    assert at(limits, value=[-0.5]).braked(limits, 0.01).value[0] == pytest.approx(-0.5 + limits.creep[0] * 0.01)
