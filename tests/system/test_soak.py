"""Two minutes of benchmarks/soak.py, which `make soak` runs for half an hour; and that it sees what it is to see."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.types import ActionChunk, JointCommand
from policy_bringup.episodes.layout import bag_path, begin_episode, episode_number, episodes
from policy_bringup.nodes import messages

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 2.0
RATED = ("safety/action", "arm_controller/joint_trajectory")
"""At 100 Hz; a shared machine may pause."""
TICK_NS = 10_000_000


@pytest.fixture
def scripts(monkeypatch) -> SimpleNamespace:
    """The benchmark's modules, as it finds them itself."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return SimpleNamespace(**{name: importlib.import_module(name) for name in ("soak", "sentinel", "onlooker")})


@pytest.mark.soak
def test_two_minutes_at_full_rate_leak_nothing_lose_no_transition_and_break_no_invariant(
    scripts, ros_environment, domain_id, small_deployment, tmp_path, monkeypatch
):
    """The limits are benchmarks/soak.py's. The pictures are small: memory that is lost per picture still shows."""
    choice = scripts.soak.Soak(MINUTES, small_deployment, domain_id)
    found = scripts.soak.soak(choice, tmp_path / "demos", lambda *_: None)
    scripts.soak.show(found)
    assert found.violations == ()
    assert min(found.messages[topic] for topic in RATED) > 0.5 * 100 * 60 * MINUTES
    assert found.episodes >= 3
    assert found.records >= 2 * found.episodes, "an episode is armed and disarmed"
    assert {"sim", "sim_camera", "policy", "safety", "arm", "trial", "recorder"} == set(found.nodes)
    assert len(list((tmp_path / "demos").iterdir())) <= scripts.soak.KEPT_EPISODES + 1, "bags pile up"


def test_old_bags_are_removed_while_the_journal_beside_the_newest_is_just_being_replaced(scripts, tmp_path):
    folders = [begin_episode(tmp_path) for _ in range(scripts.soak.KEPT_EPISODES + 2)]
    for folder in folders:
        bag_path(folder).write_bytes(b"a bag")
        (folder / "journal.yaml.partial").symlink_to("gone")  # is listed, and not there when it is looked at
    assert scripts.soak.prune(tmp_path) == episode_number(folders[-1])
    assert episodes(tmp_path) == tuple(folders[2:])


@pytest.fixture
def loaded():
    return load_deployment(ROOT / "config" / "grasp.yaml")


@pytest.fixture
def sentinel(scripts, loaded):
    return scripts.sentinel.Sentinel(*loaded, ROOT / "config" / loaded[1].urdf)


def safe_action(loaded, row: np.ndarray) -> JointTrajectory:
    names = loaded[0].contract.action.names
    return messages.table_message(ActionChunk("safety", 1, 0, names, np.zeros(1), row[None], np.zeros(1)), "base")


def command(loaded, positions: np.ndarray, velocities: np.ndarray) -> JointTrajectory:
    robot = loaded[1]
    names = (*robot.joint_names, robot.gripper.joint)
    return messages.trajectory_message(JointCommand(names, np.array([0.015, 0.03]), positions, velocities, 20.0))


def said(scripts, message, tick: int):
    """As it is heard on that tick."""
    return scripts.onlooker.Heard(tick * TICK_NS, message, tick)


def states(scripts, *names: str):
    """One state a tick."""
    ledger = scripts.sentinel.Ledger()
    for tick, name in enumerate(names):
        entry = messages.status("safety", "ok", name, {"state": name})
        ledger.on_state(said(scripts, messages.diagnostics(1, entry), tick))
    return ledger


ROW = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.04, 10.0])


@pytest.mark.parametrize(
    ("column", "value", "invariant"),
    [
        (0, np.nan, "safe action"),
        (2, 0.0049, "safe action"),
        (7, np.inf, "safe action"),
        (1, 0.0121, "step of a safe action"),
    ],
)
def test_a_bad_safe_action_is_seen(scripts, loaded, sentinel, column, value, invariant):
    bad = ROW.copy()
    bad[column] = value
    for tick, row in enumerate((ROW, bad)):
        sentinel.on_action(said(scripts, safe_action(loaded, row), tick))
    sentinel.settle(states(scripts, "ACTIVE", "ACTIVE", "ACTIVE"))
    assert sentinel.broken[invariant] == 1
    assert loaded[0].contract.action.names[column] in sentinel.examples[0]


def test_the_largest_allowed_step_and_one_that_nobody_drove_are_no_breaks(scripts, loaded, sentinel):
    for tick, y in enumerate((0.0, 0.012, 0.1)):
        row = ROW.copy()
        row[1] = y
        sentinel.on_action(said(scripts, safe_action(loaded, row), tick))
    sentinel.settle(states(scripts, "ACTIVE", "ACTIVE", "READY"))
    assert sentinel.broken == {}


