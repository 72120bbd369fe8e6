from pathlib import Path

import numpy as np
import pytest

from policy_bringup.console.drawing import Link, load_drawing
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.rotations import exp
from policy_bringup.core.types import Pose

TWO_LINKS = """
<robot name="two">
  <link name="finger"><visual><geometry><cylinder radius="0.01" length="0.2"/></geometry></visual></link>
  <joint name="slide" type="prismatic">
    <origin xyz="1 2 3"/><parent link="base"/><child link="finger"/><axis xyz="0 0 2"/>
    <mimic joint="other" multiplier="-2" offset="0.5"/>
  </joint>
  <link name="base">
    <visual><geometry><mesh filename="none.stl"/></geometry></visual>
    <visual><geometry><box size="1 2 3"/></geometry><material><color rgba="1 0.5 0 1"/></material></visual>
  </link>
</robot>
"""


@pytest.fixture
def draw(tmp_path: Path):
    def load(text: str) -> tuple[Link, ...]:
        path = tmp_path / "robot.urdf"
        path.write_text(text, encoding="utf-8")
        return load_drawing(path)

    return load


def tool_pose(links: tuple[Link, ...], positions: dict[str, float], tool: str) -> Pose:
    """Chains the links from the tool to the root."""
    by_name = {link.name: link for link in links}
    position, rotation, name = np.zeros(3), np.eye(3), tool
    while name:
        link = by_name[name]
        step = link.pose(positions.get(link.moved_by, 0.0))
        position, rotation = step.position + step.rotation @ position, step.rotation @ rotation
        name = link.parent
    return Pose(position, rotation)


@pytest.mark.parametrize("seed", range(5))
def test_the_drawn_tool_is_where_kinematics_says(links: tuple[Link, ...], config_folder: Path, seed: int):
    urdf = config_folder.parent / "models" / "robot" / "panda.urdf"
    chain = Chain.from_urdf(urdf, "panda_link0", "panda_tool")
    q = np.random.default_rng(seed).uniform(-2.0, 2.0, len(chain.names))
    drawn = tool_pose(links, dict(zip(chain.names, q, strict=True)), "panda_tool")
    expected = chain.forward(q)
    assert drawn.position == pytest.approx(expected.position, abs=1e-12)
    assert drawn.rotation == pytest.approx(expected.rotation, abs=1e-12)


def test_both_fingers_follow_the_one_commanded_joint(links: tuple[Link, ...]):
    hand = tool_pose(links, {}, "panda_hand")
    left, right = (
        hand.rotation.T @ (tool_pose(links, {"panda_finger_joint1": 0.03}, name).position - hand.position)
        for name in ("panda_leftfinger", "panda_rightfinger")
    )
    assert left == pytest.approx([0.0, 0.03, 0.0584], abs=1e-12)
    assert right == pytest.approx([0.0, -0.03, 0.0584], abs=1e-12)


def test_every_link_comes_after_its_parent(links: tuple[Link, ...]):
    seen = {""}
    for link in links:
        assert link.parent in seen
        seen.add(link.name)
    assert {"panda_link0", "panda_hand", "panda_tool"} < seen


def test_order_axis_mimic_shapes_and_colours_are_read(draw):
    base, finger = draw(TWO_LINKS)
    assert (base.name, finger.name, finger.moved_by) == ("base", "finger", "other")
    assert finger.pose(0.1).position == pytest.approx([1.0, 2.0, 3.0 + 0.5 - 0.2])
    assert [(shape.kind, shape.size, shape.colour) for shape in base.shapes] == [("box", (1, 2, 3), (1, 0.5, 0))]
    assert [(shape.kind, shape.size) for shape in finger.shapes] == [("cylinder", (0.01, 0.2))]


def test_a_joint_without_an_axis_turns_about_x(draw):
    (_, link) = draw(
        '<robot><link name="a"/><link name="b"/><joint name="j" type="revolute">'
        '<parent link="a"/><child link="b"/></joint></robot>'
    )
    assert link.pose(0.3).rotation == pytest.approx(exp(np.array([0.3, 0.0, 0.0])))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<robot>", "is not a URDF that can be drawn"),
        ('<robot><link name="a"/><joint name="j" type="fixed"><child link="a"/></joint></robot>', "'j' has no parent"),
        (TWO_LINKS.replace('size="1 2 3"', 'size="1 2"'), "'1 2' must be 3 finite numbers"),
        (TWO_LINKS.replace('size="1 2 3"', 'size="1 2 nan"'), "must be 3 finite numbers"),
        (TWO_LINKS.replace('radius="0.01"', ""), "radius"),
        (TWO_LINKS.replace('<parent link="base"/>', '<parent link="nowhere"/>'), "hangs on no root"),
        (TWO_LINKS.replace('<parent link="base"/>', '<parent link="finger"/>'), "hangs on no root"),
    ],
)
def test_a_broken_description_is_refused(draw, text: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        draw(text)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_drawing(tmp_path / "none.urdf")
