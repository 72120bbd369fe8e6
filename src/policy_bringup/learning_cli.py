"""`policy train`: from frames to a trained policy. By several processes:
`torchrun --nproc_per_node 2 -m policy_bringup.learning_cli --config ... --frames ... --out ...`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from policy_bringup import runner
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.episodes.splits import load_split
from policy_bringup.tables import exit_code

if TYPE_CHECKING:  # torch is slow to load, and absent on a robot: only the command itself loads it
    from policy_bringup.learning.dataset import Dataset
    from policy_bringup.learning.diagnose import Finding
    from policy_bringup.learning.run import Progress
    from policy_bringup.learning.train import Trained

PROG = "policy train"
INTERRUPTED = 130
"""What a shell expects of a command that Ctrl+C ended."""
GROUPS = ("model", "augmentation", "optimisation")
"""Of a configuration's keys: an option each."""


@dataclass(frozen=True)
class Train:
    """Train a policy on frames. Ctrl+C keeps everything; the same command goes on from there.

    Every key of the configuration file is an option, too, e.g. --optimisation.learning-rate 1e-3 --model.members 5:
    `policy train --config FILE --help` lists them.
    """

    config: Path
    """A file of config/train/."""
    frames: Path
    """Folder written by `policy episodes convert`."""
    out: Path
    """Folder for checkpoint and results, new or of the same run."""
    split: Path | None = None
    """Folder whose split.yaml says what to train on and what to validate with; by default that of the frames."""
    deployment: str = "grasp"
    """Whose contract the frames follow."""
    diagnose: bool = False
    """Afterwards also find out whether the policy can learn at all, generalises, and beats doing nothing."""
    training: tyro.conf.Suppress[Any] = None
    """The configuration (TrainConfig), where it is not what the file says."""

    def __call__(self) -> int:
        """Prints how it went; 1 if a diagnosis is bad, 130 if it was interrupted."""
        try:
            return self._run()
        except KeyboardInterrupt:
            print("ended at once; what the last checkpoint holds is kept", file=sys.stderr)
            return INTERRUPTED

    def _run(self) -> int:
        from policy_bringup.learning.config import load_train_config
        from policy_bringup.learning.diagnose import diagnose
        from policy_bringup.learning.train import Interrupted, train

        if self.diagnose and _process() != (0, 1):
            raise ConfigError(
                "--diagnose: works with one process; call it again without torchrun when training is done"
            )
        config = self.training or load_train_config(self.config)
        train_part, validation_part = self._parts()
        try:
            with stoppable() as stop, _bar("training", config.optimisation.steps) as progress:
                trained = train(train_part, validation_part, config, self.out, progress, stop)
        except Interrupted as interrupted:
            if _process()[0] == 0:
                print(interrupted)
            return INTERRUPTED
        _print_result(trained)
        if not self.diagnose:
            return 0
        with _bar("diagnosis", None) as progress:
            findings = diagnose(trained, train_part, config, progress)
        _print_findings(findings)
        return 0 if all(finding.good for finding in findings) else 1

    def _parts(self) -> tuple[Dataset, Dataset]:
        """What to train on, and what to validate with."""
        from policy_bringup.learning.dataset import Dataset

        contract = load_deployment(runner.deployment_path(self.deployment))[0].contract
        split = load_split(self.split or self.frames)
        named = (*split.train, *split.validation)
        absent = {name for name in named if not (self.frames / name).is_dir()}
        if absent and _process()[0] == 0:
            print(f"{len(absent)} of {len(named)} episodes have no frames, e.g. {min(absent)}", file=sys.stderr)
        train_part, validation_part = (
            Dataset.open(self.frames, [name for name in names if name not in absent], contract)
            for names in (split.train, split.validation)
        )
        return train_part, validation_part


def _process() -> tuple[int, int]:
    """Number of this process, and how many there are, as torchrun says."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl+C was pressed or the process asked to end; a second time ends it at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set() and _process()[1] == 1:  # torchrun passes on what its processes have got themselves
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(what: str, steps: int | None) -> Iterator[Callable[[Progress], None]]:
    columns = (TextColumn(what), BarColumn(10), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Bar(*columns, disable=_process()[0] != 0) as bar:
        task = bar.add_task(what, total=steps, words="")
        yield lambda at: bar.update(task, completed=at.step, total=at.steps, words=words(at))


def words(at: Progress) -> str:
    """What stands beside a bar of training."""
    validation = "-" if at.validation is None else f"{at.validation:.3f}"
    return (
        f"{at.left_s / 60.0:.0f} min left, loss {at.loss:.3f}, validation {validation}, "
        f"{at.samples_per_s:.0f} samples/s, {at.waiting:.0%} waiting for data"
    )


def _print_result(trained: Trained) -> None:
    if _process()[0] != 0:
        return
    why = {"steps": "all steps are made", "patience": "it got no better", "budget": "its time is spent"}
    metrics = trained.metrics
    print(
        f"{trained.folder}: {why[trained.ending]} after {metrics['steps']} steps and {metrics['spent_min']:.1f} min; "
        f"best at step {metrics['best_step']}, with a validation loss of {metrics['validation']['loss']:.4f}"
    )
    shares = metrics["step_shares"]
    if shares:  # none of a run that was finished before they were counted
        print(
            f"of its steps' time: {shares['waiting']:.1%} waiting for data, {shares['augmentation']:.1%} augmentation"
        )


def _print_findings(findings: tuple[Finding, ...], console: Console | None = None) -> None:
    table = Table("", "question", "found", "which means", title="diagnosis")
    for finding in findings:
        mark = "[green]ok[/]" if finding.good else "[red]look[/]"
        table.add_row(mark, finding.question, finding.figure, finding.sentence)
    (console or Console()).print(table)


def typed(arguments: Sequence[str]) -> Train:
    """The command as it was typed. Raises ConfigError: a sentence with file, key and what is allowed."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", nargs="?")
    file = first.parse_known_args(arguments)[0].config
    if file is None:
        return tyro.cli(Train, args=arguments, prog=PROG)
    from policy_bringup.learning.config import build_train_config, load_train_config, plain

    before = load_train_config(file)
    groups = [(name, type(getattr(before, name)), field(default=getattr(before, name))) for name in GROUPS]
    options = make_dataclass("Train", groups, bases=(Train,), frozen=True)
    options.__doc__ = Train.__doc__
    chosen: Any = tyro.cli(options, args=arguments, prog=PROG)
    after = replace(before, **{name: getattr(chosen, name) for name, *_ in groups})
    own = {item.name: getattr(chosen, item.name) for item in fields(Train)}
    return Train(**{**own, "training": build_train_config(plain(after), f"{file} with the options")})


def main() -> int:
    """Entry point of every process that torchrun starts."""
    return exit_code(lambda: typed(sys.argv[1:])(), PROG)


if __name__ == "__main__":
    sys.exit(main())
