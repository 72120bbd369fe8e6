"""A policy's ONNX graph, ready to run: named arrays in, named arrays out, both exactly as the contract says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import ContractError
from policy_bringup.core.types import Contract
from policy_bringup.inference.providers import choose_providers, open_session, passed_over, provider_in_use
from policy_bringup.inference.signature import TensorSpec, check_graph, expected_inputs, expected_outputs

Tensors = Mapping[str, npt.NDArray[Any]]


class Graph:
    """The serialised graph `model` on the first of `providers` that is here; threads: for one operator.

    where: the file that errors name. `provider` is the one in use; `passed_over` names those before it, and why. The
    first run, which is slow, is done here. Raises ConfigError, ContractError, DeviceError.
    """

    def __init__(self, model: bytes, contract: Contract, providers: Sequence[str], threads: int, where: str) -> None:
        self.where = where
        self.inputs, self._outputs = expected_inputs(contract), expected_outputs(contract)
        self._session = open_session(model, choose_providers(providers), threads, where)
        check_graph(self._session, contract, where)
        self.provider = provider_in_use(self._session.get_providers(), providers)
        self.passed_over = passed_over(providers, self.provider)
        self.run({name: np.zeros(spec.shape, spec.dtype) for name, spec in self.inputs.items()})

    def run(self, feeds: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Every output for the arrays `feeds`, which must be as `inputs` says.

        Raises ContractError if the graph fails or puts out another shape than it declared.
        """
        names = list(self._outputs)
        try:
            outputs = dict(zip(names, self._session.run(names, feeds), strict=True))
        except Exception as error:  # onnxruntime's errors have no base class but Exception
            raise ContractError(f"{self.where}: the graph failed ({' '.join(str(error).split())})") from error
        for name, spec in self._outputs.items():
            found = spec_of(outputs[name])
            if found != spec:
                raise ContractError(f"{self.where}: the graph put out '{name}' as {found}; it declared {spec}")
        return outputs


def spec_of(array: npt.NDArray[Any]) -> TensorSpec:
    """Element type and shape of an array."""
    return TensorSpec(str(array.dtype), array.shape)
