"""What cannot work does not start: fault 20. Safety and arm end with a sentence; the robot hears nothing."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from harness.bench import CONFIG, participant
from harness.recording import COMMAND, SAFE, Recording
from harness.stack import ROOT, Stack
from rclpy.node import Node

from policy_bringup.core.startup import Options, environment


def _lower_above_upper(robot: dict, _deployment: dict, rng: np.random.Generator) -> str:
    joint = robot["joints"][int(rng.integers(0, 7))]
    joint["lower"], joint["upper"] = joint["upper"], joint["lower"]
    return joint["name"]


def _not_a_number(_robot: dict, deployment: dict, rng: np.random.Generator) -> str:
    key = str(rng.choice(["lower", "upper", "max_step", "max_velocity", "max_acceleration", "max_window", "tolerance"]))
    deployment["limits"][int(rng.integers(0, 8))][key] = math.nan
    return key


def _missing_joint(robot: dict, _deployment: dict, rng: np.random.Generator) -> str:
    name: str = robot["joints"].pop(int(rng.integers(0, 7)))["name"]
    return name


BROKEN = {"lower above upper": _lower_above_upper, "not a number": _not_a_number, "missing joint": _missing_joint}


@pytest.mark.fault(20, "refused at the start with file and key, exit code 2; nothing is ever sent to safety or robot")
@pytest.mark.parametrize("what", BROKEN)
def test_a_bad_configuration_starts_nothing(next_domain, rng, tmp_path: Path, monkeypatch, what: str):
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    paths = [tmp_path / "config" / name for name in ("robot.yaml", "grasp.yaml")]
    data = [yaml.safe_load(path.read_text()) for path in paths]
    word = BROKEN[what](*data, rng)
    for path, content in zip(paths, data, strict=True):
        path.write_text(yaml.safe_dump(content))
    domain_id = next_domain()
    options = Options(mode="sim", deployment=paths[1], source="expert", episodes=0, domain_id=domain_id)
    for name, value in environment(CONFIG, domain_id, pictures=False).items():
        monkeypatch.setenv(name, value)
    with participant(domain_id) as context:
        recording = Recording(Node("operator", context=context), ("front", "wrist"))
        try:
            with Stack(options, tmp_path, ("sim", "sim_camera", "trial", "policy")) as stack:
                codes = {name: child.wait(timeout=30.0) for name, child in stack.children.items()}
        finally:
            recording.close()
    assert codes == {"safety": 2, "arm": 2}, stack.output.getvalue()
    assert word in stack.output.getvalue()
    assert "Traceback" not in stack.output.getvalue()
    assert recording.newest(SAFE) is None
    assert recording.newest(COMMAND) is None
