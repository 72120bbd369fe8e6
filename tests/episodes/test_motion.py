from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import (
    ActionChunk,
    ActionSpec,
    Column,
    Contract,
    ObservationSpec,
    Pose,
    Space,
    StateSample,
)  # fmt: skip
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.motion import read_motion

START, MS = 1_700_000_000_000_000_000, 1_000_000
ACTION, STATE, OBJECT = "safety/action", "safety/state", "sim/object_pose"
COLUMNS = (Column("tool.x", "m"), Column("gripper.width", "m"))
CONTRACT = Contract("panda", ObservationSpec((), COLUMNS), ActionSpec(Space.TASK, COLUMNS, 4, 0.05, 2))
TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def bag(tmp_path: Path) -> Callable[..., Path]:
    """One second of actions every 10 ms, with tool.x the time in s; drivers: from when (ms) who was in charge; objects:
    when (ms) the object was seen, at x the time in s."""

    def write(
        drivers: Sequence[tuple[int, str]], objects: Sequence[int] = (), names: Sequence[str] = CONTRACT.action.names,
        broken_ms: int | None = None,
    ) -> Path:  # fmt: skip
        messages = []
        for ms, driver in drivers:
            said = {"state": "ACTIVE" if driver else "READY", "source": driver}
            messages.append((ms, STATE, encoding.status(START, "safety", "ok", "", said)))
        for ms in range(0, 1000, 10):
            row = np.array([[np.nan if ms == broken_ms else ms / 1000, 0.08]])
            chunk = ActionChunk("safety", START + ms * MS, 0, tuple(names), np.zeros(1), row, np.zeros(1))
            messages.append((ms, ACTION, encoding.table(chunk, "base")))
        for ms in objects:
            pose = encoding.pose(Pose(np.array([ms / 1000, 0.1, 0.02]), TURN), START, "base")
            messages.append((ms, OBJECT, pose))
        folder = tmp_path / "episode_000003"
        folder.mkdir()
        entries = [graph.topic(name) for name in (ACTION, STATE, OBJECT)]
        writer = BagWriter(folder, [BagTopic(entry.name, entry.type, entry.qos) for entry in entries], {})
        for ms, topic, data in sorted(messages, key=lambda message: message[0]):
            writer.write(topic, data, START + ms * MS, START + ms * MS)
        writer.close({})
        return folder

    return write


def test_the_motion_lasts_while_somebody_drove_and_its_time_is_the_bags(bag):
    motion = read_motion(bag([(0, ""), (200, "teleop"), (600, "policy"), (800, "")]), CONTRACT)
    np.testing.assert_allclose(motion.times_s, np.arange(60) / 100, atol=1e-9)
    np.testing.assert_allclose(motion.values[:, 0], 0.2 + np.arange(60) / 100, atol=1e-9)
    assert set(motion.values[:, 1]) == {0.08}
    assert motion.T_base_object is None


def test_the_way_home_before_and_after_is_no_part_of_it(bag):
    motion = read_motion(bag([(0, "home"), (300, "hand"), (500, "home")]), CONTRACT)
    np.testing.assert_allclose(motion.values[[0, -1], 0], [0.3, 0.49])


def test_what_nobody_did_in_the_middle_is_no_part_of_it_and_takes_its_time(bag):
    """The arm let go of and led again: meanwhile safety's actions ask for where it was before the hand came."""
    motion = read_motion(bag([(0, "hand"), (300, ""), (400, "home"), (500, "hand"), (800, "")]), CONTRACT)
    np.testing.assert_allclose(motion.times_s, np.append(np.arange(30), np.arange(50, 80)) / 100, atol=1e-9)
    np.testing.assert_allclose(motion.values[:, 0], motion.times_s, atol=1e-9)


def test_until_the_end_of_the_bag_if_nobody_else_drove(bag):
    motion = read_motion(bag([(100, "hand")]), CONTRACT)
    np.testing.assert_allclose(motion.values[[0, -1], 0], [0.1, 0.99])


