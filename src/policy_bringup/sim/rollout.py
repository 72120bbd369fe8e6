"""The whole stack in one process, without ROS and faster than real time: world, policy, monitor, arm, world.

The same classes do the same work as in the nodes, at the same rates, on the world's clock. What is missing is what a
network and busy processors add: delays.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from policy_bringup.control.arm import load_arm
from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import graph
from policy_bringup.core.chunks import ChunkStream
from policy_bringup.core.config import load, read_yaml
from policy_bringup.core.deployment import Deployment, load_deployment
from policy_bringup.core.errors import ChunkRefused, ObservationError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.observation import ObservationBuilder
from policy_bringup.core.robot import Robot
from policy_bringup.core.rotations import to_quaternion
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import GRIPPER_COLUMNS, ActionChunk, ImageSample, JointCommand, Pixels, StateSample
from policy_bringup.safety.limits import Limits, SafetyConfig
from policy_bringup.safety.monitor import SafetyMonitor, Verdict
from policy_bringup.safety.reasons import State
from policy_bringup.safety.state import Arm as ArmEvent
from policy_bringup.safety.state import Measured, Proposal
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.disturbance import Disturbance
from policy_bringup.sim.expert import OBJECT_COLUMNS
from policy_bringup.sim.observer import RolloutObserver
from policy_bringup.sim.tasks import Outcome, make_task
from policy_bringup.sim.trace import Trace, Tracer
from policy_bringup.sim.views import Backend, open_view
from policy_bringup.sim.world import World

_EPOCH_NS = 1_000_000_000  # no stamp is zero: that means "none"


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that a closed loop is made from. blend_s: as in config/policy.yaml."""

    deployment: Deployment
    robot: Robot
    urdf: Path
    sim: SimConfig
    safety: SafetyConfig
    arm: ArmConfig
    blend_s: float


