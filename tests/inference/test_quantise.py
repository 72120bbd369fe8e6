import builtins
import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from policy_bringup.core.errors import ContractError
from policy_bringup.inference.graph import Graph
from policy_bringup.inference.providers import CPU_PROVIDER
from policy_bringup.inference.quantise import to_fp16, to_int8

HIDDEN = 24
FINE = 1e-6
STEP = 0.05
"""Metres of one normalised unit of the action."""


def network(contract, serialise):
    """A small network as the exporter writes them: standardise, convolve, points by softmax, two layers, to metres."""
    rng = np.random.default_rng(3)

    def weights(*shape):
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    spec, action = contract.observation, contract.action
    camera = spec.images[0]
    cells, width = camera.height * camera.width, len(action.columns)
    numbers = spec.history * len(spec.state)
    constants = {
        "scale": np.float32(1 / 255),
        "convolution": weights(8, 3, 3, 3),
        "flat": np.array([spec.history, 8, cells]),
        "grid": weights(cells, 2),
        "row": np.array([1, spec.history * 16]),
        "origin": np.float32(0.5),
        "state_row": np.array([1, numbers]),
        "first": weights(HIDDEN, spec.history * 16 + numbers),
        "second": weights(action.steps * width, HIDDEN),
        "chunk": np.array([1, action.steps, width]),
        "step": np.float32(STEP),
    }
    nodes = [
        ("Cast", ["image.wrist"], "pixels", {"to": TensorProto.FLOAT}),
        ("Mul", ["pixels", "scale"], "bright", {}),
        ("Squeeze", ["bright"], "pictures", {}),
        ("Transpose", ["pictures"], "planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["planes", "convolution"], "maps", {"pads": [1, 1, 1, 1]}),
        ("Reshape", ["maps", "flat"], "flat_maps", {}),
        ("Softmax", ["flat_maps"], "attention", {"axis": 2}),
        ("MatMul", ["attention", "grid"], "places", {}),
        ("Reshape", ["places", "row"], "points", {}),
        ("Sub", ["state", "origin"], "centred", {}),
        ("Reshape", ["centred", "state_row"], "known", {}),
        ("Concat", ["points", "known"], "all", {"axis": 1}),
        ("Gemm", ["all", "first"], "hidden_sum", {"transB": 1}),
        ("Relu", ["hidden_sum"], "hidden", {}),
        ("Gemm", ["hidden", "second"], "normal", {"transB": 1}),
        ("Reshape", ["normal", "chunk"], "table", {}),
        ("Mul", ["table", "step"], "moved", {}),
        ("Add", ["moved", "origin"], "action", {}),
        ("ReduceMean", ["normal"], "doubt", {"keepdims": 0}),
        ("Expand", ["doubt", "doubt_shape"], "signed", {}),
        ("Abs", ["signed"], "uncertainty", {}),
    ]
    constants["doubt_shape"] = np.array([1, action.steps])
    made = [helper.make_node(op, inputs, [output], name=f"node_{output}", **more) for op, inputs, output, more in nodes]
    images = {f"image.{i.camera}": ("uint8", (1, spec.history, i.height, i.width, 3)) for i in spec.images}
    inputs = {**images, "state": ("float32", (1, spec.history, len(spec.state)))}
    outputs = {"action": ("float32", (1, action.steps, width)), "uncertainty": ("float32", (1, action.steps))}
    return serialise(made, constants, inputs, outputs)


@pytest.fixture
def model(contract, serialise_graph):
    return network(contract, serialise_graph)


@pytest.fixture
def observations(contract):
    """Twenty, as the graph takes them."""
    rng, spec = np.random.default_rng(4), contract.observation

    def draw():
        images = {
            f"image.{i.camera}": rng.integers(0, 256, (1, spec.history, i.height, i.width, 3), np.uint8)
            for i in spec.images
        }
        state = rng.normal(0.5, 1.0, (1, spec.history, len(spec.state))).astype(np.float32)
        return {**images, "state": state}

    return [draw() for _ in range(20)]


@pytest.fixture
def answer(contract, observations):
    """What a graph puts out for all observations; it must keep the contract."""

    def run(model):
        graph = Graph(model, contract, (CPU_PROVIDER,), 1, "policy.onnx")
        outputs = [graph.run(observation) for observation in observations]
        return np.concatenate([o["action"] for o in outputs]), np.concatenate([o["uncertainty"] for o in outputs])

    return run


def types(model):
    """Element types of the weights of each kind of operation."""
    graph = onnx.load_from_string(model).graph
    weights = {weight.name: weight.data_type for weight in graph.initializer}
    return {node.op_type: {weights[name] for name in node.input if name in weights} for node in graph.node}


def test_sixteen_bits_say_nearly_the_same(model, answer):
    half = to_fp16(model)
    for exact, found in zip(answer(model), answer(half), strict=True):
        assert FINE < np.abs(exact - found).max() < 2e-3
    assert types(half)["Conv"] == types(half)["Gemm"] == {TensorProto.FLOAT16}


def test_the_way_to_and_from_the_contracts_units_keeps_32_bits(model):
    half = types(to_fp16(model))
    assert half["Sub"] == half["Add"] == {TensorProto.FLOAT}
    assert half["Mul"] == {TensorProto.FLOAT}


def test_no_weight_is_kept_twice(model):
    half = onnx.load_from_string(to_fp16(model))
    used = {name for node in half.graph.node for name in node.input}
    assert {weight.name for weight in half.graph.initializer} <= used
    sizes = [sum(len(w.raw_data) for w in onnx.load_from_string(m).graph.initializer) for m in (model, to_fp16(model))]
    assert sizes[1] < 0.6 * sizes[0]


def test_eight_bits_say_about_the_same(model, answer, observations):
    small = to_int8(model, observations)
    (action, doubt), (about, doubt_about) = answer(model), answer(small)
    assert FINE < np.abs(action - about).max() < 0.05 * np.ptp(action)
    assert np.abs(doubt - doubt_about).max() < 0.05 * np.ptp(action) / STEP
    assert "QuantizeLinear" in types(small)


def test_the_last_layer_keeps_its_weights(model, observations):
    graph = onnx.load_from_string(to_int8(model, observations)).graph
    weights = {w.name: w for w in graph.initializer}
    before = {w.name: w for w in onnx.load_from_string(model).graph.initializer}
    assert np.array_equal(numpy_helper.to_array(weights["second"]), numpy_helper.to_array(before["second"]))
    assert "first" not in weights
    assert any(w.data_type == TensorProto.INT8 for w in weights.values())


def test_calibration_sets_the_range(model, answer, observations):
    dark = [{name: np.zeros_like(array) for name, array in feeds.items()} for feeds in observations]
    exact, _ = answer(model)
    fits, does_not = (np.abs(answer(to_int8(model, seen))[0] - exact).max() for seen in (observations, dark))
    assert does_not > 3.0 * fits


def test_eight_bits_without_calibration_are_refused(model):
    with pytest.raises(ContractError, match="at least one observation"):
        to_int8(model, [])


def test_calibration_of_another_contract_is_refused_in_one_sentence(model):
    with pytest.raises(ContractError, match="cannot be changed") as caught:
        to_int8(model, [{"state": np.zeros((1, 1), np.float32)}])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [to_fp16, lambda model: to_int8(model, [{}])])
def test_what_is_no_graph_is_refused(change):
    with pytest.raises(ContractError, match="cannot be changed"):
        change(b"no graph")


@pytest.mark.parametrize("change", [to_fp16, lambda model: to_int8(model, [{}])])
def test_a_graph_without_layers_is_refused(contract, make_reference, change):
    with pytest.raises(ContractError, match="no Conv or Gemm"):
        change(make_reference(contract).model())


@pytest.mark.parametrize("change", [to_fp16, lambda model: to_int8(model, [{}])])
def test_a_missing_package_is_named(model, monkeypatch, change):
    find = builtins.__import__

    def without_onnx(name, *arguments, **more):
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return find(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(ContractError, match="pip install onnx"):
        change(model)


def test_quantising_says_nothing_and_leaves_logging_alone(model, observations, capfd, caplog):
    level = logging.getLogger().level
    to_fp16(model)
    to_int8(model, observations)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger().level == level
