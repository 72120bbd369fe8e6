"""From an exported network to a bundle: what is known about it is measured and written beside it. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import ContractError, EpisodeError
from policy_bringup.core.fingerprints import code_version
from policy_bringup.core.thumbnail import coarse, thumbnail
from policy_bringup.core.types import Contract
from policy_bringup.episodes.frames import Frames
from policy_bringup.inference.bundle import MODEL_FILE, Bundle, write_bundle
from policy_bringup.inference.graph import Graph
from policy_bringup.inference.manifest import (
    MANIFEST_FILE,
    PARITY_LIMIT,
    PROVISIONAL_THRESHOLD,
    Fingerprint,
    Provenance,
    Uncertainty,
    read_manifest,
)
from policy_bringup.inference.parity import (
    PARITY_FILE,
    check_difference,
    largest_difference,
    make_samples,
    save_samples,
)
from policy_bringup.inference.providers import CPU_PROVIDER

_NO_FILES: Mapping[str, bytes] = MappingProxyType({})


def bundle(
    folder: Path,
    model: bytes,
    answers: Mapping[str, npt.NDArray[Any]],
    contract: Contract,
    fingerprint: Fingerprint,
    *,
    dataset_sha256: str,
    configuration_sha256: str,
    opset: int,
    kind: str = "ensemble",
    parity_limit: float = PARITY_LIMIT,
    files: Mapping[str, bytes] = _NO_FILES,
) -> Bundle:
    """Writes the bundle of a network that was exported as the ONNX graph `model`, not calibrated yet.

    answers: the network's own, to N observations, as `input.<tensor>` and `output.<tensor>` (inference/parity.py); the
    graph must give the same within `parity_limit`, here and wherever the bundle is loaded; formats less exact than
    single precision need a limit of their own. kind: of uncertainty. files: more to lie beside it, name -> content.
    Raises ContractError, and what `write_bundle` raises; a bundle that is in
    `folder` already then stays as it was.
    """
    where = str(folder / MODEL_FILE)
    samples = make_samples(answers, contract, str(folder / PARITY_FILE))
    difference = largest_difference(Graph(model, contract, (CPU_PROVIDER,), 1, where).run, samples, contract)
    check_difference(difference, parity_limit, where)
    return write_bundle(
        folder,
        contract=contract,
        uncertainty=Uncertainty(kind, PROVISIONAL_THRESHOLD, 0.0, 0),
        fingerprint=fingerprint,
        provenance=Provenance(dataset_sha256, configuration_sha256, code_version()),
        opset=opset,
        parity_max_abs_error=difference.error,
        parity_limit=parity_limit,
        model=model,
        files={**files, PARITY_FILE: save_samples(samples)},
    )


def refuse_calibrated(folder: Path) -> None:
    """Raises ContractError if `folder` holds a calibrated bundle: none that is not calibrated takes its place."""
    manifest = folder / MANIFEST_FILE
    if manifest.is_file() and read_manifest(manifest).uncertainty.calibration_episodes:
        raise ContractError(f"{folder}: holds a calibrated bundle, which the new one would not be; name another folder")


def fingerprint_of(
    episodes: Iterable[Frames], contract: Contract, aligned: Mapping[str, Mapping[str, float]]
) -> Fingerprint:
    """What the episodes (of the training part, one at least) look like at their start, on the average.

    aligned: by which lateness of the cameras, as episodes.conversion.alignment_of says. Raises EpisodeError if there
    are none.
    """
    cameras = [image.camera for image in contract.observation.images]
    past = contract.observation.history > 1
    greys: dict[str, list[npt.NDArray[np.float32]]] = {camera: [] for camera in cameras}
    poses = []
    for frames in episodes:
        for camera in cameras:
            first = frames.images[camera][0]
            greys[camera].append(coarse(thumbnail(first[-1] if past else first)))
        poses.append(frames.state[0][-1] if past else frames.state[0])
    if not poses:
        raise EpisodeError("fingerprint: there is no episode to take it from")
    means = {camera: tuple(_rounded(np.mean(pictures, axis=0))) for camera, pictures in greys.items()}
    starts = np.stack(poses)
    pose = starts.mean(axis=0).round(6)
    spread = np.abs(starts - pose).max(axis=0)
    late = {mode: dict(cameras) for mode, cameras in aligned.items()}
    return Fingerprint(means, tuple(_rounded(pose, 6)), tuple(_rounded(spread, 6)), late)


def _rounded(values: npt.NDArray[Any], decimals: int = 1) -> list[float]:
    """Short enough to be read by people."""
    rounded: list[float] = np.round(values.astype(np.float64).ravel(), decimals).tolist()
    return rounded