def load_stack(config_folder: Path, deployment_file: str = "grasp.yaml") -> Stack:
    """Reads the files that the nodes read. Raises ConfigError."""
    deployment, robot = load_deployment(config_folder / deployment_file)
    rate = {"tick_rate_hz": graph.topic("safety/action").rate_hz}
    return Stack(
        deployment,
        robot,
        config_folder / robot.urdf,
        load(config_folder / "sim.yaml", SimConfig),
        load(config_folder / "safety.yaml", SafetyConfig, rate),
        load(config_folder / "arm.yaml", ArmConfig),
        float(read_yaml(config_folder / "policy.yaml")["blend_s"]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """One episode. time_s: from arming to success, or to the end of patience; 0 if it was never armed.

    verdicts: rule -> ticks on which the newest proposal was judged bad by it. stops: sentences of what took the robot
    out of the policy's hands. refused: moments at which nothing went from the policy to safety, since its chunk would
    have jumped or it gave none. frames: what was delivered each time that pictures were taken, all cameras.
    """

    success: bool
    outcome: Outcome
    time_s: float
    verdicts: Mapping[str, int]
    stops: tuple[str, ...]
    refused: int
    frames: tuple[Mapping[str, Pixels], ...]
    trace: Trace


class ClosedLoop:
    """One policy on one world, episode after episode.

    threshold: of the policy's uncertainty. Pictures are drawn only if the policy reads some, or frames are kept, or
    somebody looks on.
    """

    def __init__(self, stack: Stack, policy: Policy, threshold: float, backend: Backend = "auto") -> None:
        self.world = World(stack.sim, stack.robot)
        self._stack, self._policy = stack, policy
        deployment, robot = stack.deployment, stack.robot
        action, spec = deployment.contract.action, policy.contract.observation
        self._task = make_task(deployment.task, stack.sim)
        self._view = open_view(self.world.model, deployment.cameras, backend)
        self._limits = Limits(stack.safety, action, deployment.limits, robot.joints, threshold)
        self._arm = load_arm(robot, stack.urdf, action, stack.arm, deployment.limits)
        chain = Chain.from_urdf(stack.urdf, robot.base_frame, robot.tool_frame)
        self._proprioception = Proprioception(robot, chain)
        ages = (graph.topic(name).stale_s for name in ("camera/{camera}/image_raw", "joint_states"))
        self._builder = ObservationBuilder(spec, *ages)
        self._stream = ChunkStream(deployment.limits, stack.blend_s)
        self._cameras = [image.camera for image in spec.images]
        self._action, self._width = action, action.names.index(GRIPPER_COLUMNS[0])
        self._epoch_ns = _EPOCH_NS

    def run(
        self, seed: int, patience_s: float = 20.0, keep_frames: bool = False,
        observer: RolloutObserver | None = None, epoch_ns: int | None = None,
        disturbance: Disturbance | None = None, after_stop_s: float | None = None,
    ) -> Rollout:  # fmt: skip
        """One episode from a start drawn with `seed`, until success or for `patience_s`.

        With an observer, every camera takes pictures at its rate, and the policy thinks at those of them at which the
        policy node would; without, pictures are taken when the policy thinks. epoch_ns: ROS time of the start.
        after_stop_s: the episode ends so long after safety stopped it, as the trial node ends it; None: it goes on.
        """
        if epoch_ns is not None:
            self._epoch_ns = epoch_ns - round(self.world.time_s * 1e9)
        episode = _Episode(SafetyMonitor(self._limits), keep_frames, observer, self._action.steps, disturbance)
        self._task.reset(self.world, np.random.default_rng(seed))
        self._builder.reset()
        self._begin(episode)
        steps = round(self._stack.sim.physics_hz / self._limits.config.tick_rate_hz)
        episode.began_s, before, tick = self.world.time_s, self._arm_refusals(), 0
        while not self._task.success and not self._over(episode, patience_s, after_stop_s):
            self._sense(episode)
            shot, due = self._due(episode, tick)
            delivered = self._look(episode) if shot else True
            if due and delivered:
                self._think(episode)
            self._deliver(episode)
            self._act(episode)
            self.world.step(steps)
            self._task.update(self.world)
            tick += 1
        return Rollout(
            self._task.success, self._task.outcome, self._since(episode.armed_s), dict(episode.verdicts),
            tuple(stop.sentence for stop in episode.tracer.stops), episode.refused, tuple(episode.frames),
            episode.tracer.trace(self._arm_refusals() - before, self._arm.last_refusal or ""),
        )  # fmt: skip

    def close(self) -> None:
        """Frees the renderer."""
        self._view.close()

    def _since(self, start_s: float | None) -> float:
        return 0.0 if start_s is None else self.world.time_s - start_s

    def _over(self, episode: _Episode, patience_s: float, after_stop_s: float | None) -> bool:
        elapsed_s, stops = self._since(episode.began_s), episode.tracer.stops
        if stops and after_stop_s is not None and elapsed_s - stops[0].time_s >= after_stop_s:
            return True
        return elapsed_s >= patience_s

    def _arm_refusals(self) -> int:
        counts = self._arm.counts
        return counts.unsolved + counts.malformed + counts.second_line

    def _now(self) -> int:
        return self._epoch_ns + round(self.world.time_s * 1e9)

    def _begin(self, episode: _Episode) -> None:
        now, measured = self._now(), self.world.joint_sample()
        joints, width = self._proprioception.joints(StateSample(now, now, measured.names, measured.positions))
        self._command(episode, self._arm.begin(joints, width, now))

    def _command(self, episode: _Episode, command: JointCommand) -> None:
        self.world.command(command, self.world.time_s)
        if episode.observer is not None:
            episode.observer.on_command(command, self._now())

    def _due(self, episode: _Episode, tick: int) -> tuple[bool, bool]:
        """Whether pictures are taken on this tick, and whether the policy thinks."""
        if episode.observer is None:
            due = tick % round(self._limits.config.tick_rate_hz / graph.topic("policy/action").rate_hz) == 0
            return due, due
        shot = episode.shutter.due(self._now())
        return shot, shot and episode.pace.due(self._now())

    def _sense(self, episode: _Episode) -> None:
        measured, now = self.world.joint_sample(), self._now()
        sample = StateSample(now, now, measured.names, measured.positions)
        joints, _ = self._proprioception.joints(sample)
        episode.measured = self._proprioception.measured(sample, self._action)
        episode.monitor.step(Measured(sample.stamp_ns, sample.received_ns, joints, episode.measured), sample.stamp_ns)
        self._arm.measured(joints, sample.received_ns)
        pose = self.world.object_pose()
        if episode.observer is not None:
            episode.observer.on_world(now, measured, pose, self._task.outcome)
        columns = np.array([*pose.position, *to_quaternion(pose.rotation)])
        self._builder.add_state("joint_states", sample)
        self._builder.add_state("tool", self._proprioception.tool(sample))
        self._builder.add_state("object", replace(sample, names=OBJECT_COLUMNS, values=columns))

    def _look(self, episode: _Episode) -> bool:
        """Takes pictures; False if one that the policy reads was not delivered."""
        everything = episode.keep_frames or episode.observer is not None
        cameras = [camera.name for camera in self._stack.deployment.cameras] if everything else self._cameras
        if not cameras:
            return True
        self._view.update(self.world.qpos)
        pictures: Mapping[str, Pixels] = {camera: self._view.render(camera) for camera in cameras}
        if episode.disturbance is not None:
            pictures = episode.disturbance.pictures(pictures, self._since(episode.began_s))
        for camera, pixels in pictures.items():
            sample = ImageSample(self._now(), self._now(), camera, pixels)
            self._builder.add_image(sample)
            if episode.observer is not None:
                episode.observer.on_image(sample)
        if episode.keep_frames:
            episode.frames.append(pictures)
        return all(camera in pictures for camera in self._cameras)

    def _think(self, episode: _Episode) -> None:
        now = self._now()
        if not episode.engaged:
            self._policy.reset()
            self._stream.reset()
        try:
            chunk = self._policy.predict(self._builder.build(now))
        except ObservationError as error:  # silence, as from the policy node
            episode.refused += 1
            episode.tracer.refusal(self._since(episode.began_s), str(error))
            return
        episode.tracer.answer(self._since(episode.began_s), chunk.uncertainty)
        delay_s = 0.0 if episode.disturbance is None else episode.disturbance.delay_s
        episode.under_way.append((now + round(delay_s * 1e9), chunk))

    def _deliver(self, episode: _Episode) -> None:
        """What the policy has answered reaches safety, at once or later."""
        now = self._now()
        while episode.under_way and episode.under_way[0][0] <= now:
            chunk = replace(episode.under_way.popleft()[1], source="policy", received_ns=now)
            if episode.monitor.state is State.RETRY:
                self._stream.stand(now)
            try:
                joined = self._stream.join(chunk, episode.measured, now)
            except ChunkRefused:
                episode.refused += 1
                continue
            if episode.observer is not None:
                episode.observer.on_chunk(joined, now)
            episode.monitor.step(Proposal(joined, 1), now)

    def _act(self, episode: _Episode) -> None:
        now = self._now()
        if episode.armed_s is None and episode.monitor.step(ArmEvent(True), now).accepted:
            episode.armed_s = self.world.time_s
        verdict = episode.monitor.tick(now, now)
        episode.note(verdict, now)
        where = self.world.tool_pose().position, self.world.object_pose().position
        elapsed_s, told = self._since(episode.began_s), verdict.output
        episode.tracer.tick(elapsed_s, *where, verdict, self._width)
        if told is not None and episode.disturbance is not None:
            told = episode.disturbance.followed(told, elapsed_s, float(np.linalg.norm(where[0] - where[1])))
        command = self._arm.tick(now) if told is None else self._arm.follow(self._action.names, told, now)
        if command is not None:
            self._command(episode, command)


class _Episode:
    """What one episode collects."""

    def __init__(
        self, monitor: SafetyMonitor, keep_frames: bool, observer: RolloutObserver | None, steps: int,
        disturbance: Disturbance | None,
    ) -> None:  # fmt: skip
        self.monitor, self.keep_frames, self.observer = monitor, keep_frames, observer
        self.disturbance, self.tracer = disturbance, Tracer(steps)
        self.shutter = Throttle(graph.topic("camera/{camera}/image_raw").rate_hz)
        self.pace = Throttle(graph.topic("policy/action").rate_hz)
        self.measured = np.zeros(0)
        self.began_s = 0.0
        self.armed_s: float | None = None
        self.engaged = False
        self.refused = 0
        self.verdicts: Counter[str] = Counter()
        self.under_way: deque[tuple[int, ActionChunk]] = deque()
        self.frames: list[Mapping[str, Pixels]] = []

    def note(self, verdict: Verdict, now_ns: int) -> None:
        """Takes one tick of the monitor in."""
        if self.observer is not None:
            self.observer.on_verdict(verdict, self.monitor.offered, now_ns)
        self.engaged = verdict.state in (State.ACTIVE, State.RETRY)
        if self.armed_s is not None and verdict.reason is not None:
            self.verdicts[verdict.reason.rule.name] += 1
