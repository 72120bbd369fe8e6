"""A recorded episode once more through the safety monitor: would it be stopped, by which rule, and how fast?

The monitor gets what the bag holds, in the order and at the times at which it was received, and ticks at the graph's
rate. It is armed, disarmed, stopped and reset where the recording was. What it puts out moves nothing: the arm goes the
way it went, also where it would have been held, and the source follows that one. So only the first refusal of a stretch
says what would have happened. Receive times stand for monotonic time and for ROS time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.decoding import DRIVEN, chunk_of, grip_of, joint_positions, values_of
from policy_bringup.core.errors import EpisodeError, ObservationError
from policy_bringup.core.types import Array
from policy_bringup.episodes.driving import STATE, VERDICT
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.led import ARM
from policy_bringup.episodes.reader import Bag, BagMessage, open_bag
from policy_bringup.episodes.stop_record import STOPS
from policy_bringup.safety.limits import Limits
from policy_bringup.safety.monitor import SafetyMonitor, Verdict
from policy_bringup.safety.reasons import Rule, State, Transition
from policy_bringup.safety.state import Arm, EStop, Gripped, Measured, Proposal, Reset

JOINTS, BOX = "joint_states", "safety/estop"
ROUNDING_NS = 1_000
"""A tick takes in what was received up to this much earlier: simulated times are multiples of a tick but for that."""
ARM_PATIENCE_NS = 500_000_000
"""The ticks of the replay lie elsewhere than those of the recording: arming is tried again for so long."""
ASKED = (Rule.ESTOP, Rule.OPERATOR)
"""Who stops by these wanted to."""
ARMED = (State.ACTIVE, State.RETRY, State.FALLBACK)


@dataclass(frozen=True, slots=True)
class ReplayedStop:
    """One stop of the replay, `at_s` into the bag.

    decided_s: from the tick that first refused, through the repeats, to the stop; stood_s: from the stop until the
    output stands still, None if it did not; resumed_s: until the source drove again, None if it did not.
    """

    at_s: float
    rule: str
    sentence: str
    column: str
    decided_s: float
    stood_s: float | None = None
    resumed_s: float | None = None

    @property
    def asked(self) -> bool:
        """Whether a person wanted it."""
        return self.rule in (rule.name for rule in ASKED)

    @property
    def deterministic(self) -> bool:
        """Neither asked for nor a matter of uncertainty, whose threshold is calibrated to a rate of false alarms."""
        return not self.asked and self.rule != Rule.UNCERTAINTY.name


@dataclass(frozen=True, slots=True)
class Replayed:
    """One episode. driver, success: as its journal says. armed_s: time in which a source was or had been in charge;
    held_s: the part of it in which none was followed. refused: rule -> how often an action of the source in charge, or
    its silence, was refused up to the stop.

    recorded: rules of the stops that the recording itself tells of. not_armed: why the replay could not be armed where
    the recording was.
    """

    name: str
    driver: str
    success: bool
    duration_s: float
    armed_s: float
    held_s: float
    stops: tuple[ReplayedStop, ...]
    refused: Mapping[str, int]
    recorded: tuple[str, ...]
    not_armed: tuple[str, ...]


def replay(folder: Path, limits: Limits, proprioception: Proprioception) -> Replayed:
    """Replays the bag of one episode. Raises EpisodeError for one that is damaged, that does not tell where it was
    armed, or whose header stamps are on another clock than its receive times."""
    journal = load_journal(folder)
    if journal.provenance.mode == "gazebo":
        raise EpisodeError(f"{folder}: was recorded in simulated time; the ages of its messages are not known")
    with open_bag(folder) as bag:
        if not any(bag.counts.get(topic) for topic in (VERDICT, STATE)):
            raise EpisodeError(f"{bag.path}: holds no word of safety (topics '{VERDICT}' and '{STATE}')")
        if not bag.counts.get(JOINTS):
            raise EpisodeError(f"{bag.path}: topic '{JOINTS}' holds no message")
        course = _Course(bag, limits, proprioception)
        for message in bag.messages(course.topics):
            course.tick_until(message.log_ns)
            course.take(message)
        course.tick_until(course.measured_ns + 2 * ROUNDING_NS)
        duration_s = (bag.end_ns - bag.start_ns) / 1e9
    count = course.count
    return Replayed(
        folder.name,
        journal.provenance.driver,
        journal.outcome is Outcome.SUCCESS,
        duration_s,
        count.armed * limits.period_s,
        count.held * limits.period_s,
        count.finished(),
        dict(count.refused),
        tuple(course.recorded),
        tuple(course.not_armed),
    )


class _Course:
    """The monitor's side: what arrives, what the operator did, when it ticks. measured_ns: of the last joint state."""

    def __init__(self, bag: Bag, limits: Limits, proprioception: Proprioception) -> None:
        self._bag, self._limits, self._proprioception = bag, limits, proprioception
        self._monitor = SafetyMonitor(limits)
        self._sources = {f"{source}/action": source for source in limits.config.sources}
        self.topics = {JOINTS, BOX, ARM, VERDICT, STATE, *self._sources}
        self._period_ns = round(limits.period_s * 1e9)
        self._due_ns = bag.start_ns + ROUNDING_NS
        self._wanted_ns: int | None = None
        self._box_pressed = self._begun = False
        self.measured_ns = bag.start_ns
        self.recorded: list[str] = []
        self.not_armed: list[str] = []
        self.count = _Count(bag.start_ns)

    def tick_until(self, received_ns: int) -> None:
        """All ticks that come before a message received then."""
        while self._due_ns < received_ns:
            self._try_to_arm(self._due_ns)
            self.count.take(self._monitor.tick(self._due_ns, self._due_ns), self._due_ns)
            self._due_ns += self._period_ns

    def take(self, message: BagMessage) -> None:
        """One message, in the order of their receipt."""
        now_ns, decoded = message.log_ns, self._bag.decode(message)
        if message.topic in self._sources:
            chunk = chunk_of(decoded, self._sources[message.topic], now_ns)
            self._monitor.step(Proposal(chunk, 1), now_ns)
        elif message.topic == JOINTS:
            self.measured_ns = now_ns
            self._monitor.step(self._measured(decoded, now_ns), now_ns)
        elif message.topic == ARM:
            gripped = grip_of(decoded, self._limits.spec.names)
            if gripped is not None:
                self._monitor.step(Gripped(gripped), now_ns)
        elif message.topic == BOX:
            self._box_pressed = bool(decoded.data)
            self._monitor.step(EStop(self._box_pressed), now_ns)
        elif message.topic == VERDICT:
            transitions = decoded.status[1:]
            self._begin(decoded.status[:1] if not transitions else (), now_ns)
            for status in transitions:
                self._follow(values_of(status), now_ns)
        else:
            self._begin(decoded.status[:1], now_ns)

    def _begin(self, said: Sequence[Any], now_ns: int) -> None:
        """By the first word of safety: it may have been armed before the recording began."""
        if not self._begun and said and values_of(said[0]).get("state") in DRIVEN:
            self._wanted_ns = now_ns
        self._begun = True

    def _measured(self, decoded: Any, now_ns: int) -> Measured:
        """As the safety node reads it."""
        limits, sample = self._limits, joint_positions(decoded, now_ns)
        try:
            joints, _ = self._proprioception.joints(sample)
            columns = self._proprioception.measured(sample, limits.spec)
        except ObservationError:
            joints, columns = np.full(len(limits.joints), np.nan), np.full(len(limits.spec.names), np.nan)
        return Measured(sample.stamp_ns, now_ns, joints, columns)

    def _follow(self, transition: Mapping[str, str], now_ns: int) -> None:
        """What a person did in the recording is done again; what the monitor did there, it decides anew."""
        before, after = transition["from"], transition["to"]
        if after in STOPS:
            self.recorded.append(transition["rule"])
        if transition["who"] != "operator":
            return
        if after in DRIVEN:
            self._wanted_ns = now_ns
        elif after == State.ESTOP.name and not self._box_pressed:
            self._monitor.step(EStop(True, "operator"), now_ns)
        elif before == State.ESTOP.name:
            self._monitor.step(EStop(False, "operator"), now_ns)
            self._monitor.step(Reset(), now_ns)
        elif after == State.READY.name:
            self._wanted_ns = None
            self._monitor.step(Arm(False), now_ns)

    def _try_to_arm(self, now_ns: int) -> None:
        if self._wanted_ns is None:
            return
        driven = self._monitor.state in (State.ACTIVE, State.RETRY)
        reply = None if driven else self._monitor.step(Arm(True), now_ns)
        if reply is None or reply.accepted:
            self._wanted_ns = None
        elif now_ns - self._wanted_ns > ARM_PATIENCE_NS:
            self._wanted_ns = None
            self.not_armed.append(reply.sentence)


