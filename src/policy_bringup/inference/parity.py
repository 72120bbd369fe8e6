"""Does the graph still say here what the network said where it was trained?

A bundle may hold `parity.npz`: N real observations and the network's answers to them. They are run once more whenever
the bundle is loaded, in the very session that will drive the robot, because another onnxruntime, provider or driver may
compute something else without a word. A bundle without that file (one that was not exported from a network) is not
checked.

The error is the largest difference, in the column's own unit (m, rad, N); for a column whose numbers go beyond 1, as a
share of the largest.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import ContractError
from policy_bringup.core.tensor_names import ACTION_OUTPUT, UNCERTAINTY_OUTPUT, image_input
from policy_bringup.core.types import UNCERTAINTY_COLUMN, Contract, Pixels
from policy_bringup.inference.graph import Tensors, spec_of
from policy_bringup.inference.manifest import PARITY_LIMIT
from policy_bringup.inference.signature import TensorSpec, expected_inputs, expected_outputs

PARITY_FILE = "parity.npz"
SLACK = 10.0
"""How many times the error measured at export is allowed: other processors round in another order."""
_INPUT, _OUTPUT = "input.", "output."


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """N observations and the network's answers: arrays by tensor name, as the graph has them, N in place of the 1."""

    inputs: Tensors
    outputs: Tensors

    @property
    def count(self) -> int:
        """N."""
        return len(self.outputs[ACTION_OUTPUT])

    def pictures(self, camera: str) -> Pixels:
        """The newest picture of each observation, uint8 `(N, height, width, 3)`."""
        newest: Pixels = self.inputs[image_input(camera)][:, -1]
        return newest


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest: of which output and column, and how large."""

    output: str
    column: str
    error: float


def save_samples(samples: Samples) -> bytes:
    """The content of a parity.npz."""
    stream = io.BytesIO()
    named = {
        **{_INPUT + name: array for name, array in samples.inputs.items()},
        **{_OUTPUT + name: array for name, array in samples.outputs.items()},
    }
    np.savez_compressed(stream, **named)  # type: ignore[arg-type]  # a name may not be allow_pickle: it has a dot
    return stream.getvalue()


def load_samples(content: bytes, contract: Contract, where: str) -> Samples:
    """Reads a parity.npz; `where` is the file that errors name. Raises ContractError for a damaged or foreign one."""
    try:
        # A pickle inside is refused, unopened.
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # the readers of zip and npy raise whatever the damage looks like
        raise ContractError(f"{where}: is damaged ({' '.join(str(error).split())})") from error
    return make_samples(arrays, contract, where)


def make_samples(arrays: Tensors, contract: Contract, where: str) -> Samples:
    """Samples from arrays named `input.<tensor>` and `output.<tensor>`, checked against the contract.

    Raises ContractError, naming `where`, for a name, type, shape or number that does not fit.
    """
    inputs, outputs = expected_inputs(contract), expected_outputs(contract)
    expected = {**{_INPUT + k: v for k, v in inputs.items()}, **{_OUTPUT + k: v for k, v in outputs.items()}}
    if arrays.keys() != expected.keys():
        raise ContractError(f"{where}: holds {', '.join(sorted(arrays))}; it must hold {', '.join(sorted(expected))}")
    count = max(1, *(len(array) if array.ndim else 0 for array in arrays.values()))
    for name, spec in expected.items():
        wanted = TensorSpec(spec.dtype, (count, *spec.shape[1:]))
        if spec_of(arrays[name]) != wanted:
            raise ContractError(f"{where}: '{name}' is {spec_of(arrays[name])}; it must be {wanted}")
        if not np.isfinite(arrays[name]).all():
            raise ContractError(f"{where}: '{name}' has a number that is not finite")
    return Samples({name: arrays[_INPUT + name] for name in inputs}, {name: arrays[_OUTPUT + name] for name in outputs})


def largest_difference(
    run: Callable[[Tensors], Mapping[str, npt.NDArray[Any]]], samples: Samples, contract: Contract
) -> Difference:
    """Runs every sample through `run` and compares. An answer that is not finite has an infinite error."""
    rows = [run({name: array[i : i + 1] for name, array in samples.inputs.items()}) for i in range(samples.count)]
    columns = {ACTION_OUTPUT: contract.action.names, UNCERTAINTY_OUTPUT: (UNCERTAINTY_COLUMN,)}
    found = []
    for output, names in columns.items():
        said = samples.outputs[output].reshape(-1, len(names)).astype(np.float64)
        says = np.concatenate([row[output] for row in rows]).reshape(-1, len(names)).astype(np.float64)
        errors = np.abs(says - said).max(axis=0) / np.maximum(1.0, np.abs(said).max(axis=0))
        errors = np.where(np.isfinite(errors), errors, np.inf)
        found += [Difference(output, name, float(error)) for name, error in zip(names, errors, strict=True)]
    return max(found, key=lambda difference: difference.error)


def tolerance(measured_at_export: float, limit: float) -> float:
    """The error that is allowed where the bundle runs: never more than the `limit` under which it was exported."""
    return min(limit, max(PARITY_LIMIT, SLACK * measured_at_export))


def check_difference(difference: Difference, allowed: float, where: str) -> None:
    """Refuses a difference above `allowed`; `where`: what the sentence starts with. Raises ContractError."""
    if not difference.error <= allowed:
        raise ContractError(
            f"{where}, the graph's output '{difference.output}' is off by {difference.error:.3g} in column "
            f"'{difference.column}' from what the trained network said; allowed is {allowed:.3g}"
        )
