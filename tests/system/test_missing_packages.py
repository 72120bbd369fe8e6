"""What may be missing: without it a node or a command that needs it says so in one sentence, exit code 2."""

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


@pytest.mark.parametrize(
    "command",
    [
        "learn grasp --work {0}/work",
        "train --config config/train/bc_cnn.yaml --frames {0} --out {0}/out",
        "export {0} --frames {0} --split {0} --out {0}/out",
    ],
)
def test_a_command_that_learns_says_without_torch_how_to_get_it(run_without, tmp_path: Path, command: str):
    done = run_without("torch", "-m", "policy_bringup.cli", *command.format(tmp_path).split())
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "policy: needs the Python package 'torch', which is not installed here; from the sources of this package: "
        "pip install '.[learning]' (see README)\n"
    )


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
