"""Shared memory that killed processes leave behind is taken away; that of the living is not."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from policy_bringup.leftovers import LOCKS, SHARED, YOUNG_S, sweep


@pytest.fixture
def shared(tmp_path: Path):
    """Makes a segment of 1000 bytes with its lock file, so old."""

    def make(name: str, age_s: float = YOUNG_S + 5.0) -> Path:
        segment, lock = tmp_path / name, tmp_path / f"{name}_el"
        segment.write_bytes(bytes(1000))
        lock.touch()
        then = lock.stat().st_mtime - age_s
        os.utime(lock, (then, then))
        return segment

    return make


@pytest.mark.parametrize("name", ["fastrtps_51b9fd1544445143", "fastdds_002f99c775ae2966"])
def test_what_nobody_owns_any_more_is_removed_with_its_lock(shared, tmp_path: Path, name: str):
    shared(name)
    assert sweep(tmp_path) == 1000
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_holds_is_young_or_of_others_stays(shared, tmp_path: Path):
    held, young, other = shared("fastdds_held"), shared("fastdds_young", age_s=1.0), shared("somebody_else")
    with (tmp_path / "fastdds_held_el").open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert sweep(tmp_path) == 0
    assert all(path.exists() for path in (held, young, other))


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path):
    assert sweep(tmp_path / "nowhere") == 0


NODE = """
import rclpy, sys
rclpy.init()
node = rclpy.create_node("mayfly")
print("up", flush=True)
sys.stdin.read()
"""


def test_fast_dds_leaves_a_segment_of_a_killed_process_and_holds_those_of_the_living(ros_environment, monkeypatch):
    """With shared memory, which this package uses for pictures: the real thing, not our idea of it."""
    before = _segments()
    with subprocess.Popen(
        [sys.executable, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "up\n"
        mine = _segments() - before
        assert mine, "this process has no segment"
        monkeypatch.setattr("policy_bringup.leftovers.YOUNG_S", 0.0)
        sweep()
        assert mine <= _segments(), "a living one was taken"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert mine <= _segments(), "Fast DDS takes them away by itself now: leftovers.py is not needed any more"
    sweep()
    assert not mine & _segments()


def _segments() -> set[Path]:
    return {lock for pattern in LOCKS for lock in SHARED.glob(pattern)}
