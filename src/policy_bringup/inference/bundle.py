"""The policy bundle: a folder with `policy.onnx`, `policy.yaml` and, if exported from a network, `parity.npz`.

It fails closed: what does not fit is refused. Other files may lie beside them, e.g. report.md; nobody reads those here.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from policy_bringup.core.errors import ContractError
from policy_bringup.core.types import Contract
from policy_bringup.episodes.layout import sync_folder
from policy_bringup.inference.agreement import check_agreement
from policy_bringup.inference.exchange import aside, bring_back, put_in_place
from policy_bringup.inference.manifest import (
    FORMAT,
    MANIFEST_FILE,
    PARITY_LIMIT,
    Fingerprint,
    Manifest,
    OnnxFile,
    Provenance,
    Uncertainty,
    build_manifest,
    read_manifest,
)
from policy_bringup.inference.parity import PARITY_FILE, Samples, load_samples
from policy_bringup.inference.providers import CPU_PROVIDER, open_session
from policy_bringup.inference.signature import check_graph

MODEL_FILE = "policy.onnx"
_NO_FILES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A policy that was accepted. `model` holds the very bytes whose hash was checked; they are not read a second time.

    Why: between a check and a second reading the file could change. samples: of parity.npz, None if there is none.
    """

    folder: Path
    manifest: Manifest
    model: bytes = field(repr=False)
    samples: Samples | None = field(default=None, repr=False)

    @property
    def contract(self) -> Contract:
        """What the policy reads and writes."""
        return self.manifest.contract

    @property
    def name(self) -> str:
        """The policy's name: its folder's."""
        return self.folder.name


def load_bundle(folder: Path | str, expected: Contract) -> Bundle:
    """Reads the bundle in `folder`, for the robot and configuration that `expected` describes.

    Raises ContractError, with one sentence, for anything missing, changed, out of bounds or different from `expected`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = f"; its replacement was cut short, the one before lies in {aside(folder)}"
        raise ContractError(f"{folder}: there is no such policy folder{found if aside(folder).is_dir() else ''}")
    manifest = read_manifest(folder / MANIFEST_FILE)
    path = _inside(folder, manifest.onnx.file, "onnx: file", ".onnx")
    model = _read_checked(path, manifest.onnx.sha256)
    if (folder / PARITY_FILE).exists() and PARITY_FILE not in manifest.files:
        raise ContractError(f"{folder / PARITY_FILE}: {MANIFEST_FILE} has no sha256 of it: it is from somewhere else")
    files = {
        name: _read_checked(_inside(folder, name, f"files: {name}"), sha256) for name, sha256 in manifest.files.items()
    }
    check_agreement(manifest.contract, expected, str(folder / MANIFEST_FILE))
    _check_model(model, manifest.contract, path)
    return Bundle(folder, manifest, model, _samples(files, manifest.contract, folder))


def write_bundle(
    folder: Path | str,
    *,
    contract: Contract,
    uncertainty: Uncertainty,
    fingerprint: Fingerprint,
    provenance: Provenance,
    opset: int,
    parity_max_abs_error: float,
    parity_limit: float = PARITY_LIMIT,
    model: bytes,
    files: Mapping[str, bytes] = _NO_FILES,
) -> Bundle:
    """Writes a bundle, or replaces the one in `folder` whole; `files` (name -> content) go beside it, e.g. report.md.

    Of those that `load_bundle` reads (parity.npz), policy.yaml holds the hash. The bundle is complete and on the disk
    before it gets its name, and takes an older one's place in one step (inference/exchange.py). Raises ContractError
    for what `load_bundle` would refuse, and OSError; either way an older bundle in `folder` stays as it was.
    """
    folder = Path(folder).resolve()  # where `folder` is a link, what it leads to is replaced, not the link
    bring_back(folder)
    if folder.exists() and not (folder / MANIFEST_FILE).is_file():
        raise ContractError(f"{folder}: exists and is no policy bundle, so it is not replaced")
    onnx = OnnxFile(MODEL_FILE, hashlib.sha256(model).hexdigest(), opset, parity_max_abs_error, parity_limit)
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in (PARITY_FILE,) if name in files}
    sections = {
        "uncertainty": uncertainty, "fingerprint": fingerprint, "onnx": onnx, "files": hashes, "provenance": provenance
    }  # fmt: skip
    text = _dump({"format": FORMAT, "contract": contract, **sections})
    manifest = build_manifest(yaml.safe_load(text), folder / MANIFEST_FILE)
    _check_model(model, contract, folder / MODEL_FILE)
    samples = _samples(files, contract, folder)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        fresh.mkdir(parents=True)
        for name, content in {**files, MODEL_FILE: model, MANIFEST_FILE: text.encode()}.items():
            _write(fresh, name, content)
        sync_folder(fresh)
        put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Bundle(folder, manifest, model, samples)


def _samples(files: Mapping[str, bytes], contract: Contract, folder: Path) -> Samples | None:
    content = files.get(PARITY_FILE)
    return None if content is None else load_samples(content, contract, str(folder / PARITY_FILE))


def _check_model(model: bytes, contract: Contract, path: Path) -> None:
    check_graph(open_session(model, (CPU_PROVIDER,), 1, str(path)), contract, str(path))


def _inside(folder: Path, name: str, key: str, suffix: str = "") -> Path:
    """Where the file `name`, which policy.yaml gives under `key`, lies: inside the folder, links followed."""
    try:
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a ring of links, a zero byte
        raise ContractError(f"{folder / MANIFEST_FILE}: {key}: is no usable name ({error})") from error
    if folder.resolve() not in path.parents:
        raise ContractError(f"{folder / MANIFEST_FILE}: {key}: must be inside the policy's folder, found '{name}'")
    if not path.name.endswith(suffix):
        raise ContractError(f"{folder / MANIFEST_FILE}: {key}: must be an {suffix} file, found '{name}'")
    return path


def _read_checked(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ContractError(f"{path}: its sha256 is not the one in {MANIFEST_FILE}: it is not the file exported there")
    return content


def _write(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    if folder not in Path(os.path.normpath(path)).parents:
        raise ContractError(f"{folder.name}: a bundle's file must be inside its folder, found '{name}'")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _dump(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(_plain(data), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value
