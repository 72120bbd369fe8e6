from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.errors import ConfigError
from policy_bringup.sim.tasks import Grasp, make_task
from policy_bringup.sim.world import object_at


@pytest.fixture
def task(config):
    return Grasp(config)


@pytest.fixture
def started(task, world):
    """A task just reset, and a way to put the object at a height (and shift) and let time pass there."""
    start = task.reset(world, np.random.default_rng(0))

    def place(height, seconds, shift=0.0):
        for _ in range(round(seconds * 500)):
            world.reset(replace(start, position=start.position + np.array([shift, 0.0, height])), at_home=False)
            world.step()
            task.update(world)

    return place


def test_the_same_seed_gives_the_same_start(task, world):
    poses = [task.reset(world, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(poses[0].position, poses[1].position)
    np.testing.assert_array_equal(poses[0].rotation, poses[1].rotation)
    np.testing.assert_array_equal(world.object_pose().position, poses[0].position)


def test_starts_fill_the_region_and_stay_inside(task, world, config):
    rng = np.random.default_rng(1)
    xy = np.array([task.reset(world, rng).position[:2] for _ in range(300)])
    for values, (lower, upper) in zip(xy.T, (config.region.x, config.region.y), strict=True):
        assert lower <= values.min() < lower + 0.1 * (upper - lower)
        assert upper >= values.max() > upper - 0.1 * (upper - lower)


def test_nothing_done_is_no_success(task, started, world):
    for _ in range(100):
        world.step(5)
        task.update(world)
    outcome = task.outcome
    assert not outcome.success
    assert outcome.failure == "untouched"
    assert outcome.time_s == pytest.approx(1.0)
    assert outcome.height == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    ("height", "seconds", "success"), [(0.105, 0.51, True), (0.105, 0.48, False), (0.095, 1.0, False)]
)
def test_success_takes_ten_centimetres_for_half_a_second(task, started, height, seconds, success):
    started(height, seconds)
    assert task.success is success
    assert task.outcome.failure == ("" if success else "not lifted long enough")


def test_the_half_second_must_be_without_a_break(task, started):
    started(0.105, 0.3)
    started(0.05, 0.01)
    started(0.105, 0.3)
    assert not task.success


def test_a_success_stays_one_after_the_object_is_put_down(task, started):
    started(0.105, 0.6)
    started(0.0, 0.1)
    assert task.success
    assert task.outcome.peak > 0.1


@pytest.mark.parametrize(
    ("moves", "failure"),
    [
        ([(0.0, 0.1, 0.02)], "pushed"),
        ([(0.0, 0.1, 0.002)], "untouched"),
        ([(0.08, 0.1, 0.0), (0.0, 0.1, 0.0)], "dropped"),
        ([(-0.3, 0.1, 0.5)], "off the table"),
    ],
)
def test_a_failure_has_a_class(task, started, moves, failure):
    for height, seconds, shift in moves:
        started(height, seconds, shift)
    assert task.outcome.failure == failure


def test_a_reset_forgets_the_last_attempt(task, started, world):
    started(0.105, 0.6)
    task.reset(world, np.random.default_rng(1))
    assert not task.success
    task.update(world)
    assert task.outcome.peak < 0.01


def test_reset_can_leave_the_robot_where_it_is(task, world, robot, command):
    world.command(command(robot.home + 0.1, 0.0, 0.2), world.time_s)
    world.step(200)
    before = world.joint_sample().positions
    task.reset(world, np.random.default_rng(0), at_home=False)
    np.testing.assert_array_equal(world.joint_sample().positions, before)


def test_reset_can_lay_the_object_where_a_person_wants_it_and_draws_nothing_for_that(task, world, config):
    place, rng = object_at(config, (0.47, -0.13), 0.4), np.random.default_rng(3)
    assert task.reset(world, rng, place=place) is place
    np.testing.assert_allclose(world.object_pose().position, place.position)
    np.testing.assert_allclose(world.object_pose().rotation, place.rotation, atol=1e-9)
    assert rng.random() == np.random.default_rng(3).random()
    world.step(100)
    task.update(world)
    assert task.outcome.failure == "untouched"


def test_a_deployments_task_is_found_by_name_and_an_unknown_one_refused(config, deployment):
    assert isinstance(make_task(deployment.task, config), Grasp)
    with pytest.raises(ConfigError, match="grasp, found 'juggle'"):
        make_task("juggle", config)
