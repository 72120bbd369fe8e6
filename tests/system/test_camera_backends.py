"""Each way of drawing, asked for by name, in a running deployment: its pictures reach the policy, which acts."""

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core.config import load
from policy_bringup.core.decoding import values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import DeviceError
from policy_bringup.nodes.image_messages import image_sample
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.egl import EglView, missing
from policy_bringup.sim.scene import build_model

CONFIG = Path(__file__).resolve().parents[2] / "config"
CONTRAST = 10.0
"""Standard deviation of a picture that shows something, of 255."""


@pytest.fixture
def backend(request) -> str:
    """raycast, or egl where it can be had."""
    if request.param == "egl":
        if missing():
            pytest.skip(f"OpenGL without a screen needs {missing()}")
        try:
            deployment, _ = load_deployment(CONFIG / "grasp.yaml")
            EglView(build_model(load(CONFIG / "sim.yaml", SimConfig)), deployment.cameras).close()
        except DeviceError as error:
            pytest.skip(str(error))
    return request.param


@pytest.mark.parametrize("backend", ["raycast", "egl"], indirect=True)
def test_pictures_drawn_as_asked_reach_the_policy(deploy, listener, backend: str):
    pictures: dict[str, Image] = {}
    drawn_with: set[str] = set()
    actions: list[JointTrajectory] = []

    def take_health(message: DiagnosticArray) -> None:
        if message.status[0].name == "sim_camera":
            drawn_with.add(values_of(message.status[0])["backend"])

    node = listener.node
    for camera in ("front", "wrist"):
        take = lambda message, camera=camera: pictures.update({camera: message})  # noqa: E731
        node.create_subscription(Image, f"camera/{camera}/image_raw", take, qos_profile_sensor_data)
    node.create_subscription(DiagnosticArray, "/diagnostics", take_health, 10)
    node.create_subscription(JointTrajectory, "policy/action", actions.append, 10)
    with deploy(camera_backend=backend) as runner:
        everything = lambda: len(pictures) == 2 and drawn_with and len(actions) > 5  # noqa: E731
        listener.wait(
            lambda: everything() or runner.wait(0.0) is not None, 60.0, "pictures, and actions made from them"
        )
        assert runner.wait(0.02) is None, "a node ended"
    assert drawn_with == {backend}
    for camera, message in pictures.items():
        assert image_sample(message, 0, camera).pixels.std() > CONTRAST, camera
