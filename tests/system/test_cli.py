"""The command line as a person uses it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from policy_bringup import doctor
from policy_bringup.core.trials import load_report

ROOT = Path(__file__).resolve().parents[2]


def policy(*arguments: str, timeout_s: float = 120.0, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "policy_bringup.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_expert_episodes_over_topics_succeed(tmp_path: Path, domain_id: int):
    """A machine that stands still for a moment is stopped, rightly: one episode of three may end so, none otherwise."""
    path = tmp_path / "report.json"
    done = policy(
        "run", "grasp", "--source", "expert", "--episodes", "3", "--headless", "--json", str(path),
        "--domain-id", str(domain_id),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = load_report(path)
    assert len(report.episodes) == 3
    assert all(episode.success or episode.stops for episode in report.episodes), done.stdout + done.stderr
    assert report.successes >= 2, done.stdout + done.stderr
    assert set(report.latency_ms) == {"camera", "policy", "safety", "arm", "total"}
    assert json.loads(path.read_text())["successes"] == report.successes
    for heading in ("successes", "latency from the camera's stamp", "verdicts by rule"):
        assert heading in done.stdout


def test_a_bundle_runs_through_the_same_nodes(domain_id: int, grasp_bundle: Path, tmp_path: Path):
    """The graph in the bundle asks to stay where the robot is: armed and followed, and never stopped by safety."""
    path = tmp_path / "report.json"
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "config").mkdir()
    for file in (ROOT / "config").glob("*.yaml"):
        text = file.read_text().replace("episode_timeout_s: 20.0", "episode_timeout_s: 3.0")
        (folder / "config" / file.name).write_text(text)
    (folder / "models").symlink_to(ROOT / "models")
    done = policy(
        "run", str(folder / "config" / "grasp.yaml"), "--bundle", str(grasp_bundle), "--episodes", "1", "--headless",
        "--json", str(path), "--domain-id", str(domain_id),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (episode,) = load_report(path).episodes
    assert episode.stops or episode.outcome == "timeout, object untouched"


def test_the_shipped_policy_grasps_from_pixels_over_topics(domain_id: int, tmp_path: Path):
    path = tmp_path / "report.json"
    done = policy(
        "run", "grasp", "--episodes", "5", "--headless", "--json", str(path), "--domain-id", str(domain_id),
        timeout_s=240.0,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = load_report(path)
    assert len(report.episodes) == 5
    assert report.successes >= 4, done.stdout + done.stderr


def test_an_unknown_deployment_is_one_sentence():
    done = policy("run", "juggle")
    assert done.returncode == 2
    assert done.stderr.strip() == f"policy: deployment: there is no file {ROOT / 'config' / 'juggle.yaml'}"


def test_the_doctor_finds_what_these_tests_run_on():
    done = policy("doctor")
    assert done.returncode == 0
    for word in ("ROS 2", "rmw_fastrtps_cpp", "DDS security", "OpenGL", "execution providers", "cameras", "MuJoCo"):
        assert word in done.stdout


def test_the_doctor_refuses_two_builds_of_onnxruntime_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = {finding.what: finding for finding in doctor.examine()}
    assert before["execution providers"].ok
    second = tmp_path / "onnxruntime_gpu-1.21.0.dist-info"
    second.mkdir()
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.21.0\n")
    (second / "top_level.txt").write_text("onnxruntime\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = {finding.what: finding for finding in doctor.examine()}
    assert not found["inference"].ok
    assert found["inference"].found == "onnxruntime and onnxruntime-gpu overwrite each other's files"
    assert "pip uninstall onnxruntime onnxruntime-gpu; then pip install" in found["inference"].remedy
    assert "execution providers" not in found


@pytest.mark.parametrize(("most", "enough"), [(4_194_304, True), (4_194_303, False)])
def test_the_doctor_says_how_to_allow_the_receive_buffer_that_dds_is_asked_for(tmp_path, monkeypatch, most, enough):
    asked = f"<receiveBufferSize>{doctor.RECEIVE_BUFFER}</receiveBufferSize>"
    assert all(asked in (ROOT / "config" / name).read_text() for name in ("fastdds.xml", "fastdds_pictures.xml"))
    allowed = tmp_path / "rmem_max"
    allowed.write_text(f"{most}\n")
    monkeypatch.setattr(doctor, "MOST_RECEIVE_BUFFER", allowed)
    (finding,) = [finding for finding in doctor.examine() if finding.what == "DDS receive buffer"]
    assert (finding.found, finding.ok, finding.needed) == (f"at most {most} bytes", enough, False)
    assert ("sudo sysctl -w net.core.rmem_max=4194304" in finding.remedy) is bool(finding.remedy) is not enough


@pytest.mark.parametrize("what", ["ROS 2", "simulator"])
def test_everything_a_simulated_deployment_needs_is_marked_as_needed(what: str):
    (finding,) = [finding for finding in doctor.examine() if finding.what == what]
    assert finding.needed
    assert finding.ok
