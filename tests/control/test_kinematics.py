from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.rotations import exp, from_rpy, log

# Published: franka_description. x y z and roll of joints 1 to 7; flange, hand and tool follow on the last one's z axis.
ORIGINS = (
    ((0.0, 0.0, 0.333), 0.0),
    ((0.0, 0.0, 0.0), -math.pi / 2),
    ((0.0, -0.316, 0.0), math.pi / 2),
    ((0.0825, 0.0, 0.0), math.pi / 2),
    ((-0.0825, 0.384, 0.0), -math.pi / 2),
    ((0.0, 0.0, 0.0), math.pi / 2),
    ((0.088, 0.0, 0.0), math.pi / 2),
)

MIXED = """<robot name="mixed">
  <joint name="lift" type="prismatic">
    <origin xyz="0.1 0.2 0.3" rpy="0.1 0.2 0.3"/><parent link="base"/><child link="a"/><axis xyz="0 2 0"/></joint>
  <joint name="mount" type="fixed"><origin xyz="0 0.1 0" rpy="0.5 0 0"/><parent link="a"/><child link="b"/></joint>
  <joint name="turn" type="continuous">
    <origin xyz="0 0 0.4"/><parent link="b"/><child link="c"/><axis xyz="1 1 0"/></joint>
  <joint name="back" type="revolute"><parent link="c"/><child link="d"/><axis xyz="0 0 -1"/></joint>
  <joint name="plain" type="revolute"><parent link="d"/><child link="e"/></joint>
  <joint name="tip" type="fixed"><origin xyz="0.2 0 0.1"/><parent link="e"/><child link="tool"/></joint>
  <ros2_control name="x" type="system"><joint name="lift"/></ros2_control>
</robot>"""


def panda_by_hand(q: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    for ((x, y, z), roll), angle in zip(ORIGINS, q, strict=True):
        step = np.eye(4)
        step[:3, :3] = from_rpy(roll, 0.0, 0.0) @ exp(np.array([0.0, 0.0, angle]))
        step[:3, 3] = x, y, z
        T = T @ step
    hand = np.eye(4)
    hand[:3, :3] = exp(np.array([0.0, 0.0, -math.pi / 4]))
    hand[2, 3] = 0.107 + 0.1034
    return T @ hand


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "robot.urdf"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Chain:
    return Chain.from_urdf(written(tmp_path, MIXED), "base", "tool")


def test_the_panda_is_where_the_published_numbers_put_it(chain: Chain, random_joints: np.ndarray) -> None:
    for q in random_joints:
        pose, expected = chain.forward(q), panda_by_hand(q)
        np.testing.assert_allclose(pose.position, expected[:3, 3], atol=1e-12)
        np.testing.assert_allclose(pose.rotation, expected[:3, :3], atol=1e-12)


def test_the_batch_agrees_with_the_single_pose(chain: Chain, mixed: Chain, random_joints: np.ndarray) -> None:
    for each in (chain, mixed):
        joints = random_joints[:, : len(each.names)]
        for q, T in zip(joints, each.forward_batch(joints), strict=True):
            pose = each.forward(q)
            np.testing.assert_allclose(T[:3, 3], pose.position, atol=1e-12)
            np.testing.assert_allclose(T[:3, :3], pose.rotation, atol=1e-12)
            np.testing.assert_array_equal(T[3], [0.0, 0.0, 0.0, 1.0])


def test_the_jacobian_is_the_derivative_of_the_pose(chain: Chain, mixed: Chain, random_joints: np.ndarray) -> None:
    step = 1e-6
    for each in (chain, mixed):
        for q in random_joints[:20, : len(each.names)]:
            J = each.jacobian(q)
            assert J.shape == (6, len(each.names))
            for joint in range(len(q)):
                move = np.zeros(len(q))
                move[joint] = step
                ahead, behind = each.forward(q + move), each.forward(q - move)
                linear = (ahead.position - behind.position) / (2 * step)
                angular = log(ahead.rotation @ behind.rotation.T) / (2 * step)
                np.testing.assert_allclose(J[:, joint], np.concatenate([linear, angular]), atol=1e-8)


def test_a_sliding_joint_moves_along_its_normalised_axis(mixed: Chain) -> None:
    before, after = mixed.forward(np.zeros(4)), mixed.forward(np.array([0.25, 0.0, 0.0, 0.0]))
    along = from_rpy(0.1, 0.2, 0.3) @ np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(after.position - before.position, 0.25 * along, atol=1e-12)
    assert mixed.names == ("lift", "turn", "back", "plain")
    assert mixed.sliding == (True, False, False, False)


def test_joints_in_another_order_than_the_robots_are_refused(robot, urdf: Path) -> None:
    with pytest.raises(ConfigError, match="the robot's configuration says panda_joint7"):
        Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names[::-1])


@pytest.mark.parametrize(("base", "tool"), [("nowhere", "tool"), ("base", "nowhere"), ("tool", "base")])
def test_a_missing_frame_is_refused_by_name(tmp_path: Path, base: str, tool: str) -> None:
    with pytest.raises(ConfigError, match=f"from frame '{base}' to frame '{tool}'"):
        Chain.from_urdf(written(tmp_path, MIXED), base, tool)


def test_a_chain_that_bites_its_tail_is_refused(tmp_path: Path) -> None:
    text = MIXED.replace('<parent link="base"/>', '<parent link="e"/>')
    with pytest.raises(ConfigError, match="no chain of joints"):
        Chain.from_urdf(written(tmp_path, text), "base", "tool")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("</robot>", "", "not valid XML"),
        ('type="prismatic"', 'type="floating"', "'lift' is of type 'floating'"),
        ('xyz="0.1 0.2 0.3"', 'xyz="0.1 0.2"', "'lift' needs three finite numbers"),
        ('rpy="0.5 0 0"', 'rpy="nan 0 0"', "'mount' needs three finite numbers"),
        ('xyz="0 2 0"', 'xyz="0 0 0"', "'lift' has an axis of length zero"),
        ('<child link="a"/>', "", "'lift' needs a parent link and a child link"),
    ],
)
def test_a_broken_file_is_refused_with_its_fault(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in MIXED
    with pytest.raises(ConfigError, match=message):
        Chain.from_urdf(written(tmp_path, MIXED.replace(before, after)), "base", "tool")


def test_a_chain_without_moving_joints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no joint moves between 'a' and 'b'"):
        Chain.from_urdf(written(tmp_path, MIXED), "a", "b")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Chain.from_urdf(tmp_path / "absent.urdf", "base", "tool")
