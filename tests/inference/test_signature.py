from dataclasses import replace

import pytest
from onnx import TensorProto, helper

from policy_bringup.core.errors import ContractError
from policy_bringup.inference.providers import CPU_PROVIDER, open_session
from policy_bringup.inference.signature import TensorSpec, check_graph, expected_inputs, expected_outputs


@pytest.fixture
def check(contract, state_contract, serialise_graph):
    """Checks a graph that only declares tensors (`state` and what is given) against the contract without pictures."""

    def check_declared(inputs=None, outputs=None, nodes=None):
        tensors = {"state": ("float32", (1, 2, 3)), **(inputs or {})}
        declared = outputs or {"action": ("float32", (1, 4, 3)), "uncertainty": ("float32", (1, 4))}
        made = nodes or [
            helper.make_node("RandomNormal", [], [name], shape=[n if isinstance(n, int) else 1 for n in shape])
            if dtype == "float32"
            else helper.make_node("RandomNormal", [], [name], shape=list(shape), dtype=TensorProto.DOUBLE)
            for name, (dtype, shape) in declared.items()
        ]
        model = serialise_graph(made, {}, tensors, declared)
        check_graph(open_session(model, (CPU_PROVIDER,), 1, "policy.onnx"), state_contract, "policy.onnx")

    return check_declared


ACTION = ("float32", (1, 4, 3))
DOUBT = ("float32", (1, 4))


def test_the_contract_names_every_tensor(contract):
    assert expected_inputs(contract) == {
        "image.wrist": TensorSpec("uint8", (1, 2, 6, 8, 3)),
        "image.front": TensorSpec("uint8", (1, 2, 4, 5, 3)),
        "state": TensorSpec("float32", (1, 2, 3)),
    }
    assert expected_outputs(contract) == {
        "action": TensorSpec("float32", (1, 4, 3)),
        "uncertainty": TensorSpec("float32", (1, 4)),
    }


def test_a_policy_that_reads_no_state_has_no_state_input(contract):
    blind = replace(contract, observation=replace(contract.observation, state=()))
    assert set(expected_inputs(blind)) == {"image.wrist", "image.front"}


def test_a_graph_that_keeps_the_contract_is_accepted(check):
    check()


def test_a_picture_that_the_contract_does_not_have_is_refused(check):
    with pytest.raises(ContractError, match=r"the graph's inputs are image.rear, state; the contract needs state$"):
        check(inputs={"image.rear": ("uint8", (1, 2, 6, 8, 3))})


def test_an_input_of_another_shape_is_refused(check):
    with pytest.raises(ContractError, match=r"input 'state' is float32 \(1, 2, 4\); the contract needs"):
        check(inputs={"state": ("float32", (1, 2, 4))})


def test_an_input_of_another_type_is_refused(check):
    with pytest.raises(ContractError, match=r"input 'state' is tensor\(double\) \(1, 2, 3\)"):
        check(inputs={"state": ("float64", (1, 2, 3))})


def test_a_size_left_open_is_refused(check):
    with pytest.raises(ContractError, match=r"input 'state' is float32 \(batch, 2, 3\)"):
        check(inputs={"state": ("float32", ("batch", 2, 3))})


def test_a_missing_uncertainty_is_refused(check):
    with pytest.raises(ContractError, match=r"outputs are action; the contract needs action, uncertainty$"):
        check(outputs={"action": ACTION})


def test_another_output_is_refused(check):
    with pytest.raises(ContractError, match="outputs are action, latent, uncertainty"):
        check(outputs={"action": ACTION, "uncertainty": DOUBT, "latent": DOUBT})


def test_one_uncertainty_for_a_whole_chunk_is_refused(check):
    with pytest.raises(ContractError, match=r"output 'uncertainty' is float32 \(1, 1\)"):
        check(outputs={"action": ACTION, "uncertainty": ("float32", (1, 1))})


def test_an_action_of_another_type_is_refused(check):
    with pytest.raises(ContractError, match=r"output 'action' is tensor\(double\)"):
        check(outputs={"action": ("float64", (1, 4, 3)), "uncertainty": DOUBT})
