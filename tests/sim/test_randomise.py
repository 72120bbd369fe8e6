from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.config import build
from policy_bringup.core.errors import ConfigError
from policy_bringup.sim.randomise import Randomisation, randomise
from policy_bringup.sim.raycast import RaycastView
from policy_bringup.sim.world import World

NONE = Randomisation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
SOME = Randomisation(
    colour=0.1, cube_colour=0.2, cube_size=0.1, light=0.3, light_position=0.4, camera_position=0.02, camera_target=0.03
)


def test_amounts_of_zero_change_nothing(config):
    assert randomise(config, NONE, 5) == config


def test_a_seed_gives_one_variation_and_another_seed_another(config):
    assert randomise(config, SOME, 5) == randomise(config, SOME, 5)
    assert randomise(config, SOME, 5) != randomise(config, SOME, 6)


def test_nothing_strays_further_than_its_amount(config):
    for seed in range(200):
        varied = randomise(config, SOME, seed)
        assert np.abs(np.subtract(varied.table.colour, config.table.colour)).max() <= 0.1
        assert np.abs(np.subtract(varied.floor.colours, config.floor.colours)).max() <= 0.1
        assert np.abs(np.subtract(varied.cube.colour, config.cube.colour)).max() <= 0.2
        assert abs(varied.cube.size / config.cube.size - 1.0) <= 0.1
        assert abs(varied.light.lamp / config.light.lamp - 1.0) <= 0.3
        assert np.linalg.norm(np.subtract(varied.light.position, config.light.position)) <= 0.4
        for camera, was in zip(varied.cameras, config.cameras, strict=True):
            assert np.linalg.norm(np.subtract(camera.position, was.position)) <= 0.02
            assert np.linalg.norm(np.subtract(camera.target, was.target)) <= 0.03


def test_objects_may_start_beyond_the_border_of_the_region(config):
    wide = randomise(config, replace(NONE, region=0.03), 5).region
    assert wide.x == pytest.approx((config.region.x[0] - 0.03, config.region.x[1] + 0.03))
    assert wide.y == pytest.approx((config.region.y[0] - 0.03, config.region.y[1] + 0.03))
    assert wide.yaw == config.region.yaw


def test_the_whole_amount_is_used(config):
    sizes = [randomise(config, SOME, seed).cube.size / config.cube.size for seed in range(200)]
    assert min(sizes) < 0.92
    assert max(sizes) > 1.08


def test_a_colour_stays_a_colour(config):
    bold = Randomisation(0.5, 0.5, 0.0, 0.9, 0.0, 0.0, 0.0)
    for seed in range(50):
        varied = randomise(config, bold, seed)
        parts = [*varied.table.colour, *varied.cube.colour, varied.light.lamp]
        assert 0.0 <= min(parts) <= max(parts) <= 1.0


def test_a_variation_is_seen_and_felt(config, robot, deployment):
    varied = randomise(config, SOME, 3)
    pictures = []
    for one in (config, varied):
        world = World(one, robot)
        assert world.object_pose().position[2] == pytest.approx(one.cube.size / 2)
        view = RaycastView(world.model, deployment.cameras)
        view.update(world.qpos)
        pictures.append(view.render("front").astype(int))
    assert np.abs(pictures[0] - pictures[1]).mean() > 2.0


def test_amounts_are_bounded():
    fields = dict.fromkeys(Randomisation.__slots__, 0.0)
    assert build(Randomisation, fields, "train.yaml") == NONE
    with pytest.raises(ConfigError, match="cube_size"):
        build(Randomisation, {**fields, "cube_size": 0.31}, "train.yaml")
