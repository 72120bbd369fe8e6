from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core import decoding, graph
from policy_bringup.core.errors import ContractError, EpisodeError
from policy_bringup.core.types import ActionChunk, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.encoding import typestore
from policy_bringup.episodes.journal import Outcome, load_journal, save_journal, to_record
from policy_bringup.episodes.layout import begin_episode, episodes
from policy_bringup.episodes.reader import BagMessage, open_bag
from policy_bringup.pipeline.replay import Replayed, _Course
from policy_bringup.pipeline.replay_figures import Judge, _gate, replay_all, totals
from policy_bringup.safety.reasons import State
from policy_bringup.sim.selfplay import SelfPlay, run_selfplay

BEGAN_S, ENDED_S = 1.0, 1.5
"""Of the faults, into the bag: the expert is on its way to the cube."""
POLICY, JOINTS, BOX = "policy/action", "joint_states", "safety/estop"
VERDICT, STATE = "safety/verdict", "safety/state"
FRAME = "panda_link0"
Change = Callable[[str, bytes, float], bytes | None]
"""Topic, data and seconds into the bag -> other data, or None to leave the message out."""


@pytest.fixture(scope="module")
def judge(small_config) -> Judge:
    """The deployment with small pictures, which nobody looks at here."""
    return Judge(small_config / "grasp.yaml")


@pytest.fixture(scope="module")
def demos(judge, tmp_path_factory) -> tuple[Path, ...]:
    """Two demonstrations of the expert."""
    dataset = tmp_path_factory.mktemp("demos") / "expert"
    play = SelfPlay(judge.deployment.parent, dataset, 2, seed=5, backend="raycast", patience_s=10.0)
    assert run_selfplay(play).successes == 2
    return episodes(dataset)


def replayed(judge: Judge, *folders: Path, workers: int = 1) -> tuple[Replayed, ...]:
    found, left_out = replay_all(folders, judge, workers, lambda *_: None)
    assert left_out == {}
    return found


def test_nominal_episodes_pass_without_a_stop(judge, demos):
    for folder, episode in zip(demos, replayed(judge, *demos), strict=True):
        assert episode.success
        assert episode.stops == ()
        assert episode.not_armed == ()
        assert episode.held_s == 0.0
        assert episode.armed_s == pytest.approx(driven_s(folder), abs=0.05)


def driven_s(folder: Path) -> float:
    """From the recorded arming to the end."""
    with open_bag(folder) as bag:
        for message in bag.messages([VERDICT]):
            for status in bag.decode(message).status[1:]:
                if decoding.values_of(status)["to"] == "ACTIVE":
                    return (bag.end_ns - message.log_ns) / 1e9
    raise AssertionError("never armed")


def test_the_number_of_workers_changes_nothing(judge, demos):
    assert replayed(judge, *demos[:2], workers=2) == replayed(judge, *demos[:2])


def rewritten(source: Path, dataset: Path, change: Change, extra: tuple[BagMessage, ...] = ()) -> Path:
    """A copy of an episode with other content; `extra` comes in at its time, log_ns being ns into the bag."""
    folder, journal = begin_episode(dataset), load_journal(source)
    save_journal(folder, journal)
    with open_bag(source) as bag:
        added = [replace(message, log_ns=bag.start_ns + message.log_ns) for message in extra]
        # A stable sort: what is added comes after what was received at the same time.
        messages = sorted([*bag.messages(), *added], key=lambda message: message.log_ns)
        names = dict.fromkeys(message.topic for message in messages)
        topics = [BagTopic(name, graph.topic(name).type, graph.topic(name).qos) for name in names]
        writer = BagWriter(folder, topics, to_record(journal))
        for message in messages:
            data = change(message.topic, message.data, (message.log_ns - bag.start_ns) / 1e9)
            if data is not None:
                writer.write(message.topic, data, message.log_ns, message.log_ns)
    writer.close(to_record(journal))
    return folder


