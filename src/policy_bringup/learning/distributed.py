"""Processes that train one policy together, each on its share of every batch.

Started by `torchrun --nproc_per_node 2 -m policy_bringup.learning_cli ...`; without it there is one process and nothing
here costs anything. Every process keeps the same weights: the gradients are added up in one message per step, and every
process makes the same step. What a step draws (augmentation, dropout) differs between processes, so two processes give
one process's result, to rounding, only where nothing is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from policy_bringup.core.errors import LearningError


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is number `rank` of `size`; number 0 is the one that writes and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, the same on each. Raises LearningError if another one is gone."""
        summed = torch.tensor(values, dtype=torch.float64)
        self._reduce(summed)
        return [float(value) for value in summed]

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        """Replaces every gradient by its sum over all processes; returns the sum of their losses.

        Raises LearningError if another process is gone.
        """
        if self.size == 1:
            return float(loss.detach())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.detach().reshape(1).float()])
        self._reduce(flat)
        parts = torch.split(flat[:-1], [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
        return float(flat[-1])

    def _reduce(self, tensor: Tensor) -> None:
        if self.size == 1:
            return
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:  # gloo: the connection was closed, or nobody answered
            raise LearningError("another process of this training has ended; its own message says why") from error


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that torchrun started, or this one alone. Raises LearningError if they do not find each other."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    try:
        dist.init_process_group("gloo", init_method="env://")
    except (RuntimeError, ValueError) as error:
        raise LearningError(f"the {size} processes of this training did not find each other ({error})") from error
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
