import math
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.console.config import Table
from policy_bringup.console.scene import Scene
from policy_bringup.console.server import LocalServer
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.rotations import from_quaternion
from policy_bringup.core.types import Pose

HOME = {f"panda_joint{i + 1}": q for i, q in enumerate((0.1, -0.4, 0.2, -2.3, 0.3, 1.9, 0.8))}


@pytest.fixture
def server():
    server = LocalServer("127.0.0.1", 0, "test")
    yield server
    server.stop()


@pytest.fixture
def scene(server: LocalServer, links) -> Scene:
    return Scene(server.scene, links, Table((1.2, 1.4, 0.04), (0.35, 0.0)), 0.04)


def pose_of(node: dict) -> Pose:
    w, x, y, z = node.get("wxyz", (1.0, 0.0, 0.0, 0.0))
    return Pose(np.array(node.get("position", (0.0, 0.0, 0.0))), from_quaternion(x, y, z, w))


def drawn(nodes: dict[str, dict], path: str) -> Pose:
    """Where a browser draws the node: its frames chained from the root."""
    position, rotation = np.zeros(3), np.eye(3)
    parts = path.strip("/").split("/")
    for depth in range(len(parts), 0, -1):
        step = pose_of(nodes.get("/" + "/".join(parts[:depth]), {}))
        position, rotation = step.position + step.rotation @ position, step.rotation @ rotation
    return Pose(position, rotation)


def path_of(nodes: dict[str, dict], link: str) -> str:
    return next(name for name in nodes if name.endswith(f"/{link}"))


def test_a_browser_draws_the_tool_where_kinematics_says(scene: Scene, server, browse, config_folder: Path):
    urdf = config_folder.parent / "models" / "robot" / "panda.urdf"
    expected = Chain.from_urdf(urdf, "panda_link0", "panda_tool").forward(np.array(list(HOME.values())))
    scene.show_joints(HOME)
    with browse(server.url) as browser:
        tool = drawn(browser.nodes, path_of(browser.nodes, "panda_tool"))
    assert tool.position == pytest.approx(expected.position, abs=1e-5)
    assert tool.rotation == pytest.approx(expected.rotation, abs=1e-5)


def test_every_shape_of_the_description_is_drawn(scene: Scene, server, links, browse):
    with browse(server.url) as browser:
        shapes = [name for name in browser.nodes if name.startswith("/robot") and "/shape" in name]
        finger = browser.nodes[path_of(browser.nodes, "panda_leftfinger") + "/shape0"]
    assert len(shapes) == sum(len(link.shapes) for link in links)
    assert finger["dimensions"] == pytest.approx([0.02, 0.013, 0.046])
    assert finger["color"] == [51, 54, 61]


def test_the_table_top_is_at_height_zero(scene: Scene, server, browse):
    with browse(server.url) as browser:
        table = browser.nodes["/table"]
    assert table["position"] == pytest.approx([0.35, 0.0, -0.02])
    assert table["dimensions"] == pytest.approx([1.2, 1.4, 0.04])


@pytest.mark.parametrize("position", [math.nan, math.inf])
def test_a_joint_without_a_finite_position_stays_where_it_was(scene: Scene, server, browse, position: float):
    scene.show_joints(HOME)
    scene.show_joints({"panda_joint4": position})
    with browse(server.url) as browser:
        elbow = pose_of(browser.nodes[path_of(browser.nodes, "panda_link4")])
        shoulder = pose_of(browser.nodes[path_of(browser.nodes, "panda_link2")])
    assert np.isfinite(elbow.rotation).all()
    assert elbow.rotation != pytest.approx(np.eye(3))
    assert shoulder.rotation != pytest.approx(np.eye(3))


@pytest.mark.parametrize("pose", [None, Pose(np.array([math.nan, 0.0, 0.0]), np.eye(3))])
def test_the_object_is_hidden_while_nobody_knows_where_it_is(scene: Scene, server, browse, pose: Pose | None):
    with browse(server.url) as browser:
        assert browser.nodes["/object"]["visible"] is False
        scene.show_object(Pose(np.array([0.5, 0.1, 0.02]), np.eye(3)))
        browser.wait(lambda: browser.nodes["/object"]["visible"])
        browser.wait(lambda: browser.nodes["/object"].get("position") == pytest.approx([0.5, 0.1, 0.02]))
        scene.show_object(pose)
        browser.wait(lambda: not browser.nodes["/object"]["visible"])
