"""Records episodes: every topic that core/graph.py marks, serialised as it came, into one bag per episode."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from std_srvs.srv import SetBool

from policy_bringup.core import graph
from policy_bringup.core.config import bounded, load, required
from policy_bringup.core.errors import ConfigError, EpisodeError
from policy_bringup.core.fingerprints import code_version, contract_sha256, files_sha256
from policy_bringup.episodes.bag_writer import BagTopic
from policy_bringup.episodes.journal import Journal, Outcome, Provenance
from policy_bringup.episodes.layout import begin_episode, episode_number, episodes
from policy_bringup.episodes.quality import QualityMeter, required_streams, spoken
from policy_bringup.episodes.quality_config import QualityConfig
from policy_bringup.episodes.recording import PICTURE_TYPES, Recording, lost_in_all
from policy_bringup.episodes.recovery import is_clean, recover
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import load_parameters, text_parameter
from policy_bringup.nodes.runtime import PROMPT, BringupNode, run

LOOK_S = 0.004
PICTURE_DEPTH, DEPTH = 30, 200
"""Messages that DDS keeps while this process is held up: a second of pictures, two of anything else."""
SILENT_S = 1.0
"""A camera, or a robot, that was not heard for as long refuses a start."""
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class RecorderConfig:
    """config/recorder.yaml, which explains every key."""

    flush_s: float = bounded(0.05, 5.0, "s")
    queue_mb: int = bounded(8, 16_384, "MB")
    free_space_mb: int = bounded(10, 1_000_000, "MB")
    pictures: Literal["raw", "compressed"] = required()
    objects: tuple[str, ...] = required()


class RecorderNode(BringupNode):
    """Idle until `recorder/start`; then one episode until `recorder/stop` or `recorder/discard`. A failure until
    `recorder/success` says otherwise, during the episode or after it, before the next."""

    niceness = PROMPT

    def __init__(self) -> None:
        super().__init__("recorder")

    def open(self) -> None:
        """Checks the dataset's folder, rebuilds bags that an earlier run left unfinished, subscribes."""
        self._config = load_parameters(self, self.config_path, RecorderConfig)
        self._quality = load(self.config_folder / "quality.yaml", QualityConfig)
        self._dataset = self._prepare(Path(text_parameter(self, "record")))
        self._provenance = self._who()
        other = graph.JPEG if self._config.pictures == "raw" else graph.IMAGE
        cameras = self.deployment.camera_names
        entries = [topic for topic in graph.topics(cameras) if topic.recorded and topic.type != other]
        self._topics = [BagTopic(topic.name, topic.type, topic.qos) for topic in entries]
        self._lock = threading.Lock()  # starts and stops come from services, the timer and the beat
        self._recording: Recording | None = None
        self._last: Recording | None = None
        self._streams = required_streams(topic.name for topic in self._topics)
        self._heard_ns: dict[str, int] = {}
        self._sentence, self._broken = "ready", False
        self._output = endpoints.publisher(self, "recorder/state")
        self._inbox = Inbox(self)
        for topic in entries:
            depth = PICTURE_DEPTH if topic.type in PICTURE_TYPES else DEPTH
            several = {node.name for node in graph.NODES} <= set(topic.publishers)
            self._inbox.hear_serialised(topic.name, partial(self._take, topic.name, several), depth)
        for name, answer in (("start", self._start), ("stop", self._stop), ("discard", self._discard)):
            endpoints.serve(self, f"recorder/{name}", partial(self._serve, answer))
        endpoints.serve(self, "recorder/success", self._serve_success)

    def start(self) -> None:
        """Begins to listen."""
        self._beat = Beat(LOOK_S, self._look, lambda error: self.fail(f"recording failed: {error!r}"))
        self._reports = self.create_timer(1.0 / graph.topic("recorder/state").rate_hz, self._report)
        self._report()

    def stop(self) -> None:
        """Ends and closes an episode under way: nothing that has arrived is lost."""
        self.destroy_timer(self._reports)
        self._beat.stop()
        self._look()
        with self._lock:
            if self._recording is not None:
                self.get_logger().warn(self._stop())

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and counts."""
        return ("error" if self._broken else "ok"), self._sentence, self._values()

    def _prepare(self, dataset: Path) -> Path:
        try:
            dataset.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"recorder: cannot write to {dataset} ({error.strerror})") from error
        self._require_space(dataset)
        for folder in episodes(dataset):
            if not is_clean(folder):
                try:
                    outcome = recover(folder).outcome.value
                    self.get_logger().warn(f"{folder.name} had not been closed and was rebuilt; its label is {outcome}")
                except EpisodeError as error:
                    self.get_logger().error(f"{folder.name} had not been closed and cannot be rebuilt: {error}")
        return dataset

    def _require_space(self, folder: Path) -> None:
        free_mb = shutil.disk_usage(folder).free // MB
        if free_mb < self._config.free_space_mb:
            raise EpisodeError(
                f"recorder: {folder} has {free_mb} MB left; at least {self._config.free_space_mb} MB are needed"
            )

    def _require_streams(self) -> None:
        since_ns = time.time_ns() - SILENT_S * 1e9  # DDS goes by the time of day, also where ROS goes by a simulator's
        sensors = [topic for topic, stream in self._streams.items() if stream.type != graph.TABLE]
        silent = [spoken(topic) for topic in sensors if self._heard_ns.get(topic, 0) < since_ns]
        if silent:
            raise EpisodeError(f"recorder: nothing is heard of {', '.join(silent)}; an episode needs them")

    def _who(self) -> Provenance:
        source = text_parameter(self, "source", "none")
        driver = source if source != "none" else "teleop" if text_parameter(self, "teleop_device", "") else "hand"
        return Provenance(
            task=self.deployment.task,
            objects=self._config.objects,
            operator=text_parameter(self, "operator", ""),
            driver="policy" if driver == "bundle" else driver,
            mode=text_parameter(self, "mode", ""),
            contract_sha256=contract_sha256(self.deployment.contract),
            config_sha256=files_sha256(self.config_folder.glob("*.yaml")),
            code_version=code_version(),
        )

    def _take(self, topic: str, several: bool, data: bytes, info: Any) -> None:
        self._heard_ns[topic] = info["received_timestamp"]
        if self._recording is not None:
            sequence = None if several else info["publication_sequence_number"]
            self._recording.offer(topic, data, info["received_timestamp"], info["source_timestamp"], sequence)

    def _look(self) -> None:
        self._inbox.take()
        recording = self._recording
        if recording is not None and recording.failure is not None:
            with self._lock:
                mine = self._recording is recording  # else somebody has stopped it in the meantime
                if mine:
                    self.get_logger().error(self._stop())
            if mine:
                self._report()

    def _serve(self, answer: Any, _request: Any, response: Any) -> Any:
        try:
            with self._lock:
                response.message, response.success = answer(), True
        except EpisodeError as error:
            response.message, response.success = str(error), False
        self._report()
        return response

    def _serve_success(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        outcome = Outcome.SUCCESS if request.data else Outcome.FAILURE
        return self._serve(partial(self._label, outcome), request, response)

    def _start(self) -> str:
        if self._recording is not None:
            raise EpisodeError(f"{self._recording.folder.name} is being recorded; stop it first")
        self._require_space(self._dataset)
        self._require_streams()
        folder = begin_episode(self._dataset)
        journal = Journal(episode_number(folder), time.time_ns(), self._provenance)
        meter = QualityMeter(self._streams, self._quality, (self.robot.gripper.joint,))
        size = self._config.queue_mb * MB
        self._recording = Recording(folder, self._topics, journal, meter, size, self._config.flush_s)
        self._broken = False
        self._sentence = f"recording {folder.name}"
        return self._sentence

    def _stop(self) -> str:
        recording, self._recording = self._recording, None
        if recording is None:
            raise EpisodeError("nothing is being recorded")
        self._last = recording
        journal = recording.stop(time.time_ns())
        quality = journal.quality.sentence if journal.quality is not None else "not judged"
        self._broken = recording.failure is not None
        self._sentence = f"{recording.folder.name}: {recording.failure or quality}"
        return self._sentence

    def _discard(self) -> str:
        """The bag stays on disk, marked: what is thrown away for good is for a person to decide."""
        if self._recording is not None:
            self._stop()
        return self._label(Outcome.DISCARDED)

    def _label(self, outcome: Outcome) -> str:
        recording = self._recording or self._last
        if recording is None:
            raise EpisodeError("no episode has been recorded yet")
        recording.amend(replace(recording.journal, outcome=outcome))
        is_what = "discarded" if outcome is Outcome.DISCARDED else f"a {outcome.value}"
        self._sentence = f"{recording.folder.name} is {is_what}"
        return self._sentence

    def _values(self) -> dict[str, Any]:
        recording = self._recording or self._last
        free_mb = shutil.disk_usage(self._dataset).free // MB
        state = "failed" if self._broken else "idle" if self._recording is None else "recording"
        if recording is None:
            return {"state": state, "episode": "", "free_mb": free_mb}
        quality = recording.journal.quality
        return {
            "state": state,
            "episode": recording.folder.name,
            "outcome": recording.journal.outcome.value,
            "quality": quality.sentence if quality is not None and self._recording is None else "",
            "seconds": (time.time_ns() - recording.journal.started_ns) / 1e9 if self._recording else 0.0,
            "written_mb": recording.written_bytes / MB,
            "missing": lost_in_all(recording.counts),
            "free_mb": free_mb,
        }

    def _report(self) -> None:
        with self._lock:
            if self._recording is not None:
                self._guard_space()
        level = "error" if self._broken else "ok"
        entry = messages.status("recorder", level, self._sentence, self._values())
        self._output.publish(messages.diagnostics(self.stamp_now(), entry))

    def _guard_space(self) -> None:
        try:
            self._require_space(self._dataset)
        except EpisodeError as error:
            self._stop()
            self._broken, self._sentence = True, str(error)
            self.get_logger().error(f"stopped recording: {error}")


def main() -> None:
    """Entry point."""
    run(RecorderNode)


if __name__ == "__main__":
    main()
