"""Bags of a led arm, made message by message, and the episodes that are derived from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from policy_bringup.control.gripping import grip_command
from policy_bringup.core import graph
from policy_bringup.core.decoding import chunk_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError, EpisodeError
from policy_bringup.core.types import ActionChunk, JointCommand, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.driving import Driving, read_driving
from policy_bringup.episodes.journal import (
    Journal,
    Outcome,
    Provenance,
    TopicCount,
    load_journal,
    save_journal,
    to_record,
)
from policy_bringup.episodes.layout import bag_path, lock
from policy_bringup.episodes.reader import BagMessage, open_bag
from policy_bringup.episodes.recovery import is_clean
from policy_bringup.episodes_cli import Derive
from policy_bringup.pipeline.hand_derivation import MARK, HandDerivation, derive_all, load_hand_derivation

START, MS, S = 1_700_000_000_000_000_000, 1_000_000, 1_000_000_000
TICK = 10 * MS
JOINTS, COMMAND, ARM = "joint_states", "arm_controller/joint_trajectory", "arm/state"
ACTION, STATE, VERDICT = "safety/action", "safety/state", "safety/verdict"
SPEED = 0.2
"""Of the first joint under the hand, rad/s."""
PROVENANCE = Provenance("grasp", ("cube",), "Zoë", "teleop", "hardware", "c0ffee", "f00d", "1.0")


@pytest.fixture(scope="module")
def derivation(config_folder: Path) -> HandDerivation:
    return load_hand_derivation(config_folder / "grasp.yaml")


class LedBag:
    """Four seconds: the arm stands at home but while a hand leads it, 1 s to 2 s and 2.5 s to 3.5 s; then its first
    joint turns at SPEED. Meanwhile safety goes on to ask for home, 100 times a second."""

    def __init__(self, derivation: HandDerivation) -> None:
        self.robot, self.names = derivation.robot, derivation.contract.action.names
        self.led = [(1000, 2000), (2500, 3500)]
        self.topics = [JOINTS, COMMAND, ARM, ACTION, STATE, VERDICT]
        self.joint_names = (*self.robot.joint_names, self.robot.gripper.joint)
        self.width: Callable[[int], float] = lambda ms: self.robot.gripper.home
        self.commands: list[tuple[int, JointCommand]] = []
        self.bad: set[int] = set()

    def guided(self, ms: int) -> bool:
        return any(began <= ms < ended for began, ended in self.led)

    def write(self, dataset: Path, number: int = 42) -> Path:
        """The episode's folder."""
        folder = dataset / f"episode_{number:06d}"
        folder.mkdir(parents=True)
        counts = {name: TopicCount(9, 7, 2, 3) for name in self.topics}
        journal = Journal(number, START, PROVENANCE, Outcome.SUCCESS, START + 4 * S, counts, note="first try")
        save_journal(folder, journal)
        entries = [graph.topic(name) for name in self.topics]
        writer = BagWriter(folder, [BagTopic(e.name, e.type, e.qos) for e in entries], to_record(journal))
        for now_ns, topic, data in sorted(self._messages(), key=lambda entry: entry[0]):
            if topic in self.topics:
                writer.write(topic, data, now_ns + MS, now_ns)  # what is published now is received 1 ms later
        writer.close(to_record(journal))
        return folder

    def _messages(self):
        turned = 0.0
        for ms in range(0, 4000, 10):
            now = START + ms * MS
            joints = self.robot.home + np.eye(7)[0] * turned
            values = np.append(joints, np.nan if ms in self.bad else 0.5 * self.width(ms))
            yield now, JOINTS, encoding.joint_state(StateSample(now, 0, self.joint_names, values), values, values, "b")
            turned += 0.01 * SPEED if self.guided(ms) else 0.0
            old = ActionChunk("safety", now, 0, self.names, np.zeros(1), np.full((1, 8), 0.01), np.zeros(1))
            yield now + MS, ACTION, encoding.table(old, "b")
            if ms % 100 == 0:
                word = "guided" if self.guided(ms) else "holding"
                yield now, ARM, encoding.status(now, "arm", "ok", word, {"state": word})
                told = {"state": "READY", "source": "", "offered": f"{ms}"}
                yield now + 5 * MS, STATE, encoding.status(now, "safety", "ok", "ready", told)
                yield now + 6 * MS, VERDICT, encoding.status(now, "safety", "ok", "judged", told)
        for ms, command in self.commands:
            yield START + ms * MS, COMMAND, encoding.command(command)


