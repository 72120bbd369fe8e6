"""`policy export`, `policy calibrate` and `policy compress`: from a trained policy to a bundle that may be deployed."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table

from policy_bringup import runner, tables
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.episodes.splits import load_split

if TYPE_CHECKING:
    from policy_bringup.pipeline.compress import Compressed

Folder = tyro.conf.Positional[Path]
DEPLOYMENT = "grasp"


@dataclass(frozen=True)
class Export:
    """Write the policy that `policy train` has trained as a bundle, which has to be calibrated before it may run."""

    run: Folder
    """Folder of the training run."""
    frames: Path
    """Folder written by `policy episodes convert`, that it was trained on."""
    out: Path
    """Folder of the new bundle."""
    split: Path | None = None
    """Folder whose split.yaml it was trained with; by default that of the frames."""
    deployment: str = DEPLOYMENT
    """Whose contract the frames follow."""

    def __call__(self) -> int:
        """Prints by how much the graph differs from the network, and how the bundle is calibrated."""
        from policy_bringup.pipeline.export import export

        contract = load_deployment(runner.deployment_path(self.deployment))[0].contract
        onnx = export(self.run, self.frames, load_split(self.split or self.frames), contract, self.out).manifest.onnx
        print(f"{self.out}: its graph says what the network says, but for {onnx.parity_max_abs_error:.2g} at most")
        print(_calibration(self.out, self.deployment))
        return 0


@dataclass(frozen=True)
class Calibrate:
    """Measure, in simulation, from which doubt on a bundle's policy is to be stopped, and write it into the bundle."""

    bundle: Folder
    deployment: str = DEPLOYMENT
    """Name of a file under config/, or a path to one."""
    episodes: int = 100
    """Rollouts; at least 19 must succeed for a false-alarm rate of 5 %."""
    false_alarm_rate: float = 0.05
    """Share of good episodes that safety may stop because the policy is in doubt."""
    workers: int = os.cpu_count() or 1
    """Processes."""

    def __call__(self) -> int:
        """Prints the threshold and what it rests on."""
        from policy_bringup.pipeline.calibrate import Scored, apply, calibrate

        path, played = runner.deployment_path(self.deployment), 0
        with tables.progress("episodes") as progress:

            def heard(scored: Scored) -> None:
                nonlocal played
                played += 1
                progress(played, self.episodes, f"seed {scored.seed}")

            calibration = calibrate(
                self.bundle, path.parent, self.episodes, false_alarm_rate=self.false_alarm_rate,
                workers=self.workers, progress=heard, deployment_file=path.name,
            )  # fmt: skip
        apply(self.bundle, calibration)
        print(
            f"{self.bundle}: stopped above a doubt of {calibration.threshold:.4g}, measured on {calibration.successes} "
            f"good episodes out of {calibration.episodes}"
        )
        return 0


@dataclass(frozen=True)
class Compress:
    """Write a bundle with 16-bit floats or 8-bit integers in its network, and report what that changes."""

    bundle: Folder
    out: Path
    """Folder of the new bundle, which has to be calibrated before it may run."""
    precision: Literal["fp16", "int8"] = "int8"
    frames: Path | None = None
    """Folder written by `policy episodes convert`: int8 takes its ranges from the training episodes."""
    split: Path | None = None
    """Folder whose split.yaml says which those are; by default that of the frames."""
    deployment: str = DEPLOYMENT
    """Name of a file under config/, or a path to one."""
    episodes: int = 50
    """Rollouts of either bundle, of the same scenes, to compare their success; 0: none."""
    workers: int = os.cpu_count() or 1
    """Processes."""

    def __call__(self) -> int:
        """Prints size, time, error and success of both, and by how much they differ."""
        from policy_bringup.inference.bundle import load_bundle
        from policy_bringup.pipeline.compress import compress

        contract = load_deployment(runner.deployment_path(self.deployment))[0].contract
        done = compress(load_bundle(self.bundle, contract), self.precision, self.out, self._episodes())
        outcomes = [self._outcomes(folder) for folder in (self.bundle, self.out)] if self.episodes else []
        _print_change(done, outcomes)
        print(_calibration(self.out, self.deployment))
        return 0

    def _episodes(self) -> list[Path]:
        if self.frames is None:
            return []
        named = [self.frames / name for name in load_split(self.split or self.frames).train]
        found = [folder for folder in named if folder.is_dir()]
        if not found:
            raise ConfigError(f"{self.frames}: holds no frames of the training episodes")
        return found

    def _outcomes(self, folder: Path) -> list[bool]:
        """Whether each scene succeeded, with safety on but its judgement of doubt off: only one of the two thresholds
        would fit."""
        from policy_bringup.pipeline import play
        from policy_bringup.pipeline.seeds import seeds
        from policy_bringup.sim.rollout import load_stack

        path = runner.deployment_path(self.deployment)
        backend, _ = play.backends(load_stack(path.parent, path.name), "auto")
        stage = play.Stage(play.Setting(path.parent, path.name, play.bundle(folder.absolute()), backend, 20.0))
        jobs = [play.Job(seed, unguarded=True) for seed in seeds("evaluation", self.episodes)]
        succeeded = {}
        with play.performers(stage, self.workers) as perform, tables.progress(folder.name) as progress:
            for played in perform(jobs):
                succeeded[played.attempt.seed] = played.attempt.success
                progress(len(succeeded), len(jobs), "")
        return [succeeded[job.seed] for job in jobs]


def _calibration(bundle: Path, deployment: str) -> str:
    """What has to be done to a new bundle."""
    named = () if deployment == DEPLOYMENT else ("--deployment", deployment)
    command = shlex.join(("policy", "calibrate", str(bundle), *named))
    return f"{bundle}: calibrate it with `{command}` before it is deployed"


def _print_change(done: Compressed, outcomes: list[list[bool]]) -> None:
    """outcomes: of both on the same scenes, or none."""
    from policy_bringup.pipeline.statistics import paired, rate
    from policy_bringup.pipeline.wording import difference_words, rate_words

    before, after = done.before, done.after
    successes = ["-"] * 3
    if outcomes:
        successes = [*(rate_words(rate(each)) for each in outcomes), difference_words(paired(*outcomes))]
    table = Table("", "size kB", "p50 ms", "p99 ms", "largest error", "success of the same scenes")
    for name, costs, success in zip(("before", "after"), (before, after), successes, strict=False):
        size = f"{costs.size / 1000:.0f}"
        table.add_row(name, size, f"{costs.p50_ms:.2f}", f"{costs.p99_ms:.2f}", f"{costs.error:.2g}", success)
    p50_ms, p99_ms = after.p50_ms - before.p50_ms, after.p99_ms - before.p99_ms
    size = f"{(after.size - before.size) / 1000:+.0f}"
    table.add_row("difference", size, f"{p50_ms:+.2f}", f"{p99_ms:+.2f}", "", successes[-1])
    Console().print(table)
