"""From nothing to a bundle that may be deployed: demonstrations, split, frames, training, bundle, calibration, report.

Every stage keeps what it has made in the work folder and makes nothing twice: a course that was interrupted, however,
goes on where it was when it is called again. Only the last step touches the folder of the finished bundle, and replaces
it whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from policy_bringup.control.proprioception import tool_columns
from policy_bringup.core import graph
from policy_bringup.core.config import bounded, load, required
from policy_bringup.core.errors import EpisodeError, LearningError
from policy_bringup.core.fingerprints import files_sha256
from policy_bringup.core.types import Contract
from policy_bringup.episodes.conversion import alignment_of
from policy_bringup.episodes.convert import convert
from policy_bringup.episodes.frames import load_frames
from policy_bringup.episodes.journal import load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.splits import Split, save_split, split
from policy_bringup.inference.bundle import Bundle, load_bundle, write_bundle
from policy_bringup.inference.manifest import MANIFEST_FILE, read_manifest
from policy_bringup.learning.config import load_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.export import OPSET, export_onnx, parity_samples
from policy_bringup.learning.run import Progress as TrainProgress
from policy_bringup.learning.train import Interrupted, Trained, train
from policy_bringup.pipeline import bundling, play
from policy_bringup.pipeline.calibrate import apply, calibrate
from policy_bringup.pipeline.evaluate import Evaluation, Plan, evaluate
from policy_bringup.pipeline.faults import FAULTS
from policy_bringup.pipeline.perturbations import PERTURBATIONS
from policy_bringup.pipeline.seeds import seeds
from policy_bringup.pipeline.summary import JSON_FILE, TABLE_FILE, write_report
from policy_bringup.sim.randomise import Randomisation
from policy_bringup.sim.recorded_rollout import provenance
from policy_bringup.sim.rollout import load_stack
from policy_bringup.sim.selfplay import SelfPlay, run_selfplay

PARITY_MOMENTS = 16
"""Real moments, spread over the validation episodes, that prove the bundle's graph wherever it is loaded."""
STAGES = ("demonstrations", "frames", "training", "bundle", "calibration", "evaluation")