@pytest.mark.parametrize(("seen", "place"), [((0, 190, 210, 900), 0.19), ((0, 200, 900), 0.2), ((500, 900), 0.5)])
def test_the_object_lay_where_it_was_seen_last_before_the_motion_began(bag, seen, place):
    pose = read_motion(bag([(200, "teleop")], objects=seen), CONTRACT).T_base_object
    np.testing.assert_allclose(pose.position, [place, 0.1, 0.02])
    np.testing.assert_allclose(pose.rotation, TURN, atol=1e-9)


def test_columns_are_found_by_name(bag):
    motion = read_motion(bag([(0, "hand")], names=("gripper.width", "tool.x")), CONTRACT)
    np.testing.assert_allclose(motion.values[[0, -1]], [[0.08, 0.0], [0.08, 0.99]])


def test_an_episode_that_nobody_drove_is_refused_and_what_helps_is_said(bag):
    with pytest.raises(EpisodeError, match=r"nobody drove the arm.*`policy episodes derive`"):
        read_motion(bag([(0, ""), (300, "home")]), CONTRACT)


def test_actions_of_another_contract_are_refused(bag):
    with pytest.raises(EpisodeError, match=r"has no column 'tool.x', only elbow, gripper.width"):
        read_motion(bag([(0, "hand")], names=("elbow", "gripper.width")), CONTRACT)


def test_an_action_that_is_no_number_is_refused_if_it_is_of_the_motion(bag):
    with pytest.raises(EpisodeError, match="holds an action that is not a finite number"):
        read_motion(bag([(200, "hand")], broken_ms=500), CONTRACT)


def test_and_does_no_harm_outside_of_it(bag):
    assert len(read_motion(bag([(200, "hand")], broken_ms=100), CONTRACT).times_s) == 80


@pytest.mark.parametrize("name", [ACTION, STATE, OBJECT])
def test_a_topic_of_our_name_and_another_type_is_refused(tmp_path, name):
    other = graph.topic("joint_states")
    folder = tmp_path / "episode_000003"
    folder.mkdir()
    writer = BagWriter(folder, [BagTopic(name, other.type, other.qos)], {})
    joints = StateSample(START, 0, ("one",), np.zeros(1))
    writer.write(name, encoding.joint_state(joints, np.zeros(1), np.zeros(1), "base"), START, START)
    writer.close({})
    with pytest.raises(EpisodeError, match=f"topic '{name}' is of type {other.type}, not {graph.topic(name).type}"):
        read_motion(folder, CONTRACT)


@pytest.mark.parametrize("turn", [np.full((3, 3), np.nan), TURN])
def test_a_pose_that_is_none_is_refused(bag, monkeypatch, turn):
    position = np.array([0.3, 0.1, 0.02 if np.isnan(turn).any() else np.nan])
    broken = encoding.pose(Pose(position, turn), START, "base")
    monkeypatch.setattr(encoding, "pose", lambda *_: broken)
    with pytest.raises(EpisodeError, match="topic 'sim/object_pose' holds a pose that is none"):
        read_motion(bag([(200, "hand")], objects=(100,)), CONTRACT)


def test_a_table_of_several_steps_is_no_safe_action(bag, monkeypatch):
    table = encoding.table
    twice = lambda chunk, frame: table(  # noqa: E731
        ActionChunk(
            chunk.source,
            chunk.stamp_ns,
            0,
            chunk.names,
            np.array([0.0, 0.1]),
            np.tile(chunk.values, (2, 1)),
            np.zeros(2),
        ),
        frame,
    )
    monkeypatch.setattr(encoding, "table", twice)
    with pytest.raises(EpisodeError, match="holds 2 steps at once; a safe action has one"):
        read_motion(bag([(200, "hand")]), CONTRACT)


def test_somebody_who_drove_after_the_last_action_moved_nothing(bag):
    with pytest.raises(EpisodeError, match="holds no action of the time in which the arm was driven"):
        read_motion(bag([(0, ""), (995, "hand"), (998, "")]), CONTRACT)


def test_a_folder_without_a_bag_is_refused(tmp_path):
    with pytest.raises(EpisodeError, match="there is no such episode"):
        read_motion(tmp_path / "nowhere", CONTRACT)
