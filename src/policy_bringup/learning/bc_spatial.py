"""bc_spatial: behaviour cloning from feature points, the package's main family.

Per camera a small convolutional network whose maps keep a quarter of the picture's resolution, and a spatial softmax
that says where in the picture each map's feature is. Points are few and mean the same wherever an object lies, so a
small network learns from few demonstrations (Levine et al. 2016, Finn et al. 2016). `pooling` puts a fully connected
layer in place of the points, for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from policy_bringup.core.config import bounded
from policy_bringup.core.errors import LearningError
from policy_bringup.core.types import TOOL_COLUMNS, Contract
from policy_bringup.learning.batch import Batch, Images
from policy_bringup.learning.ensemble import Ensemble, EnsembleConfig
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.spatial import SpatialSoftmax

CELLS = 8
"""Rows and columns of what is left of a map for `fully_connected` and `max_pool`."""
POSITION = TOOL_COLUMNS[:3]
SMALLEST_SPREAD_M = 0.01
"""A tool that moved less than this in training is told no more finely."""

Pooling = Literal["spatial_softmax", "fully_connected", "max_pool"]


@dataclass(frozen=True, slots=True)
class BcSpatialConfig(EnsembleConfig):
    """channels: of the convolutions, the last being the number of feature points per camera.

    pooling: how maps become numbers, two per map: their feature points; or a fully connected layer on 8 x 8 cells of
    each map, by means (fully_connected) or by maxima (max_pool). temperature: of the spatial softmax; at 1 the first
    points all lie in the middle and learning begins slowly. hidden: units of the two layers of the head; dropout:
    behind each. action_weight: of the loss "action", 0 for a policy that shall learn nothing but the pose. pose_weight:
    of the extra loss "pose", for telling from the pictures alone where the tool will be at the end of the chunk. Both
    weigh alike in training and in judging: what is not learned may not choose the best checkpoint either.
    pretrain_steps: so many first steps train on the pose alone; what they are judged by is no reason to end or to keep
    them.
    """

    channels: tuple[int, ...] = bounded(1, 512, default=(16, 32, 32))
    pooling: Pooling = "spatial_softmax"
    temperature: float = bounded(0.01, 100.0, default=0.1)
    hidden: int = bounded(1, 4096, default=256)
    dropout: float = bounded(0.0, 0.9, default=0.0)
    action_weight: float = bounded(0.0, 100.0, default=1.0)
    pose_weight: float = bounded(0.0, 100.0, default=0.0)
    pretrain_steps: int = bounded(0, 1_000_000, default=0)

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels: must name at least one convolution")
        if self.action_weight == self.pose_weight == 0.0:
            raise ValueError("action_weight: may be 0 only beside a pose_weight above 0, or nothing is learned")


class BcSpatial(Ensemble):
    """See the file's description; with a pose head if its configuration uses one."""

    steps_trained: Tensor

    def __init__(self, contract: Contract, config: BcSpatialConfig, normaliser: Normaliser) -> None:
        def encoder(height: int, width: int) -> nn.Module:
            return make_encoder(config, height, width)

        def head(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, config.hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden, config.hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden, outputs),
            )

        super().__init__(contract, config, normaliser, encoder, head)
        self.action_weight, self.pose_weight = config.action_weight, config.pose_weight
        self.pretrain_steps = config.pretrain_steps
        self._commanded = _position(contract.action.names)
        self._measured = _position(contract.observation.names)
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.pose_heads = nn.ModuleList()
        if self.pose_weight > 0.0 or self.pretrain_steps > 0:
            if not (self._commanded or self._measured):
                raise LearningError(f"pose_weight: needs a contract with {', '.join(POSITION)} in its state or action")
            self.pose_heads.extend(_pose_head(self.feature_size, config.hidden) for _ in self.eyes)

    @property
    def pretraining(self) -> bool:
        """Whether the pose alone is trained."""
        return bool(self.steps_trained < self.pretrain_steps)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """ "loss"; with a pose head also its parts "action" and "pose"."""
        features = self.features(batch.images)
        action = self.action_loss(features, batch)
        if not self.pose_heads:
            return {"loss": self.action_weight * action}
        pose = self._pose_loss(features, batch)
        # Of weight 0, the heads still get a gradient, of zero: every process has the same gradients.
        loss = self.action_weight * action + self.pose_weight * pose
        if self.training:
            if self.pretraining:
                loss = pose + 0.0 * action
            self.steps_trained += 1
        return {"loss": loss, "action": action.detach(), "pose": pose.detach()}

    def pose_loss(self, batch: Batch) -> Tensor:
        """How far `pose` is from the truth: mean over axes of the error in standard deviations of the tool's position.

        Raises LearningError without a pose head.
        """
        return self._pose_loss(self.features(batch.images), batch)

    def pose(self, images: Images) -> Tensor:
        """Tool position `(B, 3)` m in the base frame at the end of the chunk (or, with a contract whose actions are
        joints, now), told from the pictures alone; the members' mean. Raises LearningError without a pose head."""
        return torch.stack(self._poses(self.features(images))).mean(0)

    def _poses(self, features: list[Tensor]) -> list[Tensor]:
        if not self.pose_heads:
            raise LearningError("bc_spatial: this policy has no pose head; train it with a pose_weight above 0")
        mean, std = self._scale()
        return [head(seen) * std + mean for head, seen in zip(self.pose_heads, features, strict=True)]

    def _pose_loss(self, features: list[Tensor], batch: Batch) -> Tensor:
        """Moments weigh by their valid steps, as in the action's loss: so it is shared by several processes alike."""
        _, std = self._scale()
        error = (torch.stack(self._poses(features)) - self._true_pose(batch)) / std
        weights = batch.valid.sum(1).to(error.dtype)
        return (error.abs().mean((0, 2)) * weights).sum() / weights.sum().clamp_min(1.0)

    def _true_pose(self, batch: Batch) -> Tensor:
        """`(B, 3)` m. After the end of an episode its last action repeats, so the chunk's last one is always right."""
        if self._commanded:
            return batch.action[:, -1, self._commanded]
        return batch.state[:, -1, self._measured]

    def _scale(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of the tool's position, each `(3,)` m."""
        figures = self.normaliser
        if self._measured:
            mean, std = figures.state_mean[self._measured], figures.state_std[self._measured]
        else:
            mean, std = figures.mean_action[self._commanded], figures.action_std[-1, self._commanded]
        return mean, std.clamp_min(SMALLEST_SPREAD_M)


def make_encoder(config: BcSpatialConfig, height: int, width: int) -> nn.Module:
    """From pictures `(N, 3, height, width)` to features `(N, 2 * maps)`.

    The maps' cells are as large whether the pictures were reduced before or not: four pixels of the camera's picture.
    """
    strides = [2, 2 // config.downsample] + [1] * len(config.channels)
    sizes = [5] + [3] * len(config.channels)
    layers: list[nn.Module] = []
    for (before, after), stride, size in zip(pairwise((3, *config.channels)), strides, sizes, strict=False):
        layers += [nn.ReLU(inplace=True)] if layers else []
        layers.append(nn.Conv2d(before, after, size, stride=stride, padding=size // 2))
        height, width = -(-height // stride), -(-width // stride)
    maps = config.channels[-1]
    if config.pooling == "spatial_softmax":
        return nn.Sequential(*layers, SpatialSoftmax(height, width, config.temperature))
    kernel = (max(1, height // CELLS), max(1, width // CELLS))
    cells = (height // kernel[0]) * (width // kernel[1])
    pool = nn.MaxPool2d(kernel) if config.pooling == "max_pool" else nn.AvgPool2d(kernel)
    full = nn.Linear(maps * cells, 2 * maps)
    return nn.Sequential(*layers, nn.ReLU(inplace=True), pool, nn.Flatten(), full, nn.ReLU(inplace=True))


def _pose_head(inputs: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, len(POSITION)))


def _position(names: tuple[str, ...]) -> list[int]:
    """Where the tool's position is among columns; empty if it is not, or not whole."""
    return [names.index(name) for name in POSITION] if set(POSITION) <= set(names) else []