def bent_action(bend: Callable[[ActionChunk], ActionChunk], until_s: float = np.inf) -> Change:
    def change(topic: str, data: bytes, at_s: float) -> bytes:
        if topic != POLICY or not BEGAN_S <= at_s < until_s:
            return data
        message = typestore().deserialize_cdr(data, encoding.TABLE)
        return encoding.table(bend(decoding.chunk_of(message, "policy", 0)), FRAME)

    return change


def bent_joints(bend: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(topic: str, data: bytes, at_s: float) -> bytes:
        if topic != JOINTS or at_s < BEGAN_S:
            return data
        message = typestore().deserialize_cdr(data, encoding.JOINT_STATE)
        sample = decoding.joint_positions(message, 0)
        bent = StateSample(sample.stamp_ns, 0, sample.names, bend(sample.values))
        return encoding.joint_state(bent, message.velocity, message.effort, FRAME)

    return change


def shifted(column: int, by: float) -> Callable[[ActionChunk], ActionChunk]:
    return lambda chunk: replace(chunk, values=chunk.values + by * np.eye(chunk.values.shape[1])[column])


def with_nan(chunk: ActionChunk) -> ActionChunk:
    values = chunk.values.copy()
    values[3, 2] = np.nan
    return replace(chunk, values=values)


def hour_ahead(chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, stamp_ns=chunk.stamp_ns + 3600 * 10**9)


def renamed(chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, names=chunk.names[::-1])


def unsure(chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, uncertainty=chunk.uncertainty + 0.51)


def silenced(topic: str, data: bytes, at_s: float) -> bytes | None:
    return None if topic == POLICY and at_s >= BEGAN_S else data


def unmeasured(topic: str, data: bytes, at_s: float) -> bytes | None:
    return None if topic == JOINTS and BEGAN_S <= at_s < ENDED_S else data


FAULTS: dict[str, tuple[Change, str, str, float]] = {
    "NaN in the action": (bent_action(with_nan), "FINITE", "is not finite", 0.25),
    "teleport": (bent_action(shifted(1, 0.2)), "ABRUPTNESS", "tool.y", 0.25),
    "through the table": (bent_action(shifted(2, -1.0)), "BOUNDS", "tool.z", 0.25),
    "stamps from the future": (bent_action(hour_ahead), "AGE", "age of the action by stamp", 0.25),
    "columns permuted": (bent_action(renamed), "TABLE", "columns of the action", 0.25),
    "unsure": (bent_action(unsure), "UNCERTAINTY", "uncertainty", 0.25),
    "policy silent": (silenced, "AGE", "policy has fallen silent", 0.3),
    "NaN in the joint state": (bent_joints(lambda values: values * np.nan), "STATE", "not finite", 0.02),
    "a joint beyond its limit": (bent_joints(lambda values: values + 3.0), "BREACH", "is above its limit", 0.02),
    "joint states missing": (unmeasured, "STATE", "age of the joint state by", 0.13),
}
"""What is changed in the bag, the rule and the words that must name it, and how long the arm may go on, s."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_recorded_fault_is_stopped_for_the_named_reason(judge, demos, tmp_path, name):
    change, rule, words, within_s = FAULTS[name]
    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "faulty", change))
    (stop,) = episode.stops
    assert stop.rule == rule
    assert words in stop.sentence
    assert BEGAN_S <= stop.at_s <= BEGAN_S + within_s
    assert stop.decided_s <= within_s
    assert stop.stood_s is not None
    assert stop.stood_s < 0.2, "the output must brake and stand"
    assert stop.resumed_s is None
    assert not stop.asked
    assert stop.deterministic == (rule != "UNCERTAINTY")
    assert 0.0 < episode.held_s < episode.armed_s


def test_one_bad_action_where_the_arm_stands_is_refused_and_does_not_stop(judge, demos, tmp_path):
    """In motion the arm of the recording has gone on meanwhile, and what follows is refused as well."""
    spoiled = []

    def once(chunk: ActionChunk) -> ActionChunk:
        if spoiled or not stands(chunk):
            return chunk
        spoiled.append(chunk)
        return with_nan(chunk)

    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "once", bent_action(once)))
    assert episode.stops == ()
    assert episode.refused == {"FINITE": 1}
    assert 0.0 < episode.held_s < 0.2


def unchanged(_topic: str, data: bytes, _at_s: float) -> bytes:
    return data


def at(seconds: float, topic: str, data: bytes) -> BagMessage:
    return BagMessage(topic, graph.topic(topic).type, round(seconds * 1e9), 0, data)


def verdict(who: str, before: str, after: str, rule: str) -> bytes:
    values = {"who": who, "from": before, "to": after, "rule": rule}
    return encoding.statuses(1, [("safety", "ok", "accepted", {}), ("transition", "ok", "armed", values)])


def test_where_the_recording_was_armed_again_the_replay_goes_on(judge, demos, tmp_path):
    armed_s = stands_s(demos[0]) + 0.4
    armed_again = at(armed_s, VERDICT, verdict("operator", "FALLBACK", "ACTIVE", "OPERATOR"))
    fault = bent_action(with_nan, until_s=armed_s - 0.2)
    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "resumed", fault, (armed_again,)))
    (stop,) = episode.stops
    assert stop.resumed_s is not None
    assert stop.at_s + stop.resumed_s == pytest.approx(armed_s, abs=0.15)
    assert episode.held_s == pytest.approx(armed_s - stop.at_s + stop.decided_s, abs=0.15)
    assert totals([episode]).resume_s == (stop.resumed_s,)


def stands_s(folder: Path) -> float:
    """Into the bag: from when on the expert wants the arm to stand, to grasp."""
    with open_bag(folder) as bag:
        for message in bag.messages([POLICY]):
            if stands(decoding.chunk_of(bag.decode(message), "policy", 0)):
                return (message.log_ns - bag.start_ns) / 1e9
    raise AssertionError("never stands")


def stands(chunk: ActionChunk) -> bool:
    return np.ptp(chunk.values[:, :6], axis=0).max() <= 1e-3


def test_a_pressed_button_is_a_stop_that_somebody_asked_for(judge, demos, tmp_path):
    pressed = at(BEGAN_S, BOX, encoding._serialised("std_msgs/msg/Bool", data=True))
    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "pressed", unchanged, (pressed,)))
    (stop,) = episode.stops
    assert (stop.rule, stop.asked) == ("ESTOP", True)
    assert stop.at_s - BEGAN_S <= 0.02
    found = totals([episode])
    assert (found.stops, found.asked, found.deterministic, found.false_stops.count) == ({}, {"ESTOP": 1}, 0, 0)


def test_a_recorded_reset_and_disarm_are_followed(judge, demos, tmp_path):
    orders = (
        at(1.0, VERDICT, verdict("operator", "ACTIVE", "ESTOP", "ESTOP")),
        at(1.5, VERDICT, verdict("operator", "ESTOP", "READY", "OPERATOR")),
    )
    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "reset", unchanged, orders))
    assert [stop.rule for stop in episode.stops] == ["ESTOP"]
    assert episode.recorded == ("ESTOP",)
    assert episode.armed_s == pytest.approx(1.0, abs=0.1)
    disarmed = at(1.0, VERDICT, verdict("operator", "ACTIVE", "READY", "OPERATOR"))
    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "disarmed", unchanged, (disarmed,)))
    assert episode.stops == ()
    assert episode.armed_s == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kept", [VERDICT, STATE])
def test_what_was_armed_before_the_recording_began_is_armed_at_its_first_word(judge, demos, tmp_path, kept):
    """By either topic, whichever is heard first. The arm stands just then: in motion it could not be armed."""
    began_s = stands_s(demos[0])

    def late(topic: str, data: bytes, at_s: float) -> bytes | None:
        return None if topic in (VERDICT, STATE) and (at_s < began_s or topic != kept) else data

    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "late", late))
    assert (episode.stops, episode.not_armed) == ((), ())
    with open_bag(demos[0]) as bag:
        assert episode.armed_s == pytest.approx((bag.end_ns - bag.start_ns) / 1e9 - began_s, abs=0.3)


def test_an_arming_that_the_replay_refuses_is_told(judge, demos, tmp_path):
    change = lambda topic, data, _at_s: None if topic == POLICY else data  # noqa: E731
    (episode,) = replayed(judge, rewritten(demos[0], tmp_path / "unarmed", change))
    assert episode.armed_s == 0.0
    (sentence,) = episode.not_armed
    assert sentence.startswith("no source has proposed an acceptable action")
    assert totals([episode]).not_armed == 1


@pytest.mark.parametrize("follows", [False, True])
def test_where_a_button_left_the_gripper_is_where_the_replay_goes_on(judge, demos, follows):
    said = {"state": "guided", "follows": follows, "gripper.width": 0.01, "gripper.force": 30.0}
    limits, proprioception, _ = _gate(judge, False)
    with open_bag(demos[0]) as bag:
        course = _Course(bag, limits, proprioception)
        for message in bag.messages([JOINTS]):
            course.tick_until(message.log_ns)
            course.take(message)
            if course._monitor.state is State.READY:
                break
        now_ns = message.log_ns
        data = encoding.status(now_ns, "arm", "ok", "led by hand", said)
        course.take(BagMessage("arm/state", graph.topic("arm/state").type, now_ns, now_ns, data))
        assert "arm/state" in course.topics
    gripped = course._monitor._m.reference.value[6:]
    assert (gripped.tolist() == [0.01, 30.0]) is not follows


def test_a_bag_without_a_word_of_safety_is_left_out(judge, demos, tmp_path):
    mute = lambda topic, data, _at_s: None if topic.startswith("safety/") else data  # noqa: E731
    folder = rewritten(demos[0], tmp_path / "mute", mute)
    found, left_out = replay_all([demos[1], folder], judge, 1, lambda *_: None)
    assert [episode.name for episode in found] == [demos[1].name]
    assert "holds no word of safety" in left_out[folder.name]


def test_what_was_recorded_under_another_contract_is_left_out(config_folder, demos):
    found, left_out = replay_all(demos[:1], Judge(config_folder / "grasp.yaml"), 1, lambda *_: None)
    assert found == ()
    assert left_out == {demos[0].name: "was recorded under another contract"}


def test_simulated_time_is_left_out(judge, demos, tmp_path):
    folder = rewritten(demos[0], tmp_path / "gazebo", unchanged)
    journal = load_journal(folder)
    save_journal(folder, replace(journal, provenance=replace(journal.provenance, mode="gazebo")))
    _, left_out = replay_all([folder], judge, 1, lambda *_: None)
    assert "was recorded in simulated time" in left_out[folder.name]


def test_a_policys_episode_needs_its_bundle(judge, demos, tmp_path):
    folder = rewritten(demos[0], tmp_path / "policy", unchanged)
    journal = load_journal(folder)
    save_journal(folder, replace(journal, provenance=replace(journal.provenance, driver="policy")))
    with pytest.raises(ContractError, match="give its bundle"):
        replay_all([folder], judge, 1, lambda *_: None)


def test_a_missing_dataset_is_refused(tmp_path):
    with pytest.raises(EpisodeError, match="cannot be read as a dataset"):
        episodes(tmp_path / "nowhere")


def test_the_label_is_the_journals(judge, demos, tmp_path):
    folder = rewritten(demos[0], tmp_path / "failed", unchanged)
    save_journal(folder, replace(load_journal(folder), outcome=Outcome.FAILURE))
    (episode,) = replayed(judge, folder)
    assert not episode.success
