import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ContractError, LearningError
from policy_bringup.core.types import Space
from policy_bringup.inference.bundle import load_bundle, write_bundle
from policy_bringup.inference.graph import Graph
from policy_bringup.inference.manifest import Fingerprint, Provenance, Uncertainty
from policy_bringup.inference.parity import PARITY_FILE, largest_difference, make_samples, save_samples
from policy_bringup.inference.providers import CPU_PROVIDER
from policy_bringup.learning.batch import Batch
from policy_bringup.learning.bc_cnn import BcCnnConfig
from policy_bringup.learning.bc_resnet import BcResnetConfig
from policy_bringup.learning.bc_spatial import BcSpatialConfig
from policy_bringup.learning.export import OPSET, export_onnx, parity_samples
from policy_bringup.learning.families import make_policy
from policy_bringup.learning.normalise import Normaliser

SMALL = {
    "bc_cnn": BcCnnConfig(channels=(8, 8, 8, 8), hidden=16, members=2),
    "bc_spatial": BcSpatialConfig(channels=(8, 8), hidden=16, members=2, pose_weight=1.0),
    "bc_resnet": BcResnetConfig(width=0.125, hidden=16, members=2),
}
PARITY = 1e-4


def in_joint_space(contract):
    columns = contract.observation.state[:8]
    return replace(contract, action=replace(contract.action, space=Space.JOINT, columns=columns))


def with_history(contract):
    return replace(contract, observation=replace(contract.observation, history=2))


def without_state(contract):
    return replace(contract, observation=replace(contract.observation, state=()))


VARIANTS = {
    "joint space, history": lambda contract: with_history(in_joint_space(contract)),
    "task space, no state": without_state,
}


def fresh(family, contract, **changes):
    """A small policy whose normalisation is not the identity."""
    torch.manual_seed(2)
    normaliser = Normaliser(contract)
    normaliser.relative.copy_(torch.tensor([c.name in contract.observation.names for c in contract.action.columns]))
    for figures in (normaliser.state_mean, normaliser.state_std, normaliser.action_mean, normaliser.action_std):
        figures.uniform_(0.1, 0.5)
    return make_policy(family, contract, replace(SMALL[family], **changes), normaliser)


def draw(contract, count=3):
    rng = np.random.default_rng(5)
    observation, action = contract.observation, contract.action
    images = {
        i.camera: torch.from_numpy(rng.integers(0, 256, (count, observation.history, i.height, i.width, 3), np.uint8))
        for i in observation.images
    }
    state = torch.from_numpy(rng.normal(size=(count, observation.history, len(observation.state))).astype(np.float32))
    shape = (count, action.steps, len(action.columns))
    return Batch(images, state, torch.zeros(shape), torch.ones(shape[:2], dtype=torch.bool))


def run(model, contract):
    return Graph(model, contract, (CPU_PROVIDER,), 1, "policy.onnx").run


@pytest.fixture(scope="module")
def exported(contract):
    """A small policy, its graph and samples."""
    policy = fresh("bc_spatial", contract)
    return policy, export_onnx(policy), parity_samples(policy, draw(contract))


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("family", list(SMALL))
def test_onnxruntime_says_what_torch_says(contract, family, variant):
    made_for = VARIANTS[variant](contract)
    policy = fresh(family, made_for)
    samples = make_samples(parity_samples(policy, draw(made_for)), made_for, "here")
    assert largest_difference(run(export_onnx(policy), made_for), samples, made_for).error < PARITY
    assert np.ptp(samples.outputs["action"], axis=0).max() > 2 * PARITY  # another picture is another action


def test_onnxruntime_says_what_torch_says_in_task_space_with_a_state(contract, exported):
    _, model, arrays = exported
    assert largest_difference(run(model, contract), make_samples(arrays, contract, "here"), contract).error < PARITY


