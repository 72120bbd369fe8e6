"""From nothing to a bundle that may be deployed: demonstrations, split, frames, training, bundle, calibration, report.

Then, where somebody runs deployments for it, the policy plays over topics, too; and the report goes into the bundle.
Every stage keeps what it has made in the work folder and makes nothing twice: a course that was interrupted, however,
goes on where it was when it is called again. Only the last step touches the folder of the finished bundle, and replaces
it whole; a course that is finished changes nothing any more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from policy_bringup.control.proprioception import tool_columns
from policy_bringup.core import graph
from policy_bringup.core.config import bounded, load, required
from policy_bringup.core.errors import EpisodeError, LearningError
from policy_bringup.core.fingerprints import files_sha256
from policy_bringup.core.startup import Options
from policy_bringup.core.trials import Report
from policy_bringup.core.types import Contract
from policy_bringup.episodes.convert import convert
from policy_bringup.episodes.layout import PARTIAL, write_durably
from policy_bringup.episodes.splits import Split
from policy_bringup.inference.bundle import Bundle, load_bundle, write_bundle
from policy_bringup.inference.manifest import MANIFEST_FILE, read_manifest
from policy_bringup.learning.config import load_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.export import export_onnx
from policy_bringup.learning.run import Progress as TrainProgress
from policy_bringup.learning.train import Interrupted, Trained, train
from policy_bringup.pipeline import export, play
from policy_bringup.pipeline.calibrate import apply, calibrate
from policy_bringup.pipeline.demonstrations import Demonstrations, demonstrate
from policy_bringup.pipeline.evaluate import Evaluation, Plan, evaluate
from policy_bringup.pipeline.faults import FAULTS
from policy_bringup.pipeline.files import TOPICS_FILE
from policy_bringup.pipeline.ledger import Ledger
from policy_bringup.pipeline.perturbations import PERTURBATIONS
from policy_bringup.pipeline.seeds import BLOCKS, seeds
from policy_bringup.pipeline.summary import JSON_FILE, TABLE_FILE, write_report
from policy_bringup.sim.randomise import Randomisation
from policy_bringup.sim.recorded_rollout import provenance
from policy_bringup.sim.rollout import load_stack

LEDGER_FILE = "played.jsonl"
"""In the work folder: every episode of calibration and evaluation."""
FINISHED_FILE = "finished.json"
"""In the work folder, once the bundle is in its place."""
STAGES = ("demonstrations", "frames", "training", "bundle", "calibration", "evaluation", "topics")


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
    fault_episodes: int = bounded(1, 100_000)
    topic_episodes: int = bounded(0, 10_000)
    patience_s: float = bounded(0.5, 600.0, "s")
    variation: Randomisation = required()


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told: of a stage its name, then how much of it is done, of how much; in a sentence, what was left out; how
    training ended. stop: asked now and then."""

    stage: Callable[[str], None] = lambda _name: None
    done: Callable[[int, int], None] = lambda _done, _total: None
    training: Callable[[TrainProgress], None] = lambda _progress: None
    trained: Callable[[Trained], None] = lambda _trained: None
    say: Callable[[str], None] = lambda _sentence: None
    stop: Callable[[], bool] = lambda: False


Deploy = Callable[[Options, Callable[[int, int], None]], Report]
"""Runs a deployment, and tells how many of its episodes are over, of how many -> its own report. Raises LearningError
(Interrupted if it was asked to stop) where there is none."""


