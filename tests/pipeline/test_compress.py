"""A smaller graph says nearly the same, is written as a bundle that must be calibrated anew, or is refused."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_bringup.bundle_cli import Compress
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
from policy_bringup.pipeline import bundling, compress, play
from policy_bringup.pipeline.calibrate import Calibration, apply

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = 6


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_deployment(ROOT / "config" / "grasp.yaml")[0].contract


@pytest.fixture(scope="module")
def frames(contract: Contract) -> Frames:
    return noise(contract)


def noise(contract: Contract) -> Frames:
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
    return untrained(tmp_path_factory.mktemp("old") / "bundle", contract, frames)


def untrained(folder: Path, contract: Contract, frames: Frames) -> Bundle:
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
        folder, export_onnx(policy), parity_samples(policy, batch), contract,
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


def test_the_limit_of_its_error_is_that_of_its_precision_also_once_it_is_calibrated(old, tmp_path):
    onnx = compress.compress(old, "fp16", tmp_path / "small").bundle.manifest.onnx
    assert onnx.parity_limit == compress.PARITY_LIMITS["fp16"]
    measured = Calibration(0.5, 0.05, 25, (0.5,) * 25, onnx.sha256)
    assert apply(tmp_path / "small", measured).manifest.onnx == onnx


@pytest.fixture
def deployment(small_config: Path, tmp_path: Path) -> Path:
    """With pictures just large enough for a network."""
    shutil.copytree(small_config, tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    path = tmp_path / "config" / "grasp.yaml"
    path.write_text(path.read_text().replace("24", "32"))
    return path


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_command_plays_both_bundles_and_shows_size_time_error_and_success_of_each_and_the_difference(
    precision, deployment, tmp_path, capsys, monkeypatch
):
    """One scene each, with a network that has learned nothing: what counts is that both were played."""
    monkeypatch.setenv("COLUMNS", "200")
    contract = load_deployment(deployment)[0].contract
    untrained(tmp_path / "old", contract, noise(contract))
    save_frames(tmp_path / "frames" / "episode_000000", noise(contract), contract)
    (tmp_path / "frames" / "split.yaml").write_text("train: [episode_000000]\nvalidation: []\ntest: []\n")
    command = Compress(
        tmp_path / "old", tmp_path / "small", precision, tmp_path / "frames", deployment=str(deployment), episodes=1,
        workers=1,
    )  # fmt: skip
    assert command() == 0
    printed = capsys.readouterr().out
    before, after, difference = (
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in printed.splitlines()
        if line.startswith(("│ before", "│ after", "│ difference"))
    )
    sizes = [(tmp_path / folder / "policy.onnx").stat().st_size / 1000 for folder in ("old", "small")]
    assert [before[1], after[1], difference[1]] == [f"{sizes[0]:.0f}", f"{sizes[1]:.0f}", f"{sizes[1] - sizes[0]:+.0f}"]
    for column in (2, 3):
        change = float(after[column]) - float(before[column])
        assert float(difference[column]) == pytest.approx(change, abs=0.011)  # each is rounded
    assert float(before[4]) < float(after[4]) < compress.PARITY_LIMITS[precision]
    assert before[5] == after[5] == "0 of 1: 0.0 % (0.0 to 79.3 %)"
    assert difference[5] == "+0.0 (-65.3 to +65.3) points; 0 lost, 0 gained"
    assert "calibrate it with `policy calibrate" in printed
    assert load_bundle(tmp_path / "small", contract).manifest.uncertainty.calibration_episodes == 0


def test_success_is_that_of_scenes_of_the_evaluation_with_the_threshold_off(small_config, policies, monkeypatch):
    """Whoever is always in doubt would be stopped at once; without the threshold the scene is done. The outcomes are in
    the order of the scenes, in whatever order these are done."""
    monkeypatch.setattr(play, "bundle", lambda folder: policies["moody"])
    monkeypatch.setattr(play, "performers", last_first(play.performers))
    command = Compress(Path("moody"), Path("out"), deployment=str(small_config / "grasp.yaml"), episodes=2, workers=1)
    outcomes = command._outcomes(Path("moody"))
    assert outcomes == [True, False]  # where the object lies to the left, it reaches beside it


def last_first(performers):
    """As several processes may be done with their scenes."""

    @contextmanager
    def perform_last_first(stage, workers):
        with performers(stage, workers) as perform:
            yield lambda jobs: perform(jobs[::-1])

    return perform_last_first


@pytest.mark.parametrize("name", ["old", "old/", "link", "away/../old"])
def test_a_bundle_is_not_compressed_into_itself_by_whatever_name(old, tmp_path, name):
    shutil.copytree(old.folder, tmp_path / "old")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    (tmp_path / "away").mkdir()
    again = load_bundle(tmp_path / "old", old.contract)
    with pytest.raises(ContractError, match="is the bundle that is to be compressed; name another folder"):
        compress.compress(again, "fp16", Path(f"{tmp_path}/{name}"))
    assert load_bundle(tmp_path / "old", old.contract).manifest == old.manifest


def test_a_calibrated_bundle_is_not_replaced_by_one_that_is_not(old, tmp_path):
    first = compress.compress(old, "fp16", tmp_path / "small").bundle
    compress.compress(old, "fp16", tmp_path / "small")
    calibrated = apply(tmp_path / "small", Calibration(0.5, 0.05, 25, (0.5,) * 25, first.manifest.onnx.sha256))
    with pytest.raises(ContractError, match=r"small: holds a calibrated bundle, .*; name another folder"):
        compress.compress(old, "fp16", tmp_path / "small")
    assert load_bundle(tmp_path / "small", old.contract).manifest == calibrated.manifest


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