def test_a_bundle_is_made_of_it_and_loads(tmp_path, contract, exported):
    _, model, arrays = exported
    cameras = {image.camera: (0.0,) * 64 for image in contract.observation.images}
    write_bundle(
        tmp_path / "grasp",
        contract=contract,
        uncertainty=Uncertainty("ensemble", 0.5, 0.01, 50),
        fingerprint=Fingerprint(cameras, (0.0,) * len(contract.observation.state)),
        provenance=Provenance("a", "b", "c"),
        opset=OPSET,
        parity_max_abs_error=1e-6,
        model=model,
        files={PARITY_FILE: save_samples(make_samples(arrays, contract, "here"))},
    )
    assert load_bundle(tmp_path / "grasp", contract).model == model


def test_the_graph_is_refused_for_another_contract(contract, exported):
    _, model, _ = exported
    other = replace(contract, action=replace(contract.action, steps=contract.action.steps + 1))
    with pytest.raises(ContractError, match="action"):
        run(model, other)


def test_everything_is_inside_one_file_which_says_nothing_of_this_machine(exported):
    _, content, _ = exported
    model = onnx.load_from_string(content)
    assert [entry.version for entry in model.opset_import] == [OPSET]
    assert all(weight.data_location == onnx.TensorProto.DEFAULT for weight in model.graph.initializer)
    assert str(onnx.__path__[0]).encode() not in content
    assert b"learning/ensemble.py" not in content


def test_the_same_policy_gives_the_same_bytes(exported):
    policy, content, _ = exported
    assert export_onnx(policy) == content


def test_a_policy_may_be_exported_in_the_middle_of_its_training(contract):
    policy = fresh("bc_cnn", contract, dropout=0.5).train()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    content, arrays = export_onnx(policy), parity_samples(policy, draw(contract))
    assert policy.training
    assert all(parameter.requires_grad for parameter in policy.parameters())
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    samples = make_samples(arrays, contract, "here")
    assert largest_difference(run(content, contract), samples, contract).error < PARITY


def test_the_default_policy_is_small(config_folder):
    contract = load_deployment(config_folder / "grasp.yaml")[0].contract
    content = export_onnx(make_policy("bc_spatial", contract, BcSpatialConfig(), Normaliser(contract)))
    assert len(content) < 4_000_000


def test_the_samples_do_not_depend_on_each_other(contract, exported):
    policy, _, arrays = exported
    batch = draw(contract)
    images = {camera: pixels[1:2] for camera, pixels in batch.images.items()}
    alone = parity_samples(policy, Batch(images, batch.state[1:2], batch.action[1:2], batch.valid[1:2]))
    assert alone.keys() == arrays.keys()
    for name, array in alone.items():
        assert np.allclose(array, arrays[name][1:2], atol=1e-5)


def test_what_torch_cannot_write_is_one_sentence(contract):
    policy = fresh("bc_cnn", contract)
    policy.heads[0] = Unwritable()
    with pytest.raises(LearningError, match="cannot write this policy as ONNX") as caught:
        export_onnx(policy)
    assert "\n" not in str(caught.value)


class Unwritable(torch.nn.Module):
    """Looks at a number, which no graph can."""

    def forward(self, x):
        return x * x.max().item() if x.max().item() > 0.0 else x.new_zeros(1, 128)


ALONE = """
import torch
from dataclasses import replace
from policy_bringup.core.deployment import load_deployment
from policy_bringup.learning.bc_cnn import BcCnnConfig
from policy_bringup.learning.export import export_onnx
from policy_bringup.learning.families import make_policy
from policy_bringup.learning.normalise import Normaliser
contract = load_deployment("{path}")[0].contract
config = BcCnnConfig(channels=(8, 8, 8, 8), hidden=8, members=1)
export_onnx(make_policy("bc_cnn", contract, config, Normaliser(contract)))
"""


def test_exporting_says_nothing(config_folder):
    script = ALONE.format(path=config_folder / "grasp.yaml")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