@dataclass(frozen=True, slots=True)
class CourseConfig:
    """config/train/<deployment>.yaml, which explains every key."""

    deployment: str = required()
    training: str = required()
    demonstrations: int = bounded(10, 100_000)
    seed: int = bounded(0, 400_000)
    false_alarm_rate: float = bounded(0.001, 0.5)
    calibration_episodes: int = bounded(19, 100_000)
    evaluation_episodes: int = bounded(1, 100_000)
    other_episodes: int = bounded(1, 100_000)
    patience_s: float = bounded(0.5, 600.0, "s")
    variation: Randomisation = required()


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told: of a stage its name, then how much of it is done, of how much. stop: asked now and then."""

    stage: Callable[[str], None] = lambda _name: None
    done: Callable[[int, int], None] = lambda _done, _total: None
    training: Callable[[TrainProgress], None] = lambda _progress: None
    stop: Callable[[], bool] = lambda: False


class Course:
    """One course: `file` below config/train/, everything it makes in `work`, the bundle in `out` in the end.

    workers: processes for what is played. seed: another draw of everything that is drawn than the file's: scenes of the
    demonstrations, split, weights. Raises ConfigError for what the files say.
    """

    def __init__(
        self, file: Path, work: Path, out: Path, workers: int, command: str = "", ears: Ears | None = None,
        seed: int | None = None,
    ) -> None:  # fmt: skip
        self._config = load(file, CourseConfig)
        self._folder = file.parent.parent
        files = (file, file.parent / self._config.training)
        self._configuration_sha256 = files_sha256(files)
        redrawn: tuple[str, ...] = ()
        if seed is not None:
            self._config = replace(self._config, seed=seed)
            redrawn = (f"optimisation.seed={seed}",)
            self._configuration_sha256 = sha256(f"{self._configuration_sha256} {redrawn}".encode()).hexdigest()
        self._training = load_train_config(files[1], redrawn)
        self._work, self._out, self._workers, self._command = work, out, workers, command
        self._ears = ears or Ears()
        self._stack = load_stack(self._folder, self._config.deployment)
        self._contract: Contract = self._stack.deployment.contract
        seeds("training", self._config.demonstrations, self._config.seed)

    def run(self) -> Evaluation:
        """Every stage that is not done yet. Raises LearningError (Interrupted if it was asked to stop), EpisodeError,
        ContractError, DeviceError; what is finished by then stays, and so does an older bundle in `out`."""
        parts = self._demonstrate()
        self._convert()
        train_part, validation_part = (
            Dataset.open(self._work / "frames", names, self._contract) for names in (parts.train, parts.validation)
        )
        self._ears.stage("training")
        trained = train(
            train_part, validation_part, self._training, self._work / "run", self._ears.training, self._ears.stop
        )
        self._bundle(trained, train_part, validation_part)
        self._calibrate()
        return self._evaluate()

    def _done(self, done: int, total: int) -> None:
        self._ears.done(done, total)
        if done < total and self._ears.stop():
            raise Interrupted(f"{self._work}: stopped after {done} of {total}; the same command goes on from there")

    def _demonstrate(self) -> Split:
        """Half of the demonstrations with each camera backend, or all ray cast where there is no OpenGL."""
        self._ears.stage("demonstrations")
        config, demos = self._config, self._work / "demos"
        self._refuse_mixture(demos)
        _, no_opengl = play.backends(self._stack, "raycast")
        drawn = 0 if no_opengl else config.demonstrations // 2
        series: tuple[tuple[play.FixedBackend, int, int], ...]
        series = (("egl", config.seed, drawn), ("raycast", config.seed + drawn, config.demonstrations - drawn))
        done = 0
        for backend, seed, count in series:
            selfplay = SelfPlay(
                self._folder, demos, count, config.deployment, seed, self._workers,
                backend=backend, patience_s=config.patience_s, variation=config.variation,
            )  # fmt: skip

            def heard(_played: object) -> None:
                nonlocal done
                done += 1
                self._done(done, config.demonstrations)

            if count:
                skipped = run_selfplay(selfplay, heard).skipped
                done += skipped
        parts = split(demos, config.seed)
        save_split(demos, parts, config.seed)
        return parts

    def _refuse_mixture(self, demos: Path) -> None:
        """What there is was made with the present configuration, or is another course's."""
        now = provenance(self._folder, self._config.deployment, "expert", "").config_sha256
        there = episodes(demos) if demos.is_dir() else ()
        others = [folder for folder in there if load_journal(folder).provenance.config_sha256 != now]
        if others:
            raise LearningError(
                f"{demos}: {len(others)} demonstrations were made with another configuration than {self._folder}; "
                f"delete {self._work} to begin anew, or restore the configuration"
            )

    def _convert(self) -> None:
        self._ears.stage("frames")
        derive = partial(tool_columns, self._folder / self._config.deployment)
        rate_hz = graph.topic("policy/action").rate_hz
        report = convert(
            episodes(self._work / "demos"), self._work / "frames", self._contract, rate_hz, derive, self._workers,
            progress=lambda done, total, _name: self._done(done, total),
        )  # fmt: skip
        if report.failed:
            name, reason = next(iter(report.failed.items()))
            raise EpisodeError(f"{len(report.failed)} demonstrations cannot be used, the first is {name}: {reason}")

    @property
    def _draft(self) -> Path:
        return self._work / "bundle"

    def _bundle(self, trained: Trained, train_part: Dataset, validation_part: Dataset) -> None:
        """The uncalibrated bundle, unless the same graph is there already."""
        self._ears.stage("bundle")
        model = export_onnx(trained.policy)
        if self._draft.is_dir() and load_bundle(self._draft, self._contract).model == model:
            return
        moments = np.linspace(0, len(validation_part) - 1, PARITY_MOMENTS).astype(np.int64)
        folders = [self._work / "frames" / name for name in train_part.episodes]
        frames = (load_frames(folder, self._contract) for folder in folders)
        bundling.bundle(
            self._draft,
            model,
            parity_samples(trained.policy, validation_part.batch(moments)),
            self._contract,
            bundling.fingerprint_of(frames, self._contract, alignment_of(folders)),
            dataset_sha256=train_part.sha256,
            configuration_sha256=self._configuration_sha256,
            opset=OPSET,
        )

    def _calibrate(self) -> None:
        self._ears.stage("calibration")
        config, rolled = self._config, 0
        if read_manifest(self._draft / MANIFEST_FILE).uncertainty.calibration_episodes:
            return

        def heard(_scored: object) -> None:
            nonlocal rolled
            rolled += 1
            self._done(rolled, config.calibration_episodes)

        calibration = calibrate(
            self._draft, self._folder, config.calibration_episodes, false_alarm_rate=config.false_alarm_rate,
            workers=self._workers, progress=heard, deployment_file=config.deployment,
            patience_s=config.patience_s,
        )  # fmt: skip
        apply(self._draft, calibration)

    def _evaluate(self) -> Evaluation:
        """The report goes into the bundle, and the bundle to its place."""
        self._ears.stage("evaluation")
        config = self._config
        evaluation = evaluate(
            Plan(
                self._folder, self._out.name, play.bundle(self._draft), config.deployment, config.evaluation_episodes,
                workers=self._workers, perturbations=tuple(PERTURBATIONS), faults=tuple(FAULTS),
                others=config.other_episodes, backend="both", patience_s=config.patience_s,
            ),
            self._done,
        )  # fmt: skip
        written = write_report(evaluation, self._work / "report", self._command)
        report = {TABLE_FILE: written.table.read_bytes(), JSON_FILE: written.data.read_bytes()}
        publish(load_bundle(self._draft, self._contract), self._out, report)
        return evaluation


def publish(draft: Bundle, out: Path, report: dict[str, bytes]) -> Bundle:
    """A calibrated bundle and its report into `out`. Raises LearningError for one that is not calibrated."""
    manifest = draft.manifest
    if not manifest.uncertainty.calibration_episodes:
        raise LearningError(f"{draft.folder}: is not calibrated, so it may not be deployed")
    return write_bundle(
        out,
        contract=manifest.contract,
        uncertainty=manifest.uncertainty,
        fingerprint=manifest.fingerprint,
        provenance=manifest.provenance,
        opset=manifest.onnx.opset,
        parity_max_abs_error=manifest.onnx.parity_max_abs_error,
        model=draft.model,
        files={**{name: (draft.folder / name).read_bytes() for name in manifest.files}, **report},
    )
