"""Bags of a real monitor and a made-up arm: what is read out of them must be what was put in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ActionChunk, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.stop_record import Change, Input, StopRecord
from policy_bringup.episodes.stops import read_stops, stop_of
from policy_bringup.safety.account import Account
from policy_bringup.safety.limits import Limits
from policy_bringup.safety.monitor import SafetyMonitor
from policy_bringup.safety.state import Arm, EStop, Measured, Proposal, Reset
from policy_bringup.sim.rollout import load_stack

START = 1_700_000_000_000_000_000
TICK = 10_000_000
TOPICS = ("joint_states", "safety/action", "safety/verdict", "safety/state")
SPEED = 0.1  # m/s along y, to which joint 3 turns five times as fast


class Stage:
    """A hundred ticks a second: the monitor, a source that moves the tool along y, an arm that follows perfectly.

    mute: from which tick on the source says nothing, deaf: on which ticks nothing is recorded of safety.
    """

    def __init__(self, config_folder: Path) -> None:
        stack = load_stack(config_folder)
        deployment, robot = stack.deployment, stack.robot
        self.action, self.robot = deployment.contract.action, robot
        limits = Limits(stack.safety, self.action, deployment.limits, robot.joints, 0.5)
        self.monitor, self._account = SafetyMonitor(limits), Account()
        self.pose = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.04, 10.0])
        self._home = np.array([joint.home for joint in robot.joints])
        self.path: list[float] = []  # y of the tool, tick by tick

    def play(
        self, folder: Path, ticks: int, events: Mapping[int, object], mute: int = 10**9,
        deaf: Callable[[int, str], bool] = lambda tick, topic: False,
    ) -> Path:  # fmt: skip
        """Records an episode -> its folder."""
        folder.mkdir(parents=True)
        self._writer = BagWriter(folder, [self._topic(name) for name in TOPICS], {"outcome": "failure"})
        for tick in range(ticks):
            now = START + tick * TICK
            self._measure(now, tick)
            if tick % 5 == 0 and tick < mute:
                self.monitor.step(Proposal(self._chunk(now), 1), now)
            if tick in events:
                reply = self.monitor.step(events[tick], now)
                assert reply.accepted, reply.sentence
            self._tick(now, lambda topic, tick=tick: not deaf(tick, topic))
        self._writer.close({"outcome": "failure"})
        return folder

    def _topic(self, name: str) -> BagTopic:
        topic = graph.topic(name)
        return BagTopic(topic.name, topic.type, topic.qos)

    def _measure(self, now: int, tick: int) -> None:
        joints = self._home.copy()
        joints[2] += 5.0 * self.pose[1] + 1e-9 * (tick % 2)
        self.monitor.step(Measured(now, now, joints, self.pose.copy()), now)
        values = np.append(joints, self.pose[6] / 2)
        sample = StateSample(now, now, (*self.robot.joint_names, self.robot.gripper.joint), values)
        self._put("joint_states", encoding.joint_state(sample, np.zeros(8), np.zeros(8), "base"), now)

    def _chunk(self, now: int) -> ActionChunk:
        times = 0.05 * np.arange(1, 17)
        moving = SPEED * times if self.monitor.state.name == "ACTIVE" else np.zeros(16)
        values = np.tile(self.pose, (16, 1))
        values[:, 1] += moving
        return ActionChunk("policy", now, now, self.action.names, times, values, np.zeros(16))

    def _tick(self, now: int, recorded: Callable[[str], bool]) -> None:
        verdict = self.monitor.tick(now, now)
        if verdict.output is not None:
            self.pose = verdict.output.copy()
            self.path.append(self.pose[1])
            row = ActionChunk("safety", now, 0, self.action.names, np.zeros(1), self.pose[None], np.zeros(1))
            self._put("safety/action", encoding.table(row, "base"), now)
        judgement = self._account.judgement(verdict)
        for topic, entries, due in (
            ("safety/verdict", judgement, self._account.is_news(verdict)),
            ("safety/state", (self._account.state(verdict, ""),), verdict.transitions or now // TICK % 10 == 0),
        ):
            if due and recorded(topic):
                plain = [(entry.name, entry.level, entry.sentence, dict(entry.values)) for entry in entries]
                self._put(topic, encoding.statuses(now, plain), now)

    def _put(self, topic: str, data: bytes, now: int) -> None:
        self._writer.write(topic, data, now, now)


@pytest.fixture
def stage(config_folder) -> Stage:
    return Stage(config_folder)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "dataset" / "episode_000007"


def test_a_policy_that_falls_silent_is_a_stop_with_its_scene_its_retries_and_its_end(stage, folder):
    episode = read_stops(stage.play(folder, 500, {20: Arm(True), 400: Arm(False)}, mute=201))
    (stop,) = episode.stops
    change = stop.change
    assert (change.who, change.before, change.after, change.rule) == ("policy", "RETRY", "FALLBACK", "AGE")
    assert change.sentence == "policy has fallen silent: its last action is too old"
    # Last heard on tick 200; stale 250 ms later, then three tries.
    assert stop.at_s == pytest.approx(2.29, abs=0.011)
    assert stop.stamp_ns == START + round(stop.at_s * 1e9)
    assert stop.tries == 3
    assert (stop.scene.driver, stop.scene.joint) == ("policy", "panda_joint3")
    assert stop.scene.driven_s == pytest.approx(2.09, abs=0.02)
    assert 0.0 < stop.scene.tool_m_s <= SPEED  # it had begun to repeat
    assert stop.scene.joint_rad_s == pytest.approx(5 * stop.scene.tool_m_s, rel=0.2)
    assert stop.judged.keys() == {"accepted", "AGE"}
    assert stop.answer.stand_s < 0.1
    assert stop.answer.tool_m < 0.01
    assert stop.rest_s == 0.0  # RETRY had brought it to a stand
    assert (stop.ending.to, stop.ending.who, stop.ending.sentence) == ("READY", "operator", "disarmed")
    assert stop.ending.after_s == pytest.approx(4.0 - stop.at_s, abs=0.011)


def test_an_e_stop_in_motion_brakes_and_is_ended_by_a_reset(stage, folder):
    events = {20: Arm(True), 150: EStop(True, "operator"), 160: EStop(False, "operator"), 300: Reset()}
    (stop,) = read_stops(stage.play(folder, 400, events)).stops
    assert (stop.change.before, stop.change.after, stop.change.rule) == ("ACTIVE", "ESTOP", "ESTOP")
    assert stop.at_s == pytest.approx(1.5)
    speed = (stage.path[149] - stage.path[130]) / 0.19
    assert speed > SPEED / 2
    assert stop.scene.tool_m_s == pytest.approx(speed, rel=0.15)
    assert stop.scene.joint_rad_s == pytest.approx(5 * speed, rel=0.15)
    assert stop.tries == 0
    assert (stop.ending.to, stop.ending.who, stop.ending.after_s) == ("READY", "operator", pytest.approx(1.5))
    assert stop.rest_s is not None
    assert stop.rest_s < 0.1


def test_a_stop_that_leads_to_another_ends_with_it_and_the_last_one_with_the_recording(stage, folder):
    episode = read_stops(stage.play(folder, 500, {20: Arm(True), 300: EStop(True)}, mute=201))
    first, second = episode.stops
    assert (first.change.after, first.ending.to) == ("FALLBACK", "ESTOP")
    assert (second.change.before, second.tries) == ("FALLBACK", 0)
    assert second.scene.driver == ""
    assert second.ending.to == ""
    assert second.ending.after_s == pytest.approx(4.99 - 3.0)
    assert episode.duration_s == pytest.approx(4.99)


def test_an_episode_without_stops_has_only_counts(stage, folder):
    episode = read_stops(stage.play(folder, 300, {20: Arm(True)}))
    assert episode.stops == ()
    assert (episode.name, episode.began) == ("episode_000007", "")
    assert episode.verdicts.keys() == {"accepted"}
    assert episode.verdicts["accepted"] > 50


def test_a_safety_that_is_not_heard_any_more_is_a_stop_of_its_own(stage, folder):
    """Recorded until 1.5 s and again from 3 s on, as after a kill and a respawn."""
    deaf = lambda tick, topic: 150 < tick < 300  # noqa: E731
    (stop,) = read_stops(stage.play(folder, 400, {20: Arm(True)}, deaf=deaf)).stops
    assert (stop.change.before, stop.change.after, stop.change.rule) == ("ACTIVE", "SILENT", "SILENCE")
    assert stop.at_s == pytest.approx(1.5, abs=0.1)
    assert (stop.ending.to, stop.ending.sentence) == ("ACTIVE", "safety is heard again")


def test_a_safety_that_is_silent_for_less_than_a_second_is_no_stop(stage, folder):
    deaf = lambda tick, topic: 150 < tick < 240  # noqa: E731
    assert read_stops(stage.play(folder, 400, {20: Arm(True)}, deaf=deaf)).stops == ()


def test_a_stop_whose_verdict_is_lost_is_still_told_by_the_state(stage, folder):
    deaf = lambda tick, topic: topic == "safety/verdict" and 140 < tick < 160  # noqa: E731
    (stop,) = read_stops(stage.play(folder, 300, {20: Arm(True), 150: EStop(True)}, deaf=deaf)).stops
    assert (stop.change.before, stop.change.after, stop.change.rule) == ("ACTIVE", "ESTOP", "")
    assert stop.change.sentence == "the e-stop is pressed"
    assert stop.at_s == pytest.approx(1.5)


def test_a_recording_that_begins_in_a_stop_says_so(stage, folder):
    deaf = lambda tick, topic: tick < 100  # noqa: E731
    episode = read_stops(stage.play(folder, 300, {20: EStop(True)}, deaf=deaf))
    assert (episode.began, episode.stops) == ("ESTOP", ())


def test_a_bag_without_a_word_of_safety_is_refused(stage, folder):
    stage.play(folder, 100, {}, deaf=lambda tick, topic: True)
    with pytest.raises(EpisodeError, match="holds no word of safety") as error:
        read_stops(folder)
    assert str(folder) in str(error.value)


def test_reading_looks_only_around_the_stops(stage, folder, monkeypatch):
    """Ten minutes of joint states must not be read for one stop: only those around it are decoded."""
    from policy_bringup.episodes.reader import Bag

    stage.play(folder, 2000, {20: Arm(True), 150: EStop(True)})
    decoded: list[int] = []
    whole = Bag.decode

    def counting(bag, message):
        if message.topic == "joint_states":
            decoded.append(message.log_ns)
        return whole(bag, message)

    monkeypatch.setattr(Bag, "decode", counting)
    read_stops(folder)
    assert max(decoded) < START + 14_000_000_000
    assert len(decoded) < 1500


@pytest.mark.parametrize("broken", [False, True])
def test_a_stop_record_is_told_from_its_measured_joint_states(broken):
    """A tool at 0.1 m/s along y, joint b at 0.5 rad/s; a record whose rows have another width tells no speed."""
    times = -0.5 + 0.01 * np.arange(50)
    width = 1 if broken else 2
    inputs = [
        Input(
            float(t), "joint_states", {"joints": np.array([0.0, 0.5 * t])[:width], "columns": np.array([0, 0.1 * t, 0])}
        )
        for t in times
    ]
    change = Change("policy", "ACTIVE", "FALLBACK", "STATE", "stale", "age of the joint state by stamp", 0.11, 0.1)
    record = StopRecord(
        **{"change": change, "wall_ns": time.time_ns(), "stamp_ns": 5, "now_ns": 6, "action_stamp_ns": 7, "tries": 2},
        **{"driver": "policy", "driven_s": 3.0, "fallback": "stop", "joints": ("a", "b"), "units": ("m",) * 3},
        **{"columns": ("tool.x", "tool.y", "tool.z"), "cut": {}, "inputs": tuple(inputs)},
    )
    stop = stop_of(record)
    assert (stop.change, stop.tries, stop.fallback, stop.at_s, stop.ending) == (change, 2, "stop", None, None)
    assert (stop.scene.driver, stop.scene.driven_s, stop.scene.tool_measured) == ("policy", 3.0, True)
    assert stop.scene.tool_m_s == pytest.approx(0.1)
    assert stop.scene.joint_rad_s == (None if broken else pytest.approx(0.5))
    assert stop.scene.joint == ("" if broken else "b")
