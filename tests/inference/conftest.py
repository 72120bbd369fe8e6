"""A contract, small real ONNX graphs that keep it, and a bundle made of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from policy_bringup.core.types import (
    ActionSpec,
    Column,
    Contract,
    ImageSpec,
    Observation,
    ObservationSpec,
    Space,
)
from policy_bringup.inference.bundle import Bundle, write_bundle
from policy_bringup.inference.manifest import MANIFEST_FILE, Fingerprint, Provenance, Uncertainty

OPSET = 17
_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}

Shapes = Mapping[str, tuple[str, tuple[Any, ...]]]


def serialise(nodes: list[Any], constants: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> bytes:
    """An ONNX file from nodes; `inputs` and `outputs` are name -> (type, shape)."""
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(name, _TYPES[dtype], shape) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, _TYPES[dtype], shape) for name, (dtype, shape) in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@dataclass(frozen=True)
class Reference:
    """A linear policy, as a graph and in numpy: action = W (state - mean) / scale + brightness, doubt = |its mean|."""

    contract: Contract
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray

    @classmethod
    def make(cls, contract: Contract) -> "Reference":
        random = np.random.default_rng(7)
        width = len(contract.observation.state)
        outputs = contract.action.steps * len(contract.action.columns)
        return cls(
            contract,
            random.normal(size=width).astype(np.float32),
            random.uniform(0.5, 2.0, size=width).astype(np.float32),
            random.normal(size=(contract.observation.history * width, outputs)).astype(np.float32),
        )

    def model(self) -> bytes:
        spec, action = self.contract.observation, self.contract.action
        columns = len(action.columns)
        images = {f"image.{i.camera}": ("uint8", (1, spec.history, i.height, i.width, 3)) for i in spec.images}
        nodes = [
            helper.make_node("Sub", ["state", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["normal"]),
            helper.make_node("Reshape", ["normal", "flat_shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["sum0"]),
        ]
        for index, name in enumerate(images):
            nodes += [
                helper.make_node("Cast", [name], [f"pixels{index}"], to=TensorProto.FLOAT),
                helper.make_node("ReduceMean", [f"pixels{index}"], [f"grey{index}"], keepdims=0),
                helper.make_node("Div", [f"grey{index}", "white"], [f"bright{index}"]),
                helper.make_node("Add", [f"sum{index}", f"bright{index}"], [f"sum{index + 1}"]),
            ]
        nodes += [
            helper.make_node("Reshape", [f"sum{len(images)}", "action_shape"], ["action"]),
            helper.make_node("ReduceMean", ["action"], ["average"], axes=[2], keepdims=0),
            helper.make_node("Abs", ["average"], ["uncertainty"]),
        ]
        constants = {
            "mean": self.mean,
            "scale": self.scale,
            "weights": self.weights,
            "white": np.float32(255.0),
            "flat_shape": np.array([1, -1], np.int64),
            "action_shape": np.array([1, action.steps, columns], np.int64),
        }
        return serialise(
            nodes,
            constants,
            {**images, "state": ("float32", (1, spec.history, len(spec.state)))},
            {"action": ("float32", (1, action.steps, columns)), "uncertainty": ("float32", (1, action.steps))},
        )

    def predict(self, observation: Observation) -> tuple[np.ndarray, np.ndarray]:
        normal = (observation.state - self.mean) / self.scale
        action = normal.reshape(-1) @ self.weights.astype(np.float64)
        action = action + sum(pixels.mean() / 255.0 for pixels in observation.images.values())
        values = action.reshape(self.contract.action.steps, -1)
        return values, np.abs(values.mean(axis=1))


@pytest.fixture
def contract() -> Contract:
    """Two cameras, history 2, three columns in and out, four steps."""
    columns = (Column("tool.x", "m"), Column("tool.y", "m"), Column("gripper.width", "m"))
    return Contract(
        "panda",
        ObservationSpec((ImageSpec("wrist", 6, 8), ImageSpec("front", 4, 5)), columns, history=2, spacing_s=0.05),
        ActionSpec(Space.TASK, columns, steps=4, dt_s=0.05, execute=2),
    )


@pytest.fixture
def state_contract(contract: Contract) -> Contract:
    """The same without pictures."""
    return replace(contract, observation=replace(contract.observation, images=()))


@pytest.fixture
def make_reference() -> Callable[[Contract], Reference]:
    return Reference.make


@pytest.fixture
def serialise_graph() -> Callable[..., bytes]:
    return serialise


@pytest.fixture
def observation(contract: Contract) -> Observation:
    random = np.random.default_rng(3)
    spec = contract.observation
    images = {
        i.camera: random.integers(0, 256, (spec.history, i.height, i.width, 3)).astype(np.uint8) for i in spec.images
    }
    return Observation(1_700_000_000_123_456_789, images, random.normal(size=(spec.history, len(spec.state))))


@pytest.fixture
def answers(make_reference) -> Callable[..., dict[str, np.ndarray]]:
    """Observations drawn at random, and what the reference says to them: the arrays of a parity.npz."""

    def draw(contract: Contract, count: int = 3) -> dict[str, np.ndarray]:
        random, spec, reference = np.random.default_rng(11), contract.observation, make_reference(contract)
        arrays = {
            f"input.image.{i.camera}": random.integers(0, 256, (count, spec.history, i.height, i.width, 3), np.uint8)
            for i in spec.images
        }
        arrays["input.state"] = random.normal(size=(count, spec.history, len(spec.state))).astype(np.float32)
        said = [
            reference.predict(
                Observation(1, {i.camera: arrays[f"input.image.{i.camera}"][n] for i in spec.images}, state)
            )
            for n, state in enumerate(arrays["input.state"])
        ]
        for index, name in enumerate(("action", "uncertainty")):
            arrays[f"output.{name}"] = np.stack([pair[index] for pair in said]).astype(np.float32)
        return arrays

    return draw


Write = Callable[..., Bundle]


@pytest.fixture
def write() -> Write:
    """Writes a complete bundle for a contract; keywords replace what goes into it."""

    def write_for(folder: Path, contract: Contract, **changes: Any) -> Bundle:
        spec = contract.observation
        fields: dict[str, Any] = {
            "uncertainty": Uncertainty("ensemble", 0.25, 0.05, 40),
            "fingerprint": Fingerprint(
                {image.camera: tuple(float(n) for n in range(64)) for image in spec.images},
                tuple(0.1 * n for n in range(len(spec.state))),
            ),
            "provenance": Provenance("d" * 64, "c" * 64, "a" * 40),
            "opset": OPSET,
            "parity_max_abs_error": 3e-7,
        }
        fields.update(changes)
        if "model" not in fields:
            fields["model"] = Reference.make(contract).model()
        return write_bundle(folder, contract=contract, **fields)

    return write_for


@pytest.fixture
def folder(tmp_path: Path, contract: Contract, write: Write) -> Path:
    """A complete bundle."""
    return write(tmp_path / "grasp", contract).folder


@pytest.fixture
def edit() -> Callable[[Path, Callable[[dict[str, Any]], Any]], None]:
    """Changes policy.yaml in place, as somebody with an editor would."""

    def change(folder: Path, edit_keys: Callable[[dict[str, Any]], Any]) -> None:
        path = folder / MANIFEST_FILE
        data = yaml.safe_load(path.read_text())
        edit_keys(data)
        path.write_text(yaml.safe_dump(data))

    return change
