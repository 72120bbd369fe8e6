"""bc_cnn: behaviour cloning with a plain convolutional network: what the other families have to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from policy_bringup.core.config import bounded
from policy_bringup.core.types import Contract
from policy_bringup.learning.ensemble import Ensemble, EnsembleConfig
from policy_bringup.learning.normalise import Normaliser


@dataclass(frozen=True, slots=True)
class BcCnnConfig(EnsembleConfig):
    """channels: of the four convolutions; hidden: units of the fully connected layer; dropout: behind it.

    The weight decay that belongs to it is the optimiser's.
    """

    channels: tuple[int, int, int, int] = bounded(1, 512, default=(16, 32, 48, 48))
    hidden: int = bounded(1, 4096, default=128)
    dropout: float = bounded(0.0, 0.9, default=0.1)


class BcCnn(Ensemble):
    """Per camera four convolutions and a pooling; flattened, with the state, through one fully connected layer."""

    def __init__(self, contract: Contract, config: BcCnnConfig, normaliser: Normaliser) -> None:
        def encoder(height: int, width: int) -> nn.Module:
            c1, c2, c3, c4 = config.channels
            return nn.Sequential(
                nn.Conv2d(3, c1, 5, stride=2, padding=2),
                nn.ReLU(inplace=True),
                nn.Conv2d(c1, c2, 3, stride=2, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(c2, c3, 3, stride=2, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(c3, c4, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2, ceil_mode=True),
                nn.Flatten(),
            )

        def head(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, config.hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden, outputs),
            )

        super().__init__(contract, config, normaliser, encoder, head)
