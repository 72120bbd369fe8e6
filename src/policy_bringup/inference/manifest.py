"""policy.yaml: what a policy reads and writes, when it must not act, what it was trained on and made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policy_bringup.core.config import bounded, build, describe, read_yaml, required
from policy_bringup.core.errors import ConfigError, ContractError
from policy_bringup.core.latency import LONGEST_CAMERA_S
from policy_bringup.core.thumbnail import COARSE
from policy_bringup.core.types import UNCERTAINTY_COLUMN, Contract

MANIFEST_FILE = "policy.yaml"
FORMAT = 1
"""Version of policy.yaml that this code reads and writes."""
PROVISIONAL_THRESHOLD = 1e9
"""Of a policy that is not calibrated yet."""
PARITY_LIMIT = 1e-4
"""Largest error (see inference/parity.py) of a graph in single precision against its network: 0.1 mm, or 0.1 mrad."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How the policy's doubt is measured (`kind`, e.g. "ensemble") and above which value it must not act.

    A good episode goes above `threshold` at any time at all with probability `false_alarm_rate` at most, as measured on
    `calibration_episodes` successful ones that training did not see. 0 of them: it has not been measured yet.
    """

    kind: str = required()
    threshold: float = bounded(0.0, PROVISIONAL_THRESHOLD)
    false_alarm_rate: float = bounded(0.0, 1.0)
    calibration_episodes: int = bounded(0, 1_000_000)

    def __post_init__(self) -> None:
        if self.calibration_episodes == 0 and self.threshold != PROVISIONAL_THRESHOLD:
            raise ValueError(
                f"a threshold of {self.threshold:g} needs calibration_episodes; with 0 of them, the threshold must be "
                f"{PROVISIONAL_THRESHOLD:g}, which stops nothing"
            )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the training data looked like at the start of an episode, to notice a swapped camera or a moved robot.

    cameras: camera -> the mean over the training episodes of the first picture, as 8x8 grey values 0..255 (64 numbers,
    row by row, from the top left): `coarse(thumbnail(pixels))` of core/thumbnail.py, which is where the arithmetic is
    written down. All values alike: nothing is known about that camera, and nothing compared. start_pose: mean first
    state, in the contract's state columns; start_spread: how far from it an episode's began at most, in the same
    columns; empty: not known, as of older bundles. Compared with where the robot stands before a policy's first action
    (inference/start_check.py); episodes after that may start elsewhere. aligned: by how much each camera's pictures
    were taken as late, s, in each mode that was trained on (core/latency.py); not named, as of older bundles: 0.
    """

    cameras: dict[str, tuple[float, ...]] = bounded(0.0, 255.0, "grey level")
    start_pose: tuple[float, ...] = bounded(-1000.0, 1000.0)
    start_spread: tuple[float, ...] = bounded(0.0, 1000.0, default=())
    aligned: dict[str, dict[str, float]] = field(
        default_factory=dict, metadata={"bounds": (0.0, LONGEST_CAMERA_S), "unit": "s"}
    )


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The graph: file in the bundle's folder, its hash, and its largest difference from the network it came from.

    parity_max_abs_error: as inference/parity.py measures it, on the machine that exported; parity_limit: above which it
    would not have been exported, and is not loaded anywhere; not named, as of older bundles: single precision's.
    """

    file: str = required()
    sha256: str = required()
    opset: int = bounded(1, 1000)
    parity_max_abs_error: float = bounded(0.0, 1.0)
    parity_limit: float = bounded(0.0, 1.0, default=PARITY_LIMIT)

    def __post_init__(self) -> None:
        if self.parity_max_abs_error > self.parity_limit:
            raise ValueError(
                f"parity_max_abs_error is {self.parity_max_abs_error:.3g}, above the parity_limit of "
                f"{self.parity_limit:.3g}"
            )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Hashes of what the policy was made from."""

    dataset: str = required()
    configuration: str = required()
    code: str = required()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What policy.yaml says, key by key. files: name -> sha256 of what is read beside the graph (parity.npz)."""

    format: int = bounded(FORMAT, FORMAT)
    contract: Contract = required()
    uncertainty: Uncertainty = required()
    fingerprint: Fingerprint = required()
    onnx: OnnxFile = required()
    files: dict[str, str] = required()
    provenance: Provenance = required()

    def __post_init__(self) -> None:
        observation, action = self.contract.observation, self.contract.action
        cameras = [image.camera for image in observation.images]
        for names in (cameras, observation.names, (*action.names, UNCERTAINTY_COLUMN)):
            if len(set(names)) != len(names):
                raise ValueError(f"contract: a name stands twice in {', '.join(names)}")
        if observation.history < 1:
            raise ValueError(f"contract: observation history must be 1 or more, found {observation.history}")
        if not 1 <= action.execute <= action.steps:
            raise ValueError(f"contract: action execute must be from 1 to {action.steps} steps, found {action.execute}")
        if not (action.dt_s > 0.0 and observation.spacing_s > 0.0):
            raise ValueError("contract: action dt_s and observation spacing_s must be more than 0 s")
        if set(self.fingerprint.cameras) != set(cameras):
            raise ValueError("fingerprint: cameras must be the contract's cameras")
        if any(len(grey) != COARSE * COARSE for grey in self.fingerprint.cameras.values()):
            raise ValueError(f"fingerprint: a camera must have {COARSE * COARSE} grey values")
        if len(self.fingerprint.start_pose) != len(observation.state):
            raise ValueError(f"fingerprint: start_pose must have {len(observation.state)} values")
        if self.fingerprint.start_spread and len(self.fingerprint.start_spread) != len(observation.state):
            raise ValueError(f"fingerprint: start_spread must have {len(observation.state)} values, or none")


def read_manifest(path: Path) -> Manifest:
    """Reads a policy.yaml, without a look at the graph beside it. Raises ContractError."""
    try:
        data = read_yaml(path)
    except ConfigError as error:
        raise ContractError(str(error)) from error
    # First: another version may have other keys, which would be named as unknown or missing.
    found = data.get("format")
    if found != FORMAT:
        shown = describe(found).strip("'") if found is not None else None
        raise ContractError(f"{path}: has format {shown}; this software reads format {FORMAT}")
    return build_manifest(data, path)


def build_manifest(data: Mapping[str, Any], path: Path) -> Manifest:
    """The keys of a policy.yaml as a manifest; `path` is the file that errors name. Raises ContractError."""
    try:
        return build(Manifest, data, str(path))
    except ConfigError as error:
        raise ContractError(str(error)) from error
