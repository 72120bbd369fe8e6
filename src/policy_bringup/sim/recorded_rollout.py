"""Episodes of the simulator as bags, with the topics, types and rates that the recorder node would find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from policy_bringup.core import graph
from policy_bringup.core.config import load, read_yaml
from policy_bringup.core.deployment import Deployment, load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.fingerprints import code_version, contract_sha256, files_sha256
from policy_bringup.core.robot import Robot
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import ActionChunk, ImageSample, JointCommand, Pose, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.journal import Journal, Outcome, Provenance, TopicCount, save_journal, to_record
from policy_bringup.episodes.layout import begin_episode, episode_number
from policy_bringup.episodes.quality import QualityMeter, required_streams
from policy_bringup.episodes.quality_config import QualityConfig
from policy_bringup.safety.account import Account, Entry
from policy_bringup.safety.monitor import Verdict
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.tasks import Outcome as TaskOutcome
from policy_bringup.sim.views import pinhole
from policy_bringup.sim.world import JointSample

FLUSH_S = 1.0
"""Of the episode's own time: what a killed process may lose."""
_CAMERA = ("camera/{camera}/image_raw", "camera/{camera}/camera_info")
_TOPICS = (
    "joint_states",
    "sim/object_pose",
    "sim/state",
    "policy/action",
    "safety/action",
    "safety/verdict",
    "safety/state",
    "arm_controller/joint_trajectory",
)
_NOW_S, _SURE = np.zeros(1), np.zeros(1)

Put = Callable[[str, bytes, int], None]
"""Takes one message: topic, CDR bytes, ROS time (ns) at which it was published and received."""


@dataclass(frozen=True, slots=True)
class BagLayout:
    """What the bags of one deployment have in common. matrices: K of every camera, row by row. quality: how they are
    judged, and by which joint the use of the gripper shows."""

    topics: tuple[BagTopic, ...]
    base_frame: str
    action_names: tuple[str, ...]
    matrices: dict[str, list[float]]
    quality: QualityConfig
    gripper_joint: str


def bag_layout(config_folder: Path, deployment: Deployment, robot: Robot, sim: SimConfig) -> BagLayout:
    """Topics from core/graph.py, cameras from the simulator's. Raises ConfigError for a camera that it lacks."""
    fovy = {camera.name: camera.fovy for camera in sim.cameras}
    missing = [camera.name for camera in deployment.cameras if camera.name not in fovy]
    if missing:
        raise ConfigError(f"cameras: the simulator has no entry for {', '.join(missing)} of the deployment")
    names = [name.replace("{camera}", camera.name) for camera in deployment.cameras for name in _CAMERA]
    topics = [graph.topic(name) for name in (*names, *_TOPICS)]
    return BagLayout(
        tuple(BagTopic(topic.name, topic.type, topic.qos) for topic in topics if topic.recorded),
        robot.base_frame,
        deployment.contract.action.names,
        {camera.name: pinhole(fovy[camera.name], camera.width, camera.height) for camera in deployment.cameras},
        load(config_folder / "quality.yaml", QualityConfig),
        robot.gripper.joint,
    )


def provenance(config_folder: Path, deployment_file: str, driver: str, operator: str) -> Provenance:
    """Where simulated episodes come from; driver: "policy", "expert" or "hand". Raises ConfigError."""
    deployment, _ = load_deployment(config_folder / deployment_file)
    return Provenance(
        task=deployment.task,
        objects=tuple(read_yaml(config_folder / "recorder.yaml")["objects"]),
        operator=operator,
        driver=driver,
        mode="sim",
        contract_sha256=contract_sha256(deployment.contract),
        config_sha256=files_sha256(config_folder.glob("*.yaml")),
        code_version=code_version(),
    )


