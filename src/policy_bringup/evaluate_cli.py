"""`policy evaluate` and `policy advise`. What evaluates is imported when it is used: it brings the simulator along."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from policy_bringup import runner
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.startup import Options
from policy_bringup.core.trials import Report
from policy_bringup.over_topics import over_topics
from policy_bringup.pipeline.advise import (
    Advice,
    Circumstances,
    Situation,
    advise,
    count_demonstrations,
    measured_claims,
    trainable_methods,
)
from policy_bringup.pipeline.files import JSON_FILE, TOPICS_FILE
from policy_bringup.pipeline.seeds import BLOCKS

if TYPE_CHECKING:
    from policy_bringup.pipeline.evaluate import Plan

EXPERT = "expert"
EVERYTHING = "all"
OUT = Path("build/evaluation")


@dataclass(frozen=True)
class Evaluate:
    """Try a policy on simulated scenes that it was not trained on; report how often it succeeds, and why not."""

    policy: tyro.conf.Positional[str]
    """Folder of a policy bundle; or the word expert, for the scripted one."""
    deployment: str = "grasp"
    """Name of a file under config/, or a path to one."""
    episodes: int = 200
    """Undisturbed episodes; each has a seed, and so a scene, of its own."""
    seed: int = BLOCKS["evaluation"].start
    """Of the first episode; each next one has the next. Only the evaluation's own seeds are accepted."""
    perturb: tuple[str, ...] = ()
    """What to change, one at a time, against the same scenes unchanged: names, or all."""
    faults: bool = False
    """Also let cameras go wrong while the arm moves (frozen, black, swapped), and count whether it is stopped."""
    others: int = 50
    """Episodes for each perturbation."""
    fault_episodes: int = 50
    """Episodes for each fault, once with the whole policy and once with its network alone."""
    ros: bool = False
    """Also run the deployment itself, all nodes over topics and in real time, with safety on."""
    ros_episodes: int = 50
    """How many episodes of that."""
    backend: Literal["auto", "egl", "raycast", "both"] = "auto"
    """How the simulated cameras draw; both: every undisturbed episode with either."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    out: Path | None = None
    """Folder for report.html, evaluation.json and report.md; by default build/evaluation/<policy>."""
    domain_id: int = 0
    """ROS domain for --ros, 0 to 101."""

    def __call__(self) -> int:
        """Prints the table; 0 if the evaluation could be done, whatever it shows, 1 if the deployment ended early."""
        from policy_bringup.pipeline.evaluate import evaluate
        from policy_bringup.pipeline.summary import write_report

        deployment = runner.deployment_path(self.deployment)
        plan = self._plan(deployment)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            bar = progress.add_task("episodes", total=None)
            evaluation = evaluate(plan, lambda done, total: progress.update(bar, completed=done, total=total))
        out, command = self.out or OUT / plan.name, f"policy {shlex.join(sys.argv[1:])}"
        written, code = write_report(evaluation, out, command), 0
        if self.ros:
            report, ending = self._over_topics(deployment, out)
            code = ending.code
            if code != 0:
                print(f"policy evaluate: the deployment ended early: '{ending.node}' ({code})", file=sys.stderr)
            written = write_report(replace(evaluation, ros=report), out, command)
        Console().print(Markdown(written.text))
        print(f"{written.page}\n{written.data}\n{written.table}")
        return code

    def _plan(self, deployment: Path) -> Plan:
        from policy_bringup.pipeline import play
        from policy_bringup.pipeline.evaluate import Plan
        from policy_bringup.pipeline.faults import FAULTS
        from policy_bringup.pipeline.perturbations import PERTURBATIONS

        folder = Path(self.policy).absolute()
        return Plan(
            config_folder=deployment.parent,
            name=self.policy if self.policy == EXPERT else folder.name,
            policy=play.expert if self.policy == EXPERT else play.bundle(folder),
            deployment_file=deployment.name,
            episodes=self.episodes,
            seed=self.seed,
            workers=max(1, self.workers),
            perturbations=tuple(PERTURBATIONS) if EVERYTHING in self.perturb else self.perturb,
            faults=tuple(FAULTS) if self.faults else (),
            others=self.others,
            fault_episodes=self.fault_episodes,
            backend=self.backend,
        )

    def _over_topics(self, deployment: Path, out: Path) -> tuple[Report | None, runner.Ending]:
        """The deployment's own report. What its nodes say goes to the terminal."""
        return over_topics(
            Options(
                mode="sim",
                deployment=deployment,
                source=EXPERT if self.policy == EXPERT else "bundle",
                bundle=None if self.policy == EXPERT else Path(self.policy).absolute(),
                episodes=self.ros_episodes,
                report=out.absolute() / TOPICS_FILE,
                camera_backend="auto" if self.backend == "both" else self.backend,
                seed=self.seed,
                domain_id=self.domain_id,
            )
        )


@dataclass(frozen=True)
class Advise:
    """Say which way to learn a policy, for how long, what to expect, and why, with the source of every claim."""

    demonstrations: int | None = None
    """Good demonstrations that there are (or will be)."""
    dataset: Path | None = None
    """Folder of recorded episodes, to count its successes instead."""
    given: Annotated[Circumstances, tyro.conf.arg(name="")] = field(default_factory=Circumstances)

    def __call__(self) -> int:
        """Prints the advice."""
        share = runner.share_folder()
        found = [*(share / "models" / "policies").glob(f"*/{JSON_FILE}"), *OUT.glob(f"*/{JSON_FILE}")]
        advice = advise(self._situation(), trainable_methods(share / "config"), measured_claims(sorted(found)))
        print_advice(advice, Console())
        return 0

    def _situation(self) -> Situation:
        if (self.demonstrations is None) == (self.dataset is None):
            raise ConfigError("advise: give either --demonstrations or --dataset")
        count, length_s = self.demonstrations or 0, Situation(0).demo_s
        if self.dataset is not None:
            count, length_s = count_demonstrations(self.dataset)
        return Situation(count, length_s, **asdict(self.given))


def print_advice(advice: Advice, console: Console) -> None:
    """Method, time, expectation; then the questions that led there, and every claim with its source."""
    console.print(f"[bold]{advice.method}[/]: {escape(advice.words)}")
    if not advice.trainable:
        console.print("This package cannot train it (there is no training configuration of that name).")
    low, high = advice.hours
    short = "" if advice.enough_time else "; more than the time given"
    console.print(f"training: {_hours(low)} to {_hours(high)}{short}")
    console.print(f"expected success: {advice.success[0]} to {advice.success[1]} %")
    path = Table("question", "answer", title="how it was found")
    for question, answer in advice.path:
        path.add_row(escape(question), "yes" if answer else "no")
    console.print(path)
    claims = Table("claim", "kind", "source", title="why")
    for claim in advice.claims:
        claims.add_row(escape(claim.text), claim.kind, escape(claim.source))
    console.print(claims)
    if not any(claim.kind == "measured" for claim in advice.claims):
        console.print("Nothing was measured here yet: type `policy evaluate <bundle>`, then ask again.", markup=False)


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1.0 else f"{hours:.1f} h"
