from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from policy_bringup.core.errors import ConfigError
from policy_bringup.sim.config import Distractor
from policy_bringup.sim.raycast import RaycastView
from policy_bringup.sim.scene import DISTRACTOR, OBJECT, TABLE, build_model, camera_rotation, lamp_direction


def test_a_camera_looks_at_its_target_with_up_upwards(config):
    for camera in config.cameras:
        rotation = camera_rotation(camera)
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1.0)
        gaze = np.subtract(camera.target, camera.position)
        np.testing.assert_allclose(-rotation[:, 2], gaze / np.linalg.norm(gaze), atol=1e-12)
        assert rotation[:, 1] @ camera.up > 0.0
        assert rotation[:, 0] @ camera.up == pytest.approx(0.0, abs=1e-12)


def test_a_camera_that_looks_along_up_is_refused(config):
    camera = replace(config.cameras[0], position=(0.0, 0.0, 1.0), target=(0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match=r"front.*up"):
        build_model(replace(config, cameras=(camera,)))


def test_a_mount_that_is_not_there_is_refused_with_the_links_there_are(config):
    camera = replace(config.cameras[0], mount="panda_elbow")
    with pytest.raises(ConfigError, match=r"panda_elbow.*panda_hand"):
        build_model(replace(config, cameras=(camera,)))


def test_camera_pose_and_field_of_view_reach_the_model(config):
    model = build_model(config)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    front = config.cameras[0]
    assert model.camera(front.name).fovy[0] == front.fovy
    np.testing.assert_allclose(data.cam(front.name).xpos, front.position)
    np.testing.assert_allclose(data.cam(front.name).xmat.reshape(3, 3), camera_rotation(front), atol=1e-9)


def test_table_top_and_cube_stand_where_the_configuration_says(config):
    model = build_model(config)
    table = model.geom(TABLE)
    assert table.pos[2] + table.size[2] == pytest.approx(0.0)
    np.testing.assert_allclose(2 * table.size, config.table.size)
    assert model.body(OBJECT).mass[0] == pytest.approx(config.cube.mass)
    np.testing.assert_allclose(2 * model.geom(OBJECT).size, config.cube.size)


def test_robot_parts_do_not_touch_each_other_but_touch_table_and_object(config):
    model = build_model(config)

    def touch(a, b):
        a, b = model.geom(a), model.geom(b)
        return bool(a.contype[0] & b.conaffinity[0]) or bool(b.contype[0] & a.conaffinity[0])

    assert not touch("panda_link3_0", "panda_hand_0")
    for pair in (("panda_hand_0", TABLE), ("panda_hand_0", OBJECT), (TABLE, OBJECT)):
        assert touch(*pair)


def test_the_lamp_shines_down(config):
    direction = lamp_direction(config)
    assert np.linalg.norm(direction) == pytest.approx(1.0)
    assert direction[2] < -0.5


def test_the_physics_rate_is_the_configured_one(config):
    assert build_model(replace(config, physics_hz=1000)).opt.timestep == pytest.approx(0.001)


def test_a_stretched_object_is_longer_in_one_direction_only(config):
    size = 2 * build_model(replace(config, cube=replace(config.cube, stretch=1.5))).geom(OBJECT).size
    np.testing.assert_allclose(size, config.cube.size * np.array([1.5, 1.0, 1.0]))


@pytest.fixture
def cluttered(config):
    return build_model(replace(config, distractor=Distractor((0.55, 0.1), 0.05, (0.1, 0.3, 0.8))))


def test_a_distractor_stands_on_the_table_and_touches_what_touches_it(cluttered):
    thing = cluttered.geom(DISTRACTOR)
    np.testing.assert_allclose(cluttered.body(DISTRACTOR).pos, [0.55, 0.1, 0.025])
    np.testing.assert_allclose(thing.size[:2], [0.025, 0.025])
    for other in ("panda_hand_0", TABLE, OBJECT):
        geom = cluttered.geom(other)
        assert thing.contype[0] & geom.conaffinity[0] or geom.contype[0] & thing.conaffinity[0]


def test_a_distractor_is_drawn_in_its_colour_where_it_stands(cluttered, config, deployment):
    pictures = []
    for model in (cluttered, build_model(config)):
        view = RaycastView(model, deployment.cameras)
        view.update(model.qpos0)
        pictures.append(view.render("front").astype(int))
    changed = np.abs(pictures[0] - pictures[1]).sum(2) > 60
    assert 20 < changed.sum() < 1000
    blue = pictures[0][changed]
    assert (blue[:, 2] > blue[:, 0]).mean() > 0.5


def test_without_a_distractor_there_is_none(config):
    model = build_model(config)
    assert DISTRACTOR not in [model.body(i).name for i in range(model.nbody)]
