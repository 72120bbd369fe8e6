"""Recordings of a running robot: complete, labelled, judged, and there after whatever ends them."""

import signal
import time
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rosbags.highlevel import AnyReader
from std_srvs.srv import SetBool, Trigger

from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.episodes.journal import Journal, Outcome, load_journal
from policy_bringup.episodes.layout import bag_path, episodes
from policy_bringup.episodes.recovery import is_clean, recover


class Recorder:
    """What an operator sees of the recorder, and the buttons."""

    def __init__(self, listener) -> None:
        self._listener = listener
        self.state: dict[str, str] = {}
        node = listener.node
        self._buttons = {name: node.create_client(Trigger, f"recorder/{name}") for name in ("start", "stop", "discard")}
        self._success = node.create_client(SetBool, "recorder/success")
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(DiagnosticArray, "recorder/state", self._take, latched)

    def press(self, name: str) -> str:
        answer = self._listener.call(self._buttons[name], Trigger.Request(), 30.0)
        assert answer.success, answer.message
        return answer.message

    def refused(self, name: str) -> str:
        answer = self._listener.call(self._buttons[name], Trigger.Request(), 30.0)
        assert not answer.success
        return answer.message

    def label(self, success: bool) -> str:
        return self._listener.call(self._success, SetBool.Request(data=success)).message

    def wait_for(self, megabytes: float) -> None:
        written = lambda: float(self.state.get("written_mb", 0.0)) >= megabytes  # noqa: E731
        self._listener.wait(written, 30.0, f"{megabytes} MB in the bag")

    def _take(self, message: DiagnosticArray) -> None:
        self.state = values_of(message.status[0])


@pytest.fixture
def recorder(listener) -> Recorder:
    return Recorder(listener)


def counts_match(folder: Path, journal: Journal) -> None:
    """The bag holds exactly what the journal counts as written."""
    with AnyReader([folder]) as reader:
        found = {connection.topic: connection.msgcount for connection in reader.connections}
    for name, count in journal.counts.items():
        assert found.get("/" + name.removeprefix("/"), 0) == count.written, name
        assert count.received == count.written + count.dropped


def test_an_episode_is_recorded_judged_and_labelled(deploy, recorder: Recorder, tmp_path: Path):
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset, operator="7"):
        assert recorder.refused("stop") == "nothing is being recorded"
        recorder.press("start")
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
        recorder.press("start")
        recorder.wait_for(0.5)
        assert recorder.press("discard") == "episode_000001 is discarded"
        assert load_journal(episodes(dataset)[1]).outcome is Outcome.DISCARDED


def test_ctrl_c_in_the_middle_of_an_episode_loses_nothing(deploy, recorder: Recorder, tmp_path: Path):
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset) as runner:
        recorder.press("start")
        recorder.wait_for(1.0)
        runner.children["recorder"].send_signal(signal.SIGINT)
        assert runner.children["recorder"].wait(10.0) == 0
    (folder,) = episodes(dataset)
    assert is_clean(folder)
    journal = load_journal(folder)
    counts_match(folder, journal)
    assert all(count.dropped == 0 for count in journal.counts.values())


def test_after_a_kill_the_next_start_finds_the_episode_with_its_label_and_who_drove(
    deploy, listener, recorder: Recorder, tmp_path: Path
):
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset, operator="7") as runner:
        recorder.press("start")
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


def test_every_recorded_topic_is_in_the_bag_with_its_type_and_quality_of_service(
    deploy, recorder: Recorder, tmp_path: Path
):
    dataset = tmp_path / "demos"
    with deploy(source="none", record=dataset):
        recorder.press("start")
        recorder.wait_for(1.0)
        recorder.press("stop")
    (folder,) = episodes(dataset)
    expected = {"/" + t.name.removeprefix("/"): t.type for t in graph.topics(("front", "wrist")) if t.recorded}
    with AnyReader([folder]) as reader:
        assert {connection.topic: connection.msgtype for connection in reader.connections} == expected
    assert recover(folder).recovered is False  # a clean bag is left as it is
