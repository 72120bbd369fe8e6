from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.deployment import Camera
from policy_bringup.sim.raycast import RaycastView
from policy_bringup.sim.scene import camera_rotation
from policy_bringup.sim.world import World, object_at


def red(picture):
    """Where the red cube is, `(h, w)`."""
    r, g, b = (picture[..., i].astype(int) for i in range(3))
    return (r > 60) & (r > 2 * g) & (r > 2 * b)


@pytest.fixture
def view(world, deployment):
    return RaycastView(world.model, deployment.cameras)


@pytest.fixture
def show(world, config, view):
    """The picture of a camera with the cube at a place."""

    def draw(camera, xy=(0.5, 0.0), yaw=0.0):
        world.reset(object_at(config, xy, yaw))
        view.update(world.qpos)
        return view.render(camera)

    return draw


def test_a_picture_has_the_deployments_size(show, deployment):
    for camera in deployment.cameras:
        picture = show(camera.name)
        assert picture.shape == (camera.height, camera.width, 3)
        assert picture.dtype == np.uint8


@pytest.mark.parametrize("xy", [(0.4, -0.2), (0.4, 0.2), (0.6, -0.2), (0.6, 0.2), (0.5, 0.0)])
def test_both_cameras_see_the_cube_wherever_it_may_start(show, xy):
    assert red(show("front", xy)).sum() >= 20
    assert red(show("wrist", xy)).sum() >= 20


def test_the_cube_is_drawn_where_the_camera_geometry_puts_it(show, config):
    xy = (0.52, 0.08)
    rows, columns = np.nonzero(red(show("front", xy)))
    camera = config.cameras[0]
    local = (np.array([*xy, 0.02]) - camera.position) @ camera_rotation(camera)
    focal = 64.0 / np.tan(np.radians(camera.fovy) / 2.0)
    assert columns.mean() + 0.5 == pytest.approx(64.0 + focal * local[0] / -local[2], abs=1.0)
    assert rows.mean() + 0.5 == pytest.approx(64.0 - focal * local[1] / -local[2], abs=1.0)


def test_a_wide_picture_shows_more_at_the_sides_and_the_same_in_the_middle(world):
    square = RaycastView(world.model, [Camera("front", 96, 96)])
    wide = RaycastView(world.model, [Camera("front", 160, 96)])
    for view in (square, wide):
        view.update(world.qpos)
    np.testing.assert_array_equal(wide.render("front")[:, 32:-32], square.render("front"))


def test_looking_only_where_parts_can_be_misses_nothing(world, robot, command, deployment, monkeypatch):
    rng = np.random.default_rng(3)
    careful = RaycastView(world.model, deployment.cameras)
    monkeypatch.setattr(careful, "_window", lambda group, eye: (slice(0, 128), slice(0, 128)))
    quick = RaycastView(world.model, deployment.cameras)
    for _ in range(10):
        qpos = world.qpos
        lower, upper = robot.lower, robot.upper
        qpos[world.model.jnt_qposadr[:7]] = rng.uniform(lower, upper)
        for view in (careful, quick):
            view.update(qpos)
        for camera in deployment.cameras:
            np.testing.assert_array_equal(quick.render(camera.name), careful.render(camera.name))


def test_a_part_that_reaches_past_the_camera_is_drawn_whole(config, robot, deployment, monkeypatch):
    front, wrist = config.cameras
    close = replace(wrist, position=(0.03, 0.0, 0.02), target=(0.03, 0.3, 0.1), up=(1.0, 0.0, 0.0))
    world = World(replace(config, cameras=(front, close)), robot)
    careful, quick = (RaycastView(world.model, deployment.cameras) for _ in range(2))
    monkeypatch.setattr(careful, "_window", lambda group, eye: (slice(0, 128), slice(0, 128)))
    for view in (careful, quick):
        view.update(world.qpos)
    np.testing.assert_array_equal(quick.render("wrist"), careful.render("wrist"))
    assert careful.render("wrist").std() > 5.0


def test_the_background_that_was_kept_gives_the_same_picture_as_a_fresh_one(world, robot, command, deployment, view):
    view.update(world.qpos)
    view.render("front")
    world.command(command(robot.home + 0.3, 0.0, 0.3), world.time_s)
    world.step(200)
    fresh = RaycastView(world.model, deployment.cameras)
    for one in (view, fresh):
        one.update(world.qpos)
    np.testing.assert_array_equal(view.render("front"), fresh.render("front"))


def test_shadows_only_darken(config, unlit, robot, deployment):
    pictures = []
    for variant in (config, unlit):
        world = World(variant, robot)
        view = RaycastView(world.model, deployment.cameras)
        view.update(world.qpos)
        pictures.append(view.render("front").astype(int))
    assert (pictures[0] <= pictures[1]).all()
    assert 0.02 < (pictures[0] < pictures[1]).any(2).mean() < 0.4


def test_brightness_is_the_sum_of_the_three_lights(config, robot, deployment):
    dark = replace(config.light, lamp=0.0, ambient=0.5, headlight=0.0)
    world = World(replace(config, light=dark), robot)
    view = RaycastView(world.model, deployment.cameras)
    view.update(world.qpos)
    table = view.render("front")[-1, 64].astype(float) / 255.0
    np.testing.assert_allclose(table, 0.5 * np.array(config.table.colour), atol=0.003)


def test_physics_goes_on_while_a_view_in_another_thread_draws_the_same_pictures(world, deployment):
    qpos = world.qpos
    alone = RaycastView(world.model, deployment.cameras)
    alone.update(qpos)
    expected = alone.render("wrist")
    pictures: list[np.ndarray] = []

    def draw():
        view = RaycastView(world.model, deployment.cameras)
        for _ in range(20):
            view.update(qpos)
            pictures.append(view.render("wrist"))

    thread = threading.Thread(target=draw)
    thread.start()
    while thread.is_alive():
        world.step(10)
    thread.join()
    assert len(pictures) == 20
    for picture in pictures:
        np.testing.assert_array_equal(picture, expected)
