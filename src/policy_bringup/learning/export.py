"""From a trained policy to the ONNX graph that runs on the robot, and to samples that prove it says the same there."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from policy_bringup.core.errors import LearningError
from policy_bringup.core.tensor_names import ACTION_OUTPUT, STATE_INPUT, UNCERTAINTY_OUTPUT, image_input
from policy_bringup.core.types import Contract
from policy_bringup.learning.batch import Batch
from policy_bringup.learning.policy import LearnedPolicy

OPSET = 18
"""Version of ONNX's operators that the graph is written in: the oldest one that torch's exporter writes."""


def export_onnx(policy: LearnedPolicy) -> bytes:
    """The policy as one ONNX file: inputs `image.<camera>` uint8 `(1, history, height, width, 3)` and, if the contract
    has a state, `state` float32 `(1, history, columns)`; outputs `action` and `uncertainty`. Weights are inside.

    The same policy gives the same bytes. Raises LearningError if torch cannot write it, or a package for it is missing.
    """
    with _quiet():
        try:
            program = torch.onnx.export(
                _ready(policy).export_module().eval(),
                _blank(policy.contract),
                dynamo=True,
                input_names=list(input_names(policy.contract)),
                output_names=[ACTION_OUTPUT, UNCERTAINTY_OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
        except ImportError as error:
            raise LearningError(f"export: a package is missing ({error}); pip install onnx onnxscript") from error
        except Exception as error:  # torch's exporter raises whatever went wrong inside
            raise LearningError(f"export: torch cannot write this policy as ONNX ({_first_line(error)})") from error
    assert program is not None
    model = program.model_proto
    _strip(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def parity_samples(policy: LearnedPolicy, batch: Batch) -> dict[str, npt.NDArray[Any]]:
    """What the policy says to the N moments of `batch`: arrays `input.<tensor>` and `output.<tensor>`, each with N in
    place of the graph's 1."""
    contract = policy.contract
    images = {image.camera: batch.images[image.camera].cpu() for image in contract.observation.images}
    state = batch.state.cpu()
    with torch.inference_mode():
        action, uncertainty = _ready(policy).predict(images, state)
    tensors = {f"input.{image_input(camera)}": pixels for camera, pixels in images.items()}
    if contract.observation.state:
        tensors[f"input.{STATE_INPUT}"] = state
    tensors |= {f"output.{ACTION_OUTPUT}": action, f"output.{UNCERTAINTY_OUTPUT}": uncertainty}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def input_names(contract: Contract) -> tuple[str, ...]:
    """The graph's inputs in the order in which `LearnedPolicy.export_module` takes them."""
    images = tuple(image_input(image.camera) for image in contract.observation.images)
    return (*images, STATE_INPUT) if contract.observation.state else images


def _ready(policy: LearnedPolicy) -> LearnedPolicy:
    """A copy on the processor that learns no more; the policy itself may be in the middle of its training."""
    return copy.deepcopy(policy).cpu().float().eval().requires_grad_(False)


def _blank(contract: Contract) -> tuple[Tensor, ...]:
    observation = contract.observation
    tensors = [
        torch.zeros(1, observation.history, image.height, image.width, 3, dtype=torch.uint8)
        for image in observation.images
    ]
    if observation.state:
        tensors.append(torch.zeros(1, observation.history, len(observation.state)))
    return tuple(tensors)


def _strip(model: Any) -> None:
    """Takes out where each operation stands in the source: it names folders of this machine, and changes with them."""
    model.ClearField("metadata_props")
    for message in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        message.ClearField("metadata_props")
        message.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks on its own workings from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
