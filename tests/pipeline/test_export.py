"""From `policy train` to a bundle that may be deployed: exported, refused or accepted by calibration."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
import yaml

from policy_bringup.bundle_cli import Calibrate, Export
from policy_bringup.cli import Command
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ContractError, EpisodeError, LearningError
from policy_bringup.core.types import Contract
from policy_bringup.episodes.frames import Frames, save_frames
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.onnx_policy import load_policy
from policy_bringup.learning.train import load_trained
from policy_bringup.learning_cli import Train
from policy_bringup.pipeline import calibrate, export
from policy_bringup.pipeline.calibrate import Scored

EPISODES = tuple(f"episode_{number:06d}" for number in range(4))
MOMENTS = 20
TINY: dict[str, Any] = {
    "family": "bc_cnn",
    "model": {"members": 2, "channels": [4, 4, 4, 4], "hidden": 16},
    "augmentation": {},
    "optimisation": {"batch_size": 16, "steps": 2, "learning_rate": 0.003, "validate_every": 1, "threads": 1},
}


def noise(contract: Contract, number: int) -> Frames:
    rng = np.random.default_rng(number)
    images = {
        image.camera: rng.integers(0, 256, (MOMENTS, image.height, image.width, 3), dtype=np.uint8)
        for image in contract.observation.images
    }
    state = rng.normal(0.0, 0.3, (MOMENTS, len(contract.observation.state)))
    action = rng.normal(0.0, 0.3, (MOMENTS, len(contract.action.columns)))
    return Frames(np.arange(MOMENTS) * 50_000_000, images, state, action, np.array(["keyboard"] * MOMENTS))


@pytest.fixture(scope="module")
def site(small_config: Path, tmp_path_factory) -> Path:
    """Configuration with pictures just large enough for a network, frames of recorded episodes, and a trained run.

    The split names one episode more, which was never converted.
    """
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(small_config, folder / "config")
    (folder / "models").symlink_to(small_config.parent / "models")
    grasp = folder / "config" / "grasp.yaml"
    grasp.write_text(grasp.read_text().replace("24", "32"))
    contract = load_deployment(grasp)[0].contract
    for number, name in enumerate(EPISODES):
        save_frames(folder / "frames" / name, noise(contract, number), contract)
    (folder / "demos").mkdir()
    parts = {"train": [*EPISODES[:3], "episode_000099"], "validation": [EPISODES[3]], "test": []}
    (folder / "demos" / "split.yaml").write_text(yaml.safe_dump(parts))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    assert Train(folder / "tiny.yaml", folder / "frames", folder / "run", folder / "demos", str(grasp))() == 0
    return folder


@pytest.fixture(scope="module")
def contract(site: Path) -> Contract:
    return load_deployment(site / "config" / "grasp.yaml")[0].contract


@pytest.fixture
def command(site: Path, out: Path) -> Export:
    """As typed: `policy export RUN --frames FRAMES --split DEMOS --out DIR`."""
    words = ["export", str(site / "run"), "--frames", str(site / "frames"), "--split", str(site / "demos")]
    words += ["--out", str(out), "--deployment", str(site / "config" / "grasp.yaml")]
    found = tyro.cli(Command, args=words)
    assert isinstance(found, Export)
    return found


def test_a_trained_policy_is_exported_and_says_there_what_it_says_here(command, contract, site, out, capsys):
    assert command() == 0
    bundle = load_bundle(out, contract)
    manifest = bundle.manifest
    assert bundle.samples is not None
    assert bundle.samples.count == export.PARITY_MOMENTS
    assert manifest.uncertainty.calibration_episodes == 0
    assert manifest.provenance.configuration == hashlib.sha256((site / "run" / "config.yaml").read_bytes()).hexdigest()
    starts = [noise(contract, number).state[0] for number in range(3)]
    np.testing.assert_allclose(manifest.fingerprint.start_pose, np.mean(starts, axis=0), atol=1e-6)
    assert manifest.fingerprint.aligned == {"unknown": {}}
    assert load_policy(out, contract).contract == contract
    words = f"policy calibrate {out} --deployment {site / 'config' / 'grasp.yaml'}"
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: calibrate it with `{words}` before it is deployed"


def test_what_was_exported_is_calibrated_by_19_successes_and_not_by_18(command, contract, site, out, monkeypatch):
    assert command() == 0
    calibrating = Calibrate(out, str(site / "config" / "grasp.yaml"), episodes=20, workers=1)
    successes = 18

    def play(setting, chosen, backends, workers, progress, ledger):
        return [Scored(seed, backends[0], n < successes, 0.01 * n) for n, seed in enumerate(chosen)]

    monkeypatch.setattr(calibrate, "score", play)
    with pytest.raises(LearningError, match=r"18 of 20 rollouts succeeded: .* needs 19 successful episodes or more"):
        calibrating()
    assert load_bundle(out, contract).manifest.uncertainty.calibration_episodes == 0
    successes = 19
    assert calibrating() == 0
    uncertainty = load_bundle(out, contract).manifest.uncertainty
    assert (uncertainty.calibration_episodes, uncertainty.threshold) == (19, 0.18)
    with pytest.raises(ContractError, match=r"holds a calibrated bundle, .*; name another folder"):
        command()
    assert load_bundle(out, contract).manifest.uncertainty == uncertainty


def test_a_graph_that_does_not_say_what_the_network_says_is_not_written(command, contract, site, out, monkeypatch):
    other = load_trained(site / "run", contract)
    for weights in other.parameters():
        weights.mul_(1.1)
    graph = export.export_onnx(other)
    monkeypatch.setattr(export, "export_onnx", lambda policy: graph)
    with pytest.raises(ContractError, match=r"policy\.onnx, the graph's output .* is off by .*; allowed is 0\.0001"):
        command()
    assert not out.exists()


def test_other_episodes_than_it_learned_from_are_refused(command, site, out, tmp_path):
    parts = {"train": list(EPISODES[:2]), "validation": [EPISODES[3]], "test": []}
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(parts))
    with pytest.raises(LearningError, match=r"its train episodes are not those that .*run learned from; name the fra"):
        replace(command, split=tmp_path)()
    assert not out.exists()


def test_where_nothing_was_trained_or_converted_it_is_one_sentence(command, site, out, tmp_path):
    with pytest.raises(LearningError, match="holds no trained policy; make one with `policy train`"):
        replace(command, run=tmp_path)()
    with pytest.raises(EpisodeError, match="no episodes to learn from"):
        replace(command, frames=tmp_path)()
    assert not out.exists()