@dataclass(slots=True)
class _Count:
    """What is counted, tick by tick. armed, held: ticks."""

    start_ns: int
    armed: int = 0
    held: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    _stops: list[dict[str, Any]] = field(default_factory=list)
    _refusing_ns: int | None = None
    _judged: object = None
    _output: Array | None = None

    def take(self, verdict: Verdict, now_ns: int) -> None:
        """One tick, with its transitions and where it leads."""
        if verdict.state in ARMED:
            self.armed += 1
            self.held += verdict.state is not State.ACTIVE
            followed = verdict.state is not State.FALLBACK or verdict.transitions
            if followed and verdict.reason is not None and verdict.reason is not self._judged:
                self.refused[verdict.reason.rule.name] += 1
        self._judged = verdict.reason
        for transition in verdict.transitions:
            self._change(transition, now_ns)
        still = verdict.output is None or (self._output is not None and bool((verdict.output == self._output).all()))
        if self._stops and verdict.state.name in STOPS and still and self._stops[-1]["stood_ns"] is None:
            self._stops[-1]["stood_ns"] = now_ns
        self._output = verdict.output

    def finished(self) -> tuple[ReplayedStop, ...]:
        """The stops, with times relative to each other."""
        return tuple(
            ReplayedStop(
                (stop["now_ns"] - self.start_ns) / 1e9,
                stop["reason"].rule.name,
                stop["reason"].sentence,
                stop["reason"].column,
                (stop["now_ns"] - stop["refusing_ns"]) / 1e9,
                _since(stop["now_ns"], stop["stood_ns"]),
                _since(stop["now_ns"], stop["resumed_ns"]),
            )
            for stop in self._stops
        )

    def _change(self, transition: Transition, now_ns: int) -> None:
        before, after = transition.from_state, transition.to_state
        if after is State.RETRY:
            self._refusing_ns = now_ns
        if after.name in STOPS:
            began_ns = self._refusing_ns if before is State.RETRY and self._refusing_ns is not None else now_ns
            stop = {"now_ns": now_ns, "reason": transition.reason, "refusing_ns": began_ns}
            self._stops.append({**stop, "stood_ns": None, "resumed_ns": None})
        elif after is State.ACTIVE and self._stops and self._stops[-1]["resumed_ns"] is None:
            self._stops[-1]["resumed_ns"] = now_ns


def _since(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else (end_ns - start_ns) / 1e9
