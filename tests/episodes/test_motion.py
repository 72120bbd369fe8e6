from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ActionChunk, ActionSpec, Column, Contract, ObservationSpec, Pose, Space
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


def test_somebody_who_drove_after_the_last_action_moved_nothing(bag):
    with pytest.raises(EpisodeError, match="holds no action of the time in which the arm was driven"):
        read_motion(bag([(0, ""), (995, "hand"), (998, "")]), CONTRACT)


def test_a_folder_without_a_bag_is_refused(tmp_path):
    with pytest.raises(EpisodeError, match="there is no such episode"):
        read_motion(tmp_path / "nowhere", CONTRACT)
