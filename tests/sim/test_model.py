from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import mujoco
import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.core.rotations import from_rpy, log
from policy_bringup.sim import panda
from policy_bringup.sim.mjcf import mjcf
from policy_bringup.sim.model import write_models
from policy_bringup.sim.urdf import urdf


@pytest.fixture(scope="module")
def files(root):
    return root / "models" / "robot" / "panda.urdf", root / "models" / "robot" / "panda.xml"


@pytest.fixture(scope="module")
def configurations(robot):
    return np.random.default_rng(0).uniform(robot.lower, robot.upper, (1000, len(robot.joints)))


def test_the_files_in_the_repository_are_what_the_table_gives(files, tmp_path):
    for committed, fresh in zip(files, write_models(tmp_path), strict=True):
        assert committed.read_text(encoding="utf-8") == fresh.read_text(encoding="utf-8")


def test_the_writer_runs_from_the_command_line(files, tmp_path, root):
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    module = [sys.executable, "-m", "policy_bringup.sim.model"]
    subprocess.run([*module, str(tmp_path)], check=True, env=environment)
    assert (tmp_path / "panda.urdf").read_text(encoding="utf-8") == files[0].read_text(encoding="utf-8")
    refused = subprocess.run(module, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "usage" in refused.stderr


def test_mjcf_and_urdf_put_the_tool_at_the_same_place(files, robot, configurations):
    chain = Chain.from_urdf(files[0], robot.base_frame, robot.tool_frame, robot.joint_names)
    model = mujoco.MjModel.from_xml_path(str(files[1]))
    data = mujoco.MjData(model)
    site = data.site(robot.tool_frame)
    for q in configurations:
        data.qpos[: len(q)] = q
        mujoco.mj_kinematics(model, data)
        pose = chain.forward(q)
        assert np.abs(site.xpos - pose.position).max() < 1e-6
        assert np.linalg.norm(log(site.xmat.reshape(3, 3).T @ pose.rotation)) < 1e-6


def test_the_tool_of_the_home_pose_points_straight_down_between_the_finger_tips(files, robot):
    model = mujoco.MjModel.from_xml_string(mjcf())
    data = mujoco.MjData(model)
    data.qpos[:7] = robot.home
    mujoco.mj_kinematics(model, data)
    tool, hand = data.site(robot.tool_frame), data.body(panda.HAND)
    np.testing.assert_allclose(tool.xmat.reshape(3, 3), np.diag([1.0, -1.0, -1.0]), atol=1e-6)
    np.testing.assert_allclose(tool.xpos, hand.xpos - np.array([0.0, 0.0, 0.1034]), atol=1e-7)
    pads = [i for i in range(model.ngeom) if model.geom_priority[i]]
    assert len(pads) == 2
    np.testing.assert_allclose(data.geom_xpos[pads].mean(0)[:2], tool.xpos[:2], atol=1e-6)


def test_mass_and_inertia_survive_both_formats(files):
    model = mujoco.MjModel.from_xml_path(str(files[1]))
    for element in ET.parse(files[0]).getroot().findall("link"):
        mass = element.find("inertial/mass")
        if mass is not None:
            body, about = model.body(element.get("name")), element.find("inertial/inertia").attrib
            assert body.mass[0] == pytest.approx(float(mass.get("value")))
            offset, turn = (numbers(element.find("inertial/origin").get(key)) for key in ("xyz", "rpy"))
            np.testing.assert_allclose(body.ipos, offset, atol=1e-9)
            xx, yy, zz, xy, xz, yz = (float(about[key]) for key in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz"))
            R = from_rpy(*turn)
            wanted = R @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ R.T
            np.testing.assert_allclose(inertia_of(body), wanted, rtol=1e-6, atol=1e-9)


def numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def inertia_of(body) -> np.ndarray:
    """`(3, 3)` kg m^2 about the centre of mass, along the body's axes; MuJoCo keeps it by its principal axes."""
    principal = np.zeros(9)
    mujoco.mju_quat2Mat(principal, body.iquat)
    R = principal.reshape(3, 3)
    return R @ np.diag(body.inertia) @ R.T


def test_ros2_control_commands_every_joint_but_the_mimic():
    block = ET.fromstring(urdf().encode()).find("ros2_control")
    commanded = [joint.get("name") for joint in block.findall("joint") if joint.find("command_interface") is not None]
    assert commanded == [joint.name for joint in panda.MOVING if not joint.mimic]
    for joint in block.findall("joint"):
        assert [state.get("name") for state in joint.findall("state_interface")] == ["position", "velocity", "effort"]


def test_drake_reads_both_files_and_agrees_on_the_tool(files, robot, configurations):
    pytest.importorskip("pydrake", reason="drake is not installed: pip install drake")
    from pydrake.multibody.parsing import Parser
    from pydrake.multibody.plant import MultibodyPlant

    model = mujoco.MjModel.from_xml_path(str(files[1]))
    data = mujoco.MjData(model)
    for path in files:
        plant = MultibodyPlant(0.0)
        parser = Parser(plant)
        if path.suffix == ".urdf":  # of MJCF, drake knows a part only, and strictly refuses the rest
            parser.SetStrictParsing()
        (instance,) = parser.AddModels(str(path))
        if path.suffix == ".urdf":  # in MJCF, a body without a joint already stands in the world
            plant.WeldFrames(plant.world_frame(), plant.GetFrameByName(robot.base_frame, instance))
        plant.Finalize()
        context = plant.CreateDefaultContext()
        hand = plant.GetBodyByName(panda.HAND, instance)
        for q in configurations[:100]:
            for name, value in zip(robot.joint_names, q, strict=True):
                plant.GetJointByName(name, instance).set_angle(context, value)
            data.qpos[: len(q)] = q
            mujoco.mj_kinematics(model, data)
            X = plant.EvalBodyPoseInWorld(context, hand)
            np.testing.assert_allclose(X.translation(), data.body(panda.HAND).xpos, atol=1e-6)
            np.testing.assert_allclose(X.rotation().matrix().ravel(), data.body(panda.HAND).xmat, atol=1e-6)
