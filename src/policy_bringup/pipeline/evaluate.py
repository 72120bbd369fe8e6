"""Evaluates a policy in closed loop: how often it succeeds, why not, under which changes, and whether it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.trials import Report
from policy_bringup.episodes.film_strip import Thumbnail
from policy_bringup.pipeline.attempt import PLAIN, Attempt
from policy_bringup.pipeline.failures import alarmed, failure_class
from policy_bringup.pipeline.faults import FAULTS, LEFT_S, impossible, onset_of
from policy_bringup.pipeline.ledger import Ledger
from policy_bringup.pipeline.perturbations import PERTURBATIONS
from policy_bringup.pipeline.play import Job, Perform, Played, Setting, Stage, backends, performers
from policy_bringup.pipeline.seeds import seeds
from policy_bringup.sim.rollout import load_stack
from policy_bringup.sim.selfplay import PolicyFactory

Progress = Callable[[int, int], None]
"""Hears how many episodes are done, and of how many."""
OTHER_BACKEND = "backend"
"""The perturbation that draws with the other camera backend."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to evaluate. policy: makes it in every process (play.expert, play.bundle(folder)); name: for the report.

    seed: of the first episode; None: the first of the evaluation's. workers: processes, 1 is this one alone.
    perturbations, faults: names; each is played on the first `others` or `fault_episodes` of the seeds. backend: "both"
    plays all episodes with the usual one and all once more with the other. successes_shown: film strips of successful
    episodes.
    """

    config_folder: Path
    name: str
    policy: PolicyFactory
    deployment_file: str = "grasp.yaml"
    episodes: int = 200
    seed: int | None = None
    workers: int = 1
    perturbations: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    others: int = 50
    fault_episodes: int = 50
    backend: Literal["auto", "egl", "raycast", "both"] = "auto"
    patience_s: float = 20.0
    successes_shown: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Pictures of one episode, camera by camera."""

    attempt: Attempt
    pictures: Mapping[str, tuple[Thumbnail, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that was seen. attempts: condition -> episodes in order of their seeds, PLAIN among them.

    threshold: the uncertainty above which safety stopped the policy. unguarded: seed -> the same plain episode with
    the threshold off, for those in which safety had acted on the policy's doubt. skipped: condition -> why it was not
    played. seconds: of this machine's time, also for what a ledger had kept. ros: report of the deployment over topics,
    if it ran. network: fault -> the same faults with the network alone: nobody refuses its pictures, the threshold is
    off, and an episode ends when the undisturbed one of its seed did, so that it has had no more time to be in doubt.
    runs_on: the network's execution provider, and which were passed over for it; "" without a network.
    """

    plan: Plan
    threshold: float
    backend: str
    cameras: tuple[str, ...]
    attempts: Mapping[str, tuple[Attempt, ...]]
    unguarded: Mapping[int, Attempt]
    strips: tuple[Strip, ...]
    skipped: Mapping[str, str]
    seconds: float
    ros: Report | None = None
    network: Mapping[str, tuple[Attempt, ...]] = field(default_factory=dict)
    runs_on: str = ""

    @property
    def plain(self) -> tuple[Attempt, ...]:
        """The undisturbed episodes."""
        return self.attempts[PLAIN]


def evaluate(plan: Plan, progress: Progress = lambda _done, _total: None, ledger: Ledger | None = None) -> Evaluation:
    """Plays everything that the plan asks for and the ledger, if there is one, does not have. The same plan gives the
    same attempts, whatever `workers` is.

    Raises ConfigError for unknown names and for seeds that are not the evaluation's, what loading the policy raises,
    DeviceError for a camera backend that does not work, EpisodeError if a worker dies.
    """
    began = time.monotonic()
    chosen = seeds("evaluation", plan.episodes, plan.seed)
    _check_names(plan)
    stack = load_stack(plan.config_folder, plan.deployment_file)
    backend, no_other = backends(stack, "auto" if plan.backend == "both" else plan.backend)
    stage = Stage(Setting(plan.config_folder, plan.deployment_file, plan.policy, backend, plan.patience_s))
    skipped = _skipped(plan, stage.cameras, no_other)
    faults = [name for name in plan.faults if name not in skipped]
    jobs = _first_jobs(plan, chosen, skipped)
    with performers(stage, plan.workers) as perform:
        if ledger is not None:
            perform = ledger.remembering(stage, perform)
        series = _Series(perform, progress, len(jobs) + 2 * len(faults) * len(chosen[: plan.fault_episodes]))
        series.play(jobs)
        series.play(_fault_jobs(faults, series.of(PLAIN)[: plan.fault_episodes]))
        skipped.update({name: "nothing moved for long enough" for name in faults if not series.of(name)})
        last = _last_jobs(plan, series)
        series.total = len(series.done) + len(last)
        series.play(last)
    return Evaluation(
        plan,
        stage.threshold,
        backend,
        stage.cameras,
        series.attempts(),
        {p.job.seed: p.attempt for p in series.done if p.job.unguarded and not p.job.unwatched},
        tuple(Strip(played.attempt, played.strips) for played in series.done if played.job.strips),
        skipped,
        time.monotonic() - began + (0.0 if ledger is None else ledger.saved_s),
        network={name: series.unwatched(name) for name in faults if name not in skipped},
        runs_on=stage.runs_on,
    )


@dataclass(slots=True)
class _Series:
    """Plays jobs and keeps what came of them."""

    perform: Perform
    progress: Progress
    total: int
    done: list[Played] = field(default_factory=list)

    def play(self, jobs: Sequence[Job]) -> None:
        order = {job: number for number, job in enumerate(jobs)}
        fresh = []
        for played in self.perform(jobs):
            fresh.append(played)
            self.progress(len(self.done) + len(fresh), max(self.total, len(self.done) + len(fresh)))
        self.done += sorted(fresh, key=lambda played: order[played.job])

    @property
    def jobs(self) -> dict[tuple[str, int], Job]:
        """Of the episodes that count, by condition and seed."""
        counting = (played.job for played in self.done if played.job.counts)
        return {(job.condition, job.seed): job for job in counting}

    def attempts(self) -> dict[str, tuple[Attempt, ...]]:
        return {name: self.of(name) for name in dict.fromkeys(played.job.condition for played in self.done)}

    def of(self, condition: str) -> tuple[Attempt, ...]:
        return tuple(p.attempt for p in self.done if p.job.condition == condition and p.job.counts)

    def unwatched(self, condition: str) -> tuple[Attempt, ...]:
        return tuple(p.attempt for p in self.done if p.job.condition == condition and p.job.unwatched)


def _check_names(plan: Plan) -> None:
    for what, names, known in (("perturb", plan.perturbations, PERTURBATIONS), ("faults", plan.faults, FAULTS)):
        for name in names:
            if name not in known:
                raise ConfigError(f"{what}: must be among {', '.join(known)}, found '{name}'")
    for what, count in (("perturbation", plan.others), ("fault", plan.fault_episodes)):
        if count < 1:
            raise ConfigError(f"episodes per {what}: must be at least 1, found {count}")


def _perturbations(plan: Plan) -> Iterable[str]:
    """In the order of the suite."""
    asked = {*plan.perturbations, *([OTHER_BACKEND] if plan.backend == "both" else [])}
    return (name for name in PERTURBATIONS if name in asked)


def _skipped(plan: Plan, cameras: Sequence[str], no_other: str) -> dict[str, str]:
    skipped = {name: impossible(name, cameras) for name in plan.faults if impossible(name, cameras)}
    if no_other and OTHER_BACKEND in _perturbations(plan):
        skipped[OTHER_BACKEND] = no_other
    return skipped


def _first_jobs(plan: Plan, chosen: range, skipped: Mapping[str, str]) -> list[Job]:
    """The undisturbed episodes and the perturbed ones."""
    jobs = [Job(seed) for seed in chosen]
    for name in _perturbations(plan):
        count = plan.episodes if name == OTHER_BACKEND and plan.backend == "both" else plan.others
        jobs += [Job(seed, name) for seed in chosen[:count] if name not in skipped]
    return jobs


def _last_jobs(plan: Plan, series: _Series) -> list[Job]:
    """Again: what was stopped for doubt, without the threshold; and what is to be shown, with pictures."""
    doubted = [attempt for attempt in series.of(PLAIN) if alarmed(attempt) and not attempt.unanswered]
    shown = _worth_showing(plan, series.jobs, series.attempts())
    return [Job(attempt.seed, unguarded=True) for attempt in doubted] + [replace(job, strips=True) for job in shown]


def _fault_jobs(faults: Sequence[str], plain: Sequence[Attempt]) -> list[Job]:
    """Each with the whole policy, then with the network alone. Where the undisturbed episode never moved, there is no
    fault in motion either."""
    whole, alone = [], []
    for name in faults:
        for attempt in plain:
            onset_s = onset_of(name, attempt, attempt.time_s - LEFT_S)
            if onset_s is not None:
                job = Job(attempt.seed, name, onset_s)
                whole.append(job)
                alone.append(replace(job, unguarded=True, unwatched=True, patience_s=attempt.time_s))
    return whole + alone


def _worth_showing(
    plan: Plan, jobs: Mapping[tuple[str, int], Job], attempts: Mapping[str, Sequence[Attempt]]
) -> list[Job]:
    """The first plain successes, and the first episode of every class of failure, plain ones before disturbed ones."""
    shown = [a for a in attempts[PLAIN] if a.success][: plan.successes_shown]
    seen = {""}
    for group in attempts.values():
        for attempt in group:
            if failure_class(attempt) not in seen and attempt.condition not in FAULTS:
                seen.add(failure_class(attempt))
                shown.append(attempt)
    return [jobs[attempt.condition, attempt.seed] for attempt in shown]
