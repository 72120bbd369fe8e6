from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.errors import ConfigError, EpisodeError
from policy_bringup.core.types import ActionChunk, ImageSample, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.layout import episode_name
from policy_bringup.episodes.quality import QualityMeter, Stream, measure, required_streams, spoken
from policy_bringup.episodes.quality_config import QualityConfig

FILE = Path(__file__).parents[2] / "config" / "quality.yaml"
CONFIG = load(FILE, QualityConfig)
FRONT, JOINTS, ACTIONS = "camera/front/image_raw", "joint_states", "safety/action"
STREAMS = required_streams([FRONT])
S = 1_000_000_000
START = 1_700_000_000 * S
SECONDS = 2.0
FINGER = "finger"


@dataclass(frozen=True)
class Sent:
    """One message before it is serialised: seconds after the start at which it was measured and at which recorded."""

    topic: str
    stamp_s: float
    log_s: float
    content: np.ndarray

    @property
    def data(self) -> bytes:
        stamp_ns = START + round(self.stamp_s * S)
        return serialised(self.topic, stamp_ns, self.content)

    @property
    def log_ns(self) -> int:
        return START + round(self.log_s * S)


def serialised(topic: str, stamp_ns: int, content: np.ndarray) -> bytes:
    if topic == FRONT:
        return encoding.image(ImageSample(stamp_ns, 0, "front", content), "front_optical_frame")
    if topic == JOINTS:
        none = np.zeros(0)
        return encoding.joint_state(StateSample(stamp_ns, 0, ("a", "b", FINGER), content), none, none, "base")
    chunk = ActionChunk("safety", stamp_ns, 0, ("x", "y"), np.zeros(1), content[None, :2], content[2:])
    return encoding.table(chunk, "base")


def sent(topic: str, content: Callable[[float], np.ndarray], seconds: float = SECONDS) -> list[Sent]:
    rate_hz = STREAMS[topic].rate_hz
    times = np.arange(round(seconds * rate_hz) + 1) / rate_hz
    return [Sent(topic, float(t), float(t), content(float(t))) for t in times]


def picture(t: float) -> np.ndarray:
    return np.random.default_rng(round(t * 1000)).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def joints(t: float) -> np.ndarray:
    return np.array([np.sin(t), 0.5 * t, 0.02 + 0.01 * np.sin(t)])


def action(t: float) -> np.ndarray:
    return np.array([np.sin(t), 0.5, 0.0])


GOOD = {FRONT: picture, JOINTS: joints, ACTIONS: action}


def episode(*changed: list[Sent], seconds: float = SECONDS) -> list[Sent]:
    """Two good seconds, with the streams in `changed` in place of theirs."""
    messages = {topic: sent(topic, content, seconds) for topic, content in GOOD.items()}
    messages |= {stream[0].topic: stream for stream in changed}
    return sorted((m for stream in messages.values() for m in stream), key=lambda m: m.log_s)


def judged(messages: list[Sent], config: QualityConfig = CONFIG, streams=STREAMS, grippers=(FINGER,)):
    meter = QualityMeter(streams, config, grippers)
    for message in messages:
        meter.observe(message.topic, message.data, message.log_ns)
    return meter.verdict()


def reasons(messages: list[Sent], **config) -> str:
    quality = judged(messages, replace(CONFIG, **config))
    assert quality.ok == (not quality.reasons)
    return "; ".join(quality.reasons)


def without(messages: list[Sent], begin_s: float, end_s: float) -> list[Sent]:
    """Nothing measured strictly between the two times."""
    return [m for m in messages if not begin_s + 1e-6 < m.stamp_s < end_s - 1e-6]


def test_a_good_episode_is_ok_and_says_what_was_measured():
    quality = judged(episode())
    assert quality.sentence == "ok", quality.sentence
    figures = quality.figures
    assert figures["duration_s"] == pytest.approx(SECONDS)
    assert figures[f"{FRONT} rate_hz"] == pytest.approx(30.0, rel=1e-3)
    assert figures[f"{JOINTS} rate_hz"] == pytest.approx(100.0, rel=1e-3)
    assert figures["idle_share"] == 0.0
    assert figures["gripper_travel_m"] == pytest.approx(0.01, rel=0.1)
    assert all(np.isfinite(list(figures.values())))


