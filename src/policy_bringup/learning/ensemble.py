"""Members that learn the same task from differently weighted moments: where they disagree, the policy is unsure.

What the families have in common: pictures go through one encoder per camera, and what the encoders say goes, with the
measured state, into one head per member, which puts out the member's action chunk in normalised units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from policy_bringup.core.config import bounded
from policy_bringup.core.errors import LearningError
from policy_bringup.core.types import TOOL_COLUMNS, Contract
from policy_bringup.learning.batch import Batch, Images
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.policy import LearnedPolicy

SMALLEST_PICTURE = 32
"""Pixels that a side of a picture must have, so that something is left of it behind the strides."""

_POISSON = (0.36788, 0.73576, 0.91970, 0.98101, 0.99634)
"""Chances of at most 0, 1, 2, 3, 4 for a Poisson number with mean 1."""


@dataclass(frozen=True, slots=True)
class EnsembleConfig:
    """What every family can be told.

    separate_encoders: each member sees with encoders of its own; else they share one per camera and only the heads
    differ, which is faster and disagrees less where it should. downsample: pictures are first reduced by this factor
    (area means). bootstrap: each member weighs the moments in its own way. state_dropout: probability that a training
    moment's standardised state, all but the gripper's columns, is replaced by zeros, its mean: a policy that always
    knows the state tends to copy how demonstrations went on from there instead of looking.
    """

    members: int = bounded(1, 10, default=3)
    separate_encoders: bool = True
    downsample: int = bounded(1, 2, default=2)
    loss: Literal["l1", "mse"] = "l1"
    bootstrap: bool = True
    state_dropout: float = bounded(0.0, 1.0, default=0.0)


Encoder = Callable[[int, int], nn.Module]
"""(height, width) -> net from one camera's pictures, float `(N, 3, height, width)`, to `(N, features)`."""
Head = Callable[[int, int], nn.Module]
"""(inputs, outputs) -> net from what one member knows, `(B, inputs)`, to its chunk, `(B, outputs)`."""


