"""A whole dataset through the safety monitor: how many minutes, which stops, how much it held, how fast it stopped."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ContractError, EpisodeError
from policy_bringup.core.fingerprints import contract_sha256
from policy_bringup.episodes.journal import load_journal
from policy_bringup.inference.manifest import MANIFEST_FILE, read_manifest
from policy_bringup.pipeline.replay import Replayed, ReplayedStop, replay
from policy_bringup.pipeline.statistics import Rate, rate
from policy_bringup.safety.limits import Limits, SafetyConfig

POLICY = "policy"
"""The driver, as journals name it, whose uncertainty a bundle has calibrated."""


@dataclass(frozen=True, slots=True)
class Judge:
    """By what to judge: the configuration beside `deployment`; bundle: of the episodes that a policy drove, or None."""

    deployment: Path
    bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Of many episodes. seconds; stops, asked, refused: by rule; asked: for by a person. hold_share: of the armed time.

    deterministic: stops that are neither asked for nor a matter of the uncertainty threshold. to_stop_s: per stop that
    nobody asked for, from the first refusal until the output stood still; resume_s: per stop after which a source drove
    again. false_stops: of the episodes whose label is success, those with a stop that nobody asked for.
    """

    episodes: int
    recorded_s: float
    armed_s: float
    stops: Mapping[str, int]
    asked: Mapping[str, int]
    deterministic: int
    refused: Mapping[str, int]
    hold_share: float
    to_stop_s: tuple[float, ...]
    resume_s: tuple[float, ...]
    false_stops: Rate
    not_armed: int


def replay_all(
    folders: Sequence[Path], judge: Judge, workers: int, progress: Callable[[int, int, str], None]
) -> tuple[tuple[Replayed, ...], dict[str, str]]:
    """Replays episodes in `workers` processes (1: in this one): results in order, and by name, why one was left out.

    progress hears how many are done, of how many, and the name. Raises ConfigError, ContractError, and EpisodeError if
    a worker dies.
    """
    done: dict[Path, Replayed | str] = {}
    for folder, outcome in _outcomes(folders, judge, workers):
        done[folder] = outcome
        progress(len(done), len(folders), folder.name)
    ordered = [(folder, done[folder]) for folder in folders]
    replayed = tuple(outcome for _, outcome in ordered if isinstance(outcome, Replayed))
    return replayed, {folder.name: outcome for folder, outcome in ordered if isinstance(outcome, str)}


def totals(replayed: Sequence[Replayed]) -> Totals:
    """What many episodes say together."""
    unasked = [stop for episode in replayed for stop in episode.stops if not stop.asked]
    asked = Counter(stop.rule for episode in replayed for stop in episode.stops if stop.asked)
    armed_s = sum(episode.armed_s for episode in replayed)
    good = [any(not stop.asked for stop in episode.stops) for episode in replayed if episode.success]
    return Totals(
        len(replayed),
        sum(episode.duration_s for episode in replayed),
        armed_s,
        dict(Counter(stop.rule for stop in unasked)),
        dict(asked),
        sum(stop.deterministic for stop in unasked),
        dict(sum((Counter(episode.refused) for episode in replayed), Counter())),
        sum(episode.held_s for episode in replayed) / armed_s if armed_s else 0.0,
        tuple(seconds for stop in unasked if (seconds := _to_stop_s(stop)) is not None),
        tuple(stop.resumed_s for stop in unasked if stop.resumed_s is not None),
        rate(good),
        sum(len(episode.not_armed) for episode in replayed),
    )


def _to_stop_s(stop: ReplayedStop) -> float | None:
    return None if stop.stood_s is None else stop.decided_s + stop.stood_s


def _outcomes(folders: Sequence[Path], judge: Judge, workers: int) -> Iterator[tuple[Path, Replayed | str]]:
    if min(workers, len(folders)) <= 1:
        yield from (_replayed(judge, folder) for folder in folders)
        return
    pool = ProcessPoolExecutor(min(workers, len(folders)), multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(_replayed, judge, folder) for folder in folders]):
            yield future.result()
    except BrokenProcessPool as error:
        raise EpisodeError("replay: a worker was killed; nothing was changed, start again") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _replayed(judge: Judge, folder: Path) -> tuple[Path, Replayed | str]:
    """One episode: the whole work of a worker."""
    try:
        provenance = load_journal(folder).provenance
        limits, proprioception, contract = _gate(judge, provenance.driver == POLICY)
        if provenance.contract_sha256 != contract:
            return folder, "was recorded under another contract"
        return folder, replay(folder, limits, proprioception)
    except EpisodeError as error:
        return folder, str(error)


@lru_cache(maxsize=4)
def _gate(judge: Judge, by_policy: bool) -> tuple[Limits, Proprioception, str]:
    """Limits, kinematics and the contract's fingerprint, once per process. Raises ConfigError, ContractError."""
    deployment, robot = load_deployment(judge.deployment)
    folder = judge.deployment.parent
    rate_hz = {"tick_rate_hz": graph.topic("safety/action").rate_hz}
    threshold = deployment.uncertainty_threshold
    if by_policy:
        if judge.bundle is None:
            raise ContractError("replay: a policy drove some episodes; give its bundle, which holds its threshold")
        threshold = read_manifest(judge.bundle / MANIFEST_FILE).uncertainty.threshold
    config = load(folder / "safety.yaml", SafetyConfig, rate_hz)
    limits = Limits(config, deployment.contract.action, deployment.limits, robot.joints, threshold)
    chain = Chain.from_urdf(folder / robot.urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
    return limits, Proprioception(robot, chain), contract_sha256(deployment.contract)