@pytest.fixture
def led_bag(derivation: HandDerivation) -> LedBag:
    return LedBag(derivation)


@pytest.fixture
def derived(derivation: HandDerivation, tmp_path: Path) -> Callable[[LedBag], Path]:
    """The folder of the derived episode."""

    def make(bag: LedBag) -> Path:
        source = bag.write(tmp_path / "live")
        report = derive_all([source], tmp_path / "derived", derivation)
        assert (report.done, report.failed) == ((source.name,), {})
        return tmp_path / "derived" / source.name

    return make


def messages(folder: Path) -> list[BagMessage]:
    with open_bag(folder) as bag:
        return list(bag.messages())


def driving(folder: Path, derivation: HandDerivation) -> Driving:
    with open_bag(folder) as bag:
        return read_driving(bag, derivation.contract)


def actions(folder: Path, derivation: HandDerivation, led: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Times (ms) and rows of the safe actions while the hand led."""
    drove = driving(folder, derivation)
    times = (drove.action_ns - START) / MS
    inside = (times >= led[0]) & (times < led[1])
    return times[inside], drove.actions[inside]


def test_the_hand_is_in_charge_exactly_while_it_led(derived, led_bag: LedBag, derivation: HandDerivation):
    drove = driving(derived(led_bag), derivation)
    for ms in range(0, 4000, 5):
        assert drove.driver(START + ms * MS) == ("hand" if led_bag.guided(ms) else ""), ms
    for ms in (1000, 2000, 2500, 3500):  # to the nanosecond
        assert drove.driver(START + ms * MS - 1) == ("" if ms in (1000, 2500) else "hand")


def test_a_known_motion_gives_the_known_actions_each_while_on_its_own(
    derived, led_bag: LedBag, derivation: HandDerivation
):
    folder = derived(led_bag)
    chain = derivation.proprioception._chain
    begin = 0.0
    for led in led_bag.led:
        times, rows = actions(folder, derivation, led)
        np.testing.assert_allclose(times, np.arange(led[0], led[1], 10))
        shift, inside = derivation.config.shift_s, slice(10, -10)
        turned = begin + SPEED * (1e-3 * (times - led[0]) + shift)
        wanted = [chain.forward(led_bag.robot.home + np.eye(7)[0] * angle).position for angle in turned]
        np.testing.assert_allclose(rows[inside, :3], np.array(wanted)[inside], atol=1e-6)
        np.testing.assert_allclose(rows[:, 6], led_bag.robot.gripper.upper)
        np.testing.assert_allclose(rows[:, 7], derivation.config.grip_force)
        begin += SPEED * 1.0
    still = [chain.forward(led_bag.robot.home + np.eye(7)[0] * SPEED).position]
    _, rows = actions(folder, derivation, led_bag.led[0])
    np.testing.assert_allclose(rows[-1, :3], still[0], atol=2e-3)  # it does not run on into the second


def test_everything_else_is_in_it_bit_for_bit(derived, led_bag: LedBag, tmp_path: Path):
    folder = derived(led_bag)
    before, after = messages(tmp_path / "live" / folder.name), messages(folder)
    safety = (ACTION, STATE, VERDICT)
    outside = lambda m: m.topic not in safety or not led_bag.guided((m.publish_ns - START) // MS)  # noqa: E731
    kept = [message for message in before if outside(message)]
    made = [message for message in after if message not in kept]
    assert [message for message in after if message in kept] == kept
    assert {message.topic for message in made} == {ACTION, STATE}
    assert len(kept) + len(made) == len(after)
    assert [message.log_ns for message in after] == sorted(message.log_ns for message in after)
    assert len([message for message in before if not outside(message)]) > 200


def test_after_the_hand_safety_says_again_what_it_had_said_last(derived, led_bag: LedBag):
    folder = derived(led_bag)
    states = [message for message in messages(folder) if message.topic == STATE]
    (again,) = [message for message in states if message.publish_ns == START + 2000 * MS]
    with open_bag(folder) as bag:
        (status,) = bag.decode(again).status
    assert {entry.key: entry.value for entry in status.values}["offered"] == "1900"


def test_the_journal_keeps_label_and_provenance_counts_what_is_there_and_says_where_it_is_from(
    derived, led_bag: LedBag
):
    folder = derived(led_bag)
    journal = load_journal(folder)
    assert is_clean(folder)
    assert (journal.outcome, journal.provenance, journal.episode) == (Outcome.SUCCESS, PROVENANCE, 42)
    assert (journal.started_ns, journal.stopped_ns) == (START, START + 4 * S)
    with open_bag(folder) as bag:
        assert bag.counts == {name: count.written for name, count in journal.counts.items()}
    assert all((count.dropped, count.lost) == (2, 3) for count in journal.counts.values())
    assert all(count.received == count.written + 2 for count in journal.counts.values())
    assert journal.note == (
        "first try; the actions of 2.0 s in which a hand led the arm were derived from the motion in "
        "live/episode_000042"
    )
    assert journal.quality is not None
    assert "safe actions" not in journal.quality.sentence


def test_the_commands_of_the_gripper_alone_are_its_button(derived, led_bag: LedBag, derivation: HandDerivation):
    gripper = led_bag.robot.gripper
    closing = grip_command(gripper, gripper.upper, gripper.lower, 30.0)
    led_bag.commands = [(1500, closing)]
    folder = derived(led_bag)
    times, rows = actions(folder, derivation, led_bag.led[0])
    assert rows[times < 1500, 6] == pytest.approx(gripper.upper)
    np.testing.assert_allclose(np.diff(rows[times >= 1490, 6])[:30], -0.01 * gripper.velocity)
    _, later = actions(folder, derivation, led_bag.led[1])
    assert later[:, 6] == pytest.approx(gripper.lower)  # nobody has opened it since


def test_where_safe_actions_may_use_less_of_the_gripper_the_button_goes_as_far(config_folder: Path, tmp_path: Path):
    """As the arm node has it: safety would refuse what is derived otherwise."""
    site = tmp_path / "config"
    shutil.copytree(config_folder, site)
    (tmp_path / "models").symlink_to(config_folder.parent / "models")
    described = yaml.safe_load((site / "grasp.yaml").read_text())
    width, force = described["limits"][-2:]
    width.update(lower=0.01, upper=0.035)
    force.update(upper=20.0)
    (site / "grasp.yaml").write_text(yaml.safe_dump(described))
    derivation = load_hand_derivation(site / "grasp.yaml")
    led_bag = LedBag(derivation)
    led_bag.width = lambda _: 0.03
    gripper = load_deployment(site / "grasp.yaml")[1].gripper
    led_bag.commands = [
        (1500, grip_command(gripper, 0.035, 0.01, 20.0)),
        (1900, grip_command(gripper, 0.01, 0.035, 20.0)),
    ]
    source = led_bag.write(tmp_path / "live")
    assert derive_all([source], tmp_path / "derived", derivation).failed == {}
    times, rows = actions(tmp_path / "derived" / source.name, derivation, led_bag.led[0])
    assert rows[times < 1500, 6] == pytest.approx(0.035)
    assert rows[(times > 1780) & (times < 1900), 6] == pytest.approx(0.01)
    assert rows[-1, 6] > 0.01
    assert set(rows[:, 7]) == {20.0}


def test_a_gripper_with_a_button_of_its_own_is_told_by_its_fingers(
    derived, led_bag: LedBag, derivation: HandDerivation
):
    gripper = led_bag.robot.gripper
    held = 0.04
    led_bag.width = lambda ms: float(np.clip(gripper.upper - 1e-4 * (ms - 1500), held, gripper.upper))
    times, rows = actions(derived(led_bag), derivation, led_bag.led[0])
    assert rows[times < 1500, 6] == pytest.approx(gripper.upper)
    assert rows[times >= 1530, 6].max() < gripper.upper
    assert rows[-1, 6] < held  # it presses


def test_what_the_gripper_held_before_the_hand_came_it_goes_on_holding(
    derived, led_bag: LedBag, derivation: HandDerivation
):
    gripper, joints = led_bag.robot.gripper, led_bag.robot.joint_names
    finger = np.array([[*led_bag.robot.home, 0.5 * gripper.lower]])
    led_bag.commands = [
        (500, JointCommand((*joints, gripper.joint), np.array([0.1]), finger, np.zeros_like(finger), 30.0))
    ]
    led_bag.width = lambda ms: 0.06  # a wide thing
    _, rows = actions(derived(led_bag), derivation, led_bag.led[0])
    assert rows[:, 6] == pytest.approx(gripper.lower)


def test_joint_states_that_are_no_numbers_are_left_out(derived, led_bag: LedBag, derivation: HandDerivation):
    led_bag.bad = {1200, 1210}
    folder = derived(led_bag)
    times, rows = actions(folder, derivation, led_bag.led[0])
    assert len(times) == 100
    assert np.isfinite(rows).all()
    assert "2 joint states hold no position or one that is not a number" in load_journal(folder).quality.reasons


def ruin(folder: Path) -> None:
    path = bag_path(folder)
    data = bytearray(path.read_bytes())
    for at in range(20_000, len(data) - 20_000, 5_000):
        data[at] ^= 0xFF
    path.write_bytes(data)


def without(bag: LedBag, topic: str) -> None:
    bag.topics.remove(topic)


def rename(bag: LedBag) -> None:
    bag.joint_names = (*bag.joint_names[:-1], "some_finger")


@pytest.mark.parametrize(
    ("change", "afterwards", "said"),
    [
        (lambda bag: without(bag, JOINTS), lambda folder: None, "topic 'joint_states' is missing or holds no message"),
        (lambda bag: without(bag, ARM), lambda folder: None, "topic 'arm/state' is missing"),
        (lambda bag: setattr(bag, "led", []), lambda folder: None, "nobody led the arm by hand"),
        (lambda bag: setattr(bag, "bad", set(range(1000, 1990))), lambda folder: None, "fewer than two moments"),
        (rename, lambda folder: None, "panda_finger_joint1 missing"),
        (lambda bag: None, ruin, "is damaged"),
        (lambda bag: None, lambda folder: bag_path(folder).unlink(), "holds no bag"),
        (lambda bag: None, lambda folder: (folder / "journal.yaml").write_text("x: 1"), "unknown key 'x'"),
    ],
    ids=["no_joints", "no_arm_state", "nobody", "no_numbers", "other_robot", "damaged", "no_bag", "journal"],
)
def test_what_cannot_be_derived_is_named_and_harms_no_other(
    derivation: HandDerivation, tmp_path: Path, change, afterwards, said: str
):
    bad, good = LedBag(derivation), LedBag(derivation)
    change(bad)
    folders = [bad.write(tmp_path / "live", 1), good.write(tmp_path / "live", 2)]
    afterwards(folders[0])
    told: list[tuple[int, int, str]] = []
    report = derive_all(folders, tmp_path / "derived", derivation, lambda *words: told.append(words))
    assert list(report.failed) == ["episode_000001"]
    assert said in report.failed["episode_000001"]
    assert "\n" not in report.failed["episode_000001"]
    assert report.done == ("episode_000002",)
    assert [entry.name for entry in (tmp_path / "derived").iterdir()] == ["episode_000002"]
    assert told == [(1, 2, "episode_000001"), (2, 2, "episode_000002")]


def test_what_is_there_is_skipped_and_what_else_is_there_is_left_alone(
    derivation: HandDerivation, led_bag: LedBag, tmp_path: Path
):
    folders, out = [led_bag.write(tmp_path / "live", number) for number in (1, 2)], tmp_path / "derived"
    (out / ".episode_000002.partial" / "episode_000002").mkdir(parents=True)  # a process was killed
    (out / ".episode_000002.partial" / "episode_000002" / "half").touch()
    assert derive_all(folders[:1], out, derivation).done == ("episode_000001",)
    before = bag_path(out / "episode_000001").stat().st_mtime_ns
    again = derive_all(folders, out, derivation)
    assert (again.done, again.skipped, again.failed) == (("episode_000002",), ("episode_000001",), {})
    assert bag_path(out / "episode_000001").stat().st_mtime_ns == before
    assert not list(out.glob(".*"))
    assert not (out / "episode_000002" / "half").exists()
    other = replace(derivation, config=replace(derivation.config, shift_s=0.03))
    assert (
        "was not derived from this bag with this contract and hand.yaml"
        in (derive_all(folders[:1], out, other).failed["episode_000001"])
    )
    (out / "episode_000001" / MARK).unlink()
    assert "remove it to derive again" in derive_all(folders[:1], out, derivation).failed["episode_000001"]
    assert "remove it" in derive_all(folders[:1], tmp_path / "live", derivation).failed["episode_000001"]


def test_two_do_not_write_to_one_place(derivation: HandDerivation, led_bag: LedBag, tmp_path: Path):
    folder = led_bag.write(tmp_path / "live")
    (tmp_path / "derived").mkdir()
    lock(tmp_path / "derived")
    with pytest.raises(EpisodeError, match="is being written by somebody else"):
        derive_all([folder], tmp_path / "derived", derivation)


def test_on_a_full_disk_nothing_is_left_behind(derivation: HandDerivation, led_bag: LedBag, small_disk, tmp_path):
    folder = led_bag.write(tmp_path / "live")
    (small_disk / "filler").write_bytes(bytes(900_000))
    report = derive_all([folder], small_disk / "derived", derivation)
    assert "the disk is full" in report.failed[folder.name]
    assert not list((small_disk / "derived").iterdir())


def test_the_command_says_what_it_did_and_fails_if_anything_failed(led_bag: LedBag, tmp_path: Path, capsys):
    led_bag.write(tmp_path / "live", 1)
    assert Derive(tmp_path / "live", tmp_path / "derived")() == 0
    assert "1 derived, 0 were there already" in capsys.readouterr().out
    led_bag.led = []
    led_bag.write(tmp_path / "live", 2)
    assert Derive(tmp_path / "live", tmp_path / "derived")() == 1
    said = capsys.readouterr()
    assert "0 derived, 1 were there already" in said.out
    assert "episode_000002: " in said.err
    assert "nobody led the arm by hand" in said.err


def test_a_deployment_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_hand_derivation(tmp_path / "grasp.yaml")


def test_actions_are_tables_of_the_contract(derived, led_bag: LedBag, derivation: HandDerivation):
    folder = derived(led_bag)
    with open_bag(folder) as bag:
        found = {
            chunk_of(bag.decode(message), "", 0).names
            for message in bag.messages([ACTION])
            if led_bag.guided((message.log_ns - START) // MS)
        }
    assert found == {derivation.contract.action.names}
