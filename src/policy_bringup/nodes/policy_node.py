"""Runs one policy: collects its observation, infers in a worker, publishes action chunks to `policy/action`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.control.replay import Replay
from policy_bringup.core import decoding, graph
from policy_bringup.core.chunks import ChunkStream
from policy_bringup.core.config import bounded, load, required
from policy_bringup.core.errors import ChunkRefused, ConfigError, EpisodeError, ObservationError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.latency import UNMEASURED, Latency, load_latency
from policy_bringup.core.policy_input import PolicyInput
from policy_bringup.core.types import Array
from policy_bringup.episodes.stop_record import default_folder
from policy_bringup.inference.providers import DOES_NOT_LOAD
from policy_bringup.inference.start_check import StartCheck, StartLimits
from policy_bringup.inference.start_gate import StartGate
from policy_bringup.inference.sway import Sway, SwayPolicy
from policy_bringup.inference.watched import WatchedPolicy
from policy_bringup.nodes import endpoints, image_messages, messages
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import choice_parameter, load_parameters, text_parameter
from policy_bringup.nodes.runtime import PROMPT, BringupNode, received_now, run
from policy_bringup.nodes.worker import Worker

PICTURES = 5
"""Pictures kept while this process is held up: a history needs every one."""
LOOK_S = 0.001
"""How often new samples are looked for: on average half of it is added to the latency."""


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """config/policy.yaml."""

    blend_s: float = bounded(0.01, 2.0, "s")
    inference_threads: int = bounded(1, 64)
    providers: tuple[str, ...] = required()
    ask_ahead: bool = required()
    start: StartLimits = required()


class PolicyNode(BringupNode):
    """Source "expert": the scripted policy of the simulator; "bundle": an ONNX bundle; "latency": sways the arm;
    "replay": a recorded episode's motion, from its beginning whenever it is armed."""

    niceness = PROMPT

    def __init__(self) -> None:
        super().__init__("policy")

    def open(self) -> None:
        """Loads the policy and subscribes to what its contract reads."""
        self._config = load_parameters(self, self.config_path, PolicyConfig)
        self._gate: StartGate | None = None
        self._replay: Replay | None = None
        self._provider: dict[str, str] = {}  # of a bundle
        latency, lead_s = self._lateness()
        self._policy = self._load(latency)
        self._action = self._policy.contract.action
        if self._action.names != self.deployment.contract.action.names:
            raise ConfigError(f"policy: acts on {self._action.names}, the deployment on other columns")
        urdf = self.config_folder / self.robot.urdf
        chain = Chain.from_urdf(urdf, self.robot.base_frame, self.robot.tool_frame, self.robot.joint_names)
        self._proprioception = Proprioception(self.robot, chain)
        spec, rate_hz = self._policy.contract.observation, graph.topic("policy/action").rate_hz
        self._input = PolicyInput(spec, rate_hz, self._proprioception.tool, latency)
        self._stream = ChunkStream(self.deployment.limits, self._config.blend_s, lead_s)
        self._lock = threading.Lock()
        self._measured: Array | None = None
        self._engaged: bool | None = None  # until safety has said who drives
        self._held = False
        self._published = self._refused = 0
        self._pictures = dict.fromkeys(self._input.cameras, 0)
        self._trouble = "nothing arrived yet"
        self._output = endpoints.publisher(self, "policy/action")
        self._subscribe()

    def start(self) -> None:
        """Begins to infer; of a bundle, after its start has been checked."""
        if self._gate is not None:
            self._gate.reset()
        self._worker = Worker(self._infer, partial(self._give_up, "inference failed"))
        self._beat = Beat(LOOK_S, self._look, partial(self._give_up, "reading failed"))

    def stop(self) -> None:
        """Ends after the inference under way: silence, which safety answers."""
        self._beat.stop()
        self._worker.stop()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and counts."""
        pictures = {f"pictures.{camera}": count for camera, count in self._pictures.items()}
        values: dict[str, Any] = {
            "published": self._published,
            "refused": self._refused,
            "engaged": bool(self._engaged),
            **pictures,
            **self._provider,
        }
        if self._gate is not None:
            values["start_check"] = "passed" if self._gate.passed else "not passed"
        if self._trouble:
            return "warn", self._trouble, values
        if self._replay is not None and self._replay.over:
            return "ok", "the motion is over: the arm is held at its end until it is disarmed", values
        return "ok", "publishing", values

    def _load(self, latency: Latency) -> Policy:
        source, contract, limits = text_parameter(self, "source"), self.deployment.contract, self.deployment.limits
        if source == "expert":
            from policy_bringup.sim.expert import load_expert

            return load_expert(contract, self.robot)
        if source == "latency":
            return SwayPolicy(contract, load(self.config_folder / "latency.yaml", Sway), limits)
        if source == "replay":
            from policy_bringup.episodes.motion import read_motion

            motion = read_motion(Path(text_parameter(self, "bundle")), contract)
            self._replay = Replay(contract, limits, motion.times_s, motion.values)
            return self._replay
        return self._load_bundle(Path(text_parameter(self, "bundle")), latency)

    def _load_bundle(self, folder: Path, latency: Latency) -> Policy:
        from policy_bringup.inference.agreement import check_alignment
        from policy_bringup.inference.bundle import load_bundle
        from policy_bringup.inference.manifest import MANIFEST_FILE
        from policy_bringup.inference.onnx_policy import watched_policy

        bundle = load_bundle(folder, self.deployment.contract)
        aligned, where = bundle.manifest.fingerprint.aligned, str(bundle.folder / MANIFEST_FILE)
        check_alignment(aligned, bundle.contract, latency, self._mode(), where)
        policy = watched_policy(bundle, self._config.providers, self._config.inference_threads)
        self._report_provider(f"policy bundle {folder} runs on {policy.provider}", policy)
        spec, samples = policy.contract.observation, bundle.samples
        pictures = {image.camera: samples.pictures(image.camera) for image in spec.images} if samples else {}
        check = StartCheck(bundle.manifest.fingerprint, spec, self._config.start, pictures)
        self._gate = StartGate(check, self._evidence(), self.get_logger().warning)
        return policy

    def _report_provider(self, sentence: str, policy: WatchedPolicy) -> None:
        self._provider = {"provider": policy.provider, "providers_passed_over": policy.passed_over or "none"}
        log = self.get_logger()
        tell = log.warning if DOES_NOT_LOAD in policy.passed_over else log.info
        tell(f"{sentence}; passed over: {policy.passed_over}" if policy.passed_over else sentence)

    def _lateness(self) -> tuple[Latency, float]:
        """Of cameras and arm; what is being measured is not corrected for."""
        if text_parameter(self, "source") == "latency":
            return UNMEASURED, 0.0
        measured = load_latency(self.config_folder, self.deployment)
        latency = measured.of(self._mode(), str(self.config_folder / self.deployment.latency))
        try:
            return latency, latency.lead_s(self._config.ask_ahead)
        except ConfigError as error:
            raise ConfigError(f"{self.config_path}: {error}") from None

    def _mode(self) -> str:
        return choice_parameter(self, "mode", "", graph.MODES)

    def _evidence(self) -> Path | None:
        """Where pictures of a refused start go: the parameter, else this user's state folder."""
        place = text_parameter(self, "evidence", "")
        try:
            return Path(place) if place else default_folder().parent / "starts"
        except EpisodeError:  # a user without a home: the sentence has to do
            return None

    def _subscribe(self) -> None:
        self._inbox = Inbox(self)
        self._inbox.hear("safety/state", self._take_safety_state)
        self._inbox.hear("joint_states", self._take_joints)
        if self._input.reads_object:
            self._inbox.hear("sim/object_pose", self._take_object)
        for camera in self._input.cameras:
            self._inbox.hear(f"camera/{camera}/image_raw", partial(self._take_image, camera), PICTURES)

    def _look(self) -> None:
        if not self._inbox.take():
            return
        with self._lock:
            moments = self._input.due()
        if moments:
            self._worker.submit(moments[-1])

    def _take_image(self, camera: str, message: Image) -> None:
        sample = image_messages.image_sample(message, received_now(), camera)
        self._pictures[camera] += 1
        with self._lock:
            self._input.add_picture(sample)

    def _take_joints(self, message: JointState) -> None:
        sample = decoding.joint_positions(message, received_now())
        try:
            measured = self._proprioception.measured(sample, self._action)
            with self._lock:
                self._input.add_joints(sample)
        except ObservationError as error:
            self._trouble = str(error)
            return
        self._measured = measured

    def _take_object(self, message: PoseStamped) -> None:
        with self._lock:
            self._input.add_object(decoding.pose_sample(message, received_now(), "object"))

    def _take_safety_state(self, message: DiagnosticArray) -> None:
        values = decoding.state_of(message)
        if values is None:
            return
        self._engaged, self._held = decoding.driver_of(values) == "policy", values["state"] == "RETRY"

    def _give_up(self, what: str, error: BaseException) -> None:
        self.fail(f"{what}: {error!r}")

    def _infer(self, stamp_ns: int) -> None:
        try:
            if self._engaged is None:
                raise ObservationError("nothing is heard of safety/state")
            with self._lock:
                observation = self._input.build(stamp_ns)
            if self._gate is not None:
                self._gate.admit(observation, time.time_ns())
            if not self._engaged:
                # Not in charge: every prediction is the first of an episode and starts where the robot is now.
                self._policy.reset()
                self._stream.reset()
            if self._replay is not None:
                self._replay.waits = self._held
            chunk = self._policy.predict(observation)
            if self._held:
                self._stream.stand(self.stamp_now())
            assert self._measured is not None  # no moment is due before there are joint states
            joined = self._stream.join(replace(chunk, source="policy"), self._measured, self.stamp_now())
        except (ObservationError, ChunkRefused) as error:
            self._refused += 1
            self._trouble = str(error)
            return
        self._trouble = ""
        self._published += 1
        message: JointTrajectory = messages.table_message(joined, self.robot.base_frame)
        self._output.publish(message)


def main() -> None:
    """Entry point."""
    run(PolicyNode)


if __name__ == "__main__":
    main()
