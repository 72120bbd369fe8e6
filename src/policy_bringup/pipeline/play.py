"""Plays the episodes of an evaluation, in this process or in several; the results do not depend on how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from policy_bringup.core import graph
from policy_bringup.core.errors import DeviceError, EpisodeError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.types import Pixels
from policy_bringup.episodes.film_strip import FilmStrip, Thumbnail, thumbnail
from policy_bringup.inference.manifest import MANIFEST_FILE, read_manifest
from policy_bringup.inference.onnx_policy import load_policy
from policy_bringup.inference.watched import WatchedPolicy
from policy_bringup.pipeline.attempt import PLAIN, Attempt, attempt_of
from policy_bringup.pipeline.faults import FAULTS, fault_of
from policy_bringup.pipeline.perturbations import Scene, perturbed
from policy_bringup.pipeline.timed import TimedPolicy
from policy_bringup.sim.expert import load_expert
from policy_bringup.sim.rollout import ClosedLoop, Stack, load_stack
from policy_bringup.sim.selfplay import PolicyFactory, SelfPlay
from policy_bringup.sim.views import open_view
from policy_bringup.sim.workers import workers
from policy_bringup.sim.world import World

UNGUARDED = 1e9
"""A threshold that no uncertainty exceeds: the monitor does not act on doubt."""
AFTER_STOP_S = 0.5
"""An episode goes on for so long after a stop: the arm comes to rest, and its way until then is measured."""
STRIP = 12
"""Pictures in a film strip."""

FixedBackend = Literal["egl", "raycast"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all episodes of an evaluation have in common. backend: that of the undisturbed ones."""

    config_folder: Path
    deployment_file: str
    policy: PolicyFactory
    backend: FixedBackend
    patience_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """One episode to play. unguarded: with the monitor's threshold off. unwatched: with the network alone, whose
    pictures nobody judges. strips: also bring pictures back. patience_s: None for the setting's."""

    seed: int
    condition: str = PLAIN
    onset_s: float | None = None
    unguarded: bool = False
    unwatched: bool = False
    strips: bool = False
    patience_s: float | None = None

    @property
    def counts(self) -> bool:
        """The policy as it would be deployed, and for the first time."""
        return not (self.unguarded or self.unwatched or self.strips)


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a job. strips: camera -> pictures, empty if none were asked for."""

    job: Job
    attempt: Attempt
    strips: Mapping[str, tuple[Thumbnail, ...]]


def expert(stack: Stack) -> tuple[Policy, float]:
    """The scripted one, which looks at no picture: none is drawn for it."""
    contract = stack.deployment.contract
    blind = replace(contract, observation=replace(contract.observation, images=()))
    return load_expert(blind, stack.robot), stack.deployment.uncertainty_threshold


def bundle(folder: Path) -> PolicyFactory:
    """The policy of a bundle, with the threshold calibrated for it."""
    return partial(_bundle, folder)


def played_by(play: SelfPlay, folder: Path) -> SelfPlay:
    """Self-play of the policy in a bundle; its journals say which one it was. Raises ContractError for no bundle."""
    graph_sha256 = read_manifest(folder / MANIFEST_FILE).onnx.sha256
    return replace(play, driver="policy", policy=bundle(folder), player=f"{folder.name} {graph_sha256[:12]}")


def _bundle(folder: Path, stack: Stack) -> tuple[Policy, float]:
    policy = load_policy(folder, stack.deployment.contract)
    return policy, read_manifest(folder / MANIFEST_FILE).uncertainty.threshold


class Stage:
    """The policy, loaded once, and a fresh world for every episode; after a refusal to answer, a fresh policy too.

    Raises what the policy's factory raises.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.stack = load_stack(setting.config_folder, setting.deployment_file)
        self.policy, self.threshold = setting.policy(self.stack)
        self.cameras = tuple(image.camera for image in self.policy.contract.observation.images)

    @property
    def runs_on(self) -> str:
        """The policy's execution provider, and which were passed over for it; "" for one without a network."""
        if not isinstance(self.policy, WatchedPolicy):
            return ""
        passed_over = f"; passed over: {self.policy.passed_over}" if self.policy.passed_over else ""
        return self.policy.provider + passed_over

    def play(self, job: Job) -> Played:
        """One episode. Raises DeviceError, ContractError."""
        scene = self._scene(job)
        timed = TimedPolicy(_unwatched(self.policy) if job.unwatched else self.policy)
        threshold = UNGUARDED if job.unguarded else self.threshold
        loop = ClosedLoop(replace(self.stack, sim=scene.sim), timed, threshold, scene.backend)
        patience_s = self.setting.patience_s if job.patience_s is None else job.patience_s
        try:
            rollout = loop.run(
                job.seed, patience_s, job.strips, disturbance=scene.disturbance, after_stop_s=AFTER_STOP_S
            )
        finally:
            loop.close()
        opening, taken_ms = self.stack.robot.gripper.upper, tuple(timed.taken_ms)
        attempt = attempt_of(rollout, job.condition, job.seed, scene.backend, opening, job.onset_s, taken_ms)
        if attempt.unanswered:  # it may remember the fault beyond its reset, which is right on a robot
            self.policy, _ = self.setting.policy(self.stack)
        return Played(job, attempt, _strips(rollout.frames))

    def _scene(self, job: Job) -> Scene:
        scene = Scene(self.stack.sim, self.setting.backend)
        if job.condition == PLAIN:
            return scene
        if job.condition not in FAULTS:
            return perturbed(job.condition, scene, job.seed)
        assert job.onset_s is not None  # a fault without a beginning is no fault
        return replace(scene, disturbance=fault_of(job.condition, self.cameras, job.seed, job.onset_s))