class EpisodeBag:
    """One episode on disk: the journal first, as a failure, then the bag. Raises EpisodeError where it cannot write."""

    def __init__(self, dataset: Path, layout: BagLayout, origin: Provenance, started_ns: int, note: str) -> None:
        topics = layout.topics
        self.folder = begin_episode(dataset)
        self._journal = Journal(episode_number(self.folder), started_ns, origin, note=note)
        save_journal(self.folder, self._journal)
        self._writer = BagWriter(self.folder, topics, to_record(self._journal))
        self._counts = Counter({topic.name: 0 for topic in topics})
        streams = required_streams(topic.name for topic in topics)
        self._meter = QualityMeter(streams, layout.quality, (layout.gripper_joint,))
        self._flushed_ns = started_ns

    def put(self, topic: str, data: bytes, now_ns: int) -> None:
        """Writes one message, published and received at `now_ns`."""
        self._writer.write(topic, data, now_ns, now_ns)
        self._meter.observe(topic, data, now_ns)
        self._counts[topic] += 1
        if now_ns - self._flushed_ns >= FLUSH_S * 1e9:
            self._writer.flush()
            self._flushed_ns = now_ns

    def close(self, stopped_ns: int, success: bool, remark: str = "") -> Journal:
        """Completes the bag, then confirms the outcome and judges the quality; `remark` is added to the note."""
        journal = replace(
            self._journal,
            stopped_ns=stopped_ns,
            outcome=Outcome.SUCCESS if success else Outcome.FAILURE,
            counts={name: TopicCount(count, count, 0, 0) for name, count in self._counts.items()},
            quality=self._meter.verdict(),
            note=f"{self._journal.note}{remark}",
        )
        self._writer.close(to_record(journal))
        save_journal(self.folder, journal)
        return journal


class RolloutRecorder:
    """A sim.observer.RolloutObserver that turns what it hears into messages. episode: a number for `sim/state`."""

    def __init__(self, layout: BagLayout, put: Put, episode: int) -> None:
        self._layout, self._put, self._episode = layout, put, episode
        self._account = Account()
        self._task_throttle = Throttle(graph.topic("sim/state").rate_hz)
        self._state_throttle = Throttle(graph.topic("safety/state").rate_hz)

    def on_world(self, now_ns: int, joints: JointSample, T_base_object: Pose, outcome: TaskOutcome) -> None:
        """`joint_states`, `sim/object_pose` and, now and then, `sim/state`."""
        sample, frame = StateSample(now_ns, now_ns, joints.names, joints.positions), self._layout.base_frame
        self._put("joint_states", encoding.joint_state(sample, joints.velocities, joints.efforts, frame), now_ns)
        self._put("sim/object_pose", encoding.pose(T_base_object, now_ns, frame), now_ns)
        if self._task_throttle.due(now_ns):
            values = {
                "episode": self._episode,
                "success": outcome.success,
                "failure": outcome.failure,
                "height": outcome.height,
                "real_time_factor": 1.0,
            }
            self._put("sim/state", encoding.status(now_ns, "sim", "ok", "running", values), now_ns)

    def on_image(self, sample: ImageSample) -> None:
        """`image_raw` and `camera_info`."""
        frame, (height, width) = f"{sample.camera}_optical_frame", sample.pixels.shape[:2]
        matrix, now_ns = self._layout.matrices[sample.camera], sample.stamp_ns
        self._put(f"camera/{sample.camera}/image_raw", encoding.image(sample, frame), now_ns)
        info = encoding.camera_info(now_ns, frame, width, height, matrix)
        self._put(f"camera/{sample.camera}/camera_info", info, now_ns)

    def on_chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        """`policy/action`."""
        self._put("policy/action", encoding.table(chunk, self._layout.base_frame), now_ns)

    def on_verdict(self, verdict: Verdict, offered: str, now_ns: int) -> None:
        """`safety/action`, and as the safety node decides, `safety/verdict` and `safety/state`."""
        stamp_ns = verdict.stamp_ns or now_ns
        if verdict.output is not None:
            names, row = self._layout.action_names, verdict.output[None]
            chunk = ActionChunk("safety", stamp_ns, 0, names, _NOW_S, row, _SURE)
            self._put("safety/action", encoding.table(chunk, self._layout.base_frame), now_ns)
        if self._account.is_news(verdict):
            entries = [_plain(entry) for entry in self._account.judgement(verdict)]
            self._put("safety/verdict", encoding.statuses(stamp_ns, entries), now_ns)
        due = self._state_throttle.due(now_ns)
        if verdict.transitions or due:
            entry = _plain(self._account.state(verdict, offered))
            self._put("safety/state", encoding.statuses(now_ns, [entry]), now_ns)

    def on_command(self, command: JointCommand, now_ns: int) -> None:
        """`arm_controller/joint_trajectory`."""
        self._put("arm_controller/joint_trajectory", encoding.command(command), now_ns)


def _plain(entry: Entry) -> tuple[str, str, str, dict[str, object]]:
    return entry.name, entry.level, entry.sentence, dict(entry.values)
