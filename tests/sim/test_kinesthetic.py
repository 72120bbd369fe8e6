from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.decoding import joint_positions
from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.frames import read_frames
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.motion import RecordedMotion, read_motion
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.recovery import is_clean
from policy_bringup.sim.kinesthetic import Kinesthetic, play_back, record_kinesthetic
from policy_bringup.sim.rollout import load_stack

SEED = 4


@pytest.fixture(scope="module")
def kinesthetic(root, tmp_path_factory) -> Kinesthetic:
    folder = tmp_path_factory.mktemp("kinesthetic")
    return Kinesthetic(root / "config", folder / "hand", folder / "clean", backend="raycast")


@pytest.fixture(scope="module")
def demonstration(kinesthetic) -> Path:
    folder, outcome = record_kinesthetic(kinesthetic, SEED)
    assert outcome.success, outcome
    return folder


@pytest.fixture(scope="module")
def motion(demonstration, deployment) -> RecordedMotion:
    return read_motion(demonstration, deployment.contract)


@pytest.fixture(scope="module")
def proprioception(root) -> Proprioception:
    stack = load_stack(root / "config")
    return Proprioception(stack.robot, Chain.from_urdf(stack.urdf, stack.robot.base_frame, stack.robot.tool_frame))


def test_a_hand_makes_an_ordinary_successful_episode(demonstration):
    assert is_clean(demonstration)
    journal = load_journal(demonstration)
    assert (journal.outcome, journal.provenance.driver) == (Outcome.SUCCESS, "hand")
    with open_bag(demonstration) as bag:
        seconds = (bag.end_ns - bag.start_ns) / 1e9
        times = [message.log_ns for message in bag.messages()]
        assert bag.counts == {name: count.written for name, count in journal.counts.items()}
        assert bag.counts["joint_states"] == bag.counts["safety/action"]
        for camera in ("front", "wrist"):
            assert bag.counts[f"camera/{camera}/image_raw"] == pytest.approx(30 * seconds, abs=3)
        assert bag.counts["policy/action"] == 0
        commands = [bag.decode(message) for message in bag.messages(["arm_controller/joint_trajectory"])]
    assert times == sorted(times)
    assert [command.joint_names for command in commands] == [["panda_finger_joint1"]]


def test_its_actions_lead_the_measured_motion_by_the_documented_shift(demonstration, motion, proprioception):
    times, actions = motion.times_s, motion.values
    with open_bag(demonstration) as bag:
        samples = [joint_positions(bag.decode(message), 0) for message in bag.messages(["joint_states"])]
    tool = np.array([proprioception.tool(sample).values[:3] for sample in samples])
    errors = {
        shift: float(np.abs(tool[5 + shift : 605 + shift] - actions[5:605, :3]).mean()) for shift in range(6)
    }  # steps of 10 ms
    assert min(errors, key=errors.__getitem__) == 2
    assert errors[2] < 0.0003
    np.testing.assert_allclose(np.diff(times), 0.01, atol=1e-9)


def test_frames_are_made_of_it_like_of_any_other_and_say_that_a_hand_drove(demonstration, deployment, proprioception):
    frames = read_frames(demonstration, deployment.contract, 20.0, proprioception.tool)
    assert len(frames.stamps_ns) > 100
    assert set(frames.driver) == {"hand"}
    assert np.isfinite(frames.action).all()
    assert frames.action[0, 6] == pytest.approx(0.08)
    assert frames.action[-1, 6] == pytest.approx(0.0)


def test_without_the_hand_the_motion_does_the_same_again(kinesthetic, motion):
    folder, rollout = play_back(kinesthetic, motion.times_s, motion.values, SEED)
    assert rollout.success, rollout
    assert (rollout.stops, rollout.refused) == ((), 0)
    journal = load_journal(folder)
    assert folder.parent == kinesthetic.clean
    assert (journal.outcome, journal.provenance.driver) == (Outcome.SUCCESS, "replay")
    assert journal.note == f"played back, kinesthetic seed {SEED}"
    with open_bag(folder) as bag:
        assert bag.counts["policy/action"] > 100


def test_another_place_of_the_cube_makes_the_playback_fail(kinesthetic, motion):
    _, rollout = play_back(kinesthetic, motion.times_s[:400], motion.values[:400], SEED + 1)
    assert not rollout.success


def test_without_a_place_for_it_nothing_is_played_back(kinesthetic):
    with pytest.raises(EpisodeError, match="no dataset to play"):
        play_back(replace(kinesthetic, clean=None), np.zeros(1), np.zeros((1, 8)), 0)
