"""The recorded streams that a contract reads, handed to core/policy_input.py as the policy node does with live ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from policy_bringup.core import graph
from policy_bringup.core.decoding import joint_positions, pose_sample, stamp_of
from policy_bringup.core.errors import EpisodeError, ObservationError
from policy_bringup.core.latency import UNMEASURED, Latency
from policy_bringup.core.policy_input import PolicyInput
from policy_bringup.core.types import Contract, ImageSample, Observation, StateSample
from policy_bringup.episodes.pictures import IMAGE_TYPES, picture
from policy_bringup.episodes.reader import Bag, BagMessage

JOINTS, OBJECT = "joint_states", "sim/object_pose"
MAX_BACK_S = 1.0
"""A header stamp further behind the newest of its topic means that a clock was set back."""


class RecordedInput:
    """The moments of one bag, walked in the order in which it was recorded.

    most: there are not more moments. Raises EpisodeError, naming bag and topic, for streams that are missing or empty,
    damaged messages, and a clock that went back.
    """

    def __init__(
        self, bag: Bag, contract: Contract, rate_hz: float, derive: Callable[[StateSample], StateSample],
        latency: Latency = UNMEASURED,
    ) -> None:  # fmt: skip
        self._bag, self._contract = bag, contract
        self._input = PolicyInput(contract.observation, rate_hz, derive, latency)
        self._cameras = {_picture_topic(bag, camera): camera for camera in self._input.cameras}
        self._topics = {JOINTS, *self._cameras, *([OBJECT] if self._input.reads_object else [])}
        _require(bag, self._topics)
        self._newest = dict.fromkeys(self._topics, 0)
        self._trouble = ""
        # Every moment is the stamp of a picture, or of a joint state when there is no camera.
        lead = next(iter(self._cameras), JOINTS)
        self.most = bag.counts[lead]

    @property
    def complaint(self) -> str:
        """Why there is no frame."""
        what = self._trouble or "its streams have no moment in common while the arm was driven"
        return f"no moment of it gives an observation: {what}"

    def moments(self) -> Iterator[int]:
        """Every moment, as soon as it is complete: it must be observed before the next one is asked for."""
        for message in self._bag.messages(self._topics):
            self._take(message)
            yield from self._input.due()

    def observe(self, moment: int) -> Observation | None:
        """The observation of a moment; None where a live policy would have been refused it."""
        try:
            return self._input.build(moment)
        except ObservationError as error:
            self._trouble = str(error)
            return None

    def _take(self, message: BagMessage) -> None:
        decoded = self._bag.decode(message)
        self._check_clock(message.topic, stamp_of(decoded.header.stamp))
        if message.topic in self._cameras:
            self._input.add_picture(self._picture(decoded, message))
        elif message.topic == OBJECT:
            self._input.add_object(pose_sample(decoded, message.log_ns, "object"))
        else:
            try:
                self._input.add_joints(joint_positions(decoded, message.log_ns))
            except ObservationError as error:  # the policy node passes over it as well
                self._trouble = str(error)

    def _picture(self, decoded: Any, message: BagMessage) -> ImageSample:
        try:
            return picture(decoded, message.log_ns, self._cameras[message.topic])
        except EpisodeError as error:
            raise EpisodeError(f"{self._bag.path}: topic '{message.topic}': {error}") from error

    def _check_clock(self, topic: str, stamp_ns: int) -> None:
        back_s = (self._newest[topic] - stamp_ns) / 1e9
        if back_s > MAX_BACK_S:
            raise EpisodeError(
                f"{self._bag.path}: topic '{topic}': its clock goes back by {back_s:.1f} s; "
                f"allowed are {MAX_BACK_S:g} s, so split the recording there or leave it out"
            )
        self._newest[topic] = max(self._newest[topic], stamp_ns)


def _picture_topic(bag: Bag, camera: str) -> str:
    """The camera's raw pictures, or else the compressed ones."""
    raw = f"camera/{camera}/image_raw"
    return next((topic for topic in (raw, f"{raw}/compressed") if bag.topics.get(topic) in IMAGE_TYPES), raw)


def _require(bag: Bag, topics: set[str]) -> None:
    ours = {topic.name for topic in graph.topics(())} | topics
    if not ours & bag.topics.keys():
        shown = ", ".join(sorted(bag.topics)[:5])
        raise EpisodeError(f"{bag.path}: is not a recording of this robot; it holds {shown}")
    for topic in sorted(topics):
        if topic not in bag.topics:
            raise EpisodeError(f"{bag.path}: topic '{topic}' is missing, which the contract reads")
        if not bag.counts[topic]:
            raise EpisodeError(f"{bag.path}: topic '{topic}' holds no message, and the contract reads it")
