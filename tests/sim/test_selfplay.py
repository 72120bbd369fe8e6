from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import decoding, graph
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.fingerprints import contract_sha256
from policy_bringup.episodes.frames import read_frames
from policy_bringup.episodes.journal import Outcome, load_journal, save_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.recovery import is_clean, recover
from policy_bringup.sim.randomise import Randomisation
from policy_bringup.sim.rollout import load_stack
from policy_bringup.sim.selfplay import SelfPlay, expert, provenance, recorded_seeds, run_selfplay

SHORT_S = 1.2
HERE = {"sim", "sim_camera", "policy", "safety", "arm"}
"""The nodes whose work a closed loop does."""


@pytest.fixture(scope="module")
def play(root) -> SelfPlay:
    """Two episodes that are too short to succeed, by this process alone."""
    return SelfPlay(root / "config", Path("unset"), 2, seed=5, backend="raycast", patience_s=SHORT_S)


@pytest.fixture(scope="module")
def short(play, tmp_path_factory) -> Path:
    dataset = tmp_path_factory.mktemp("short") / "expert"
    summary = run_selfplay(replace(play, dataset=dataset))
    assert (summary.episodes, summary.successes, summary.skipped) == (2, 0, 0)
    return dataset


@pytest.fixture(scope="module")
def whole(play, tmp_path_factory) -> Path:
    """One complete demonstration."""
    dataset = tmp_path_factory.mktemp("whole") / "expert"
    run_selfplay(replace(play, dataset=dataset, episodes=1, patience_s=20.0))
    return episodes(dataset)[0]


def joints_of(folder: Path) -> np.ndarray:
    with open_bag(folder) as bag:
        return np.array([bag.decode(message).position for message in bag.messages(["joint_states"])])


def seed_of(folder: Path) -> int:
    return int(load_journal(folder).note.rpartition(" ")[2])


def test_a_bag_has_every_recorded_topic_at_its_rate(short, deployment):
    folder = episodes(short)[0]
    assert is_clean(folder)
    with open_bag(folder) as bag:
        seconds = (bag.end_ns - bag.start_ns) / 1e9
        counts = bag.counts
    recorded = [topic for topic in graph.topics(deployment.camera_names) if topic.recorded]
    here = {topic.name for topic in recorded if HERE & set(topic.publishers) and topic.type != graph.JPEG}
    assert counts.keys() == here - {"home/action", "arm/state", "/diagnostics"}
    assert {"camera/front/image_raw", "camera/wrist/camera_info", "joint_states", "sim/object_pose"} <= counts.keys()
    assert seconds == pytest.approx(SHORT_S, abs=0.03)
    for name, count in counts.items():
        rate = graph.topic(name).rate_hz
        least = 1 if name == "safety/verdict" else rate * seconds - 2  # a verdict is told when it is news
        assert least <= count <= rate * seconds + 4, name


def test_stamps_are_on_one_clock_and_pictures_show_the_moment_of_their_stamp(short):
    with open_bag(episodes(short)[0]) as bag:
        stamps = {name: [] for name in ("joint_states", "camera/front/image_raw", "sim/object_pose")}
        for message in bag.messages(stamps):
            stamp = decoding.stamp_of(bag.decode(message).header.stamp)
            assert message.log_ns == message.publish_ns == stamp
            stamps[message.topic].append(stamp)
    assert set(stamps["camera/front/image_raw"]) <= set(stamps["joint_states"])
    assert stamps["joint_states"] == stamps["sim/object_pose"]
    assert set(np.diff(stamps["joint_states"])) == {10_000_000}


def test_a_short_episode_is_a_failure_and_a_complete_one_a_success(short, whole):
    assert [load_journal(folder).outcome for folder in episodes(short)] == [Outcome.FAILURE] * 2
    journal = load_journal(whole)
    assert journal.outcome is Outcome.SUCCESS
    assert 3.0e9 < journal.stopped_ns - journal.started_ns < 8.0e9


def test_the_journal_says_whether_the_episode_is_worth_keeping(short, whole):
    assert load_journal(whole).quality.sentence == "ok"
    assert "the gripper never moved" in load_journal(episodes(short)[0]).quality.sentence


def test_the_journal_says_who_drove_and_what_was_written(whole, deployment):
    journal = load_journal(whole)
    made = journal.provenance
    assert (made.driver, made.mode, made.task, made.objects) == ("expert", "sim", "grasp", ("cube",))
    assert made.contract_sha256 == contract_sha256(deployment.contract)
    with open_bag(whole) as bag:
        assert {name: count.written for name, count in journal.counts.items()} == bag.counts
    assert all(count.received == count.written for count in journal.counts.values())


def test_the_number_of_workers_changes_nothing_in_an_episode(play, short, tmp_path):
    heard = []
    run_selfplay(replace(play, dataset=tmp_path, workers=2), heard.append)
    assert sorted(played.seed for played in heard) == [5, 6]
    alone = {seed_of(folder): joints_of(folder) for folder in episodes(short)}
    together = {seed_of(folder): joints_of(folder) for folder in episodes(tmp_path)}
    assert alone.keys() == together.keys() == {5, 6}
    for seed, joints in alone.items():
        np.testing.assert_array_equal(joints, together[seed])
    assert not np.array_equal(alone[5], alone[6])


