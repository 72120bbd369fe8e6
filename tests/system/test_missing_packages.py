"""What a ROS installation does not bring: without it a node that needs it says so in one sentence, exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import os, sys


class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == os.environ["WITHOUT"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Without())
"""


@pytest.fixture
def run_without(ros_environment, tmp_path: Path):
    """Runs Python as if one package were not installed."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)

    def run(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        paths = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT / "src"))), "WITHOUT": package}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env={**os.environ, **paths}, capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.mark.parametrize(
    ("node", "package", "extra"),
    [
        ("sim", "mujoco", "sim"),
        ("sim_camera", "mujoco", "sim"),
        ("recorder", "mcap", "robot"),
        ("recorder", "rosbags", "robot"),
        ("camera", "cv2", "robot"),
        ("policy", "onnxruntime", "robot"),
        ("console", "viser", "console"),
    ],
)
def test_a_node_without_its_package_says_which_and_how_to_get_it(
    run_without, grasp_bundle: Path, tmp_path: Path, node: str, package: str, extra: str
):
    given = {"deployment": ROOT / "config" / "grasp.yaml", "source": "bundle", "bundle": grasp_bundle, "mode": "sim"}
    given["record"] = tmp_path / "demos"
    parameters = [text for key, value in given.items() for text in ("-p", f"{key}:={value}")]
    done = run_without(package, "-m", f"policy_bringup.nodes.{node}_node", "--ros-args", *parameters)
    everything = done.stdout + done.stderr
    assert done.returncode == 2, everything
    assert "Traceback" not in everything
    assert f"needs the Python package '{package}', which is not installed here" in everything
    assert f"pip install '.[{extra}]'" in everything


def test_safety_and_arm_need_none_of_them(run_without):
    for package in ("mujoco", "onnxruntime", "cv2", "mcap", "rosbags", "viser"):
        code = "import policy_bringup.nodes.safety_node, policy_bringup.nodes.arm_node"
        done = run_without(package, "-c", code)
        assert done.returncode == 0, (package, done.stderr)


def test_any_other_error_is_shown_whole(run_without):
    for code in ("import nonsense", "1 / 0"):
        done = run_without("mujoco", "-c", f"import policy_bringup.nodes; {code}")
        assert done.returncode == 1
        assert "Traceback" in done.stderr
