"""`policy learn`: the whole way from nothing to a bundle, stage by stage."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from policy_bringup import runner
from policy_bringup.core.errors import LearningError
from policy_bringup.core.startup import Options
from policy_bringup.core.trials import Report
from policy_bringup.learning_cli import INTERRUPTED, stoppable, words
from policy_bringup.over_topics import EpisodeLog, over_topics

if TYPE_CHECKING:
    from policy_bringup.learning.train import Trained

LINE_S = 60.0


@dataclass(frozen=True)
class Learn:
    """Demonstrations, training, calibration, evaluation: everything up to a bundle. Interrupted, it goes on later."""

    course: tyro.conf.Positional[str]
    """Name of a file under config/train/ (e.g. grasp), or a path to one."""
    work: Path | None = None
    """Folder for everything on the way; by default build/learn/<course>, or <course>_seed_<seed>."""
    out: Path | None = None
    """Folder of the bundle; by default models/policies/<course>, with a seed <work>/<course>. An older one stays until
    the new one is complete."""
    workers: int = os.cpu_count() or 1
    """Processes for what is played."""
    seed: int | None = None
    """Draws scenes, split and weights anew, to see how much of the result was luck."""

    def __call__(self) -> int:
        """Prints the report, and where it lies; 130 if it was interrupted."""
        from policy_bringup.learning.train import Interrupted
        from policy_bringup.pipeline.course import STAGES, Course, Ears
        from policy_bringup.pipeline.summary import PAGE_FILE, TABLE_FILE

        file = _course_path(self.course)
        drawn = "" if self.seed is None else f"_seed_{self.seed}"
        work = self.work or Path("build") / "learn" / f"{file.stem}{drawn}"
        out = self.out or (work if drawn else file.parents[2] / "models" / "policies") / file.stem
        command = f"policy {shlex.join(sys.argv[1:])}"
        with stoppable() as stop, _Bars(STAGES) as bars:
            ears = Ears(
                bars.begin, bars.done, lambda at: bars.done(at.step, at.steps, words(at)), _say_shares, print, stop
            )
            try:
                made = Course(file, work, out, self.workers, command, ears, self.seed, _deploy).run()
            except (Interrupted, KeyboardInterrupt) as interrupted:
                print(str(interrupted) or f"{work}: stopped; the same command goes on from there")
                return INTERRUPTED
        if made:
            Console().print(Markdown((work / "report" / TABLE_FILE).read_text(encoding="utf-8")))
        else:
            print(f"{work}: everything is done, and nothing was changed; delete this folder to begin anew")
        print(f"{work / 'report' / PAGE_FILE}\n{out}")
        return 0


def _deploy(options: Options, done: Callable[[int, int], None]) -> Report:
    """What the nodes say goes into a file beside the report."""
    from policy_bringup.learning.train import Interrupted

    assert options.report is not None
    said = options.report.with_suffix(".log")
    with said.open("w", encoding="utf-8") as log:
        report, ending = over_topics(options, EpisodeLog(log, lambda over: done(over, options.episodes)))
    if ending.node is None:
        raise Interrupted(f"{options.report.parent}: stopped; the same command goes on from there")
    if report is None or ending.code != 0:
        raise LearningError(f"the deployment ended early: '{ending.node}' ({ending.code}); what was said is in {said}")
    return report


def _say_shares(trained: Trained) -> None:
    shares = trained.metrics["step_shares"]
    if shares:  # none of a run that was finished before they were counted
        print(
            f"training: of its steps' time {shares['waiting']:.1%} was waiting for data, "
            f"{shares['augmentation']:.1%} augmentation"
        )


class _Bars(Progress):
    """One bar per stage; where no terminal shows them, a line at the start of each and every minute."""

    def __init__(self, stages: Sequence[str]) -> None:
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[words]}"),
        )  # fmt: skip
        self._stages = {name: self.add_task(name, start=False, total=None, words="") for name in stages}
        self._now, self._said_s = "", 0.0

    def begin(self, name: str) -> None:
        """The stage before is complete, and this one begins."""
        if self._now:
            self.update(self._stages[self._now], total=1, completed=1)
        self._now = name
        self.start_task(self._stages[name])
        self._say("begins")

    def done(self, done: int, total: int, words: str = "") -> None:
        """So much of the present stage."""
        self.update(self._stages[self._now], completed=done, total=total, words=words)
        if time.monotonic() - self._said_s > LINE_S:
            self._say(f"{done} of {total} {words}")

    def _say(self, what: str) -> None:
        self._said_s = time.monotonic()
        if not self.console.is_terminal:
            print(f"{time.strftime('%H:%M')} {self._now}: {what}", flush=True)


def _course_path(name: str) -> Path:
    path = Path(name)
    return path.resolve() if path.suffix else runner.share_folder() / "config" / "train" / f"{name}.yaml"
