"""What cannot work is refused: one sentence, exit code 2, no traceback, and nothing moves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def edit(path: Path, **changes) -> None:
    data = yaml.safe_load(path.read_text())
    data.update(changes)
    path.write_text(yaml.safe_dump(data))


def policy_run(site: Path, domain_id: int, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "policy_bringup.cli", "run", str(site / "config" / "grasp.yaml"), "--headless"]
    return subprocess.run(
        [*command, "--domain-id", str(domain_id), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables},
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    everything = done.stdout + done.stderr
    assert done.returncode == 2, everything
    assert "Traceback" not in everything
    for word in words:
        assert word in everything
    assert "ACTIVE" not in everything


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("safety.yaml", {"action_timeout_s": 5.0}, ("safety.yaml: action_timeout_s", "from 0.02 to 1 s", "found 5.0")),
        ("safety.yaml", {"retries": 3}, ("safety.yaml: unknown key 'retries'", "allowed are")),
        ("arm.yaml", {"watchdog_s": "soon"}, ("arm.yaml: watchdog_s: must be a number", "found 'soon'")),
        ("sim.yaml", {"physics_hz": 0}, ("sim.yaml: physics_hz: must be a whole number from", "found 0")),
        ("policy.yaml", {"ask_ahead": True}, ("policy.yaml: ask_ahead: how late the arm is has not been measured",)),
        (
            "measured_latency.yaml",
            {"sim": {"cameras": {"front": 0.3}}},
            ("measured_latency.yaml: sim: cameras.front: actions are too old 0.25 s", "0.3"),
        ),
        (
            "measured_latency.yaml",
            {"sim": None, "hardware": {"cameras": {"front": 0.03}}},
            (
                "measured_latency.yaml: hardware.cameras.front 0.03 s was measured in another mode than 'sim'",
                "run `policy calibrate-latency` with --mode sim",
            ),
        ),
        ("grasp.yaml", {"task": "juggle"}, ("task: must be one of grasp, found 'juggle'",)),
        ("grasp.yaml", {"robot": "nobody.yaml"}, ("nobody.yaml: cannot be read",)),
    ],
)
def test_a_wrong_value_is_refused_with_file_key_and_range(site: Path, domain_id: int, file: str, changes, words):
    edit(site / "config" / file, **changes)
    assert_refused(policy_run(site, domain_id, "--source", "expert"), *words)


def test_a_missing_bundle_is_refused(site: Path, domain_id: int):
    done = policy_run(site, domain_id, "--source", "bundle", "--bundle", str(site / "nowhere"))
    assert_refused(done, "nowhere")


def test_an_episode_that_cannot_be_replayed_is_refused(site: Path, domain_id: int):
    arguments = ("--source", "replay", "--bundle", str(site / "nowhere"))
    assert_refused(policy_run(site, domain_id, *arguments), f"there is no episode {site / 'nowhere'} to replay")
    (site / "nowhere").mkdir()
    assert_refused(policy_run(site, domain_id, *arguments), f"{site / 'nowhere'} is no episode to replay")
    bag = site / "nowhere" / "episode_000000_0.mcap"
    bag.write_bytes(b"not a bag")
    assert_refused(policy_run(site, domain_id, *arguments), f"{bag}: is not an MCAP bag")


def test_a_bundle_with_a_wrong_hash_is_refused(site: Path, domain_id: int, grasp_bundle: Path):
    with (grasp_bundle / "policy.onnx").open("ab") as stream:
        stream.write(b"x")
    done = policy_run(site, domain_id, "--source", "bundle", "--bundle", str(grasp_bundle))
    assert_refused(done, "sha256 is not the one in policy.yaml")


def test_a_bundle_that_nobody_has_calibrated_is_refused(site: Path, domain_id: int, grasp_bundle: Path):
    manifest = yaml.safe_load((grasp_bundle / "policy.yaml").read_text())
    manifest["uncertainty"].update(threshold=1e9, false_alarm_rate=0.0, calibration_episodes=0)
    (grasp_bundle / "policy.yaml").write_text(yaml.safe_dump(manifest))
    done = policy_run(site, domain_id, "--source", "bundle", "--bundle", str(grasp_bundle))
    assert_refused(done, f"{grasp_bundle}: is not calibrated")


def test_a_bundle_whose_pictures_were_aligned_by_another_lateness_is_refused(
    site: Path, domain_id: int, grasp_bundle: Path
):
    edit(site / "config" / "measured_latency.yaml", sim={"cameras": {"front": 0.03}})
    done = policy_run(site, domain_id, "--source", "bundle", "--bundle", str(grasp_bundle))
    assert_refused(
        done, f"{grasp_bundle / 'policy.yaml'}: fingerprint: aligned: ", "'front' taken as 0 s late", "0.03 s"
    )


def test_an_absent_camera_is_refused(site: Path, domain_id: int, grasp_bundle: Path):
    arguments = ("--mode", "hardware", "--source", "bundle", "--bundle", str(grasp_bundle))
    assert_refused(policy_run(site, domain_id, *arguments), "camera 'front': /dev/video0")


BUSY_CAMERA = """
import errno, os, stat, types
stat_of, opened = os.stat, os.open
camera = types.SimpleNamespace(st_mode=stat.S_IFCHR | 0o660, st_rdev=os.makedev(81, 0))

def look(path, *arguments, **options):
    return camera if str(path) == "/dev/video0" else stat_of(path, *arguments, **options)

def refuse(path, *arguments, **options):
    if str(path) == "/dev/video0":
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
    return opened(path, *arguments, **options)

os.stat, os.open = look, refuse
"""
"""A machine on which somebody else holds /dev/video0: what the kernel answers, in every process of the deployment."""


def test_a_busy_camera_is_refused(site: Path, domain_id: int, grasp_bundle: Path, tmp_path: Path):
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "sitecustomize.py").write_text(BUSY_CAMERA)
    arguments = ("--mode", "hardware", "--source", "bundle", "--bundle", str(grasp_bundle))
    path = os.pathsep.join([str(tmp_path / "kernel"), str(ROOT / "src")])
    done = policy_run(site, domain_id, *arguments, PYTHONPATH=path)
    assert_refused(done, "camera 'front': /dev/video0 is held by another process")