def test_what_is_there_is_not_made_again_but_what_was_interrupted_is(play, tmp_path):
    play = replace(play, dataset=tmp_path, patience_s=0.1)
    run_selfplay(play)
    assert run_selfplay(play).skipped == 2
    first, second = episodes(tmp_path)
    save_journal(first, replace(load_journal(first), stopped_ns=None))
    (second / "journal.yaml").write_text("{", encoding="utf-8")
    heard = []
    again = run_selfplay(replace(play, episodes=3), heard.append)
    assert (again.episodes, again.skipped) == (3, 0)
    assert [played.seed for played in heard] == [5, 6, 7]
    assert len(episodes(tmp_path)) == 5


def test_other_drivers_and_configurations_do_not_count_as_there(play, short, root):
    origin = provenance(root / "config", "grasp.yaml", "expert", "anybody")
    assert recorded_seeds(short, origin) == {5, 6}
    assert not recorded_seeds(short, replace(origin, driver="policy"))
    assert not recorded_seeds(short, replace(origin, config_sha256="0" * 64))


class Broken(Exception):
    pass


def breaking(stack):
    """The expert, until it breaks after half a second."""
    policy, threshold = expert(stack)
    calm, calls = policy.predict, []

    def predict(observation):
        calls.append(observation)
        if len(calls) > 10:
            raise Broken
        return calm(observation)

    policy.predict = predict
    return policy, threshold


def test_an_episode_in_which_the_policy_breaks_is_a_readable_failure_and_is_made_again(play, tmp_path, root):
    with pytest.raises(Broken):
        run_selfplay(replace(play, dataset=tmp_path, policy=breaking))
    (folder,) = episodes(tmp_path)
    assert is_clean(folder)
    journal = load_journal(folder)
    assert journal.outcome is Outcome.FAILURE
    assert journal.note.endswith("interrupted")
    assert len(joints_of(folder)) > 40
    assert not recorded_seeds(tmp_path, provenance(root / "config", "grasp.yaml", "expert", ""))


def dying(stack):
    """The expert, until it takes its whole process with it, after the first flush."""
    policy, threshold = expert(stack)
    calm, calls = policy.predict, []

    def predict(observation):
        calls.append(observation)
        if len(calls) > 22:
            os._exit(9)
        return calm(observation)

    policy.predict = predict
    return policy, threshold


def test_a_worker_that_dies_ends_the_run_with_a_sentence_and_leaves_what_can_be_recovered(play, tmp_path, root):
    with pytest.raises(EpisodeError, match="a worker was killed"):
        run_selfplay(replace(play, dataset=tmp_path, workers=2, policy=dying))
    unfinished = [folder for folder in episodes(tmp_path) if not is_clean(folder)]
    assert unfinished
    journals = [recover(folder) for folder in unfinished]
    assert all(journal.recovered and journal.outcome is Outcome.FAILURE for journal in journals)
    assert max(len(joints_of(folder)) for folder in unfinished if load_journal(folder).counts) >= 90
    assert not recorded_seeds(tmp_path, provenance(root / "config", "grasp.yaml", "expert", ""))


def test_a_varied_world_shows_other_pictures_of_the_same_task(play, short, tmp_path):
    nothing = Randomisation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for name, variation in (("plain", nothing), ("varied", replace(nothing, colour=0.3))):
        settings = replace(play, dataset=tmp_path / name, episodes=1, patience_s=0.1, variation=variation)
        run_selfplay(settings)
    pictures = []
    for folder in (episodes(short)[0], *episodes(tmp_path / "plain"), *episodes(tmp_path / "varied")):
        with open_bag(folder) as bag:
            pictures.append(bag.decode(next(bag.messages(["camera/front/image_raw"]))).data)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).mean() > 0.2


def test_the_dataset_shows_exactly_what_the_policy_saw(play, root, tmp_path):
    """Picture for picture and number for number: the expert's own observations against the frames of its bag."""
    seen = []

    def watching(stack):
        policy, threshold = expert(stack)
        calm = policy.predict

        def predict(observation):
            seen.append(observation)
            return calm(observation)

        policy.predict = predict
        return policy, threshold

    run_selfplay(replace(play, dataset=tmp_path, episodes=1, policy=watching))
    stack = load_stack(root / "config")
    chain = Chain.from_urdf(stack.urdf, stack.robot.base_frame, stack.robot.tool_frame)
    contract, derive = expert(stack)[0].contract, Proprioception(stack.robot, chain).tool
    frames = read_frames(episodes(tmp_path)[0], contract, 20.0, derive, keep_idle=True)
    # The last one may lack the samples that make it complete.
    assert len(seen) - len(frames.stamps_ns) in (0, 1)
    for i, observation in enumerate(seen[: len(frames.stamps_ns)]):
        assert frames.stamps_ns[i] == observation.stamp_ns
        np.testing.assert_array_equal(frames.state[i], observation.state[-1])
        np.testing.assert_array_equal(frames.images["front"][i], observation.images["front"][-1])
