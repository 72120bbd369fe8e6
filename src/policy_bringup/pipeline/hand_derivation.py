"""Bags of a hand-guided arm -> episodes that say what was done: with the actions that make the motion again.

A derived episode has the name of its bag and every message of it, bit for bit, with one exception: while a hand led the
arm, what safety said (`safety/action`, `safety/verdict`, `safety/state`) was about a pose that nobody followed. It is
left out there; the actions that follow from the motion, and the hand as the one who is in charge, are in its place.
After each such while, what safety had said last stands again.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from policy_bringup.control.hand_guiding import Derivation, HandGuiding, load_derivation
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError, EpisodeError, PolicyBringupError
from policy_bringup.core.fingerprints import contract_sha256
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import GRIPPER_COLUMNS, Contract
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.convert import ConvertReport, Progress
from policy_bringup.episodes.driving import ACTION, STATE, VERDICT, took_effect_ns
from policy_bringup.episodes.hand_messages import MadeMessage, hand_let_go, hand_messages
from policy_bringup.episodes.journal import Journal, TopicCount, load_journal, save_journal, to_record
from policy_bringup.episodes.layout import PARTIAL, bag_path, lock, naming, sync_folder, write_durably
from policy_bringup.episodes.led import Interval, led_intervals
from policy_bringup.episodes.quality import QualityMeter, required_streams
from policy_bringup.episodes.quality_config import QualityConfig
from policy_bringup.episodes.reader import Bag, open_bag
from policy_bringup.pipeline.led_motion import LedMotion, led_motions

MARK = "derivation.json"
"""Lies in every derived episode and says what it was made from."""
SAFETY = (ACTION, VERDICT, STATE)


class _Entry(NamedTuple):
    """A message as it is written."""

    log_ns: int
    publish_ns: int
    topic: str
    data: bytes


@dataclass(frozen=True, slots=True)
class HandDerivation:
    """What actions are derived with: a deployment's robot, contract, hand.yaml and quality.yaml."""

    robot: Robot
    contract: Contract
    proprioception: Proprioception
    config: Derivation
    quality: QualityConfig

    def actions(self, led: LedMotion) -> Iterator[MadeMessage]:
        """Of one motion, and the hand as the one in charge."""
        robot, action = self.robot, self.contract.action
        guiding = HandGuiding(self.proprioception, robot.joint_names, robot.gripper, self.config)
        times, values = guiding.derive(led.motion, action, 1.0 / graph.topic(ACTION).rate_hz)
        return hand_messages(led.began_ns, times, values, action.names, robot.base_frame)

    def mark(self, bag: Path) -> dict[str, Any]:
        """What a derived episode says: the same words mean that nothing would change. Raises EpisodeError."""
        try:
            size = bag_path(bag).stat().st_size
        except OSError as error:
            raise EpisodeError(f"{bag_path(bag)}: cannot be read ({error.strerror})") from error
        started_ns = load_journal(bag).started_ns
        contract = contract_sha256(self.contract)
        return {"bag_bytes": size, "started_ns": started_ns, "contract": contract, "derivation": asdict(self.config)}


