from __future__ import annotations

import ctypes.util

import numpy as np
import pytest

from policy_bringup.core.deployment import Camera
from policy_bringup.core.errors import ConfigError, DeviceError
from policy_bringup.sim.egl import REMEDY
from policy_bringup.sim.views import open_view, pinhole
from policy_bringup.sim.world import object_at


@pytest.fixture
def without_opengl(monkeypatch):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)


def test_without_opengl_auto_draws_by_rays_and_says_what_to_type(world, deployment, without_opengl):
    view = open_view(world.model, deployment.cameras)
    assert view.backend == "raycast"
    assert REMEDY in view.note
    assert "libEGL" in view.note
    view.update(world.qpos)
    assert view.render("front").std() > 10.0
    view.close()


def test_without_opengl_egl_is_refused_with_what_to_type(world, deployment, without_opengl):
    with pytest.raises(DeviceError, match=r"libEGL.*libGL.*apt-get install"):
        open_view(world.model, deployment.cameras, "egl")


def test_rays_on_request_need_no_excuse(world, deployment):
    view = open_view(world.model, deployment.cameras, "raycast")
    assert (view.backend, view.note) == ("raycast", "")


@pytest.mark.parametrize("backend", ["auto", "egl", "raycast"])
def test_a_camera_that_is_not_there_is_refused(world, backend):
    with pytest.raises(ConfigError, match=r"'side'.*front, wrist"):
        open_view(world.model, [Camera("side", 64, 64)], backend)


def test_auto_gives_a_working_view_whatever_the_machine_has(world, deployment):
    view = open_view(world.model, deployment.cameras)
    assert view.backend in ("egl", "raycast")
    assert (view.backend == "egl") == (view.note == "")
    view.update(world.qpos)
    assert view.render("wrist").shape == (128, 128, 3)
    view.close()


def test_what_a_view_shows_is_the_last_update_not_the_worlds_present(world, config, deployment):
    view = open_view(world.model, deployment.cameras, "raycast")
    view.update(world.qpos)
    before = view.render("front")
    world.reset(object_at(config, (0.6, 0.2), 0.0))
    np.testing.assert_array_equal(view.render("front"), before)
    view.update(world.qpos)
    assert (view.render("front") != before).any()


def test_a_pinhole_of_a_right_angle_has_half_the_height_as_focal_length():
    assert pinhole(90.0, 128, 64) == pytest.approx([32.0, 0.0, 64.0, 0.0, 32.0, 32.0, 0.0, 0.0, 1.0])
