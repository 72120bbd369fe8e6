"""Where in a picture the features are: spatial softmax and feature points (Levine et al. 2016; Finn et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SpatialSoftmax(nn.Module):
    """From maps `(N, C, height, width)` to feature points `(N, 2 C)`: x then y of each channel, -1..1 over the cell
    centres, x to the right, y down.

    A point is the mean of the cells' places weighted by a softmax over the channel, sharper the smaller `temperature`:
    where a feature is is known finer than the map's cells, and what is elsewhere hardly matters. The temperature is not
    learned, since the layer before can make the maps larger or smaller just as well, at no cost.
    """

    _x: Tensor
    _y: Tensor

    def __init__(self, height: int, width: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("_x", _centres(width), persistent=False)
        self.register_buffer("_y", _centres(height), persistent=False)
        self._sharpness = 1.0 / temperature

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        # In 32 bits, and as sums, which unlike matrix products stay there where training computes in 16 bits: a place
        # needs its digits.
        weights = torch.softmax(maps.float().flatten(2) * self._sharpness, 2).reshape(maps.shape)
        x = (weights.sum(2) * self._x).sum(2)
        y = (weights.sum(3) * self._y).sum(2)
        return torch.stack([x, y], 2).flatten(1)


def _centres(cells: int) -> Tensor:
    """`(cells,)` from -1 to 1; a single cell is in the middle."""
    return torch.linspace(-1.0, 1.0, cells) if cells > 1 else torch.zeros(1)