def load_hand_derivation(deployment: Path) -> HandDerivation:
    """Of a deployment's file and those beside it. Raises ConfigError.

    The gripper's button goes as far as a safe action may: so does the arm node's.
    """
    described, robot = load_deployment(deployment)
    folder, reach = deployment.parent, {limit.name: limit for limit in described.limits}
    opening, force = (reach[name] for name in GRIPPER_COLUMNS)
    robot = replace(robot, gripper=replace(robot.gripper, lower=opening.lower, upper=opening.upper))
    config = load_derivation(folder)
    config = replace(config, grip_force=min(max(config.grip_force, force.lower), force.upper))
    chain = Chain.from_urdf(folder / robot.urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
    quality = load(folder / "quality.yaml", QualityConfig)
    return HandDerivation(robot, described.contract, Proprioception(robot, chain), config, quality)


def derive_all(
    bags: Sequence[Path], out: Path, derivation: HandDerivation, progress: Progress | None = None
) -> ConvertReport:
    """Writes a derived episode for each of these into the folder `out`; skips those that are there.

    An episode is there whole or not at all. One that cannot be derived harms no other, and is reported with the reason.
    Raises EpisodeError where nothing can be written to `out`, or somebody else writes there.
    """
    done: list[str] = []
    skipped: list[str] = []
    failed: dict[str, str] = {}
    with naming(out):
        out.mkdir(parents=True, exist_ok=True)
    held = lock(out)
    try:
        for count, bag in enumerate(bags, 1):
            try:
                if _is_derived(bag, out / bag.name, derivation):
                    skipped.append(bag.name)
                else:
                    _derive(bag, out / bag.name, derivation)
                    done.append(bag.name)
            except PolicyBringupError as error:
                failed[bag.name] = str(error)
            except Exception as error:  # a bag that nobody foresaw must not end the work on the others
                reason = " ".join(str(error).split())
                failed[bag.name] = f"{bag}: actions cannot be derived ({type(error).__name__}: {reason})"
            if progress is not None:
                progress(count, len(bags), bag.name)
    finally:
        os.close(held)
    return ConvertReport(tuple(done), tuple(skipped), failed)


def _is_derived(bag: Path, target: Path, derivation: HandDerivation) -> bool:
    """Whether it is there. Raises EpisodeError if something else is."""
    if not target.exists():
        return False
    try:
        found = json.loads((target / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != derivation.mark(bag):
        raise EpisodeError(
            f"{target}: exists, but was not derived from this bag with this contract and hand.yaml; "
            "remove it to derive again"
        )
    return True


def _derive(bag: Path, target: Path, derivation: HandDerivation) -> None:
    staging = target.with_name(f".{target.name}{PARTIAL}")
    folder = staging / target.name
    with naming(target):
        shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
        folder.mkdir(parents=True)
    try:
        with open_bag(bag) as opened:
            _write(opened, load_journal(bag), folder, derivation)
        write_durably(folder / MARK, json.dumps(derivation.mark(bag)))
        with naming(target):
            folder.rename(target)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(bag: Bag, journal: Journal, folder: Path, derivation: HandDerivation) -> None:
    intervals = led_intervals(bag)
    entries = _merged(bag, intervals, derivation)
    topics = _topics(bag)
    save_journal(folder, journal)
    writer = BagWriter(folder, topics, to_record(journal))
    try:
        streams = required_streams(topic.name for topic in topics)
        meter = QualityMeter(streams, derivation.quality, (derivation.robot.gripper.joint,))
        written = Counter({topic.name: 0 for topic in topics})
        for entry in entries:
            writer.write(entry.topic, entry.data, entry.log_ns, entry.publish_ns)
            meter.observe(entry.topic, entry.data, entry.log_ns)
            written[entry.topic] += 1
        journal = replace(
            journal,
            stopped_ns=bag.end_ns if journal.stopped_ns is None else journal.stopped_ns,
            counts={name: _count(journal.counts, name, number) for name, number in written.items()},
            quality=meter.verdict(),
            note="; ".join(filter(None, (journal.note, _remark(bag, intervals)))),
        )
        writer.close(to_record(journal))
        save_journal(folder, journal)
    finally:
        writer.abandon()


def _merged(bag: Bag, intervals: Sequence[Interval], derivation: HandDerivation) -> Iterator[_Entry]:
    """What is kept of the bag, and what is new, by the time of recording."""
    made: list[MadeMessage] = []
    for led in led_motions(bag, intervals, derivation.proprioception, derivation.robot.gripper):
        made.extend(each for each in derivation.actions(led) if led.interval.holds(each.now_ns))
    made.extend(_returns(bag, intervals))
    made.sort(key=lambda message: message.now_ns)
    new = (_Entry(message.now_ns, message.now_ns, message.topic, message.data) for message in made)
    return heapq.merge(_kept(bag, intervals), new, key=lambda entry: entry.log_ns)


def _kept(bag: Bag, intervals: Sequence[Interval]) -> Iterator[_Entry]:
    for message in bag.messages():
        took_ns = took_effect_ns(message)
        if message.topic not in SAFETY or not any(interval.holds(took_ns) for interval in intervals):
            yield _Entry(message.log_ns, message.publish_ns, message.topic, message.data)


def _returns(bag: Bag, intervals: Sequence[Interval]) -> Iterator[MadeMessage]:
    """What safety had said last, at the end of each interval; the end of the bag ends everything anyhow."""
    said = sorted((took_effect_ns(message), message.data) for message in bag.messages((STATE,)))
    for interval in intervals:
        if interval.ended_ns <= bag.end_ns:
            earlier = [data for ns, data in said if ns < interval.ended_ns]
            yield hand_let_go(interval.ended_ns, earlier[-1] if earlier else None)


def _topics(bag: Bag) -> list[BagTopic]:
    """Those of the bag, and those that are new."""
    kinds = {**bag.topics, **{name: graph.topic(name).type for name in (ACTION, STATE)}}
    topics = []
    for name, kind in kinds.items():
        try:
            qos = graph.topic(name).qos
        except ConfigError:  # of another project
            qos = graph.EVENT
        topics.append(BagTopic(name, kind, qos))
    return topics


def _count(counts: Mapping[str, TopicCount], name: str, written: int) -> TopicCount:
    """What is in the derived bag, and what its source lacks."""
    old = counts.get(name, TopicCount(0, 0, 0, 0))
    return TopicCount(written + old.dropped, written, old.dropped, old.lost)


def _remark(bag: Bag, intervals: Sequence[Interval]) -> str:
    seconds = sum(interval.ended_ns - interval.began_ns for interval in intervals) / 1e9
    source = f"{bag.path.parent.parent.name}/{bag.path.parent.name}"
    return f"the actions of {seconds:.1f} s in which a hand led the arm were derived from the motion in {source}"
