"""Nothing is lost at the full rate of three cameras, and next to nothing when the recorder is killed."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


def benchmark(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Ends with all that it started, also where it hangs: it is interrupted as a person would."""
    (ROOT / "build").mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            out, _ = process.communicate(timeout=500.0)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                out, _ = process.communicate(timeout=60.0)
            finally:
                process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out)


def test_a_minute_of_three_cameras_of_640x480_and_100_hz_joints_is_recorded_without_a_loss(domain_id, tmp_path: Path):
    path = tmp_path / "report.json"
    done = benchmark("recorder", "--seconds", SECONDS, "--json", path, "--domain-id", domain_id)
    assert done.returncode == 0, done.stdout
    report = json.loads(path.read_text())
    pictures = [count for name, count in report["topics"].items() if name.endswith("/image_raw")]
    assert len(pictures) == 3
    for count in (*pictures, report["topics"]["joint_states"]):
        assert count["written"] == count["received"]
        assert count["dropped"] == count["lost"] == 0
    for count in pictures:
        assert count["written"] >= 0.95 * 30 * SECONDS
    assert report["topics"]["joint_states"]["written"] >= 0.95 * 100 * SECONDS
    assert not any(report["unaccounted"].values())
    assert report["stop_s"] <= 1.0  # the verdict is there before the scene is reset
    for who in ("recorder node", "own, alone", "mcap, alone", "rosbags, alone"):
        assert re.search(rf"{who}: \d+ MB/s, \d+\.\d CPU seconds per GB", done.stdout)


def test_of_three_times_too_much_every_message_is_in_the_bag_or_in_the_counts(domain_id, tmp_path: Path):
    path = tmp_path / "report.json"
    done = benchmark("recorder", "--seconds", 6, "--overload", "--json", path, "--domain-id", domain_id)
    assert done.returncode == 0, done.stdout
    report = json.loads(path.read_text())
    assert len(report["unaccounted"]) == 10
    assert not any(report["unaccounted"].values())
    assert sum(count["lost"] + count["dropped"] for count in report["topics"].values()) > 100
    assert report["topics"]["joint_states"]["dropped"] == 0


def test_a_recorder_killed_at_random_times_leaves_bags_that_are_whole_after_recovery(domain_id, tmp_path: Path):
    path = tmp_path / "report.json"
    done = benchmark("killed_recorder", "--kills", 6, "--json", path, "--domain-id", domain_id)
    assert done.returncode == 0, done.stdout
    lost_s = json.loads(path.read_text())["lost_s"]
    assert len(lost_s) == 6
    assert max(lost_s) <= 0.6
