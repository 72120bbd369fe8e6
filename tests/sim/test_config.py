from __future__ import annotations

import pytest

from policy_bringup.core.config import build, load, read_yaml
from policy_bringup.core.errors import ConfigError
from policy_bringup.sim.config import SimConfig


@pytest.fixture
def data(root):
    return dict(read_yaml(root / "config" / "sim.yaml"))


def test_the_shipped_file_is_valid_and_serves_every_camera_of_the_deployment(root, deployment):
    config = load(root / "config" / "sim.yaml", SimConfig)
    assert {camera.name for camera in config.cameras} == set(deployment.camera_names)


@pytest.mark.parametrize("key", ["physics_hz", "servo", "table", "floor", "cube", "region", "light", "cameras"])
def test_no_key_has_a_default(data, key):
    del data[key]
    with pytest.raises(ConfigError, match=f"'{key}' is missing"):
        build(SimConfig, data, "sim.yaml")


@pytest.mark.parametrize(("size", "allowed"), [(0.015, True), (0.07, True), (0.0149, False), (0.0701, False)])
def test_a_cube_must_fit_between_the_fingers(data, size, allowed):
    data["cube"] = {**data["cube"], "size": size}
    if allowed:
        assert build(SimConfig, data, "sim.yaml").cube.size == size
    else:
        with pytest.raises(ConfigError, match="cube: size"):
            build(SimConfig, data, "sim.yaml")


def test_the_region_lies_within_what_safety_lets_the_tool_reach(root, deployment):
    region = load(root / "config" / "sim.yaml", SimConfig).region
    limits = {limit.name: limit for limit in deployment.limits}
    for name, (lower, upper) in (("tool.x", region.x), ("tool.y", region.y)):
        assert limits[name].lower < lower < upper < limits[name].upper
