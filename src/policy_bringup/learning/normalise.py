"""Pictures, states and actions on a scale that a network learns well on, and actions back from it.

The figures come from the training part alone and are saved with the policy's weights. An action that commands what is
also measured (the tool's pose; in joint space the joints) counts from the newest measurement: what is learned is where
to go from here. Rotation vectors are subtracted column by column, like the rest, so that the way back is exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from policy_bringup.core.types import Contract
from policy_bringup.learning.dataset import Dataset, Floats

FLOOR = 1e-4
"""Spreads below this, in the column's unit (0.1 mm, 0.1 mrad), are taken for the noise of something constant."""
QUIET = 5e-3
"""A state that spreads less than this is divided by this: a live arm strays so far, and must not look strange then."""
BEYOND = 1e6
"""More than any action, in every unit; not infinite, since averages of weights are taken of this, too."""
PICTURES = 1000
"""How many of each camera, evenly spread over the dataset, the figures of its colours are taken from."""
BLOCK = 100
"""Pictures in memory at a time."""


class Normaliser(nn.Module):
    """Made from a contract, it leaves states and actions as they are and brings pictures to 0..1; `of` a dataset, it
    standardises them.

    What is constant in the dataset: a state is 0, whatever is measured; an action, at one or all steps of the chunk,
    comes out as its mean, whatever the network says. action_bound `(action columns,)`: the largest absolute value of a
    normalised action in the dataset, at least 1. mean_action `(action columns,)`: the mean of the actions themselves;
    lowest_action, highest_action: their extremes, which no answer exceeds (a width learned at the gripper's stop would
    else come out beyond it); BEYOND for what counts from the measurement.
    is_measured, bool `(action columns,)`: whether what the column commands is also a column of the state.
    """

    picture_mean: Tensor
    picture_std: Tensor
    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    relative: Tensor
    action_bound: Tensor
    mean_action: Tensor
    lowest_action: Tensor
    highest_action: Tensor
    is_measured: Tensor

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        observation, action = contract.observation, contract.action
        self._cameras = [image.camera for image in observation.images]
        places = {name: place for place, name in enumerate(observation.names)}
        self._measured = [places.get(name, len(places)) for name in action.names]
        columns, chunk = len(action.columns), (action.steps, len(action.columns))
        buffers = {
            "picture_mean": torch.zeros(len(self._cameras), 3),
            "picture_std": torch.full((len(self._cameras), 3), 255.0),
            "state_mean": torch.zeros(len(observation.state)),
            "state_std": torch.ones(len(observation.state)),
            "action_mean": torch.zeros(chunk),
            "action_std": torch.ones(chunk),
            "relative": torch.zeros(columns),
            "action_bound": torch.ones(columns),
            "mean_action": torch.zeros(columns),
            "lowest_action": torch.full((columns,), -BEYOND),
            "highest_action": torch.full((columns,), BEYOND),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value)
        measured = [place < len(places) for place in self._measured]
        self.register_buffer("is_measured", torch.tensor(measured), persistent=False)

    @classmethod
    def of(cls, dataset: Dataset) -> Normaliser:
        """With the figures of `dataset`, which must be the training part."""
        made = cls(dataset.contract)
        made._fit_tables(dataset)
        made._fit_pictures(dataset)
        return made

    def pictures(self, camera: str, pixels: Tensor) -> Tensor:
        """uint8 `(B, history, H, W, 3)` -> float32 `(B * history, 3, H, W)`, in memory channels last."""
        at, width = self._cameras.index(camera), pixels.shape[3]
        scale = 1.0 / self.picture_std[at]
        # Whole rows at a time: three values at a time are several times slower.
        rows = pixels.flatten(3) * scale.repeat(width) - (self.picture_mean[at] * scale).repeat(width)
        return rows.reshape(-1, pixels.shape[2], width, 3).permute(0, 3, 1, 2)

    def state(self, state: Tensor) -> Tensor:
        """`(B, history, state columns)` -> `(B, history * state columns)`, the newest last."""
        return ((state - self.state_mean) * _inverse(self.state_std)).flatten(1)

    def normal_action(self, action: Tensor, state: Tensor) -> Tensor:
        """action `(B, steps, action columns)` in the contract's units, and the state it was begun in -> the same shape,
        normalised."""
        return (action - self._origin(state) - self.action_mean) * _inverse(self.action_std)

    def action(self, normal: Tensor, state: Tensor) -> Tensor:
        """The way back: `(B, steps, action columns)` in the contract's units."""
        meant = normal * self.action_std + self.action_mean + self._origin(state)
        return torch.minimum(torch.maximum(meant, self.lowest_action), self.highest_action)

    def measured(self, state: Tensor) -> Tensor:
        """The newest measurement of what each action column commands, `(B, 1, action columns)`; 0 if there is none."""
        return pad(state[:, -1:], (0, 1))[:, :, self._measured]  # the added column stands for all that is not measured

    def _origin(self, state: Tensor) -> Tensor:
        """`(B, 1, action columns)`: what an action counts from."""
        return self.measured(state) * self.relative

    def _fit_tables(self, dataset: Dataset) -> None:
        state, action, valid = dataset.tables(np.arange(len(dataset)))
        mean, std = _moments(np.concatenate([*state.swapaxes(0, 1)]))
        self.state_mean.copy_(mean)
        self.state_std.copy_(torch.where(std < FLOOR, 0.0, std.clamp_min(QUIET)))
        plain, spread = _moments(action[:, 0])
        varies = spread >= FLOOR
        self.mean_action.copy_(plain)
        # What is always commanded the same is held there: counted from the measurement, it would follow every drift.
        self.relative.copy_(varies & self.is_measured)
        from_measured = self.relative > 0.0
        flat = torch.from_numpy(action).flatten(0, 1)
        self.lowest_action.copy_(torch.where(from_measured, -BEYOND, flat.amin(0)))
        self.highest_action.copy_(torch.where(from_measured, BEYOND, flat.amax(0)))
        begun = action - self._origin(torch.from_numpy(state)).numpy()
        mean, std = _moments(begun, valid | ~valid.any(axis=0))  # of a step that none reaches: what repeats there
        self.action_mean.copy_(torch.where(varies, mean, plain))
        self.action_std.copy_(torch.where(varies & (std >= FLOOR), std, 0.0))
        normal = self.normal_action(torch.from_numpy(action), torch.from_numpy(state))
        self.action_bound.copy_((normal.abs() * torch.from_numpy(valid)[:, :, None]).amax((0, 1)).clamp_min(1.0))

    def _fit_pictures(self, dataset: Dataset) -> None:
        chosen = np.arange(len(dataset))[:: -(-len(dataset) // PICTURES)]
        for at, camera in enumerate(self._cameras):
            counts = np.zeros((3, 256), np.int64)
            for start in range(0, len(chosen), BLOCK):
                pixels = dataset.pictures(camera, chosen[start : start + BLOCK])
                counts += [np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)]
            share, levels = counts / counts.sum(axis=1, keepdims=True), np.arange(256)
            mean = share @ levels
            std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 1.0))  # at least one grey level
            self.picture_mean[at] = torch.from_numpy(mean)
            self.picture_std[at] = torch.from_numpy(std)


def _moments(values: Floats, used: npt.NDArray[np.bool_] | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the first axis, of where `used`, which lacks the last axis."""
    weights = np.ones((*values.shape[:-1], 1)) if used is None else used[..., None].astype(np.float64)
    total = weights.sum(axis=0)
    mean = (weights * values).sum(axis=0) / total
    variance = (weights * (values - mean) ** 2).sum(axis=0) / total
    return torch.from_numpy(mean), torch.from_numpy(np.sqrt(variance))


def _inverse(std: Tensor) -> Tensor:
    """1 / std, and 0 where it is 0."""
    return torch.where(std > 0.0, 1.0 / std, 0.0)
