"""`policy learn`: the whole way from nothing to a bundle, stage by stage."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from policy_bringup import runner
from policy_bringup.learning_cli import INTERRUPTED, stoppable, words


@dataclass(frozen=True)
class Learn:
    """Demonstrations, training, calibration, evaluation: everything up to a bundle. Interrupted, it goes on later."""

    course: tyro.conf.Positional[str]
    """Name of a file under config/train/ (e.g. grasp), or a path to one."""
    work: Path | None = None
    """Folder for everything on the way; by default build/learn/<course>."""
    out: Path | None = None
    """Folder of the bundle; by default models/policies/<course>. An older one stays until the new one is complete."""
    workers: int = os.cpu_count() or 1
    """Processes for what is played."""

    def __call__(self) -> int:
        """Prints the report; 130 if it was interrupted."""
        from policy_bringup.learning.train import Interrupted
        from policy_bringup.pipeline.course import STAGES, Course, Ears
        from policy_bringup.pipeline.summary import TABLE_FILE

        file = _course_path(self.course)
        work = self.work or Path("build") / "learn" / file.stem
        out = self.out or file.parents[2] / "models" / "policies" / file.stem
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn(), TextColumn("{task.fields[words]}"))  # fmt: skip
        with stoppable() as stop, Progress(*columns) as bar:
            stages = {name: bar.add_task(name, start=False, total=None, words="") for name in STAGES}
            now = ""

            def begin(name: str) -> None:
                nonlocal now
                if now:
                    bar.update(stages[now], total=1, completed=1)
                now = name
                bar.start_task(stages[name])

            ears = Ears(
                begin,
                lambda done, total: bar.update(stages[now], completed=done, total=total),
                lambda at: bar.update(stages[now], completed=at.step, total=at.steps, words=words(at)),
                stop,
            )
            try:
                Course(file, work, out, self.workers, f"policy {shlex.join(sys.argv[1:])}", ears).run()
            except Interrupted as interrupted:
                print(interrupted)
                return INTERRUPTED
        Console().print(Markdown((work / "report" / TABLE_FILE).read_text(encoding="utf-8")))
        print(out)
        return 0


def _course_path(name: str) -> Path:
    path = Path(name)
    return path.resolve() if path.suffix else runner.share_folder() / "config" / "train" / f"{name}.yaml"