def test_the_shipped_limits_are_read_strictly(tmp_path):
    with pytest.raises(ConfigError, match="max_jerk"):
        load(FILE, QualityConfig, {"max_jerk": -1.0})
    with pytest.raises(ConfigError, match="max_brightness must be above"):
        load(FILE, QualityConfig, {"max_brightness": 8.0})
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("max_gap_periods")]
    shorter = tmp_path / "quality.yaml"
    shorter.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="'max_gap_periods' is missing"):
        load(shorter, QualityConfig)


def test_nothing_at_all_is_an_empty_episode():
    assert judged([]).sentence == "redo because the episode is empty"


@pytest.mark.parametrize(("seconds", "ok"), [(1.0, True), (0.9, False)])
def test_an_episode_is_long_enough_or_too_short(seconds, ok):
    assert reasons(episode(seconds=seconds)) == ("" if ok else "the episode is only 0.90 s long (at least 1 s)")


@pytest.mark.parametrize("topic", [FRONT, JOINTS, ACTIONS])
def test_a_required_topic_that_never_arrived_is_named(topic):
    found = reasons([m for m in episode() if m.topic != topic])
    assert f"{spoken(topic)} never arrived" in found


@pytest.mark.parametrize("topic", [FRONT, JOINTS, ACTIONS])
@pytest.mark.parametrize(("every", "ok"), [(11, True), (9, False)])
def test_a_rate_is_high_enough_or_too_low(topic, every, ok):
    thinned = [m for index, m in enumerate(sent(topic, GOOD[topic])) if index % every != 1]
    found = reasons(episode(thinned), max_jitter_s=1.0)
    assert ("messages a second" not in found) == ok
    assert ok or found.startswith(f"{spoken(topic)}: ")


@pytest.mark.parametrize(("topic", "longest"), [(FRONT, 0.2), (JOINTS, 0.1), (ACTIONS, 0.1)])
@pytest.mark.parametrize("more", [0, 1])
def test_a_silence_is_short_enough_or_too_long(topic, longest, more):
    rate_hz = STREAMS[topic].rate_hz
    stream = without(sent(topic, GOOD[topic]), 0.5, 0.5 + longest + more / rate_hz)
    found = reasons(episode(stream), min_rate_share=0.5)
    assert ("silent for" in found) == bool(more)


def test_a_silence_shorter_than_the_floor_is_never_one():
    stream = without(sent(JOINTS, joints), 0.5, 0.58)
    assert "silent" not in reasons(episode(stream), max_gap_periods=2.0)
    assert "silent for 0.08 s (at most 0.02 s)" in reasons(episode(stream), max_gap_periods=2.0, gap_floor_s=0.0)


def test_a_camera_that_dies_before_the_end_was_silent():
    assert "front camera: silent for 1.00 s" in reasons(episode([m for m in sent(FRONT, picture) if m.stamp_s <= 1.0]))


def test_a_camera_that_wakes_late_was_silent():
    assert "front camera: silent for 1.00 s" in reasons(episode([m for m in sent(FRONT, picture) if m.stamp_s >= 1.0]))


def test_actions_may_begin_when_the_operator_arms():
    late = [m for m in sent(ACTIONS, action) if m.stamp_s >= 0.7]
    assert reasons(episode(late)) == ""


