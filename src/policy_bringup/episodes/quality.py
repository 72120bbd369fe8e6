"""Is this recording worth keeping? Judged while it is being recorded, so that the verdict stands when it stops.

meter = QualityMeter(required_streams(topics), config, gripper_joints)
meter.observe(topic, data, log_ns)   # every message
meter.verdict()                      # "ok" or "redo because ..."
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policy_bringup.core import graph
from policy_bringup.core.decoding import chunk_of, joint_positions
from policy_bringup.core.errors import ConfigError
from policy_bringup.episodes.cdr import compressed_content, deserialised, header_stamp, raw_picture
from policy_bringup.episodes.encoding import JOINT_STATE, TABLE
from policy_bringup.episodes.journal import Quality
from policy_bringup.episodes.motion_check import MotionCheck, is_sound
from policy_bringup.episodes.picture_check import PictureCheck
from policy_bringup.episodes.quality_config import QualityConfig
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.timing_check import StreamTiming

ALWAYS = ("joint_states", "safety/action")
"""Streams without which an episode teaches nothing, whether its bag names them or not."""
_CAMERA, _IMAGE_NAME = "camera/", "/image_raw"


@dataclass(frozen=True, slots=True)
class Stream:
    """A topic that an episode must have: its message type and nominal rate (> 0)."""

    type: str
    rate_hz: float


def required_streams(topics: Iterable[str]) -> dict[str, Stream]:
    """Of these topics (graph names) the pictures of every camera, compressed ones where there are no others; and always
    joint states and safe actions."""
    found: dict[str, Stream] = {}
    names = tuple(topics)
    for name in (*names, *ALWAYS):
        try:
            entry = graph.topic(name)
        except ConfigError:  # of another project: nothing is asked of it
            continue
        spare = entry.type == graph.JPEG and name.removesuffix("/compressed") in names
        if (entry.type in (graph.IMAGE, graph.JPEG) and not spare) or name in ALWAYS:
            found[name] = Stream(entry.type, entry.rate_hz)
    return found


class QualityMeter:
    """One episode, streaming: `observe` every message in the order of its recording, then `verdict`, at any time.

    streams: topic -> what is required; messages of other topics only tell how long the episode is. gripper_joints: the
    joints that a gripper moves by; none: its use is not judged.
    """

    def __init__(
        self, streams: Mapping[str, Stream], config: QualityConfig, gripper_joints: Sequence[str] = ()
    ) -> None:
        self._streams, self._config = dict(streams), config
        self._grips = bool(gripper_joints)
        self._timings = {name: StreamTiming(s.rate_hz, s.type != TABLE) for name, s in streams.items()}
        self._pictures = {n: PictureCheck(config) for n, s in streams.items() if s.type in (graph.IMAGE, graph.JPEG)}
        self._motion = MotionCheck(config, gripper_joints)
        self._has_joints = any(stream.type == JOINT_STATE for stream in streams.values())
        self._unreadable = dict.fromkeys(streams, 0)
        self._unsound = dict.fromkeys(streams, 0)
        self._span_ns: tuple[int, int] | None = None

    def observe(self, topic: str, data: bytes, log_ns: int) -> None:
        """Takes one serialised message in, received at `log_ns`. `data` must not change afterwards.

        Whatever its bytes are, this raises nothing: what cannot be read is counted, and judged.
        """
        first_ns, last_ns = self._span_ns or (log_ns, log_ns)
        self._span_ns = min(first_ns, log_ns), max(last_ns, log_ns)
        stream = self._streams.get(topic)
        if stream is None:
            return
        try:
            stamp_ns = header_stamp(data)
            self._timings[topic].observe(stamp_ns, log_ns)
            self._look(topic, stream.type, data, stamp_ns)
        except Exception:  # rosbags raises anything over foreign bytes, and a recording must go on
            self._unreadable[topic] += 1

    def verdict(self) -> Quality:
        """What is to be said so far."""
        reasons = tuple(self._reasons())
        return Quality(not reasons, reasons, self._figures())

    def _look(self, topic: str, type_name: str, data: bytes, stamp_ns: int) -> None:
        # A camera may show the same for as long as nothing moves.
        clock_s = self._motion.moved_s if self._has_joints else stamp_ns / 1e9
        if type_name == graph.IMAGE:
            self._pictures[topic].picture(raw_picture(data), stamp_ns, clock_s)
        elif type_name == graph.JPEG:
            self._pictures[topic].compressed(compressed_content(data), stamp_ns, clock_s)
        elif type_name == JOINT_STATE:
            self._motion.observe(joint_positions(deserialised(data, JOINT_STATE), 0))
        elif type_name == TABLE:
            self._unsound[topic] += not is_sound(chunk_of(deserialised(data, TABLE), topic, 0))

    @property
    def _duration_s(self) -> float:
        return (self._span_ns[1] - self._span_ns[0]) / 1e9 if self._span_ns else 0.0

    def _reasons(self) -> Iterator[str]:
        config = self._config
        if self._span_ns is None:
            yield "the episode is empty"
            return
        if self._duration_s < config.min_duration_s:
            yield f"the episode is only {self._duration_s:.2f} s long (at least {config.min_duration_s:g} s)"
        for topic in self._streams:
            if self._timings[topic].count + self._unreadable[topic] == 0:
                yield f"{spoken(topic)} never arrived"
            else:
                yield from self._stamp_reasons(topic)
                yield from self._timing_reasons(topic)
        yield from self._skew_reasons()
        for topic in self._pictures:
            yield from self._picture_reasons(topic)
        yield from self._number_reasons()
        yield from self._motion_reasons()

    def _stamp_reasons(self, topic: str) -> Iterator[str]:
        timing, allowed = self._timings[topic], self._config.max_bad_stamps
        if self._unreadable[topic]:
            yield f"{spoken(topic)}: {self._unreadable[topic]} messages cannot be read"
        if timing.zero_stamps > allowed:
            yield f"{spoken(topic)}: {timing.zero_stamps} stamps are zero"
        if timing.disordered_stamps > allowed:
            yield f"{spoken(topic)}: {timing.disordered_stamps} stamps go backwards or come twice"

    def _timing_reasons(self, topic: str) -> Iterator[str]:
        config, timing, nominal_hz = self._config, self._timings[topic], self._streams[topic].rate_hz
        rate_hz, least_hz = timing.rate_hz, config.min_rate_share * nominal_hz
        if timing.count == 1:
            yield f"{spoken(topic)}: only one message arrived"
        elif rate_hz is not None and rate_hz < least_hz:
            yield f"{spoken(topic)}: {rate_hz:.1f} messages a second (at least {least_hz:.1f})"
        silence_s, longest_s = (
            timing.silence_s(*self._ends),
            max(config.max_gap_periods / nominal_hz, config.gap_floor_s),
        )
        if silence_s > longest_s:
            yield f"{spoken(topic)}: silent for {silence_s:.2f} s (at most {longest_s:.2f} s)"
        if timing.jitter_s > config.max_jitter_s:
            found_ms, limit_ms = timing.jitter_s * 1e3, config.max_jitter_s * 1e3
            yield f"{spoken(topic)}: time between messages is off by {found_ms:.0f} ms (at most {limit_ms:.0f} ms)"

    def _skew_reasons(self) -> Iterator[str]:
        latencies = self._latencies
        if self._skew_s > self._config.max_skew_s:
            late, prompt = max(latencies, key=latencies.__getitem__), min(latencies, key=latencies.__getitem__)
            yield (
                f"the stamps of {spoken(late)} are {self._skew_s:.2f} s behind those of {spoken(prompt)} "
                f"(at most {self._config.max_skew_s:.2f} s)"
            )

    def _picture_reasons(self, topic: str) -> Iterator[str]:
        check, config = self._pictures[topic], self._config
        if check.frozen_s > config.max_frozen_s:
            yield f"{spoken(topic)} was frozen for {check.frozen_s:.1f} s"
        for kind, seconds in check.dull_s.items():
            if seconds > config.max_dull_s:
                yield f"{spoken(topic)} was {kind} for {seconds:.1f} s"

    def _number_reasons(self) -> Iterator[str]:
        if self._motion.bad_numbers:
            yield f"{self._motion.bad_numbers} joint states hold no position or one that is not a number"
        for topic, count in self._unsound.items():
            if count:
                yield f"{spoken(topic)}: {count} are empty or hold what is not a number"

    def _motion_reasons(self) -> Iterator[str]:
        motion, config = self._motion, self._config
        if motion.judged_s and motion.idle_share > config.max_idle_share:
            yield f"the arm was idle for {motion.idle_share:.0%} of the time (at most {config.max_idle_share:.0%})"
        if motion.jerk > config.max_jerk:
            yield f"the motion was jerky: {motion.jerk:.0f} rad/s^3 (at most {config.max_jerk:.0f})"
        if self._grips and motion.judged_s:
            if not motion.has_gripper:
                yield "the gripper's joint is not in the joint states"
            elif motion.gripper_travel_m < config.min_gripper_travel_m:
                yield "the gripper never moved"

    @property
    def _ends(self) -> tuple[int, int]:
        return self._span_ns or (0, 0)

    @property
    def _latencies(self) -> dict[str, float]:
        """Of the streams whose stamps say when something was measured."""
        measured = {name: timing.latency_s for name, timing in self._timings.items()}
        return {name: latency for name, latency in measured.items() if latency is not None}

    @property
    def _skew_s(self) -> float:
        latencies = self._latencies.values()
        return max(latencies) - min(latencies) if latencies else 0.0

    def _figures(self) -> dict[str, float]:
        motion = self._motion
        figures = {"duration_s": self._duration_s, "skew_s": self._skew_s}
        if self._has_joints:
            figures |= {"idle_share": motion.idle_share, "jerk_rad_s3": motion.jerk}
        if self._grips:
            figures["gripper_travel_m"] = motion.gripper_travel_m
        for topic, timing in self._timings.items():
            if timing.count:
                figures[f"{topic} rate_hz"] = timing.rate_hz or 0.0
                figures[f"{topic} silence_s"] = timing.silence_s(*self._ends)
                figures[f"{topic} jitter_s"] = timing.jitter_s
        for topic, check in self._pictures.items():
            figures[f"{topic} frozen_s"] = check.frozen_s
            figures[f"{topic} dull_s"] = max(check.dull_s.values())
        return {name: round(value, 6) for name, value in figures.items()}


def measure(
    folder: Path,
    config: QualityConfig,
    gripper_joints: Sequence[str] = (),
    streams: Mapping[str, Stream] | None = None,
) -> Quality:
    """The verdict on a recorded episode; streams: of `required_streams` for its topics unless given.

    Raises EpisodeError for a bag that cannot be read.
    """
    with open_bag(folder) as bag:
        meter = QualityMeter(required_streams(bag.topics) if streams is None else streams, config, gripper_joints)
        for message in bag.messages():
            meter.observe(message.topic, message.data, message.log_ns)
    return meter.verdict()


def spoken(topic: str) -> str:
    """A topic as an operator calls it: "front camera", "joint states"."""
    if topic.startswith(_CAMERA) and _IMAGE_NAME in topic:
        return f"{topic[len(_CAMERA) : topic.index(_IMAGE_NAME)]} camera"
    return {"joint_states": "joint states", "safety/action": "safe actions"}.get(topic, topic)
