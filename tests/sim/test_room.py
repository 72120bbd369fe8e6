from __future__ import annotations

import mujoco
import numpy as np
import pytest

from policy_bringup.sim.room import Room
from policy_bringup.sim.scene import ROOM_GROUP, TABLE, build_model


@pytest.fixture(scope="module")
def model(config):
    return build_model(config)


@pytest.fixture(scope="module")
def room(model):
    return Room(model)


@pytest.mark.parametrize("start", [(1.2, 0.3, 0.7), (0.4, 0.0, 0.2), (0.35, 0.1, -0.4), (-2.0, 1.5, -0.02)])
def test_rays_meet_what_mujocos_own_rays_meet(model, room, start):
    rays = np.random.default_rng(1).normal(size=(2000, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    geom, distance, normal = np.zeros(2000, np.int32), np.zeros(2000), np.zeros((2000, 3))
    groups = np.zeros(6, np.uint8)
    groups[ROOM_GROUP] = 1
    mujoco.mj_multiRay(
        model, data, np.array(start), rays.ravel(), groups, 1, -1, geom, distance, normal.reshape(-1), 2000, 1e9
    )
    got, facing, colour = room.meet(np.array(start), rays)
    hit = geom >= 0
    assert 0.1 < hit.mean() < 1.0
    np.testing.assert_array_equal(np.isfinite(got), hit)
    np.testing.assert_allclose(got[hit], distance[hit], rtol=1e-9)
    np.testing.assert_allclose(facing[hit], normal[hit], atol=1e-9)
    np.testing.assert_array_equal(colour[~hit], 0.0)
    table = geom == model.geom(TABLE).id
    np.testing.assert_allclose(colour[table], np.tile(model.geom(TABLE).rgba[:3], (table.sum(), 1)), rtol=1e-6)


def test_the_floor_is_a_checkerboard_of_the_configured_squares(config, room):
    square = config.floor.square
    start = np.array([5.0, 5.0, 1.0])
    targets = np.array([[x, y, config.floor.z] for x in (5.25, 5.75) for y in (5.25, 5.75)])
    assert square == 0.5
    _, _, colour = room.meet(start, targets - start)
    np.testing.assert_array_equal(colour[0], colour[3])
    np.testing.assert_array_equal(colour[1], colour[2])
    shown = sorted(colour[:2].tolist())
    np.testing.assert_allclose(shown, sorted(config.floor.colours), atol=0.003)


def test_the_table_shades_the_floor_below_it_and_nothing_above(config, room):
    x, y = config.table.centre
    points = np.array([[x, y, config.floor.z], [x, y, 0.3], [x + 3.0, y, config.floor.z], [x, y, 0.0]])
    straight_down = np.array([0.0, 0.0, -1.0])
    assert room.shades(points, straight_down).tolist() == [True, False, False, False]
    edge = x + config.table.size[0] / 2
    slanted = np.array([1.0, 0.0, -1.0]) / np.sqrt(2.0)
    reach = -config.floor.z
    below = np.array([[edge + reach - 0.01, y, config.floor.z], [edge + reach + 0.01, y, config.floor.z]])
    assert room.shades(below, slanted).tolist() == [True, False]
