"""A real `policy learn` that is killed, or interrupted from a terminal, while it records: the next start goes on."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.layout import bag_path, begin_episode, episodes
from policy_bringup.episodes.recovery import is_clean
from policy_bringup.episodes.splits import load_split
from policy_bringup.learn_cli import INTERRUPTED
from policy_bringup.pipeline.course import Course, Ears
from policy_bringup.pipeline.demonstrations import LEFT_OUT
from policy_bringup.sim.selfplay import SelfPlay, expert, run_selfplay

DEMONSTRATIONS = 10
LIMIT_S = 120.0


class Enough(Exception):
    """What is looked at here is done."""


@pytest.fixture
def file(small_config: Path, tmp_path: Path) -> Path:
    """A course with few demonstrations."""
    shutil.copytree(small_config, tmp_path / "site" / "config")
    (tmp_path / "site" / "models").symlink_to(small_config.parent / "models")
    path = tmp_path / "site" / "config" / "train" / "grasp.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "demonstrations": DEMONSTRATIONS}))
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def learn(file: Path, work: Path):
    """`policy learn` in a session of its own, at the moment at which it records its first demonstrations."""
    command = [sys.executable, "-m", "policy_bringup.cli", "learn", file, "--work", work, "--out", work / "out"]
    with subprocess.Popen(
        [*map(str, command), "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        until_s = time.monotonic() + LIMIT_S
        while not list(work.glob("demos/*/*.mcap")):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < until_s
            time.sleep(0.01)
        yield process
        process.kill()


def wait_for_its_processes(session: int) -> None:
    """All that it had started end with it."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == session:
                descriptor = os.pidfd_open(int(entry.name))
                readable, _, _ = select.select([descriptor], [], [], LIMIT_S)
                os.close(descriptor)
                assert readable, "it goes on without its owner"
        except ProcessLookupError:
            continue


def go_on_to_training(file: Path, work: Path) -> list[str]:
    """What a start in this process says until it has frames."""
    said: list[str] = []

    def begin(stage: str) -> None:
        if stage == "training":
            raise Enough

    with pytest.raises(Enough):
        Course(file, work, work / "out", 2, ears=Ears(begin, say=said.append)).run()
    return said


def seeds_of(folders: list[Path]) -> list[int]:
    """In order, of demonstrations that were made to their end."""
    notes = [load_journal(folder).note for folder in folders]
    return sorted(int(note.rpartition(" ")[2]) for note in notes if not note.endswith("interrupted"))


def check_frames(work: Path) -> None:
    """Every seed was made once, and what the split names, the successes and nothing else, has frames."""
    found = episodes(work / "demos")
    assert seeds_of(found) == list(range(DEMONSTRATIONS))
    parts = load_split(work / "demos")
    named = {*parts.train, *parts.validation, *parts.test}
    assert named == {folder.name for folder in found if load_journal(folder).outcome is Outcome.SUCCESS}
    assert len(named) >= DEMONSTRATIONS - 2
    assert named == {folder.name for folder in (work / "frames").iterdir()}


def test_after_a_kill_what_was_being_recorded_is_moved_aside_and_made_again(learn, file, work):
    learn.kill()
    learn.wait()
    wait_for_its_processes(learn.pid)
    without_journal = begin_episode(work / "demos")  # killed a moment earlier
    unfinished = [folder for folder in episodes(work / "demos") if not is_clean(folder)]
    bags = {bag_path(folder).read_bytes() for folder in unfinished if bag_path(folder).exists()}
    assert bags
    assert without_journal in unfinished
    (sentence,) = go_on_to_training(file, work)
    assert "not finished, and made again" in sentence
    assert all(folder.name in sentence for folder in unfinished)
    check_frames(work)
    aside = list((work / "demos" / LEFT_OUT).glob("*/episode_*"))
    assert {folder.name for folder in aside} == {folder.name for folder in unfinished}
    assert {bag_path(folder).read_bytes() for folder in aside if bag_path(folder).exists()} == bags
    assert go_on_to_training(file, work) == []


def interrupting(stack):
    """A policy that is interrupted before its first action."""
    policy, threshold = expert(stack)

    def predict(_observation):
        raise KeyboardInterrupt

    policy.predict = predict
    return policy, threshold


def test_after_a_ctrl_c_in_the_terminal_nothing_is_left_that_stands_in_the_way(learn, file, work):
    """Nor is there after one that came at the worst moment, by a process alone, or after a kill in the frames."""
    os.killpg(learn.pid, signal.SIGINT)
    said, _ = learn.communicate()
    assert learn.returncode == INTERRUPTED, said
    assert "the same command goes on from there" in said
    found = episodes(work / "demos")
    assert len(seeds_of(found)) == len(found)
    assert all(is_clean(folder) for folder in found)
    alone = SelfPlay(file.parents[1], work / "demos", 1, seed=DEMONSTRATIONS, backend="raycast", policy=interrupting)
    with pytest.raises(KeyboardInterrupt):
        run_selfplay(alone)
    (work / "frames" / ".episode_000001.77.partial" / "episode_000001").mkdir(parents=True)
    assert go_on_to_training(file, work) == []
    check_frames(work)
