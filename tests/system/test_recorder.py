"""Recordings of a running robot: complete, labelled, judged, and there after whatever ends them."""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import qos_profile_sensor_data
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

from policy_bringup.core import graph
from policy_bringup.core.decoding import stamp_of
from policy_bringup.episodes.journal import Journal, Outcome, load_journal
from policy_bringup.episodes.layout import bag_path, episodes
from policy_bringup.episodes.pictures import picture
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.recovery import is_clean, recover

JPEG_TOPIC = "camera/front/image_raw/compressed"


def own_configuration(folder: Path, old: str, new: str) -> Path:
    """The grasping deployment with another recorder.yaml."""
    root = Path(__file__).resolve().parents[2]
    shutil.copytree(root / "config", folder / "config")
    (folder / "models").symlink_to(root / "models")
    path = folder / "config" / "recorder.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return folder / "config" / "grasp.yaml"


def counts_match(folder: Path, journal: Journal) -> None:
    """The bag holds exactly what the journal counts as written."""
    with AnyReader([folder]) as reader:
        found = {connection.topic: connection.msgcount for connection in reader.connections}
    for name, count in journal.counts.items():
        assert found.get("/" + name.removeprefix("/"), 0) == count.written, name
        assert count.received == count.written + count.dropped


def test_an_episode_is_recorded_judged_and_labelled(deploy, recorder, tmp_path: Path):
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset, operator="7"):
        assert recorder.refused("stop") == "nothing is being recorded"
        recorder.begin()
        assert "is being recorded; stop it first" in recorder.refused("start")
        recorder.wait_for(3.0)
        (folder,) = episodes(dataset)
        assert load_journal(folder).outcome is Outcome.FAILURE
        assert recorder.label(True) == "episode_000000 is a success"
        asked = time.monotonic()
        sentence = recorder.press("stop")
        assert time.monotonic() - asked < 1.0  # the verdict is there before the scene is reset
        assert sentence.startswith("episode_000000: redo because")  # nobody has moved the arm
        journal = load_journal(folder)
        assert journal.outcome is Outcome.SUCCESS
        assert journal.provenance.operator == "7"
        counts_match(folder, journal)
        for name in ("camera/front/image_raw", "camera/wrist/image_raw", "joint_states", "safety/action"):
            count = journal.counts[name]
            assert count.written > 10, name
            assert (count.dropped, count.lost) == (0, 0), name
        recorder.label(False)
        assert load_journal(folder).outcome is Outcome.FAILURE
        recorder.begin()
        recorder.wait_for(0.5)
        assert recorder.press("discard") == "episode_000001 is discarded"
        assert load_journal(episodes(dataset)[1]).outcome is Outcome.DISCARDED


def test_pictures_may_be_recorded_as_jpeg_and_are_read_alike(deploy, recorder, tmp_path: Path):
    site = own_configuration(tmp_path, "pictures: raw ", "pictures: compressed ")
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset, deployment=site):
        raw: list[Image] = []
        recorder.node.create_subscription(Image, "camera/front/image_raw", raw.append, qos_profile_sensor_data)
        recorder.wait_until(lambda _: raw, "a picture")
        recorder.begin()
        before = len(raw)
        recorder.wait_for(0.3)
        recorder.wait_until(lambda _: len(raw) > before + 3, "pictures of this episode")
        recorder.press("stop")
    (folder,) = episodes(dataset)
    counts_match(folder, load_journal(folder))
    live = {stamp_of(message.header.stamp): bytes(message.data) for message in raw}
    with open_bag(folder) as bag:
        assert "camera/front/image_raw" not in bag.topics
        found = [picture(bag.decode(message), 0, "front") for message in bag.messages([JPEG_TOPIC])]
    common = [sample for sample in found if sample.stamp_ns in live]
    assert common
    for sample in common:
        seen = np.frombuffer(live[sample.stamp_ns], np.uint8).reshape(sample.pixels.shape)
        assert np.abs(sample.pixels.astype(int) - seen).mean() < 3.0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_fills_up_ends_the_recording_with_a_sentence_and_a_whole_bag(deploy, recorder, tmp_path: Path):
    dataset = tmp_path / "demos"
    dataset.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(dataset)], check=True)
    try:
        site = own_configuration(tmp_path, "free_space_mb: 2000", "free_space_mb: 30")
        with deploy(source="none", record=dataset, deployment=site):
            recorder.begin()
            recorder.wait_until(lambda state: state.get("state") == "failed", "the end of the recording")
            assert "MB left; at least 30 MB are needed" in recorder.sentence
            assert "at least 30 MB are needed" in recorder.refused("start")
        (folder,) = episodes(dataset)
        assert is_clean(folder)
        counts_match(folder, load_journal(folder))
    finally:
        subprocess.run(["umount", "-l", str(dataset)], check=True)


