"""The stops of an episode, from its bag: what happened before, what safety did, and what ended each of them.

A stop record, which ends with the stop, is told in the same terms, as far as it goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Array
from policy_bringup.episodes import stop_motion
from policy_bringup.episodes.driving import ACTION, STATE, VERDICT
from policy_bringup.episodes.overview import GRIPPER_WORDS, JOINTS
from policy_bringup.episodes.reader import Bag, open_bag
from policy_bringup.episodes.stop_evidence import ACCEPTED, AFTER_S, SILENT, Heard, Moment, Motion, Track
from policy_bringup.episodes.stop_record import STOPS, Change, StopRecord

_TOOL, _WIDTH = ("tool.x", "tool.y", "tool.z"), "gripper.width"


@dataclass(frozen=True, slots=True)
class Scene:
    """Just before a stop. driver: who was in charge, "" for nobody, and for how long (None: longer than recorded).

    tool_m_s: speed of the tool, measured or as it was told to move; joint: the fastest one, and its speed. None where
    nothing tells.
    """

    driver: str
    driven_s: float | None
    tool_m_s: float | None = None
    tool_measured: bool = False
    joint: str = ""
    joint_rad_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What safety told the arm from a stop on: when that came to a stand (s after the stop), how far the tool still
    went until then (m), by how much the gripper opened (m). None where nothing tells."""

    stand_s: float | None
    tool_m: float | None
    opened_m: float | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stop ended, `after_s` after it began: by a change to the state `to`; "" with the recording."""

    after_s: float
    to: str = ""
    who: str = ""
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop at ROS time stamp_ns, at_s into the recording.

    tries: repeats of the last safe action just before; fallback: the configured safe default, "" if not known; judged:
    rule (or "accepted") -> verdicts in the 2 s before. What comes after the stop is None in a stop record.
    """

    change: Change
    stamp_ns: int
    at_s: float | None
    scene: Scene
    tries: int
    fallback: str = ""
    judged: Mapping[str, int] = field(default_factory=dict)
    answer: Answer | None = None
    rest_s: float | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """What a bag says about stops. began: the state at its begin, if that was a stop already, else "". verdicts: rule
    (or "accepted") -> how many."""

    name: str
    duration_s: float
    verdicts: Mapping[str, int]
    began: str
    stops: tuple[Stop, ...]


def read_stops(folder: Path) -> Episode:
    """Reads the bag of an episode. Raises EpisodeError, naming the bag, for one that is damaged or without safety."""
    with open_bag(folder) as bag:
        if not any(bag.counts.get(topic) for topic in (VERDICT, STATE)):
            raise EpisodeError(f"{bag.path}: holds no word of safety (topics '{VERDICT}' and '{STATE}')")
        heard = Heard(bag)
        moments = heard.moments()
        stopping = [index for index, moment in enumerate(moments) if moment.change.after in (*STOPS, SILENT)]
        motion = Motion(bag, [moments[index].now_ns for index in stopping])
        stops = [_stop(bag, heard, motion, moments, index) for index in stopping]
        began = heard.said[0].state if heard.said else ""
        verdicts = dict(Counter(rule or ACCEPTED for _, rule in heard.verdicts))
        duration_s = (bag.end_ns - bag.start_ns) / 1e9
        return Episode(folder.name, duration_s, verdicts, began if began in STOPS else "", tuple(stops))


def stop_of(record: StopRecord) -> Stop:
    """The part of a stop that its record knows."""
    measured = [entry for entry in record.inputs if entry.name == JOINTS and "joints" in entry.values]
    times = np.array([round(entry.at_s * 1e9) for entry in measured], dtype=np.int64)
    tool = Track(times, record.columns, _rows([entry.values["columns"] for entry in measured], record.columns))
    joints = Track(times, record.joints, _rows([entry.values["joints"] for entry in measured], record.joints))
    scene = _scene(record.driver, record.driven_s, tool, joints, 0, tool_measured=True)
    return Stop(record.change, record.stamp_ns, None, scene, record.tries, record.fallback)


def _stop(bag: Bag, heard: Heard, motion: Motion, moments: Sequence[Moment], index: int) -> Stop:
    moment = moments[index]
    now_ns, following = moment.now_ns, moments[index + 1] if index + 1 < len(moments) else None
    end_ns = bag.end_ns if following is None else following.now_ns
    told, joints = motion.track(ACTION), motion.track(JOINTS)
    ending = Ending((end_ns - now_ns) / 1e9)
    if following is not None:
        ending = Ending(ending.after_s, following.change.after, following.change.who, following.change.sentence)
    seen_ns = min(end_ns, now_ns + round(AFTER_S * 1e9))
    arm = joints.of(_arm_joints(joints.names))
    return Stop(
        moment.change,
        now_ns,
        (now_ns - bag.start_ns) / 1e9,
        _scene(*heard.driving(now_ns), told, joints, now_ns, tool_measured=False),
        moment.tries,
        judged=heard.judged(now_ns),
        answer=_answer(told, now_ns, seen_ns),
        rest_s=None if arm is None else stop_motion.rest_s(joints.times_ns, arm, now_ns, seen_ns),
        ending=ending,
    )


def _scene(driver: str, driven_s: float | None, tool: Track, joints: Track, now_ns: int, tool_measured: bool) -> Scene:
    place, names = tool.of(_TOOL), _arm_joints(joints.names)
    arm = joints.of(names)
    moved = None if place is None else stop_motion.velocity(tool.times_ns, place, now_ns)
    turned = None if arm is None else stop_motion.velocity(joints.times_ns, arm, now_ns)
    scene = Scene(driver, driven_s, None if moved is None else float(np.linalg.norm(moved)), tool_measured)
    if turned is None:
        return scene
    fastest = int(np.abs(turned).argmax())
    speed = float(abs(turned[fastest]))
    return Scene(driver, driven_s, scene.tool_m_s, tool_measured, names[fastest], speed)


def _answer(told: Track, now_ns: int, seen_ns: int) -> Answer | None:
    """From the last command before the stop on; None if there was none after it."""
    first = max(0, int(np.searchsorted(told.times_ns, now_ns)) - 1)
    until = int(np.searchsorted(told.times_ns, seen_ns, side="right"))
    if until - first < 2:
        return None
    place, width = told.of(_TOOL), told.of((_WIDTH,))
    moving = told.table[:, [i for i, name in enumerate(told.names) if not _is_gripper(name)]]
    return Answer(
        stop_motion.stand_s(told.times_ns, moving, int(told.times_ns[first]), seen_ns),
        None if place is None else float(np.linalg.norm(place[until - 1] - place[first])),
        None if width is None else float(width[until - 1, 0] - width[first, 0]),
    )


def _rows(rows: Sequence[Array], names: Sequence[str]) -> Array:
    """A table of those columns; rows of another width, which no stop record of ours has, as NaN."""
    table = np.full((len(rows), len(names)), np.nan)
    for at, row in enumerate(rows):
        if row.shape == (len(names),):
            table[at] = row
    return table


def _is_gripper(name: str) -> bool:
    return any(word in name for word in GRIPPER_WORDS)


def _arm_joints(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not _is_gripper(name))
