"""Many bags to frames: in real processes (and on a real local Ray), some bags bad, some workers killed."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.latency import UNMEASURED, Latency, Measured
from policy_bringup.core.types import (
    ActionChunk,
    ActionSpec,
    Column,
    Contract,
    ImageSample,
    ImageSpec,
    ObservationSpec,
    Space,
    StateSample,
)
from policy_bringup.episodes import convert as convert_module
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.conversion import MARK, alignment_of
from policy_bringup.episodes.convert import ConvertReport, convert
from policy_bringup.episodes.frames import load_frames, read_frames
from policy_bringup.episodes.journal import (
    JOURNAL_FILE,
    Journal,
    Outcome,
    Provenance,
    load_journal,
    save_journal,
    to_record,
)
from policy_bringup.episodes.layout import bag_path, episode_name

START_NS = 1_700_000_000_000_000_000
RATE_HZ = 20.0
LENGTH_S = 1.0
KILLER = 666.0
"""A joint position at which the worker dies, as for want of memory."""
CONTRACT = Contract(
    "panda",
    ObservationSpec((ImageSpec("front", 8, 8),), (Column("j1", "rad"), Column("tool.x", "m"))),
    ActionSpec(Space.TASK, (Column("tool.x", "m"),), 4, 0.05, 2),
)
# Workers are started afresh and import what they call by name: this stands in a module of its own, on their path.
WORK = f"""
import os, signal, time
from dataclasses import replace

def derive(pause="", boss=os.getpid()):
    def tool(sample):
        while pause and os.path.exists(pause):
            open(pause + ".reached", "w").close()
            time.sleep(0.01)
        if sample.values[0] == {KILLER} and os.getpid() != boss:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(sample, names=("tool.x",), values=2.0 * sample.values)
    return tool

def broken():
    raise ValueError("no such robot")
"""
TOPICS = ("joint_states", "camera/front/image_raw", "safety/action", "safety/state")


@pytest.fixture
def derive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[StateSample], StateSample]]:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "work_of_the_convert_tests.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "work_of_the_convert_tests", raising=False)
    from work_of_the_convert_tests import derive  # type: ignore[import-not-found]

    return partial(derive, boss=os.getpid())


def write_bag(folder: Path, number: int, position: float | None = None) -> Path:
    """An episode of one second in which the policy drove; its joint stands at `position`, or else at its number."""
    folder.mkdir(parents=True)
    provenance = Provenance("grasp", (), "", "policy", "sim", "", "", "")
    journal = Journal(number, START_NS, provenance, Outcome.SUCCESS)
    save_journal(folder, journal)
    kinds = {name: graph.topic(name) for name in TOPICS}
    writer = BagWriter(
        folder, [BagTopic(name, kind.type, kind.qos) for name, kind in kinds.items()], to_record(journal)
    )
    for step in range(round(LENGTH_S * 100)):
        now = START_NS + step * 10_000_000
        at = float(number) if position is None else position
        sample = StateSample(now, 0, ("j1",), np.array([at]))
        made = {"joint_states": encoding.joint_state(sample, np.zeros(1), np.zeros(1), "base")}
        if step % 5 == 0:
            pixels = np.full((8, 8, 3), number, np.uint8)
            made["camera/front/image_raw"] = encoding.image(ImageSample(now, 0, "front", pixels), "front")
            action = ActionChunk("safety", now, 0, ("tool.x",), np.zeros(1), np.array([[at]]), np.zeros(1))
            made["safety/action"] = encoding.table(action, "base")
        if step == 0:
            made["safety/state"] = encoding.status(now, "safety", "ok", "", {"state": "ACTIVE", "source": "policy"})
        for topic, data in made.items():
            writer.write(topic, data, now + 1_000_000, now)
    writer.close(to_record(journal))
    return folder


@pytest.fixture
def bags(tmp_path: Path) -> list[Path]:
    return [write_bag(tmp_path / "dataset" / episode_name(number), number) for number in range(4)]


def assert_converted(out: Path, bags: list[Path], derive: Callable[[], Callable[[StateSample], StateSample]]) -> None:
    """Each folder holds what read_frames gives, and the bag's journal; and there is nothing else in `out`."""
    assert sorted(path.name for path in out.iterdir()) == sorted(bag.name for bag in bags)
    for bag in bags:
        found, wanted = load_frames(out / bag.name, CONTRACT), read_frames(bag, CONTRACT, RATE_HZ, derive())
        assert len(wanted.stamps_ns) > 10
        for name in ("stamps_ns", "state", "action"):
            assert getattr(found, name).tobytes() == getattr(wanted, name).tobytes()
        assert found.images["front"].tobytes() == wanted.images["front"].tobytes()
        assert found.driver.tolist() == wanted.driver.tolist()
        assert load_journal(out / bag.name) == load_journal(bag)


