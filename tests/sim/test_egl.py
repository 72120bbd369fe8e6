from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.core.deployment import Camera
from policy_bringup.core.errors import DeviceError
from policy_bringup.sim.egl import EglView, missing
from policy_bringup.sim.raycast import RaycastView
from policy_bringup.sim.world import World, object_at

needs_egl = pytest.mark.skipif(bool(missing()), reason=f"OpenGL without a screen needs {missing()}")
POSES = [((0.5, 0.0), 0.3), ((0.42, -0.18), 1.2), ((0.58, 0.17), -0.5)]


def both(world, cameras):
    """The two kinds of view of one world, or a skip where the driver does not start."""
    try:
        return EglView(world.model, cameras), RaycastView(world.model, cameras)
    except DeviceError as error:
        pytest.skip(str(error))


def cube(picture):
    r, g, b = (picture[..., i].astype(int) for i in range(3))
    return (r > 60) & (r > 2 * g) & (r > 2 * b)


def pads(picture):
    r, g, b = (picture[..., i].astype(int) for i in range(3))
    return (g > r + 8) & (g > b)


def overlap(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


@needs_egl
@pytest.mark.parametrize("shadows", [True, False])
def test_both_kinds_of_picture_nearly_agree(config, unlit, robot, deployment, shadows):
    world = World(config if shadows else unlit, robot)
    views = both(world, deployment.cameras)
    for xy, yaw in POSES:
        world.reset(object_at(config, xy, yaw))
        for camera in deployment.cameras:
            pictures = []
            for view in views:
                view.update(world.qpos)
                pictures.append(view.render(camera.name))
            difference = np.abs(pictures[0].astype(int) - pictures[1])
            assert difference.mean() < 3.0
            assert np.median(difference) <= 1.0
            assert (difference.max(2) > 40).mean() < 0.02
            assert overlap(cube(pictures[0]), cube(pictures[1])) > 0.85
            if camera.name == "wrist":
                assert pads(pictures[0]).sum() > 100
                assert overlap(pads(pictures[0]), pads(pictures[1])) > 0.85
    for view in views:
        view.close()


@needs_egl
def test_pictures_of_two_sizes_come_from_one_view(world):
    cameras = [Camera("front", 160, 96), Camera("wrist", 64, 128)]
    egl, rays = both(world, cameras)
    for view in (egl, rays):
        view.update(world.qpos)
    for camera in cameras:
        a, b = egl.render(camera.name), rays.render(camera.name)
        assert a.shape == b.shape == (camera.height, camera.width, 3)
        assert np.abs(a.astype(int) - b).mean() < 3.0
    egl.close()


@needs_egl
def test_two_views_in_one_thread_do_not_draw_into_each_other(world, config, deployment):
    first, _ = both(world, deployment.cameras)
    first.update(world.qpos)
    alone = first.render("front")
    second, _ = both(world, [Camera("wrist", 32, 32)])
    assert second.render("wrist").shape == (32, 32, 3)
    np.testing.assert_array_equal(first.render("front"), alone)
    second.close()
    np.testing.assert_array_equal(first.render("front"), alone)
    first.close()


@needs_egl
def test_a_view_knows_whether_a_graphics_card_draws(world, deployment):
    egl, _ = both(world, deployment.cameras)
    assert egl.in_software in (True, False)
    egl.close()
