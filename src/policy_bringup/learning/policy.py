"""The one interface of every policy family: what train, calibrate, evaluate and export call.

To add a family: one file beside bc_spatial.py with a frozen configuration and a class that has these methods, a line in
families.py, a file in config/train/.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from policy_bringup.core.types import Contract
from policy_bringup.learning.batch import Batch, Images


class LearnedPolicy(nn.Module, ABC):
    """A policy that can be trained and exported. Normalisation is inside: it takes and gives the contract's units."""

    contract: Contract

    @property
    def pretraining(self) -> bool:
        """Whether its first steps train something other than the action: until they are made, its validation neither
        counts as better than another nor ends the training."""
        return False

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars: "loss", which training minimises, and its parts by name."""

    @abstractmethod
    def predict(self, images: Images, state: Tensor) -> tuple[Tensor, Tensor]:
        """Action chunk `(B, steps, action columns)` and uncertainty `(B, steps)`, >= 0, of float32 state
        `(B, history, state columns)`. Deterministic in `eval` mode."""

    def export_module(self) -> nn.Module:
        """What becomes the bundle's graph: takes the contract's pictures in its order, then the state (if the contract
        has any), and returns action and uncertainty."""
        return _Graph(self)


class _Graph(nn.Module):
    """A policy whose inputs are told apart by their order, as ONNX wants it."""

    def __init__(self, policy: LearnedPolicy) -> None:
        super().__init__()
        self._policy = policy

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures, then the state; returns action and uncertainty."""
        cameras = [image.camera for image in self._policy.contract.observation.images]
        images = dict(zip(cameras, tensors, strict=False))
        state = tensors[len(cameras)] if len(tensors) > len(cameras) else tensors[0].new_zeros(1, 1, 0).float()
        action, uncertainty = self._policy.predict(images, state)
        return action, uncertainty