class Eyes(nn.Module):
    """One encoder per camera. Takes the pictures in the contract's order; puts out `(B, size)`."""

    size: int

    def __init__(self, contract: Contract, downsample: int, encoder: Encoder) -> None:
        super().__init__()
        sizes = [(image.height // downsample, image.width // downsample) for image in contract.observation.images]
        self.encoders = nn.ModuleList(encoder(height, width) for height, width in sizes)
        self.history = contract.observation.history
        with torch.no_grad():
            blank = [torch.zeros(1, 3, height, width) for height, width in sizes]
            each = [net(picture).shape[1] for net, picture in zip(self.encoders, blank, strict=True)]
        self.size = self.history * sum(each)

    def forward(self, pictures: Sequence[Tensor]) -> Tensor:
        """`pictures`: per camera float `(B * history, 3, height, width)`."""
        seen = [net(picture) for net, picture in zip(self.encoders, pictures, strict=True)]
        return torch.cat([features.reshape(features.shape[0] // self.history, -1) for features in seen], 1)


class Ensemble(LearnedPolicy):
    """See the file's description. Raises LearningError for a contract without pictures or with too small ones.

    feature_size: how many numbers a member sees in the pictures of one moment.
    """

    feature_size: int
    _kept: Tensor

    def __init__(
        self, contract: Contract, config: EnsembleConfig, normaliser: Normaliser, encoder: Encoder, head: Head
    ) -> None:
        super().__init__()
        _check_pictures(contract)
        self.contract = contract
        self.config: EnsembleConfig = config
        self.normaliser = normaliser
        observation, action = contract.observation, contract.action
        kept = [float(c.unit != "rad" and c.name not in TOOL_COLUMNS) for c in observation.state]
        self.register_buffer("_kept", torch.tensor(kept * observation.history), persistent=False)
        eyes = config.members if config.separate_encoders else 1
        seeing = [Eyes(contract, config.downsample, encoder) for _ in range(eyes)]
        self.eyes, self.feature_size = nn.ModuleList(seeing), seeing[0].size
        inputs = self.feature_size + len(kept) * observation.history
        outputs = action.steps * len(action.columns)
        self.heads = nn.ModuleList(head(inputs, outputs) for _ in range(config.members))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """ "loss" is the members' mean error of the normalised action, over valid steps."""
        return {"loss": self.action_loss(self.features(batch.images), batch)}

    def predict(self, images: Images, state: Tensor) -> tuple[Tensor, Tensor]:
        """The members' mean, and per step the root mean square, over columns, of their normalised actions' spread."""
        normal = self.normal_actions(self.features(images), state)
        mean = normal.mean(0)
        spread = (normal - mean).square().mean((0, 3)).sqrt()
        return self.normaliser.action(mean, state), spread

    def features(self, images: Images) -> list[Tensor]:
        """What each member sees, `(B, feature_size)`: one entry per member, or a single one if they share encoders."""
        pictures = []
        for image in self.contract.observation.images:
            picture = self.normaliser.pictures(image.camera, images[image.camera])
            if self.config.downsample > 1:
                picture = avg_pool2d(picture, self.config.downsample)
            pictures.append(picture.contiguous(memory_format=torch.channels_last))  # faster on a processor
        return [eyes(pictures) for eyes in self.eyes]

    def normal_actions(self, features: Sequence[Tensor], state: Tensor) -> Tensor:
        """Each member's normalised chunk, `(members, B, steps, action columns)`."""
        action = self.contract.action
        known = self._known(state)
        chunks = []
        for number, head in enumerate(self.heads):
            seen = features[number % len(features)]
            chunk = head(torch.cat([seen, known], 1) if known.shape[1] else seen)
            chunks.append(chunk.reshape(-1, action.steps, len(action.columns)))
        return torch.stack(chunks)

    def action_loss(self, features: Sequence[Tensor], batch: Batch) -> Tensor:
        """Error of the normalised action, mean over valid steps, columns and members.

        Weighted moments are divided by how many there are, not by the sum of their weights (whose mean is 1): so the
        shares of several processes add up to the loss of the whole batch.
        """
        target = self.normaliser.normal_action(batch.action, batch.state)
        difference = self.normal_actions(features, batch.state) - target
        error = (difference.abs() if self.config.loss == "l1" else difference.square()).mean(-1)
        weights = batch.valid.to(error.dtype).expand_as(error)
        count = weights.sum().clamp_min(1.0)
        if self.training and self.config.bootstrap and self.config.members > 1:
            weights = weights * bootstrap_weights(batch.action, self.config.members)[:, :, None]
        return (error * weights).sum() / count

    def _known(self, state: Tensor) -> Tensor:
        known = self.normaliser.state(state)
        if self.training and self.config.state_dropout > 0.0 and known.shape[1]:
            dropped = torch.rand(known.shape[0], 1, device=known.device) < self.config.state_dropout
            known = torch.where(dropped, known * self._kept, known)
        return known


def bootstrap_weights(action: Tensor, members: int) -> Tensor:
    """`(members, B)`: how often each member's own resampled training set holds a moment (Poisson, mean 1).

    Drawn from the bits of the moment's actions `(B, steps, columns)`, so that a moment weighs the same in every epoch,
    process and resumed run: weights drawn anew for each batch would cancel out over the epochs.
    """
    bits = action.detach().contiguous().float().view(torch.int32).flatten(1).to(torch.int64)
    places = 2 * torch.arange(bits.shape[1], device=bits.device) + 1
    key = (bits * places * 0x9E3779B1).sum(1)
    numbers = torch.arange(1, members + 1, device=bits.device)[:, None]
    mixed = (key[None] ^ (numbers * 0x5851F42D4C957F2D)) * 0x2545F4914F6CDD1D
    mixed = (mixed ^ ((mixed >> 29) & 0x7FFFFFFFF)) * 0x369DEA0F31A53F85
    uniform = ((mixed >> 32) & 0xFFFFFF).float() / 2**24
    return (uniform[..., None] >= torch.tensor(_POISSON, device=bits.device)).sum(-1).float()


def _check_pictures(contract: Contract) -> None:
    images = contract.observation.images
    if not images:
        raise LearningError("contract: a policy of this family sees, so the contract must have at least one picture")
    for image in images:
        if min(image.height, image.width) < SMALLEST_PICTURE:
            raise LearningError(
                f"contract: the pictures of camera '{image.camera}' are {image.width} x {image.height}; "
                f"a policy of this family needs at least {SMALLEST_PICTURE} pixels each way"
            )
