"""Measures from which uncertainty on a bundle's policy must not act: rollouts in the simulator, with that rule off.

Which steps count: safety refuses a chunk, and in the end stops the robot, if a step up to the first one that is still
due is above the threshold; later ones only cut the chunk short (safety/checks.py). A rollout without delays, and a
robot on which a chunk arrives within 45 ms, still have the first step ahead of them, and get the next chunk before they
come to the second. So the score of an episode is the largest uncertainty of a chunk's first step, over all chunks from
the first picture on: those before arming decide whether the robot may be armed at all. In an episode whose score is
not above the threshold, the robot does exactly what it did with the rule off.

A policy that refused to answer (inference/watched.py) has an infinite score there: no threshold would have helped.
Only successful episodes count. Their seeds are neither those of training nor of evaluation (pipeline/seeds.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policy_bringup.core.errors import ContractError, DeviceError, LearningError
from policy_bringup.inference.bundle import MODEL_FILE, Bundle, load_bundle, write_bundle
from policy_bringup.inference.manifest import MANIFEST_FILE, Uncertainty, read_manifest
from policy_bringup.learning.calibration import conformal_threshold, episodes_needed
from policy_bringup.pipeline import play
from policy_bringup.pipeline.attempt import PLAIN
from policy_bringup.pipeline.evaluate import OTHER_BACKEND
from policy_bringup.pipeline.ledger import Ledger
from policy_bringup.pipeline.play import FixedBackend, Job, Setting, Stage, performers
from policy_bringup.pipeline.seeds import BLOCKS, seeds
from policy_bringup.sim.rollout import load_stack

FALSE_ALARM_RATE = 0.05


@dataclass(frozen=True, slots=True)
class Scored:
    """One rollout. score: its largest uncertainty that counts."""

    seed: int
    backend: str
    success: bool
    score: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and what it rests on. episodes: that were played; scores: of the successful ones, ascending.

    model_sha256: of the graph that was measured.
    """

    threshold: float
    false_alarm_rate: float
    episodes: int
    scores: tuple[float, ...]
    model_sha256: str

    @property
    def successes(self) -> int:
        """Episodes that counted."""
        return len(self.scores)


Progress = Callable[[Scored], None]


def calibrate(
    folder: Path,
    config_folder: Path,
    episodes: int,
    seed: int = BLOCKS["calibration"].start,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    workers: int = 1,
    backends: Sequence[FixedBackend] = ("egl", "raycast"),
    progress: Progress = lambda _: None,
    deployment_file: str = "grasp.yaml",
    patience_s: float = 20.0,
    ledger: Ledger | None = None,
) -> Calibration:
    """Plays `episodes` episodes from `seed` on, on the camera backends in turn (those that are here), and takes stock.
    What the ledger has, if there is one, is not played again.

    The same arguments give the same calibration, whatever `workers` is. The bundle is left as it is: see `apply`.
    Raises LearningError for too few episodes or successes, ConfigError for seeds of another purpose, ContractError for
    a bundle that does not fit, DeviceError without any of the backends, EpisodeError if a worker dies.
    """
    chosen, needed = seeds("calibration", episodes, seed), episodes_needed(false_alarm_rate)
    if episodes < needed:
        raise LearningError(
            f"{folder}: a false-alarm rate of {false_alarm_rate:g} needs {needed} successful episodes or more, "
            f"so {episodes} cannot do"
        )
    stack = load_stack(config_folder, deployment_file)
    measured = load_bundle(folder, stack.deployment.contract)
    usable = _usable(backends, play.backends(stack, "raycast")[1])
    setting = Setting(config_folder, deployment_file, play.bundle(folder), usable[0], patience_s)
    scored = tuple(score(setting, chosen, usable, workers, progress, ledger))
    return take_stock(scored, false_alarm_rate, measured)


def score(
    setting: Setting, chosen: Sequence[int], backends: Sequence[FixedBackend], workers: int, progress: Progress,
    ledger: Ledger | None = None,
) -> Iterable[Scored]:  # fmt: skip
    """Plays the seeds `chosen`, the first backend being the setting's, and returns them in order; `progress` hears of
    each as it is done. Raises what Stage.play raises, and EpisodeError if a worker dies."""
    conditions = [PLAIN if backend == setting.backend else OTHER_BACKEND for backend in backends]
    jobs = [Job(seed, conditions[n % len(conditions)], unguarded=True) for n, seed in enumerate(chosen)]
    done = {}
    stage = Stage(setting)
    with performers(stage, workers) as perform:
        if ledger is not None:
            perform = ledger.remembering(stage, perform)
        for played in perform(jobs):
            attempt = played.attempt
            done[attempt.seed] = Scored(attempt.seed, attempt.backend, attempt.success, attempt.doubt)
            progress(done[attempt.seed])
    return [done[seed] for seed in chosen]


def take_stock(scored: Sequence[Scored], false_alarm_rate: float, measured: Bundle) -> Calibration:
    """The threshold that these rollouts give. Raises LearningError for too few successes, or hopeless scores."""
    scores = sorted(rollout.score for rollout in scored if rollout.success)
    try:
        threshold = conformal_threshold(scores, false_alarm_rate)
    except LearningError as error:
        raise LearningError(f"{measured.folder}: {len(scores)} of {len(scored)} rollouts succeeded: {error}") from error
    if not math.isfinite(threshold):
        refused = sum(not math.isfinite(value) for value in scores)
        raise LearningError(
            f"{measured.folder}: in {refused} of {len(scores)} successful rollouts the policy refused to answer at "
            f"times: no threshold gives a false-alarm rate of {false_alarm_rate:g}"
        )
    return Calibration(threshold, false_alarm_rate, len(scored), tuple(scores), measured.manifest.onnx.sha256)


def apply(folder: Path, calibration: Calibration) -> Bundle:
    """Puts the threshold into the bundle, which is replaced whole; every other file in it stays.

    Raises ContractError if the bundle is damaged, or holds another graph than the one that was measured; and what
    `write_bundle` raises.
    """
    old = load_bundle(folder, read_manifest(folder / MANIFEST_FILE).contract)
    manifest = old.manifest
    if manifest.onnx.sha256 != calibration.model_sha256:
        raise ContractError(f"{folder / manifest.onnx.file}: is not the graph that was calibrated; calibrate again")
    own = {manifest.onnx.file, MODEL_FILE, MANIFEST_FILE}
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return write_bundle(
        folder,
        contract=manifest.contract,
        uncertainty=Uncertainty(
            manifest.uncertainty.kind, calibration.threshold, calibration.false_alarm_rate, calibration.successes
        ),
        fingerprint=manifest.fingerprint,
        provenance=manifest.provenance,
        opset=manifest.onnx.opset,
        parity_max_abs_error=manifest.onnx.parity_max_abs_error,
        parity_limit=manifest.onnx.parity_limit,
        model=old.model,
        files={name: path.read_bytes() for name, path in paths.items() if name not in own},
    )


def _usable(wanted: Sequence[FixedBackend], no_egl: str) -> list[FixedBackend]:
    usable = [backend for backend in wanted if backend == "raycast" or not no_egl]
    if not usable:
        raise DeviceError(no_egl or "calibrate: needs at least one camera backend, egl or raycast")
    return usable
