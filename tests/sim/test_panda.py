from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.sim import panda

LINKS = [link for link in panda.LINKS if link.inertial is not None]


def test_joint_limits_are_those_of_the_robots_configuration(robot):
    table = [(j.name, j.lower, j.upper, j.velocity, j.effort) for j in panda.MOVING if not j.name.startswith("panda_f")]
    assert table == [(j.name, j.lower, j.upper, j.velocity, j.effort) for j in robot.joints]


def test_the_fingers_are_the_configured_gripper(robot):
    left, right = panda.MOVING[-2:]
    gripper = robot.gripper
    assert (left.name, right.name, right.mimic) == (gripper.joint, gripper.mimic, gripper.joint)
    for finger in (left, right):
        assert (2 * finger.lower, 2 * finger.upper) == (gripper.lower, gripper.upper)
        assert (2 * finger.velocity, finger.effort) == (gripper.velocity, gripper.force)


def test_frames_are_those_of_the_robots_configuration(robot):
    assert (panda.NAME, panda.LINKS[0].name, panda.TOOL) == (robot.name, robot.base_frame, robot.tool_frame)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_an_inertia_is_one_that_a_solid_body_can_have(link):
    xx, yy, zz, xy, xz, yz = link.inertial.inertia
    principal = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert principal[0] > 0.0
    assert principal[2] <= principal[0] + principal[1]


def test_the_arm_weighs_what_a_panda_weighs():
    assert 16.0 < sum(link.inertial.mass for link in LINKS) < 19.0


def test_every_joint_hangs_on_a_link_that_exists_and_every_link_on_one_joint():
    names = [link.name for link in panda.LINKS]
    assert sorted(joint.child for joint in panda.JOINTS) == sorted(names[1:])
    assert {joint.parent for joint in panda.JOINTS} <= set(names)
