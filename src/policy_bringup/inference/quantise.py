"""A policy's graph with smaller numbers in its network: 16-bit floats for a GPU, 8-bit integers for a processor.

Only what lies between the first and the last layer with weights is changed. Before it the state is standardised, and
behind it the action is brought back to metres and radians: in 16 bits, half a metre is known to half a millimetre.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import ContractError
from policy_bringup.inference.graph import Tensors

WEIGHTED = ("Conv", "Gemm")
"""Operations with weights, which make the network. The others compute with constants."""


def to_fp16(model: bytes) -> bytes:
    """The same graph with its network in 16-bit floats; its inputs and outputs keep their types.

    Half the size, and on a GPU about twice as fast; a processor only calculates longer. Raises ContractError if `model`
    is no ONNX graph or has no network, or a package is missing.
    """
    with _explained():
        import onnx

        whole = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        _halve(whole.graph, _network(whole.graph))
        onnx.checker.check_model(whole)
    content: bytes = whole.SerializeToString(deterministic=True)
    return content


def to_int8(model: bytes, calibration: Sequence[Tensors]) -> bytes:
    """The same graph with the convolutions and fully connected layers of its network in 8-bit integers (QDQ).

    calibration: real observations, some hundred of all phases of the task: their largest and smallest numbers between
    the layers become the integers' range. The last layer of each member stays as it is, since its steps would be steps
    of the action. Raises ContractError for no calibration, for one that does not fit the graph, if `model` is no ONNX
    graph or has no network, or a package is missing.
    """
    if not calibration:
        raise ContractError("quantise: needs at least one observation to calibrate with")
    with _explained(), tempfile.TemporaryDirectory() as folder:
        import onnx
        from onnxruntime import quantization

        source, prepared, result = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "result"))
        graph = onnx.load_from_string(model).graph
        source.write_bytes(model)
        quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True, skip_optimization=True)
        quantization.quantize_static(
            prepared,
            result,
            _Calibration(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            nodes_to_quantize=_inner(graph, _network(graph)),
            per_channel=True,
            reduce_range=True,  # 7 bits: without VNNI a processor adds up pairs of products in 16 bits, which overflow
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return result.read_bytes()


class _Calibration:
    """What onnxruntime asks for observations, one by one; None at the end."""

    def __init__(self, feeds: Sequence[Tensors]) -> None:
        self._rest = iter(feeds)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next observation."""
        feeds = next(self._rest, None)
        return None if feeds is None else dict(feeds)


def _network(graph: Any) -> set[str]:
    """Names of the nodes with weights, and of all that lies between two of them."""
    behind = _reached(graph.node, lambda node: node.input, lambda node: node.output)
    before = _reached(reversed(graph.node), lambda node: node.output, lambda node: node.input)
    if not behind:
        raise ContractError(f"quantise: the graph has no {' or '.join(WEIGHTED)} that could be changed")
    return behind & before


def _reached(nodes: Iterable[Any], enters: Callable[[Any], Any], leaves: Callable[[Any], Any]) -> set[str]:
    """Names of the nodes with weights, and of all that the tensors which leave them come to; `nodes` in that order."""
    names: set[str] = set()
    tensors: set[str] = set()
    for node in nodes:
        if node.op_type in WEIGHTED or not tensors.isdisjoint(enters(node)):
            names.add(node.name)
            tensors.update(leaves(node))
    return names


def _inner(graph: Any, network: set[str]) -> list[str]:
    """Names of the nodes with weights that others follow."""
    used = {tensor for node in graph.node if node.name in network for tensor in node.input}
    return [n.name for n in graph.node if n.op_type in WEIGHTED and not used.isdisjoint(n.output)]


def _halve(graph: Any, network: set[str]) -> None:
    """Changes the nodes in `network`, and the weights they read, to 16-bit floats, with casts on the way in and out."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {weight.name: weight for weight in graph.initializer}
    floats = _floats(graph)
    ready = {tensor for node in graph.node if node.name in network for tensor in node.output}
    asked = {tensor for node in graph.node if node.name not in network for tensor in node.input}
    asked |= {value.name for value in graph.output}
    nodes: list[Any] = []
    for node in graph.node:
        if node.name not in network:
            nodes.append(node)
            continue
        for tensor in dict.fromkeys(t for t in node.input if t in floats and t not in ready):
            if tensor in weights:
                half = numpy_helper.to_array(weights[tensor]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(half, _half(tensor)))
            else:
                nodes.append(helper.make_node("Cast", [tensor], [_half(tensor)], _half(tensor), to=TensorProto.FLOAT16))
            ready.add(tensor)
        node.input[:] = [_half(tensor) if tensor in floats else tensor for tensor in node.input]
        made, node.output[:] = list(node.output), [_half(tensor) for tensor in node.output]
        backs = [helper.make_node("Cast", [_half(t)], [t], t, to=TensorProto.FLOAT) for t in made if t in asked]
        nodes += [node, *backs]
    _replace(graph, nodes)


def _floats(graph: Any) -> set[str]:
    """Names of all 32-bit float tensors of a graph whose types are inferred."""
    from onnx import TensorProto

    values = [*graph.value_info, *graph.input, *graph.output]
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {weight.name for weight in graph.initializer if weight.data_type == TensorProto.FLOAT}


def _replace(graph: Any, nodes: list[Any]) -> None:
    """Gives the graph other nodes, and takes out weights that none of them reads and what was known of its tensors."""
    used = {tensor for node in nodes for tensor in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    for field, content in (("node", nodes), ("initializer", kept), ("value_info", [])):
        graph.ClearField(field)
        getattr(graph, field).extend(content)


def _half(tensor: str) -> str:
    return f"{tensor}.fp16"


@contextmanager
def _explained() -> Iterator[None]:
    """onnxruntime's tools log, and raise, in words of their own."""
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except ContractError:
        raise
    except ImportError as error:
        raise ContractError(f"quantise: a package is missing ({error}); pip install onnx") from error
    except Exception as error:  # there is no common class
        raise ContractError(f"quantise: the graph cannot be changed ({' '.join(str(error).split())})") from error
    finally:
        logger.setLevel(level)
