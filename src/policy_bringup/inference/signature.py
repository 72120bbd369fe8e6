"""What a policy's ONNX graph must look like to keep a contract: names, types and shapes of its tensors.

The batch is always 1 and every size is written into the graph: a size left open would be found wrong only in motion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_bringup.core.errors import ContractError
from policy_bringup.core.tensor_names import ACTION_OUTPUT, STATE_INPUT, UNCERTAINTY_OUTPUT, image_input
from policy_bringup.core.types import Contract

_TYPE_NAMES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Element type and shape; a size is a number, or (a name or None) left open by the graph."""

    dtype: str
    shape: tuple[Any, ...]

    def __str__(self) -> str:
        """E.g. `float32 (1, 2, 8)`."""
        return f"{self.dtype} ({', '.join(str(size) for size in self.shape)})"


def expected_inputs(contract: Contract) -> dict[str, TensorSpec]:
    """Input name -> tensor: `image.<camera>` uint8 `(1, history, height, width, 3)`, `state` float32 `(1, history, n)`.

    A policy that reads no state has no `state` input.
    """
    observation = contract.observation
    tensors = {
        image_input(image.camera): TensorSpec("uint8", (1, observation.history, image.height, image.width, 3))
        for image in observation.images
    }
    if observation.state:
        tensors[STATE_INPUT] = TensorSpec("float32", (1, observation.history, len(observation.state)))
    return tensors


def expected_outputs(contract: Contract) -> dict[str, TensorSpec]:
    """Output name -> tensor: `action` float32 `(1, steps, columns)`, `uncertainty` float32 `(1, steps)`."""
    action = contract.action
    return {
        ACTION_OUTPUT: TensorSpec("float32", (1, action.steps, len(action.columns))),
        UNCERTAINTY_OUTPUT: TensorSpec("float32", (1, action.steps)),
    }


def check_graph(session: Any, contract: Contract, where: str) -> None:
    """Refuses a graph whose inputs and outputs are not exactly the contract's. Raises ContractError."""
    _check_side("input", _tensors(session.get_inputs()), expected_inputs(contract), where)
    _check_side("output", _tensors(session.get_outputs()), expected_outputs(contract), where)


def _tensors(arguments: Any) -> dict[str, TensorSpec]:
    return {a.name: TensorSpec(_TYPE_NAMES.get(a.type, a.type), tuple(a.shape)) for a in arguments}


def _check_side(side: str, found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec], where: str) -> None:
    if set(found) != set(expected):
        raise ContractError(
            f"{where}: the graph's {side}s are {', '.join(sorted(found))}; "
            f"the contract needs {', '.join(sorted(expected))}"
        )
    for name, tensor in expected.items():
        if found[name] != tensor:
            raise ContractError(f"{where}: the graph's {side} '{name}' is {found[name]}; the contract needs {tensor}")