@pytest.mark.parametrize(
    ("joint", "shift", "speed", "invariant"),
    [
        (0, np.nan, 0.0, "commanded position"),
        (1, 3.0, 0.0, "commanded position"),
        (2, 0.0, 3.0, "commanded velocity"),
        (3, 0.2, 0.0, "leap of a command"),
        (1, 1.5, 0.0, "tool of a command"),
        (0, 0.0, 0.4, "change of a commanded speed"),
    ],
)
def test_a_bad_command_of_the_arm_is_seen(scripts, loaded, sentinel, joint, shift, speed, invariant):
    home = np.append(loaded[1].home, 0.02)
    still, bad, moving = np.tile(home, (2, 1)), np.tile(home, (2, 1)), np.zeros((2, len(home)))
    bad[:, joint] += shift
    moving[0, joint] = speed
    sentinel.on_command(said(scripts, command(loaded, still, np.zeros_like(moving)), 0))
    assert sentinel.broken == {}
    sentinel.on_command(said(scripts, command(loaded, bad, moving), 1))
    assert sentinel.broken[invariant] >= 1


def test_a_joint_that_goes_half_as_fast_again_as_it_may_is_seen_although_messages_come_unevenly(
    scripts, loaded, sentinel
):
    """From one command to the next it could be their unevenness."""
    speed = 1.5 * loaded[1].velocity[0]
    home = np.append(loaded[1].home, 0.02)
    for tick in range(21):
        there = home.copy()
        there[0] = -0.3 + speed * tick * TICK_NS / 1e9
        sentinel.on_command(said(scripts, command(loaded, np.tile(there, (2, 1)), np.zeros((2, len(home)))), tick))
        assert tick > 1 or sentinel.broken == {}
    assert sentinel.broken["leap of a command"] > 0


def test_a_command_that_does_not_end_at_rest_is_seen(scripts, loaded, sentinel):
    home = np.append(loaded[1].home, 0.02)
    moving = np.zeros((2, len(home)))
    moving[-1, 0] = 0.1
    sentinel.on_command(said(scripts, command(loaded, np.tile(home, (2, 1)), moving), 0))
    assert sentinel.broken == {"a command does not end at rest": 1}


def verdict(before: str, after: str):
    entries = [messages.status("safety", "ok", "accepted", {})]
    entries.append(messages.status("transition", "ok", "why", {"from": before, "to": after, "rule": "AGE"}))
    return messages.diagnostics(1, *entries)


def test_records_and_changes_of_the_state_are_counted_against_each_other(scripts):
    whole = states(scripts, "READY", "ACTIVE", "FALLBACK", "READY")
    for tick, (before, after) in enumerate((("READY", "ACTIVE"), ("ACTIVE", "FALLBACK"), ("FALLBACK", "READY"))):
        heard = said(scripts, verdict(before, after), tick)
        whole.on_verdict(heard._replace(published_ns=heard.published_ns + TICK_NS // 2))
    whole.settle()
    assert (whole.records, whole.unchained, whole.expected, whole.changes, whole.lost) == (3, 0, 3, 3, 0)
    assert whole.stops == {"AGE": 1}


def test_a_missing_record_is_seen(scripts):
    gap = states(scripts, "READY", "ACTIVE", "FALLBACK", "READY")
    for tick, (before, after) in enumerate((("READY", "ACTIVE"), ("FALLBACK", "READY"))):
        heard = said(scripts, verdict(before, after), tick)
        gap.on_verdict(heard._replace(published_ns=heard.published_ns + 1))
    gap.settle()
    assert gap.unchained == 1
    assert gap.expected != gap.changes


def usages(scripts, rss_mb, descriptors=lambda s: 10, threads=lambda s: 5):
    return [scripts.soak.Usage(float(s), rss_mb(s), descriptors(s), threads(s)) for s in range(120)]


def test_a_leak_is_told_from_what_comes_and_goes(scripts):
    jump = usages(scripts, lambda s: 100.0 + 30.0 * (s > 100), lambda s: 10 + s % 5, lambda s: 5 + (s % 7 == 0))
    calm = scripts.soak._growth(jump)
    assert calm.rss_mb_min == pytest.approx(0.0, abs=1e-9)
    assert (calm.more_descriptors, calm.more_threads) == (0, 0)
    leak = usages(scripts, lambda s: 100.0 + 0.05 * s, lambda s: 10 + s // 30, lambda s: 5 + s // 100)
    lost = scripts.soak._growth(leak)
    assert lost.rss_mb_min == pytest.approx(3.0, rel=0.01)
    assert (lost.more_descriptors, lost.more_threads) == (2, 0)
