"""What a policy learns from at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Images = Mapping[str, Tensor]
"""camera -> uint8 `(batch, history, height, width, 3)` RGB, the contract's size, the newest of a history last."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B moments: what was seen, and what was done in the chunk of steps after it. Columns, units: the contract's.

    state: float32 `(B, history, state columns)`; action: float32 `(B, steps, action columns)`.
    valid: bool `(B, steps)`, False for steps after the end of the episode, whose actions repeat the last one.
    """

    images: Images
    state: Tensor
    action: Tensor
    valid: Tensor
