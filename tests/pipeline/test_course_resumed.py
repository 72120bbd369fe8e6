"""The last stages of a course, interrupted and called again; episodes come from a table, so that they take no time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from policy_bringup.core.startup import Options
from policy_bringup.core.trials import Episode, Report
from policy_bringup.core.types import Contract
from policy_bringup.inference.manifest import MANIFEST_FILE, PROVISIONAL_THRESHOLD, Uncertainty, read_manifest
from policy_bringup.learn_cli import Learn
from policy_bringup.learning.train import Interrupted, Trained
from policy_bringup.pipeline.course import STAGES, Course, Ears
from policy_bringup.pipeline.play import Job, Played, Stage
from policy_bringup.pipeline.summary import PAGE_FILE
from policy_bringup.sim.rollout import load_stack

SMALL = {
    "false_alarm_rate": 0.05,
    "calibration_episodes": 19,
    "evaluation_episodes": 3,
    "other_episodes": 1,
    "fault_episodes": 1,
    "topic_episodes": 0,
}


@pytest.fixture(scope="session")
def contract(small_config: Path) -> Contract:
    return load_stack(small_config).deployment.contract


@pytest.fixture
def file(small_config: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_config, tmp_path / "site" / "config")
    (tmp_path / "site" / "models").symlink_to(small_config.parent / "models")
    path = tmp_path / "site" / "config" / "train" / "grasp.yaml"
    change(path, **SMALL)
    return path


def change(path: Path, **values) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


@pytest.fixture
def work(hovering, contract: Contract, tmp_path: Path) -> Path:
    """Of a course that has come as far as a bundle."""
    uncertainty = Uncertainty("ensemble", PROVISIONAL_THRESHOLD, 0.0, 0)
    hovering(tmp_path / "work" / "bundle", contract, uncertainty=uncertainty)
    return tmp_path / "work"


@pytest.fixture
def played(monkeypatch, make_attempt) -> list[Job]:
    """Every episode that is really played: a success, in more doubt the later its seed."""
    jobs: list[Job] = []

    def play(stage: Stage, job: Job) -> Played:
        jobs.append(job)
        doubt = job.seed % 500_000 / 1000
        attempt = make_attempt(seed=job.seed, condition=job.condition, doubt=doubt, onset_s=job.onset_s)
        return Played(job, attempt, {})

    monkeypatch.setattr(Stage, "play", play)
    return jobs


def course(file: Path, work: Path, ears: Ears | None = None) -> Course:
    return Course(file, work, work / "shipped", 1, "policy learn grasp", ears)


def stopped_after(count: int) -> Ears:
    """Ears of somebody who asks to stop once so many episodes are done."""
    done: list[int] = []
    return Ears(done=lambda at, _total: done.append(at), stop=lambda: len(done) >= count)


def uncertainty(work: Path) -> Uncertainty:
    return read_manifest(work / "bundle" / MANIFEST_FILE).uncertainty


def test_an_interrupted_calibration_plays_only_what_is_missing(file, work, played):
    with pytest.raises(Interrupted, match="stopped after 7 of 19"):
        course(file, work, stopped_after(7))._calibrate()
    assert uncertainty(work).calibration_episodes == 0
    course(file, work)._calibrate()
    assert [job.seed for job in played] == list(range(500_000, 500_019))
    assert uncertainty(work) == Uncertainty("ensemble", 0.018, 0.05, 19)


def test_another_rate_or_number_of_episodes_is_another_threshold_and_plays_nothing_twice(file, work, played):
    course(file, work)._calibrate()
    change(file, false_alarm_rate=0.2)
    course(file, work)._calibrate()
    assert uncertainty(work) == Uncertainty("ensemble", 0.015, 0.2, 19)
    assert len(played) == 19
    change(file, calibration_episodes=24)
    course(file, work)._calibrate()
    assert uncertainty(work) == Uncertainty("ensemble", 0.019, 0.2, 24)
    change(file, calibration_episodes=19, false_alarm_rate=0.05)
    course(file, work)._calibrate()
    assert uncertainty(work) == Uncertainty("ensemble", 0.018, 0.05, 19)
    assert len(played) == 24


def test_an_interrupted_evaluation_plays_only_what_is_missing_and_ends_as_if_it_had_not_been(file, work, played):
    course(file, work)._calibrate()
    shutil.copytree(work, work.with_name("other"))
    del played[:]
    whole = course(file, work.with_name("other"))._evaluate()
    jobs = list(played)
    del played[:]
    with pytest.raises(Interrupted, match="stopped after 9 of"):
        course(file, work, stopped_after(9))._evaluate()
    assert not (work / "shipped").exists()
    resumed = course(file, work)._evaluate()
    assert played == jobs
    assert (resumed.attempts, resumed.network) == (whole.attempts, whole.network)


def test_another_threshold_is_evaluated_anew(file, work, played):
    course(file, work)._calibrate()
    course(file, work)._evaluate()
    change(file, false_alarm_rate=0.2)
    course(file, work)._calibrate()
    del played[:]
    course(file, work)._evaluate()
    assert [job.seed for job in played if job.counts][:3] == [1_000_000, 1_000_001, 1_000_002]
    assert not [job for job in played if job.unguarded]  # the threshold had no say in these


def finish(begun: Course) -> None:
    """What comes after the bundle."""
    begun._calibrate()
    begun._ship(replace(begun._evaluate(), ros=begun._play_over_topics()))


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_finished_course_has_nothing_to_do_and_changes_nothing(file, work, played):
    finish(course(file, work))
    made, stages = content(work), list[str]()
    del played[:]
    assert course(file, work, Ears(stages.append)).run() is False
    assert content(work) == made
    assert (stages, played) == ([], [])


def test_what_the_deployment_did_over_topics_is_in_the_report_that_is_shipped(file, work, played):
    change(file, topic_episodes=7)
    wanted: list[Options] = []

    def deploy(options: Options, done: Callable[[int, int], None]) -> Report:
        wanted.append(options)
        done(7, 7)
        episodes = tuple(Episode(number, number > 1, "success", 5.0) for number in range(1, 8))
        return Report(episodes, {"total": {"count": 9, "p50": 12.0, "p99": 19.5, "max": 22.0}}, {}, {})

    stages, told = list[str](), list[tuple[int, int]]()
    ears = Ears(stages.append, lambda done, total: told.append((done, total)))
    finish(Course(file, work, work / "shipped", 1, "policy learn grasp", ears, deploy=deploy))
    assert stages[-1] == STAGES[-1] == "topics"
    assert told[-1] == (7, 7)
    (options,) = wanted
    assert (options.mode, options.source, options.episodes, options.seed) == ("sim", "bundle", 7, 1_000_000)
    assert options.bundle == work / "bundle"
    table = (work / "shipped" / "report.md").read_text()
    assert "| over topics, all nodes running | 6 of 7: 85.7 %" in table
    assert "| latency over topics, total | median 12.0 ms, 99 % within 19.5 ms, worst 22.0 ms |" in table


class Begun(Exception):
    """A course has something to do."""


def begin(_stage: str) -> None:
    raise Begun


def damage(file: Path, work: Path) -> None:
    (work / "shipped" / "report.md").write_text("another")


def remove(file: Path, work: Path) -> None:
    shutil.rmtree(work / "shipped")


def ask_for_more(file: Path, work: Path) -> None:
    change(file, evaluation_episodes=4)


def change_the_world(file: Path, work: Path) -> None:
    change(file.parents[1] / "sim.yaml")


@pytest.mark.parametrize("happens", [damage, remove, ask_for_more, change_the_world])
def test_a_finished_course_begins_again_where_something_is_no_longer_as_it_was(file, work, played, happens):
    finish(course(file, work))
    happens(file, work)
    with pytest.raises(Begun):
        course(file, work, Ears(begin)).run()


def test_the_command_says_that_all_is_done_and_where_the_report_lies(file, work, played, capsys):
    finish(course(file, work))
    made = content(work)
    assert Learn(str(file), work, work / "shipped", 1)() == 0
    said = capsys.readouterr().out
    assert f"{work}: everything is done, and nothing was changed" in said
    assert f"\n{work / 'report' / PAGE_FILE}\n" in said
    assert content(work) == made


def test_the_command_says_where_the_report_lies_and_what_training_waited_for(file, work, played, capsys, monkeypatch):
    finish(course(file, work))
    trained = Trained(None, {"step_shares": {"waiting": 0.0512, "augmentation": 0.2}}, work, "steps")

    def run(self: Course) -> bool:
        self._ears.trained(trained)
        return True

    monkeypatch.setattr(Course, "run", run)
    assert Learn(str(file), work, work / "shipped", 1)() == 0
    said = capsys.readouterr().out
    assert "training: of its steps' time 5.1% was waiting for data, 20.0% augmentation\n" in said
    assert "Evaluation of shipped" in said
    assert f"\n{work / 'report' / PAGE_FILE}\n{work / 'shipped'}\n" in said
