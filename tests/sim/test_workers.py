"""Who hears of a Ctrl+C, and who ends when: real processes, real signals."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from policy_bringup.sim.workers import workers

_prepared = ""


def prepare(word: str) -> None:
    global _prepared
    _prepared = word


def interrupted(number: int) -> tuple[int, str, int]:
    """What a Ctrl+C in a terminal is to every process of the command."""
    os.kill(os.getpid(), signal.SIGINT)
    return number, _prepared, os.getpid()


def endless(pipe: str) -> None:
    """Says that it has begun, by whom, and never ends."""
    Path(pipe).write_text(f"{os.getpid()}\n")
    threading.Event().wait()


def begun(pipe: Path) -> int:
    """The process that plays without end, once it does."""
    return int(pipe.read_text())


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_ctrl_c_does_not_reach_those_who_play():
    with workers(2, prepare, "ready") as spread:
        found = list(spread(interrupted, range(6)))
    assert sorted((number, word) for number, word, _ in found) == [(number, "ready") for number in range(6)]
    assert os.getpid() not in {process for _, _, process in found}


def play_until_interrupted() -> None:
    with workers(1) as spread:
        for _ in spread(interrupted, range(1)):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_owner_hears_of_a_ctrl_c_while_they_play():
    with pytest.raises(KeyboardInterrupt):
        play_until_interrupted()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def wait_for_what_never_ends(pipe: Path) -> None:
    with workers(1) as spread:
        list(spread(endless, [str(pipe)]))


def test_a_keyboard_interrupt_of_the_owner_ends_at_once_what_would_never_end(pipe):
    threading.Thread(target=lambda: (begun(pipe), os.kill(os.getpid(), signal.SIGINT))).start()
    with pytest.raises(KeyboardInterrupt):
        wait_for_what_never_ends(pipe)


OWNER = """
import sys
from policy_bringup.sim.workers import workers
from tests_of_workers import endless

if __name__ == "__main__":
    with workers(1) as spread:
        list(spread(endless, sys.argv[1:]))
"""


def test_they_end_with_an_owner_that_was_killed(pipe, tmp_path):
    (tmp_path / "owner.py").write_text(OWNER)
    (tmp_path / "tests_of_workers.py").symlink_to(__file__)
    command = [sys.executable, tmp_path / "owner.py", pipe]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as owner:
        player = begun(pipe)
        descriptor = os.pidfd_open(player)
        owner.kill()
    readable, _, _ = select.select([descriptor], [], [], 60.0)
    os.close(descriptor)
    assert readable, "it plays on without its owner"
