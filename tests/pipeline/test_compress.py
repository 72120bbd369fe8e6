"""A smaller graph says nearly the same, is written as a bundle that must be calibrated anew, or is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ContractError
from policy_bringup.core.types import Contract
from policy_bringup.episodes.frames import Frames, save_frames
from policy_bringup.inference.bundle import Bundle, load_bundle
from policy_bringup.inference.manifest import PROVISIONAL_THRESHOLD, Fingerprint
from policy_bringup.learning.batch import Batch
from policy_bringup.learning.bc_spatial import BcSpatialConfig
from policy_bringup.learning.export import OPSET, export_onnx, parity_samples
from policy_bringup.learning.families import make_policy
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.pipeline import bundling, compress

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = 6


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_deployment(ROOT / "config" / "grasp.yaml")[0].contract


@pytest.fixture(scope="module")
def frames(contract: Contract) -> Frames:
    rng = np.random.default_rng(1)
    images = {
        image.camera: rng.integers(0, 256, (MOMENTS, image.height, image.width, 3), dtype=np.uint8)
        for image in contract.observation.images
    }
    state = rng.normal(0.0, 0.3, (MOMENTS, len(contract.observation.state)))
    action = rng.normal(0.0, 0.3, (MOMENTS, len(contract.action.columns)))
    return Frames(np.arange(MOMENTS) * 50_000_000, images, state, action, np.array(["policy"] * MOMENTS))


@pytest.fixture(scope="module")
def old(contract: Contract, frames: Frames, tmp_path_factory) -> Bundle:
    """A network as it comes out of training's export, only that it has not learned anything."""
    torch.manual_seed(0)
    config = BcSpatialConfig(members=2, channels=(8, 8), hidden=64)
    policy = make_policy("bc_spatial", contract, config, Normaliser(contract)).eval()
    images = {camera: torch.from_numpy(pixels)[:, None] for camera, pixels in frames.images.items()}
    state = torch.from_numpy(frames.state).float()[:, None]
    steps = contract.action.steps
    action = torch.from_numpy(frames.action).float()[:, None].expand(-1, steps, -1)
    batch = Batch(images, state, action, torch.ones(MOMENTS, steps, dtype=torch.bool))
    cameras = {image.camera: (128.0,) * 64 for image in contract.observation.images}
    return bundling.bundle(
        tmp_path_factory.mktemp("old") / "bundle", export_onnx(policy), parity_samples(policy, batch), contract,
        Fingerprint(cameras, (0.0,) * len(contract.observation.state)),
        dataset_sha256="d" * 64, configuration_sha256="c" * 64, opset=OPSET,
    )  # fmt: skip


@pytest.fixture
def episode(frames: Frames, contract: Contract, tmp_path: Path) -> Path:
    save_frames(tmp_path / "episode", frames, contract)
    return tmp_path / "episode"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_smaller_graph_says_nearly_the_same(old, precision, episode, contract, tmp_path):
    done = compress.compress(old, precision, tmp_path / "small", [episode])
    assert done.before.size == len(old.model)
    assert done.after.size < 0.8 * done.before.size
    assert done.before.error < done.after.error < compress.PARITY_LIMITS[precision]
    assert 0.0 < done.after.p50_ms <= done.after.p99_ms
    written = load_bundle(tmp_path / "small", contract).manifest
    assert written.onnx.parity_max_abs_error == pytest.approx(done.after.error)
    assert written.provenance.dataset == old.manifest.provenance.dataset
    assert written.fingerprint == old.manifest.fingerprint


def test_it_has_to_be_calibrated_anew(old, tmp_path):
    manifest = compress.compress(old, "fp16", tmp_path / "small").bundle.manifest
    assert manifest.uncertainty.calibration_episodes == 0
    assert manifest.uncertainty.threshold == PROVISIONAL_THRESHOLD


def test_above_the_limit_of_error_nothing_is_written(old, tmp_path, monkeypatch):
    monkeypatch.setitem(compress.PARITY_LIMITS, "fp16", 1e-9)
    with pytest.raises(ContractError, match=r"is off by .* allowed is 1e-09"):
        compress.compress(old, "fp16", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_integers_need_frames(old, tmp_path):
    with pytest.raises(ContractError, match="int8 needs frames of the training episodes"):
        compress.compress(old, "int8", tmp_path / "small")


def test_a_bundle_without_samples_is_left_alone(old, tmp_path):
    with pytest.raises(ContractError, match="holds no parity samples"):
        compress.compress(replace(old, samples=None), "fp16", tmp_path / "small")
