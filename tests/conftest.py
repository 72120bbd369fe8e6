"""Shared by all tests: where things lie, and one ROS domain for the whole run."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_bringup.leftovers import sweep

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    # Jobs in the background of a script ignore Ctrl+C, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish() -> None:
    sweep()  # many a process was killed


@pytest.fixture(scope="session")
def config_folder() -> Path:
    return ROOT / "config"


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Stop records of tests are not kept among the user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def domain_id() -> int:
    """One domain per run, away from the default one, so that runs beside each other do not hear each other."""
    return 1 + os.getpid() % 100


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "small_disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
