"""bc_resnet: behaviour cloning with a ResNet18 encoder per camera and a bounded action head.

The encoder is the ResNet18 of He et al. (2015) with three changes. Group normalisation in place of batch normalisation:
it has no running averages, which would lag behind the moving average of the weights that is kept in the end, differ
between training and use, and depend on what else is in a batch. `width` thins every layer. The last two stages keep the
resolution, since on a map of 2 x 2 cells there are no places left to tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import relu

from policy_bringup.core.config import bounded
from policy_bringup.core.types import Contract
from policy_bringup.learning.ensemble import Ensemble, EnsembleConfig
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.spatial import SpatialSoftmax

STAGES = ((64, 1), (128, 2), (256, 1), (512, 1))
"""Channels at width 1 and stride of the four stages of two blocks each."""
GROUP = 8
"""Channels that are normalised together; at width 1 the 64 narrowest make the usual 8 groups or more."""


@dataclass(frozen=True, slots=True)
class BcResnetConfig(EnsembleConfig):
    """width: factor on every layer's channels; pooling: what becomes of the last maps.

    hidden: units of the head's layer; reach: bound of the action, column by column, as a multiple of the largest
    normalised action in the training set: whatever it sees, it asks for no motion far from all it was shown.
    """

    separate_encoders: bool = False
    width: float = bounded(0.0625, 1.0, default=0.25)
    pooling: Literal["spatial_softmax", "average"] = "spatial_softmax"
    hidden: int = bounded(1, 4096, default=256)
    reach: float = bounded(1.0, 10.0, default=1.2)


class BcResnet(Ensemble):
    """See the file's description."""

    def __init__(self, contract: Contract, config: BcResnetConfig, normaliser: Normaliser) -> None:
        def encoder(height: int, width: int) -> nn.Module:
            return make_encoder(config, height, width)

        def head(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, config.hidden),
                nn.ReLU(inplace=True),
                nn.Linear(config.hidden, outputs),
            )

        super().__init__(contract, config, normaliser, encoder, head)
        self._reach = config.reach

    @property
    def bound(self) -> Tensor:
        """Largest absolute normalised action that it can put out, `(action columns,)`."""
        return self._reach * self.normaliser.action_bound

    def normal_actions(self, features: Sequence[Tensor], state: Tensor) -> Tensor:
        """As the ensemble's, through bound * tanh(x / bound): x itself near 0, never beyond the bound."""
        bound = self.bound
        return bound * (super().normal_actions(features, state) / bound).tanh()


def make_encoder(config: BcResnetConfig, height: int, width: int) -> nn.Module:
    """From pictures `(N, 3, height, width)` to features `(N, 2 * channels)`, or `(N, channels)` for `average`."""
    widths = [max(GROUP, GROUP * round(channels * config.width / GROUP)) for channels, _ in STAGES]
    strides = [stride for _, stride in STAGES]
    layers: list[nn.Module] = [
        nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False),
        _norm(widths[0]),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    for (before, after), stride in zip(pairwise([widths[0], *widths]), strides, strict=True):
        layers += [Block(before, after, stride), Block(after, after, 1)]
    shrink = 4 * math.prod(strides)
    if config.pooling == "spatial_softmax":
        layers.append(SpatialSoftmax(-(-height // shrink), -(-width // shrink)))
    else:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            _norm(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            _norm(after),
        )
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), _norm(after))
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, before, h, w)` -> `(N, after, h / stride, w / stride)`."""
        return relu(self.body(x) + self.shortcut(x))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // GROUP, channels)