def test_all_bags_are_converted_and_progress_is_told(tmp_path: Path, bags: list[Path], derive: Callable) -> None:
    told: list[tuple[int, int, str]] = []
    report = convert(bags, tmp_path / "out", CONTRACT, RATE_HZ, derive, 2, progress=lambda *each: told.append(each))
    assert sorted(report.done) == [bag.name for bag in bags]
    assert (report.skipped, report.failed) == ((), {})
    assert [each[:2] for each in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [each[2] for each in told] == list(report.done)
    assert_converted(tmp_path / "out", bags, derive)


def test_a_bad_bag_is_named_and_harms_no_other(tmp_path: Path, bags: list[Path], derive: Callable) -> None:
    content = bag_path(bags[1]).read_bytes()
    bag_path(bags[1]).write_bytes(content[: len(content) // 2])
    bag_path(bags[2]).unlink()
    other = write_bag(tmp_path / "other" / bags[0].name, 0)
    report = convert([*bags, other], tmp_path / "out", CONTRACT, RATE_HZ, derive, 1)
    assert sorted(report.done) == [bags[0].name, bags[3].name]
    assert sorted(report.failed) == [str(other), bags[1].name, bags[2].name]
    assert str(bag_path(bags[1])) in report.failed[bags[1].name]
    assert "cannot be read (No such file or directory)" in report.failed[bags[2].name]
    assert report.failed[str(other)] == f"{other}: has the same name as {bags[0]}; convert it into another folder"
    assert_converted(tmp_path / "out", [bags[0], bags[3]], derive)


def test_a_worker_that_is_killed_costs_only_its_episode(tmp_path: Path, bags: list[Path], derive: Callable) -> None:
    deadly = write_bag(tmp_path / "dataset" / episode_name(9), 9, KILLER)
    report = convert([bags[0], deadly, *bags[1:]], tmp_path / "out", CONTRACT, RATE_HZ, derive, 1)
    assert report.failed == {
        deadly.name: f"{deadly}: the process that converted it ended with signal SIGKILL, "
        "perhaps because the memory was full"
    }
    assert len(report.done) == 4
    assert_converted(tmp_path / "out", bags, derive)


def test_what_is_finished_is_skipped_and_takes_new_labels(tmp_path: Path, bags: list[Path], derive: Callable) -> None:
    out = tmp_path / "out"
    convert(bags[:2], out, CONTRACT, RATE_HZ, derive, 1)
    made = {bag.name: (out / bag.name / "state.npy").stat().st_mtime_ns for bag in bags[:2]}
    journal = load_journal(bags[0])
    provenance = journal.provenance
    save_journal(bags[0], Journal(0, START_NS, provenance, Outcome.DISCARDED, note="upside down"))
    report = convert(bags, out, CONTRACT, RATE_HZ, derive, 1)
    assert sorted(report.skipped) == [bag.name for bag in bags[:2]]
    assert sorted(report.done) == [bag.name for bag in bags[2:]]
    assert {name: (out / name / "state.npy").stat().st_mtime_ns for name in made} == made
    assert load_journal(out / bags[0].name).outcome is Outcome.DISCARDED
    assert_converted(out, bags, derive)


def test_frames_made_otherwise_are_neither_kept_nor_overwritten(
    tmp_path: Path, bags: list[Path], derive: Callable
) -> None:
    out = tmp_path / "out"
    convert(bags[:1], out, CONTRACT, RATE_HZ, derive, 1)
    before = (out / bags[0].name / MARK).read_bytes()
    (out / bags[1].name).mkdir()
    (out / bags[1].name / "thesis.txt").write_text("my only copy")
    report = convert(bags[:3], out, CONTRACT, 10.0, derive, 1)
    assert report.done == (bags[2].name,)
    for bag in bags[:2]:
        assert report.failed[bag.name] == (
            f"{out / bag.name}: exists, but was not made from this bag with this contract, rate and latency; "
            "remove it to convert again"
        )
    assert (out / bags[0].name / MARK).read_bytes() == before
    assert (out / bags[1].name / "thesis.txt").read_text() == "my only copy"


def test_a_late_cameras_pictures_are_aligned_with_what_they_show_and_mixed_with_no_others(
    tmp_path: Path, bags: list[Path], derive: Callable
) -> None:
    out, late = tmp_path / "out", Measured(sim=Latency({"front": 0.03}), hardware=Latency({"front": 0.1}))
    assert not convert(bags[:1], out, CONTRACT, RATE_HZ, derive, 1, measured=late).failed
    found = load_frames(out / bags[0].name, CONTRACT)
    assert len(found.stamps_ns) > 10
    assert set((found.stamps_ns - START_NS) % 50_000_000) == {20_000_000}  # taken every 50 ms, shown as 30 ms before
    again = convert(bags[:1], out, CONTRACT, RATE_HZ, derive, 1)
    assert "was not made from this bag with this contract, rate and latency" in again.failed[bags[0].name]
    assert alignment_of([out / bags[0].name]) == {"sim": {"front": 0.03}}


def recorded_in(mode: str, bag: Path) -> Path:
    journal = load_journal(bag)
    save_journal(bag, replace(journal, provenance=replace(journal.provenance, mode=mode)))
    return bag


def test_each_bag_is_aligned_by_what_was_measured_in_its_mode_and_one_of_a_mode_that_was_not_is_refused(
    tmp_path: Path, bags: list[Path], derive: Callable
) -> None:
    out, late = tmp_path / "out", Measured(sim=UNMEASURED, hardware=Latency({"front": 0.03}))
    for bag, mode in zip(bags, ("sim", "hardware", "shadow", "gazebo"), strict=True):
        recorded_in(mode, bag)
    report = convert(bags, out, CONTRACT, RATE_HZ, derive, 1, measured=late)
    assert sorted(report.done) == [bag.name for bag in bags[:3]]
    for bag, offset_ns in zip(bags[:3], (0, 20_000_000, 20_000_000), strict=True):
        stamps_ns = load_frames(out / bag.name, CONTRACT).stamps_ns
        assert set((stamps_ns - START_NS) % 50_000_000) == {offset_ns}
    assert list(report.failed) == [bags[3].name]
    assert report.failed[bags[3].name] == (
        f"{bags[3]}: the deployment's latency file: hardware.cameras.front 0.03 s was measured in another mode than "
        "'gazebo', which is missing; run `policy calibrate-latency` with --mode gazebo, or write `gazebo: {}` if "
        "nothing is late there"
    )
    assert alignment_of(out / bag.name for bag in bags[:3]) == {"sim": {}, "hardware": {"front": 0.03}}
    assert not convert(bags[3:], out, CONTRACT, RATE_HZ, derive, 1).failed  # nothing was measured in any mode


def test_of_a_bag_without_a_journal_nobody_knows_by_what_it_is_to_be_aligned_unless_nothing_is_late(
    tmp_path: Path, bags: list[Path], derive: Callable
) -> None:
    out, late = tmp_path / "out", Measured(hardware=Latency({"front": 0.03}))
    (bags[0] / JOURNAL_FILE).unlink()
    refused = convert(bags[:1], out, CONTRACT, RATE_HZ, derive, 1, measured=late).failed[bags[0].name]
    assert "in another mode than '', which is missing; the mode must be one of sim, hardware, gazebo, shadow" in refused
    assert not convert(bags[:1], out, CONTRACT, RATE_HZ, derive, 1).failed
    assert alignment_of([out / bags[0].name]) == {"unknown": {}}


def test_frames_of_one_mode_that_were_aligned_in_two_ways_are_not_learned_from_together(
    tmp_path: Path, bags: list[Path], derive: Callable
) -> None:
    out = tmp_path / "out"
    convert(bags[:1], out, CONTRACT, RATE_HZ, derive, 1)
    convert(bags[1:2], out, CONTRACT, RATE_HZ, derive, 1, measured=Measured(Latency({"front": 0.03})))
    with pytest.raises(EpisodeError, match=r"000001: \{'front': 0.03\} was taken as late, in .*000000 no camera; make"):
        alignment_of(out / bag.name for bag in bags[:2])
    (out / bags[1].name / MARK).write_text("[]")
    with pytest.raises(EpisodeError, match=r"conversion.json: is damaged"):
        alignment_of([out / bags[1].name])
    (out / bags[1].name / MARK).unlink()  # as of frames that came from elsewhere
    assert alignment_of(out / bag.name for bag in bags[:2]) == {"sim": {}}


def test_a_worker_is_replaced_after_its_share_of_bags(
    tmp_path: Path, bags: list[Path], derive: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "JOBS_PER_WORKER", 2)
    hired: list[int | None] = []
    hire = convert_module._hire

    def counted(*args):
        worker = hire(*args)
        hired.append(worker.process.pid)
        return worker

    monkeypatch.setattr(convert_module, "_hire", counted)
    report = convert(bags, tmp_path / "out", CONTRACT, RATE_HZ, derive, 1)
    assert len(report.done) == 4
    assert len(set(hired)) == 2
    assert not [pid for pid in hired if is_alive(pid)]


def test_an_interrupt_ends_the_workers_and_the_rest_is_converted_next_time(
    tmp_path: Path, bags: list[Path], derive: Callable
) -> None:
    out, pause = tmp_path / "out", tmp_path / "pause"
    pause.touch()
    slow = partial(derive, pause=str(pause))
    workers: list[int | None] = []

    def interrupt() -> None:
        # Once a worker is at it, and not before: Ctrl+C goes to this process.
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline and not Path(f"{pause}.reached").exists():
            time.sleep(0.01)
        workers.extend(child.pid for child in multiprocessing.active_children())
        os.kill(os.getpid(), signal.SIGINT)

    # A shell's background job ignores Ctrl+C, and Python then leaves it at that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            convert(bags, out, CONTRACT, RATE_HZ, slow, 1)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert workers
    assert not [pid for pid in workers if is_alive(pid)]
    assert list(out.iterdir()) == []
    pause.unlink()
    convert(bags, out, CONTRACT, RATE_HZ, derive, 1)
    assert_converted(out, bags, derive)


def test_what_is_wrong_for_every_bag_is_said_at_once(tmp_path: Path, bags: list[Path], derive: Callable) -> None:
    from work_of_the_convert_tests import broken

    with pytest.raises(ValueError, match="no such robot"):
        convert(bags, tmp_path / "out", CONTRACT, RATE_HZ, broken, 1)
    with pytest.raises(EpisodeError, match="convert: 0 workers; at least 1 is needed"):
        convert(bags, tmp_path / "out", CONTRACT, RATE_HZ, derive, 0)
    assert not (tmp_path / "out").exists()


def test_without_ray_one_sentence_says_what_to_install(
    tmp_path: Path, bags: list[Path], derive: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        EpisodeError, match=r"Ray is not installed; install it with: pip install 'policy_bringup\[ray\]'"
    ):
        convert(bags, tmp_path / "out", CONTRACT, RATE_HZ, derive, 1, "local")


@pytest.mark.ray
def test_on_a_local_ray_the_same_comes_out_and_a_killed_task_harms_no_other(
    tmp_path: Path, bags: list[Path], derive: Callable
) -> None:
    pytest.importorskip("ray")
    deadly = write_bag(tmp_path / "dataset" / episode_name(9), 9, KILLER)
    content = bag_path(bags[1]).read_bytes()
    bag_path(bags[1]).write_bytes(content[: len(content) // 2])
    told: list[tuple[int, int, str]] = []
    report: ConvertReport = convert(
        [*bags, deadly], tmp_path / "out", CONTRACT, RATE_HZ, derive, 2, "local", lambda *each: told.append(each)
    )
    assert sorted(report.done) == [bags[0].name, bags[2].name, bags[3].name]
    assert sorted(report.failed) == [bags[1].name, deadly.name]
    assert str(deadly) in report.failed[deadly.name]
    assert "\n" not in report.failed[deadly.name]
    assert [each[:2] for each in told] == [(count, 5) for count in range(1, 6)]
    assert_converted(tmp_path / "out", [bags[0], bags[2], bags[3]], derive)


def is_alive(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True