def _unwatched(policy: Policy) -> Policy:
    return policy.unwatched if isinstance(policy, WatchedPolicy) else policy


def backends(stack: Stack, wanted: Literal["auto", "egl", "raycast"]) -> tuple[FixedBackend, str]:
    """The one to use, and why the other cannot be used here ("" if it can). Raises DeviceError for `egl` without it."""
    model, cameras = World(stack.sim, stack.robot).model, stack.deployment.cameras
    try:
        open_view(model, cameras, "egl").close()
    except DeviceError as error:
        if wanted == "egl":
            raise
        return "raycast", str(error)
    if wanted != "auto":
        return wanted, ""
    view = open_view(model, cameras)
    view.close()
    return ("egl" if view.backend == "egl" else "raycast"), ""


Perform = Callable[[Sequence[Job]], Iterator[Played]]


@contextmanager
def performers(stage: Stage, count: int) -> Iterator[Perform]:
    """What plays jobs and yields them as they are done: `count` processes, or this one alone for 1.

    Raises what Stage.play raises, and EpisodeError if a worker dies.
    """
    if count <= 1:
        yield lambda jobs: (stage.play(job) for job in jobs)
        return
    try:
        with workers(count, _prepare, stage.setting) as spread:
            yield partial(spread, _play)
    except BrokenProcessPool as error:
        raise EpisodeError(
            "a process that played episodes was killed, perhaps because the memory was full; start again"
        ) from error


_stage: Stage


def _prepare(setting: Setting) -> None:
    """Once in each worker."""
    global _stage
    _stage = Stage(setting)


def _play(job: Job) -> Played:
    return _stage.play(job)


def _strips(frames: Sequence[Mapping[str, Pixels]]) -> dict[str, tuple[Thumbnail, ...]]:
    """A few pictures of each camera, at their times since the start (ns)."""
    period_ns = round(1e9 / graph.topic("policy/action").rate_hz)
    strips: dict[str, FilmStrip] = {}
    for number, pictures in enumerate(frames):
        for camera, pixels in pictures.items():
            strip = strips.setdefault(camera, FilmStrip(STRIP))
            strip.offer(partial(thumbnail, number * period_ns, pixels))
    for strip in strips.values():
        strip.finish()
    return {camera: strip.pictures() for camera, strip in sorted(strips.items())}
