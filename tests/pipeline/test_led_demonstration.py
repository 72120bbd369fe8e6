"""The whole way of a demonstration by hand: a bag as the recorder writes it, with what the arm said and without any
action; the actions derived from it; frames; and the same motion again, made by those actions alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.throttle import Throttle
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic
from policy_bringup.episodes.frames import read_frames
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.motion import read_motion
from policy_bringup.episodes.recovery import is_clean
from policy_bringup.pipeline.hand_derivation import HandDerivation, derive_all, load_hand_derivation
from policy_bringup.sim.guided_motion import GuidedMotion
from policy_bringup.sim.hand import HandGuidingConfig
from policy_bringup.sim.kinesthetic import Kinesthetic, play_back
from policy_bringup.sim.recorded_rollout import BagLayout, EpisodeBag, bag_layout, provenance
from policy_bringup.sim.rollout import Stack

SEED, START = 4, 1_700_000_000_000_000_000
DERIVED = ("safety/action", "safety/state")
COMMAND = "arm_controller/joint_trajectory"


@pytest.fixture(scope="module")
def derivation(config_folder: Path) -> HandDerivation:
    return load_hand_derivation(config_folder / "grasp.yaml")


@pytest.fixture(scope="module")
def layout(stack: Stack, config_folder: Path) -> BagLayout:
    plain, arm = bag_layout(config_folder, stack.deployment, stack.robot, stack.sim), graph.topic("arm/state")
    return replace(plain, topics=(*plain.topics, BagTopic(arm.name, arm.type, arm.qos)))


@pytest.fixture(scope="module")
def guided(stack: Stack, layout: BagLayout, config_folder: Path) -> GuidedMotion:
    """A hand has led the arm through the task."""
    guided = GuidedMotion(stack, load(config_folder / "hand.yaml", HandGuidingConfig), layout, START, "raycast")
    assert guided.run(SEED).success
    guided.close()
    return guided


@pytest.fixture(scope="module")
def write(guided: GuidedMotion, layout: BagLayout, config_folder: Path, tmp_path_factory) -> Callable[..., Path]:
    """The bag of that motion in a dataset of its own. live: without the actions, but with what the arm says; without:
    a topic that is left out."""

    def make(live: bool, without: str = "") -> Path:
        origin = provenance(config_folder, "grasp.yaml", "hand", "somebody")
        bag = EpisodeBag(tmp_path_factory.mktemp("demonstration"), layout, origin, START, "")
        arm = Throttle(graph.topic("arm/state").rate_hz)

        def put(topic: str, data: bytes, now_ns: int) -> None:
            if live and arm.due(now_ns):
                values = {"state": "guided", "follows": False}
                bag.put("arm/state", encoding.status(now_ns, "arm", "ok", "led by hand", values), now_ns)
            if topic != without and not (live and topic in DERIVED):
                bag.put(topic, data, now_ns)

        guided.write(put)
        bag.close(guided.now_ns, True)
        return bag.folder

    return make


@pytest.fixture(scope="module")
def derived(write, derivation: HandDerivation, tmp_path_factory) -> Path:
    folder = write(live=True)
    out = tmp_path_factory.mktemp("derived")
    report = derive_all([folder], out, derivation)
    assert report.failed == {}
    return out / folder.name


def test_the_actions_are_those_that_the_guided_motion_derives_itself(derived: Path, write, stack: Stack):
    contract = stack.deployment.contract
    made, wanted = read_motion(derived, contract), read_motion(write(live=False), contract)
    np.testing.assert_allclose(made.times_s, wanted.times_s, atol=1e-9)
    np.testing.assert_allclose(made.values, wanted.values, atol=1e-9)


def test_it_is_an_ordinary_successful_episode_of_good_quality(derived: Path):
    journal = load_journal(derived)
    assert is_clean(derived)
    assert (journal.outcome, journal.provenance.driver) == (Outcome.SUCCESS, "hand")
    assert not [reason for reason in journal.quality.reasons if "safe actions" in reason]


def test_its_frames_say_that_a_hand_drove(derived: Path, derivation: HandDerivation):
    frames = read_frames(derived, derivation.contract, 20.0, derivation.proprioception.tool)
    assert len(frames.stamps_ns) > 100
    assert set(frames.driver) == {"hand"}
    assert np.isfinite(frames.action).all()


def test_the_actions_alone_make_the_motion_again(derived: Path, stack: Stack, config_folder: Path, tmp_path: Path):
    kinesthetic = Kinesthetic(config_folder, tmp_path / "hand", tmp_path / "clean", backend="raycast")
    motion = read_motion(derived, stack.deployment.contract)
    _, rollout = play_back(kinesthetic, motion.times_s, motion.values, SEED)
    assert rollout.success, rollout
    assert (rollout.stops, rollout.refused) == ((), 0)


def test_without_any_command_the_fingers_tell_when_the_button_was_pressed(
    derived: Path, write, derivation: HandDerivation, stack: Stack, tmp_path: Path
):
    folder = write(live=True, without=COMMAND)
    assert derive_all([folder], tmp_path / "derived", derivation).failed == {}
    contract = stack.deployment.contract
    motion = read_motion(tmp_path / "derived" / folder.name, contract)
    times, told, pressed = motion.times_s, motion.values, read_motion(derived, contract).values
    np.testing.assert_allclose(told[:, :6], pressed[:, :6], atol=1e-9)
    begins = [times[np.flatnonzero(np.diff(rows[:, 6]) < 0.0)[0]] for rows in (told, pressed)]
    assert 0.0 <= begins[0] - begins[1] <= 0.1
    assert told[-1, 6] == pytest.approx(pressed[-1, 6]) == pytest.approx(stack.robot.gripper.lower)