class Course:
    """One course: `file` below config/train/, everything it makes in `work`, the bundle in `out` in the end.

    workers: processes for what is played. seed: another draw of everything that is drawn than the file's: scenes of the
    demonstrations, split, weights. deploy: None leaves out the episodes over topics. Raises ConfigError for what the
    files say.
    """

    def __init__(
        self, file: Path, work: Path, out: Path, workers: int, command: str = "", ears: Ears | None = None,
        seed: int | None = None, deploy: Deploy | None = None,
    ) -> None:  # fmt: skip
        self._deploy = deploy
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
        origin = provenance(self._folder, self._config.deployment, "policy", "")
        self._made_with = {
            "configuration": origin.config_sha256,
            "robot": files_sha256([self._stack.urdf]),
            "code": origin.code_version,
        }
        seeds("training", self._config.demonstrations, self._config.seed)

    def run(self) -> bool:
        """Every stage that is not done yet; False if there was none, and nothing was changed.

        Raises LearningError (Interrupted if it was asked to stop), EpisodeError, ContractError, DeviceError; what is
        finished by then stays, and so does an older bundle in `out`.
        """
        if _read_mark(self._work) == self._mark():
            return False
        parts = self._demonstrate()
        self._convert(parts)
        train_part, validation_part = (
            Dataset.open(self._work / "frames", names, self._contract) for names in (parts.train, parts.validation)
        )
        self._ears.stage("training")
        trained = train(
            train_part, validation_part, self._training, self._work / "run", self._ears.training, self._ears.stop
        )
        self._ears.trained(trained)
        self._bundle(trained, train_part, validation_part)
        self._calibrate()
        evaluation = self._evaluate()
        self._ship(replace(evaluation, ros=self._play_over_topics()))
        return True

    def _done(self, done: int, total: int) -> None:
        self._ears.done(done, total)
        if done < total and self._ears.stop():
            raise Interrupted(f"{self._work}: stopped after {done} of {total}; the same command goes on from there")

    def _demonstrate(self) -> Split:
        self._ears.stage("demonstrations")
        config = self._config
        wanted = Demonstrations(
            self._folder, self._work / "demos", config.demonstrations, config.deployment, config.seed,
            config.patience_s, config.variation, self._workers,
        )  # fmt: skip
        return demonstrate(wanted, self._done, self._ears.say)

    def _convert(self, parts: Split) -> None:
        """Only what the split names: what failed, or was interrupted, is not learned from."""
        self._ears.stage("frames")
        demos, frames = self._work / "demos", self._work / "frames"
        for unfinished in frames.glob(f".*{PARTIAL}"):  # of a start that was killed
            shutil.rmtree(unfinished)
        derive = partial(tool_columns, self._folder / self._config.deployment)
        rate_hz = graph.topic("policy/action").rate_hz
        report = convert(
            [demos / name for name in sorted((*parts.train, *parts.validation, *parts.test))], frames,
            self._contract, rate_hz, derive, self._workers, progress=lambda done, total, _name: self._done(done, total),
        )  # fmt: skip
        if report.failed:
            name, reason = next(iter(report.failed.items()))
            raise EpisodeError(f"{len(report.failed)} demonstrations cannot be used, the first is {name}: {reason}")

    @property
    def _draft(self) -> Path:
        return self._work / "bundle"

    def _bundle(self, trained: Trained, train_part: Dataset, validation_part: Dataset) -> None:
        """The uncalibrated bundle, unless the same graph is there already, from the same configuration."""
        self._ears.stage("bundle")
        model, frames = export_onnx(trained.policy), self._work / "frames"
        if self._draft.is_dir():
            there = load_bundle(self._draft, self._contract)
            if there.model == model and there.manifest.provenance.configuration == self._configuration_sha256:
                return
        policy, configuration = trained.policy, self._configuration_sha256
        export.write(self._draft, policy, model, frames, train_part, validation_part, configuration)

    def _ledger(self) -> Ledger:
        """What was played with the draft's graph and start, by the present configuration and code."""
        manifest = read_manifest(self._draft / MANIFEST_FILE)
        fingerprint = sha256(repr(manifest.fingerprint).encode()).hexdigest()
        policy = {"graph": manifest.onnx.sha256, "fingerprint": fingerprint}
        return Ledger(self._work / LEDGER_FILE, {**policy, **self._made_with})

    def _calibrate(self) -> None:
        """Anew in every start, for what is asked for may have changed: only what was not played yet costs time."""
        self._ears.stage("calibration")
        config, rolled = self._config, 0

        def heard(_scored: object) -> None:
            nonlocal rolled
            rolled += 1
            self._done(rolled, config.calibration_episodes)

        calibration = calibrate(
            self._draft, self._folder, config.calibration_episodes, false_alarm_rate=config.false_alarm_rate,
            workers=self._workers, progress=heard, deployment_file=config.deployment,
            patience_s=config.patience_s, ledger=self._ledger(),
        )  # fmt: skip
        apply(self._draft, calibration)

    def _evaluate(self) -> Evaluation:
        self._ears.stage("evaluation")
        config = self._config
        return evaluate(
            Plan(
                self._folder, self._out.name, play.bundle(self._draft), config.deployment, config.evaluation_episodes,
                workers=self._workers, perturbations=tuple(PERTURBATIONS), faults=tuple(FAULTS),
                others=config.other_episodes, fault_episodes=config.fault_episodes, backend="both",
                patience_s=config.patience_s,
            ),
            self._done,
            self._ledger(),
        )  # fmt: skip

    def _play_over_topics(self) -> Report | None:
        if self._deploy is None or not self._config.topic_episodes:
            return None
        self._ears.stage("topics")
        options = Options(
            "sim", self._folder / self._config.deployment, bundle=self._draft.absolute(),
            episodes=self._config.topic_episodes, report=(self._work / TOPICS_FILE).absolute(),
            seed=BLOCKS["evaluation"].start,
        )  # fmt: skip
        return self._deploy(options, self._ears.done)

    def _ship(self, evaluation: Evaluation) -> None:
        """The report goes into the bundle, and the bundle to its place."""
        written = write_report(evaluation, self._work / "report", self._command)
        report = {TABLE_FILE: written.table.read_bytes(), JSON_FILE: written.data.read_bytes()}
        publish(load_bundle(self._draft, self._contract), self._out, report)
        write_durably(self._work / FINISHED_FILE, json.dumps(self._mark(), indent=1))

    def _mark(self) -> dict[str, str]:
        """What a finished course was made from, and what it shipped."""
        shipped = files_sha256(path for path in self._out.rglob("*") if path.is_file())
        return {"course": self._configuration_sha256, **self._made_with, "shipped": shipped}


def _read_mark(work: Path) -> object:
    try:
        return json.loads((work / FINISHED_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


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
        parity_limit=manifest.onnx.parity_limit,
        model=draft.model,
        files={**{name: (draft.folder / name).read_bytes() for name in manifest.files}, **report},
    )
