"""Large pictures arrive whole and complete: the reason for config/fastdds.xml."""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray

from policy_bringup.core.decoding import values_of
from policy_bringup.core.startup import Options, environment, processes
from policy_bringup.runner import command_line

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 300


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten seconds at 640x480."""
    path = tmp_path / "demo.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (640, 480))
    scene = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    for i in range(FRAMES):
        writer.write(np.roll(scene, 4 * i, axis=1))
    writer.release()
    return path


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """The grasping deployment with one camera at 640x480, and a site of its own for it."""
    folder = tmp_path / "config"
    folder.mkdir()
    (tmp_path / "models").symlink_to(ROOT / "models")
    for path in (ROOT / "config").iterdir():
        (folder / path.name).symlink_to(path)
    data = yaml.safe_load((ROOT / "config" / "grasp.yaml").read_text())
    data["cameras"] = [{"name": "front", "width": 640, "height": 480}]
    data["contract"]["observation"]["images"] = [{"camera": "front", "height": 480, "width": 640}]
    (folder / "large.yaml").write_text(yaml.safe_dump(data))
    return folder / "large.yaml"


def test_not_one_of_300_pictures_of_640x480_at_30_hz_is_lost(deployment, video, make_bundle, domain_id, listener):
    bundle = make_bundle(deployment)
    options = Options(
        mode="shadow",
        deployment=deployment,
        source="bundle",
        bundle=bundle,
        camera_source=str(video),
        domain_id=domain_id,
    )
    plan = {process.name: process for process in processes(options)}
    variables = {**os.environ, **environment(ROOT / "config", domain_id, pictures=True)}
    received = {"count": -1, "reports": 0}

    def take(message: DiagnosticArray) -> None:
        if message.status[0].name == "policy":
            received["reports"] += 1
            received["count"] = int(values_of(message.status[0])["pictures.front"])

    listener.node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
    policy = subprocess.Popen(command_line(plan["policy"]), env=variables)
    try:
        listener.wait(lambda: received["count"] == 0, 20.0, "the policy node")
        camera = subprocess.Popen(command_line(plan["camera"]), env=variables)
        try:
            listener.wait(lambda: camera.poll() is not None, 40.0, "the end of the video")
            assert camera.returncode == 0
        finally:
            camera.kill()
        last = received["reports"] + 2
        listener.wait(lambda: received["reports"] >= last, 10.0, "two more reports of the policy node")
        assert received["count"] == FRAMES
    finally:
        policy.kill()
        policy.wait()
