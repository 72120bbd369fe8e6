"""Self-play: a policy makes its own demonstrations in the simulator, headless, in parallel, faster than real time.

Every episode has a world of its own and a seed of its own, so that its content does not depend on how many workers
there are, nor on what they did before.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.interfaces import Policy
from policy_bringup.episodes.journal import Provenance, load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.sim.disturbance import Disturbance
from policy_bringup.sim.expert import load_expert
from policy_bringup.sim.randomise import Randomisation, randomise
from policy_bringup.sim.recorded_rollout import BagLayout, EpisodeBag, RolloutRecorder, bag_layout, provenance
from policy_bringup.sim.rollout import ClosedLoop, Rollout, Stack, load_stack
from policy_bringup.sim.views import Backend
from policy_bringup.sim.wander import Wander
from policy_bringup.sim.workers import workers

_NOTE = re.compile(r"self-play seed (\d+)(?: by (.+))?")

PolicyFactory = Callable[[Stack], tuple[Policy, float]]
"""Makes the policy, and says above which uncertainty safety stops it. A function of a module: workers import it."""


def expert(stack: Stack) -> tuple[Policy, float]:
    """The scripted one."""
    return load_expert(stack.deployment.contract, stack.robot), stack.deployment.uncertainty_threshold


@dataclass(frozen=True, slots=True)
class SelfPlay:
    """What to record. driver: who drives, as the journals say: "expert" or "policy"; player: which policy, in a few
    words that its journals keep, so that another one's episodes do not count as made already.

    seed: of the first episode; each next one has the next. workers: processes, 1 is this one alone. variation: how far
    each episode's world may stray; None: not at all.
    """

    config_folder: Path
    dataset: Path
    episodes: int
    deployment_file: str = "grasp.yaml"
    seed: int = 0
    workers: int = 1
    driver: str = "expert"
    player: str = ""
    policy: PolicyFactory = expert
    backend: Backend = "auto"
    operator: str = "self-play"
    patience_s: float = 20.0
    variation: Randomisation | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """One recorded episode. failure: "" or what went wrong; seconds: of this machine's time."""

    seed: int
    folder: Path
    success: bool
    failure: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one run. skipped: episodes that were there already; seconds: of this machine's time, from start to end."""

    episodes: int
    successes: int
    skipped: int
    seconds: float


def run_selfplay(play: SelfPlay, progress: Callable[[Played], None] = lambda _: None) -> Summary:
    """Records what the dataset lacks; `progress` is called after each episode.

    An episode that was interrupted stays, as a failure, and is recorded anew. Raises ConfigError, ContractError,
    DeviceError; EpisodeError where nothing can be written, or if a worker dies.
    """
    began = time.monotonic()
    origin = provenance(play.config_folder, play.deployment_file, play.driver, play.operator)
    done = recorded_seeds(play.dataset, origin, play.player)
    seeds = [seed for seed in range(play.seed, play.seed + play.episodes) if seed not in done]
    successes = 0
    for played in _play_all(play, origin, seeds):
        successes += played.success
        progress(played)
    return Summary(len(seeds), successes, play.episodes - len(seeds), time.monotonic() - began)


def recorded_seeds(dataset: Path, origin: Provenance, player: str = "") -> frozenset[int]:
    """Seeds of the complete self-play episodes there that the same driver made with the same configuration, and of
    policies the same one.

    A journal that cannot be read counts for nothing: that episode is made again, under another number.
    """
    seeds = set()
    for folder in episodes(dataset) if dataset.is_dir() else ():
        try:
            journal = load_journal(folder)
        except EpisodeError:
            continue
        note, made = _NOTE.fullmatch(journal.note), journal.provenance
        same = (made.driver, made.config_sha256) == (origin.driver, origin.config_sha256)
        if note and (note[2] or "") == player and same and journal.stopped_ns is not None and not journal.recovered:
            seeds.add(int(note[1]))
    return frozenset(seeds)


def _play_all(play: SelfPlay, origin: Provenance, seeds: Sequence[int]) -> Iterator[Played]:
    count = min(play.workers, len(seeds))
    if count <= 1:
        yield from (_play(play, origin, seed) for seed in seeds)
        return
    try:
        with workers(count) as spread:
            yield from spread(partial(_play, play, origin), seeds)
    except BrokenProcessPool as error:
        raise EpisodeError("self-play: a worker was killed; what is on disk stays, start again to go on") from error


def _play(play: SelfPlay, origin: Provenance, seed: int) -> Played:
    """Records one episode: the whole work of a worker."""
    began = time.monotonic()
    stack = load_stack(play.config_folder, play.deployment_file)
    varied, wander = play.variation, None
    if varied is not None:
        stack = replace(stack, sim=randomise(stack.sim, varied, seed))
        wander = Wander(varied.arm_position, varied.arm_rotation, np.random.default_rng(seed))
    layout = bag_layout(play.config_folder, stack.deployment, stack.robot, stack.sim)
    loop = ClosedLoop(stack, *play.policy(stack), play.backend)
    try:
        folder, rollout = record_rollout(
            loop, layout, play.dataset, origin, seed, _note(seed, play.player), play.patience_s, wander
        )
    finally:
        loop.close()
    return Played(seed, folder, rollout.success, rollout.outcome.failure, time.monotonic() - began)


def _note(seed: int, player: str) -> str:
    return f"self-play seed {seed}" + (f" by {player}" if player else "")


def record_rollout(
    loop: ClosedLoop, layout: BagLayout, dataset: Path, origin: Provenance, seed: int, note: str, patience_s: float,
    disturbance: Disturbance | None = None,
) -> tuple[Path, Rollout]:  # fmt: skip
    """One episode of a closed loop as a bag, which begins now. An error on the way leaves a closed bag, a failure."""
    started_ns, began_s = time.time_ns(), loop.world.time_s
    bag = EpisodeBag(dataset, layout, origin, started_ns, note)
    success, remark = False, ", interrupted"
    try:
        recorder = RolloutRecorder(layout, bag.put, seed)
        rollout = loop.run(seed, patience_s, observer=recorder, epoch_ns=started_ns, disturbance=disturbance)
        success, remark = rollout.success, ""
    finally:
        bag.close(started_ns + round((loop.world.time_s - began_s) * 1e9), success, remark)
    return bag.folder, rollout
