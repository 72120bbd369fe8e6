import hashlib
from dataclasses import replace

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from policy_bringup.core.errors import ContractError, EpisodeError, ObservationError
from policy_bringup.core.thumbnail import coarse, thumbnail
from policy_bringup.core.types import ActionSpec, Column, Contract, ImageSpec, Observation, ObservationSpec, Space
from policy_bringup.episodes.frames import Frames
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.manifest import Uncertainty
from policy_bringup.inference.onnx_policy import load_policy
from policy_bringup.pipeline.bundling import bundle, fingerprint_of

COLUMNS = (Column("tool.x", "m"), Column("tool.y", "m"))
CONTRACT = Contract(
    "panda",
    ObservationSpec((ImageSpec("front", 64, 64), ImageSpec("wrist", 32, 64)), COLUMNS),
    ActionSpec(Space.TASK, COLUMNS, steps=3, dt_s=0.05, execute=2),
)
WEIGHTS = np.array([[0.5, 0.1, 0.2, 0.0, 0.3, 0.7], [0.2, 0.9, 0.0, 0.4, 0.6, 0.1]], np.float32)


def graph(weights=WEIGHTS) -> bytes:
    """action = state W, three steps of two columns; uncertainty = its first column's size; pictures are not used."""
    nodes = [
        helper.make_node("Reshape", ["state", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["product"]),
        helper.make_node("Reshape", ["product", "chunk"], ["action"]),
        helper.make_node("Gather", ["action", "first"], ["column"], axis=2),
        helper.make_node("Abs", ["column"], ["uncertainty"]),
    ]
    constants = {
        "weights": weights,
        "flat": np.array([1, 2], np.int64),
        "chunk": np.array([1, 3, 2], np.int64),
        "first": np.int64(0),
    }
    tensor, f = helper.make_tensor_value_info, TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "policy",
        [
            tensor("image.front", TensorProto.UINT8, (1, 1, 64, 64, 3)),
            tensor("image.wrist", TensorProto.UINT8, (1, 1, 32, 64, 3)),
            tensor("state", f, (1, 1, 2)),
        ],
        [tensor("action", f, (1, 3, 2)), tensor("uncertainty", f, (1, 3))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def pictures(seed, height, width):
    """Coarse patterns, so that their thumbnails differ."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def answers():
    """What the network, here in numpy, says to four observations."""
    random = np.random.default_rng(1)
    state = random.normal(size=(4, 1, 2)).astype(np.float32)
    action = (state.reshape(4, 2) @ WEIGHTS).reshape(4, 3, 2)
    return {
        "input.image.front": np.stack([pictures(n, 64, 64)[None] for n in range(4)]),
        "input.image.wrist": np.stack([pictures(n, 32, 64)[None] for n in range(4)]),
        "input.state": state,
        "output.action": action,
        "output.uncertainty": np.abs(action[:, :, 0]),
    }


def episode(number, history=0):
    """Ten moments: the cameras have one pattern each and the episode adds a little of its own."""
    random = np.random.default_rng(number)
    fronts = pictures(100, 64, 64) // 2 + random.integers(0, 20, (10, 64, 64, 3), np.uint8)
    wrists = pictures(200, 32, 64) // 2 + random.integers(0, 20, (10, 32, 64, 3), np.uint8)
    state, images = random.normal(size=(10, 2)), {"front": fronts, "wrist": wrists}
    if history:
        state = np.stack([np.full_like(state, np.nan)] * (history - 1) + [state], axis=1)
        images = {name: np.stack([np.zeros_like(p)] * (history - 1) + [p], axis=1) for name, p in images.items()}
    return Frames(np.arange(10), images, state, np.zeros((10, 2)), np.array(["policy"] * 10))


ALIGNED = {"sim": {}, "hardware": {"front": 0.03}}


@pytest.fixture
def fingerprint():
    return fingerprint_of([episode(n) for n in range(5)], CONTRACT, ALIGNED)


@pytest.fixture
def make(tmp_path, answers, fingerprint):
    def make_bundle(**changes):
        fields = {
            "folder": tmp_path / "grasp",
            "model": graph(),
            "answers": answers,
            "contract": CONTRACT,
            "fingerprint": fingerprint,
            "dataset_sha256": "d" * 64,
            "configuration_sha256": "c" * 64,
            "opset": 17,
            **changes,
        }
        return bundle(**fields)

    return make_bundle


def test_what_is_written_loads_and_runs(make, tmp_path):
    make(files={"report.md": b"# Report"})
    policy = load_policy(tmp_path / "grasp", CONTRACT)
    seen = {"front": pictures(100, 64, 64)[None], "wrist": pictures(200, 32, 64)[None]}
    chunk = policy.predict(Observation(1, seen, np.array([[1.0, 0.0]])))
    np.testing.assert_allclose(chunk.values.ravel(), WEIGHTS[0], atol=1e-6)
    assert (tmp_path / "grasp" / "report.md").read_bytes() == b"# Report"


def test_the_manifest_says_what_it_was_made_from_and_that_it_is_not_calibrated(make, tmp_path, fingerprint):
    make()
    manifest = load_bundle(tmp_path / "grasp", CONTRACT).manifest
    assert manifest.uncertainty == Uncertainty("ensemble", 1e9, 0.0, 0)
    assert manifest.fingerprint == fingerprint
    assert manifest.fingerprint.aligned == ALIGNED == {"sim": {}, "hardware": {"front": 0.03}}
    assert (manifest.provenance.dataset, manifest.provenance.configuration) == ("d" * 64, "c" * 64)
    assert "+" in manifest.provenance.code
    assert (manifest.onnx.opset, list(manifest.files)) == (17, ["parity.npz"])
    assert 0.0 <= manifest.onnx.parity_max_abs_error < 1e-6


def test_a_graph_that_differs_from_its_network_is_not_written(make, tmp_path):
    make()
    before = (tmp_path / "grasp" / "policy.yaml").read_bytes()
    off = WEIGHTS.copy()
    off[0, 3] += 0.01
    with pytest.raises(ContractError, match=r"onnx, the graph's output 'action' is off by 0.0\d+ in column 'tool.y'"):
        make(model=graph(off))
    assert (tmp_path / "grasp" / "policy.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["grasp"]


def test_a_less_exact_graph_needs_a_limit_of_its_own_which_then_holds_wherever_it_is_loaded(make, tmp_path):
    off = WEIGHTS.copy()
    off[0, 3] += 0.001
    with pytest.raises(ContractError, match=r"allowed is 0\.0001"):
        make(model=graph(off))
    onnx_file = make(model=graph(off), parity_limit=0.002).manifest.onnx
    assert 0.0002 < onnx_file.parity_max_abs_error < onnx_file.parity_limit == 0.002
    load_policy(tmp_path / "grasp", CONTRACT)
    off[0, 3] += 0.003
    computes_otherwise(tmp_path / "grasp", graph(off))
    with pytest.raises(ContractError, match=r"is off by 0\.00\d+ .*; allowed is 0\.002"):
        load_policy(tmp_path / "grasp", CONTRACT)


def computes_otherwise(folder, model):
    """As another processor might: the same bundle, whose graph says something else."""
    (folder / "policy.onnx").write_bytes(model)
    data = yaml.safe_load((folder / "policy.yaml").read_text())
    data["onnx"]["sha256"] = hashlib.sha256(model).hexdigest()
    (folder / "policy.yaml").write_text(yaml.safe_dump(data))


def test_answers_for_another_contract_are_refused(make, answers, tmp_path):
    del answers["input.image.wrist"]
    with pytest.raises(ContractError, match=r"parity.npz: holds .*; it must hold"):
        make()
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_is_the_mean_of_the_episodes_first_moments(fingerprint):
    first = [episode(n) for n in range(5)]
    greys = np.mean([coarse(thumbnail(frames.images["wrist"][0])) for frames in first], axis=0)
    np.testing.assert_allclose(fingerprint.cameras["wrist"], greys.ravel(), atol=0.05)
    np.testing.assert_allclose(fingerprint.start_pose, np.mean([f.state[0] for f in first], axis=0), atol=1e-6)
    off = np.abs([f.state[0] - np.mean([g.state[0] for g in first], axis=0) for f in first])
    np.testing.assert_allclose(fingerprint.start_spread, off.max(axis=0), atol=1e-5)
    assert list(fingerprint.cameras) == ["front", "wrist"]


def test_of_a_history_the_newest_counts(fingerprint):
    long = replace(CONTRACT, observation=replace(CONTRACT.observation, history=3))
    assert fingerprint_of([episode(n, history=3) for n in range(5)], long, ALIGNED) == fingerprint


def test_without_episodes_there_is_no_fingerprint():
    with pytest.raises(EpisodeError, match="no episode to take it from"):
        fingerprint_of([], CONTRACT, ALIGNED)


def test_the_loaded_policy_knows_its_cameras_apart(make, tmp_path):
    make()
    policy = load_policy(tmp_path / "grasp", CONTRACT)
    front = np.kron(pictures(200, 32, 64), np.ones((2, 1, 1), np.uint8))
    with pytest.raises(ObservationError, match="camera 'front': shows what camera 'wrist' showed in training"):
        policy.predict(Observation(1, {"front": front[None], "wrist": pictures(200, 32, 64)[None]}, np.zeros((1, 2))))