class Others:
    """Who else writes to a disk, and leaves not a byte of it."""

    def __init__(self, disk: Path) -> None:
        self._path, self._disk = disk / "others.bin", disk

    def fill(self) -> None:
        """Takes what is left, also what somebody else has given back since."""
        with self._path.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(2**16)):
                pass
        assert shutil.disk_usage(self._disk).free == 0

    def go(self) -> None:
        self._path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_without_a_byte_left_is_said_within_a_second_and_the_recorder_lives_on(
    deploy, listener, recorder, tmp_path: Path
):
    """No room for the journal either. Its look at the free space comes late, since the disk fills at once."""
    dataset = tmp_path / "demos"
    dataset.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(dataset)], check=True)
    try:
        site, others = own_configuration(tmp_path, "free_space_mb: 2000", "free_space_mb: 10"), Others(dataset)
        with deploy(source="none", record=dataset, deployment=site, operator="7") as runner:
            recorder.begin()
            recorder.wait_for(2.0)
            recorder.label(True)
            others.fill()
            said = lambda: (others.fill(), recorder.state.get("state") == "failed")[1]  # noqa: E731
            listener.wait(said, 1.0, "the failure, in the recorder's state")  # a first write fails after the fill
            assert "the disk is full" in recorder.sentence or "has 0 MB left" in recorder.sentence
            assert "the disk is full" in recorder.label(False)
            assert "has 0 MB left" in recorder.refused("start")
            assert runner.children["recorder"].poll() is None
            others.go()
            (folder,) = episodes(dataset)
            assert not is_clean(folder)
            journal = recover(folder)
            assert (journal.outcome, journal.recovered, journal.provenance.operator) == (Outcome.SUCCESS, True, "7")
            counts_match(folder, journal)
            assert journal.counts["camera/front/image_raw"].written > 10
            recorder.begin()
            recorder.wait_for(0.5)
            recorder.press("stop")
            assert is_clean(episodes(dataset)[1])
    finally:
        subprocess.run(["umount", "-l", str(dataset)], check=True)


def test_after_a_kill_the_next_start_finds_the_episode_with_its_label_and_who_drove(
    deploy, listener, recorder, tmp_path: Path
):
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset, operator="7") as runner:
        recorder.begin()
        recorder.wait_for(2.0)
        recorder.label(True)
        runner.children["recorder"].kill()
        runner.children["recorder"].wait()
    (folder,) = episodes(dataset)
    assert not is_clean(folder)
    assert bag_path(folder).stat().st_size > 1_000_000
    recorder.state.clear()
    with deploy(source="none", record=dataset):
        listener.wait(lambda: recorder.state, 30.0, "the next recorder")
    journal = load_journal(folder)
    assert is_clean(folder)
    assert (journal.outcome, journal.recovered, journal.provenance.operator) == (Outcome.SUCCESS, True, "7")


def test_every_recorded_topic_is_in_the_bag_with_its_type_and_quality_of_service(deploy, recorder, tmp_path: Path):
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset):
        recorder.begin()
        recorder.wait_for(1.0)
        recorder.press("stop")
    (folder,) = episodes(dataset)
    expected = {"/" + t.name.removeprefix("/"): t.type for t in graph.topics(("front", "wrist")) if t.recorded}
    expected = {name: kind for name, kind in expected.items() if kind != graph.JPEG}
    with AnyReader([folder]) as reader:
        assert {connection.topic: connection.msgtype for connection in reader.connections} == expected
    assert recover(folder).recovered is False  # a clean bag is left as it is
