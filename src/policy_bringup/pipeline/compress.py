"""A bundle with smaller numbers in its network, and what that changes: size, time to think, answers, success."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from policy_bringup.core.errors import ContractError
from policy_bringup.core.tensor_names import STATE_INPUT, image_input
from policy_bringup.core.types import Contract
from policy_bringup.episodes.frames import load_frames
from policy_bringup.inference.bundle import MODEL_FILE, Bundle
from policy_bringup.inference.graph import Graph, Tensors
from policy_bringup.inference.parity import Samples, largest_difference
from policy_bringup.inference.providers import CPU_PROVIDER
from policy_bringup.inference.quantise import to_fp16, to_int8
from policy_bringup.pipeline import bundling

Precision = Literal["fp16", "int8"]
PARITY_LIMITS: dict[Precision, float] = {"fp16": 0.005, "int8": 0.02}
"""Largest error of an answer (inference/parity.py: m, rad) at which a bundle is still written."""
CALIBRATION_MOMENTS = 300
RUNS = 200


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one graph: bytes; median and 99 % quantile of a prediction on one thread, ms; error against the network."""

    size: int
    p50_ms: float
    p99_ms: float
    error: float


@dataclass(frozen=True, slots=True)
class Compressed:
    """The new bundle, which is not calibrated, and both graphs' costs."""

    bundle: Bundle
    before: Costs
    after: Costs


def compress(old: Bundle, precision: Precision, out: Path, frames: Sequence[Path] = ()) -> Compressed:
    """Writes `old` with its network in `precision` to `out`.

    frames: folders of episodes that int8 takes its ranges from, of the training part. Raises ContractError for a bundle
    without parity samples, without frames for int8, above the precision's limit of error, and if `out` is the folder of
    `old` or holds a calibrated bundle; EpisodeError for frames.
    """
    if out.exists() and out.samefile(old.folder):
        raise ContractError(f"{out}: is the bundle that is to be compressed; name another folder for the smaller one")
    bundling.refuse_calibrated(out)
    contract, samples, where = old.contract, old.samples, str(out / MODEL_FILE)
    if samples is None:
        raise ContractError(f"{old.folder}: holds no parity samples, so nobody could say what a smaller graph changes")
    if precision == "int8" and not frames:
        raise ContractError("int8 needs frames of the training episodes to find its ranges with")
    model = to_fp16(old.model) if precision == "fp16" else to_int8(old.model, list(_moments(frames, contract)))
    manifest = old.manifest
    answers = {f"input.{name}": array for name, array in samples.inputs.items()}
    answers |= {f"output.{name}": array for name, array in samples.outputs.items()}
    before, after = (costs(graph, contract, samples, where) for graph in (old.model, model))
    bundle = bundling.bundle(
        out,
        model,
        answers,
        contract,
        manifest.fingerprint,
        dataset_sha256=manifest.provenance.dataset,
        configuration_sha256=manifest.provenance.configuration,
        opset=manifest.onnx.opset,
        kind=manifest.uncertainty.kind,
        parity_limit=PARITY_LIMITS[precision],
    )
    return Compressed(bundle, before, after)


def costs(model: bytes, contract: Contract, samples: Samples, where: str) -> Costs:
    """Measures a graph on this processor, with one thread. Raises ContractError."""
    graph = Graph(model, contract, (CPU_PROVIDER,), 1, where)
    feeds = [{name: array[n : n + 1] for name, array in samples.inputs.items()} for n in range(samples.count)]
    taken = []
    for n in range(RUNS):
        began = time.perf_counter()
        graph.run(feeds[n % len(feeds)])
        taken.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(taken, [50, 99])
    return Costs(len(model), float(p50), float(p99), largest_difference(graph.run, samples, contract).error)


def _moments(frames: Sequence[Path], contract: Contract) -> Iterator[Tensors]:
    """About CALIBRATION_MOMENTS observations, evenly spread over the episodes, as the graph takes them."""
    each = max(1, CALIBRATION_MOMENTS // len(frames))
    past = contract.observation.history > 1
    for folder in frames:
        episode = load_frames(folder, contract)
        for t in np.linspace(0, len(episode.stamps_ns) - 1, each).astype(int):
            pictures = {camera: pixels[t] if past else pixels[t][None] for camera, pixels in episode.images.items()}
            feeds = {image_input(camera): np.ascontiguousarray(taken[None]) for camera, taken in pictures.items()}
            if contract.observation.state:
                state = episode.state[t] if past else episode.state[t][None]
                feeds[STATE_INPUT] = state[None].astype(np.float32)
            yield feeds