def test_actions_carry_the_stamps_of_what_their_source_saw():
    repeated = [replace(m, stamp_s=m.stamp_s // 0.05 * 0.05 - 0.1) for m in sent(ACTIONS, action)]
    assert reasons(episode(repeated)) == ""


@pytest.mark.parametrize(("off_s", "ok"), [(0.019, True), (0.021, False)])
def test_jitter_is_small_enough_or_too_large(off_s, ok):
    stream = sent(FRONT, picture)
    wobbling = [replace(m, stamp_s=m.stamp_s + off_s * (index % 4 == 1)) for index, m in enumerate(stream)]
    assert ("off by" not in reasons(episode(wobbling))) == ok


@pytest.mark.parametrize(("behind_s", "ok"), [(0.24, True), (0.26, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_stamps_of_two_streams_agree_or_are_skewed(behind_s, ok, sign):
    skewed = [replace(m, stamp_s=m.stamp_s - sign * behind_s) for m in sent(FRONT, picture)]
    found = reasons(episode(skewed))
    names = ("front camera", "joint states")[::sign]
    assert found == ("" if ok else f"the stamps of {names[0]} are 0.26 s behind those of {names[1]} (at most 0.25 s)")


@pytest.mark.parametrize("allowed", [0, 1])
@pytest.mark.parametrize(("stamp_s", "word"), [(0.5, "go backwards or come twice"), (-1_700_000_000.0, "are zero")])
def test_bad_stamps_are_few_enough_or_too_many(allowed, stamp_s, word):
    stream = sent(JOINTS, joints)
    stream[100] = replace(stream[100], stamp_s=stamp_s)
    found = reasons(episode(stream), max_bad_stamps=allowed, max_gap_periods=200.0)
    assert (f"joint states: 1 stamps {word}" in found) == (allowed == 0)


@pytest.mark.parametrize(("until_s", "ok"), [(0.8, True), (1.1, False)])
def test_a_frozen_camera_is_named_with_its_time(until_s, ok):
    frozen = sent(FRONT, lambda t: picture(0.4 if 0.4 <= t <= until_s else t))
    found = reasons(episode(frozen))
    assert re.fullmatch("" if ok else r"front camera was frozen for 0\.[67] s", found), found


def test_a_camera_that_shows_the_same_while_the_arm_stands_is_not_frozen():
    still = sent(FRONT, lambda t: picture(min(t, 1.0)))
    standing = sent(JOINTS, lambda t: joints(min(t, 1.0)))
    assert reasons(episode(still, standing)) == ""


def test_without_joint_states_a_camera_is_frozen_by_its_own_clock():
    streams = {FRONT: STREAMS[FRONT]}
    quality = judged(sent(FRONT, lambda t: picture(min(t, 1.0))), streams=streams, grippers=())
    assert quality.reasons == ("front camera was frozen for 1.0 s",)


@pytest.mark.parametrize(("until_s", "ok"), [(0.9, True), (1.0, False)])
@pytest.mark.parametrize(("level", "kind"), [(0, "black"), (255, "white"), (90, "of one colour")])
def test_a_dull_camera_is_named_with_its_time(until_s, ok, level, kind):
    def dull(t: float) -> np.ndarray:
        flat = np.full((24, 32, 3), level, np.uint8)
        flat[0, 0] = round(t * 100) % 7 + 100  # not frozen
        return flat if 0.4 <= t <= until_s else picture(t)

    assert reasons(episode(sent(FRONT, dull))) == ("" if ok else f"front camera was {kind} for 0.6 s")


@pytest.mark.parametrize(("still_s", "ok"), [(1.1, True), (1.3, False)])
def test_an_arm_moves_enough_or_is_idle(still_s, ok):
    idle = sent(JOINTS, lambda t: joints(max(t, still_s)))
    assert ("the arm was idle for" not in reasons(episode(idle))) == ok


@pytest.mark.parametrize(("amplitude", "ok"), [(0.002, True), (0.02, False)])
def test_a_motion_is_smooth_or_jerky(amplitude, ok):
    shaken = sent(JOINTS, lambda t: joints(t) + np.array([amplitude * np.sign(np.sin(2 * np.pi * 5.2 * t)), 0, 0]))
    found = reasons(episode(shaken))
    assert found.startswith("the motion was jerky: ") != ok


@pytest.mark.parametrize(("travel_m", "ok"), [(0.0021, True), (0.0019, False)])
def test_a_gripper_moves_or_never_does(travel_m, ok):
    moved = sent(JOINTS, lambda t: np.array([np.sin(t), 0.5 * t, travel_m * t / SECONDS]))
    assert reasons(episode(moved)) == ("" if ok else "the gripper never moved")


def test_a_gripper_is_judged_only_if_there_is_one():
    still = sent(JOINTS, lambda t: joints(t) * [1, 1, 0])
    assert judged(episode(still), grippers=()).ok
    assert "the gripper's joint is not in" in judged(episode(still), grippers=("thumb",)).sentence


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    topic=st.sampled_from([JOINTS, ACTIONS]),
    place=st.integers(0, round(SECONDS * 100)),
    column=st.integers(0, 2),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_what_is_not_a_number_never_passes(topic, place, column, bad):
    stream = sent(topic, GOOD[topic])
    values = stream[place].content.copy()
    values[column] = bad
    stream[place] = replace(stream[place], content=values)
    quality = judged(episode(stream))
    assert not quality.ok
    assert any("not a number" in reason for reason in quality.reasons)
    assert all(np.isfinite(list(quality.figures.values())))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(topic=st.sampled_from([FRONT, JOINTS, ACTIONS]), data=st.binary(max_size=200))
def test_foreign_bytes_are_counted_and_raise_nothing(topic, data):
    meter = QualityMeter(STREAMS, CONFIG, (FINGER,))
    meter.observe(topic, data, START)
    quality = meter.verdict()
    assert not quality.ok
    assert f"{spoken(topic)} never arrived" not in quality.reasons
    assert all(np.isfinite(list(quality.figures.values())))


@pytest.mark.parametrize("topic", [FRONT, JOINTS, ACTIONS])
def test_one_message_that_cannot_be_read_is_one_too_many(topic):
    meter = QualityMeter(STREAMS, CONFIG, (FINGER,))
    for index, message in enumerate(episode()):
        meter.observe(message.topic, message.data, message.log_ns)
        if index == 50:
            meter.observe(topic, sent(topic, GOOD[topic])[0].data[:40], message.log_ns)
    assert f"{spoken(topic)}: 1 messages cannot be read" in meter.verdict().reasons


def test_unused_bytes_at_the_end_of_a_message_change_nothing():
    meter = QualityMeter(STREAMS, CONFIG, (FINGER,))
    for message in episode():
        meter.observe(message.topic, message.data + bytes(3), message.log_ns)
    assert meter.verdict() == judged(episode())


def test_another_topic_tells_only_how_long_the_episode_is():
    meter = QualityMeter(STREAMS, CONFIG, (FINGER,))
    for message in episode():
        meter.observe(message.topic, message.data, message.log_ns)
    meter.observe("safety/state", b"", START + round(SECONDS * S) + S)
    assert meter.verdict().figures["duration_s"] == pytest.approx(SECONDS + 1)
    assert "front camera: silent for 1.00 s" in meter.verdict().sentence


def test_a_verdict_can_be_asked_for_at_any_time():
    meter = QualityMeter(STREAMS, CONFIG, (FINGER,))
    for message in episode():
        assert meter.verdict() is not None
        meter.observe(message.topic, message.data, message.log_ns)
    assert meter.verdict().ok


def test_what_is_required_is_every_camera_the_joints_and_the_safe_actions():
    names = [topic.name for topic in graph.topics(("front", "wrist"))]
    rates = {name: stream.rate_hz for name, stream in required_streams([*names, "of/another/project"]).items()}
    assert rates == {FRONT: 30.0, "camera/wrist/image_raw": 30.0, JOINTS: 100.0, ACTIONS: 100.0}
    assert set(required_streams([])) == {JOINTS, ACTIONS}


def test_a_camera_may_be_recorded_compressed():
    streams = required_streams([f"{FRONT}/compressed"])
    assert streams[f"{FRONT}/compressed"] == Stream(graph.JPEG, 30.0)
    assert spoken(f"{FRONT}/compressed") == "front camera"


@pytest.mark.parametrize(("last_s", "ok"), [(1.0, False), (SECONDS, True)])
def test_a_compressed_camera_that_freezes_is_named(last_s, ok):
    topic, meter = f"{FRONT}/compressed", QualityMeter(required_streams([f"{FRONT}/compressed"]), CONFIG, (FINGER,))
    types = encoding.typestore().types
    for message in episode():
        name, data = message.topic, message.data
        if name == FRONT:
            content = cv2.imencode(".jpg", picture(min(message.stamp_s, last_s)))[1].reshape(-1)
            seconds, nanoseconds = divmod(message.log_ns, S)
            stamp = types["builtin_interfaces/msg/Time"](seconds, nanoseconds)
            made = types[graph.JPEG](types["std_msgs/msg/Header"](stamp, "front"), "jpeg", content)
            name, data = topic, bytes(encoding.typestore().serialize_cdr(made, graph.JPEG))
        meter.observe(name, data, message.log_ns)
    assert meter.verdict().sentence == ("ok" if ok else "redo because front camera was frozen for 1.0 s")


def recorded(folder: Path, messages: list[Sent]) -> Path:
    folder.mkdir()
    topics = [BagTopic(n, graph.topic(n).type, graph.topic(n).qos) for n in (FRONT, JOINTS, ACTIONS)]
    writer = BagWriter(folder, topics, {})
    for message in messages:
        writer.write(message.topic, message.data, message.log_ns, message.log_ns)
    writer.close({})
    return folder


def test_a_bag_gets_the_verdict_of_its_recording(tmp_path):
    messages = episode(sent(FRONT, lambda t: picture(min(t, 1.0))))
    folder = recorded(tmp_path / episode_name(0), messages)
    assert measure(folder, CONFIG, (FINGER,)) == judged(messages)
    assert measure(folder, CONFIG, (FINGER,)).sentence == "redo because front camera was frozen for 1.0 s"


def test_a_camera_that_a_bag_names_and_does_not_hold_is_missed(tmp_path):
    folder = recorded(tmp_path / episode_name(0), [m for m in episode() if m.topic != FRONT])
    assert measure(folder, CONFIG, (FINGER,)).sentence == "redo because front camera never arrived"


def test_a_bag_may_be_judged_by_other_rates(tmp_path):
    slow = [m for index, m in enumerate(sent(FRONT, picture)) if index % 2 == 0]
    folder = recorded(tmp_path / episode_name(0), episode(slow))
    assert "15.0 messages a second" in measure(folder, CONFIG, (FINGER,)).sentence
    streams = STREAMS | {FRONT: Stream(encoding.IMAGE, 15.0)}
    assert measure(folder, CONFIG, (FINGER,), streams).ok


def test_a_folder_without_a_bag_is_refused(tmp_path):
    with pytest.raises(EpisodeError, match="no bag"):
        measure(tmp_path, CONFIG)


@pytest.mark.parametrize("still", [False, True])
def test_a_large_picture_costs_less_than_three_checksums_over_it(still):
    pictures = [np.random.default_rng(seed).integers(0, 255, (480, 640, 3), dtype=np.uint8) for seed in (0, 1)]
    messages = [serialised(FRONT, START + index * S, pictures[0 if still else index % 2]) for index in range(6)]
    meter = QualityMeter({FRONT: STREAMS[FRONT]}, CONFIG)

    def seconds(work: Callable[[bytes], object]) -> float:
        begun = time.perf_counter()
        for data in messages:
            work(data)
        return time.perf_counter() - begun

    # The best of many of each, taken in turn, so that a busy machine slows both alike.
    costs = [(seconds(lambda data: meter.observe(FRONT, data, START)), seconds(zlib.crc32)) for _ in range(30)]
    observe_s, checksum_s = (min(cost) for cost in zip(*costs, strict=True))
    assert observe_s < 3 * checksum_s, (observe_s, checksum_s)
