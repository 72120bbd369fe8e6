"""Changes to the pictures and states of a batch that leave what is to be done the same. For training only.

Each window gets its own, and each of its cameras; the pictures of a history are changed alike, since a difference
between them would look like motion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from policy_bringup.core.config import bounded
from policy_bringup.learning.batch import Batch

LUMA = torch.tensor([0.299, 0.587, 0.114])
"""How bright red, green and blue look (ITU-R BT.601)."""
TO_GREY = torch.kron(torch.eye(4), LUMA[:, None].expand(3, 3))
"""Turns four pixels side by side grey: several times faster than one at a time."""
BINOMIAL = torch.tensor([0.25, 0.5, 0.25])
"""The blur, along rows and columns."""
LEAST, MOST = 0.1, 0.35
"""Sides of the rectangle that hides part of a picture, as shares of the picture's."""
ROUND = 8
"""Windows at a time: as many as fit in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much of each; 0 is none.

    shift_px and rotation_deg: up to so far to either side, about the picture's centre; what comes in at an edge repeats
    it. brightness: all levels times 1 - brightness .. 1 + brightness. contrast: likewise, the distance from the
    picture's mean. saturation: likewise, the distance from grey. blur, erase: share of the pictures that are blurred (a
    binomial of 3 x 3), or of which a rectangle is hidden. noise: standard deviation. state_noise: standard deviation,
    as a share of that of the column within the batch.
    """

    shift_px: int = bounded(0, 64, "px", 0)
    rotation_deg: float = bounded(0.0, 30.0, "deg", 0.0)
    brightness: float = bounded(0.0, 0.9, "", 0.0)
    contrast: float = bounded(0.0, 0.9, "", 0.0)
    saturation: float = bounded(0.0, 1.0, "", 0.0)
    blur: float = bounded(0.0, 1.0, "", 0.0)
    erase: float = bounded(0.0, 1.0, "", 0.0)
    noise: float = bounded(0.0, 64.0, "grey levels", 0.0)
    state_noise: float = bounded(0.0, 1.0, "", 0.0)


def augment(batch: Batch, config: Augmentation, generator: torch.Generator) -> Batch:
    """A changed copy of a batch that lies in the processor's memory; actions stay as they are."""
    with _one_thread():
        images = {camera: _changed(pixels, config, generator) for camera, pixels in batch.images.items()}
    state = batch.state
    if config.state_noise:
        spread = config.state_noise * state.std((0, 1), correction=0)
        state = state + spread * torch.randn(state.shape, generator=generator)
    return replace(batch, images=images, state=state)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hundreds of steps of 20 us each: two threads would wait for each other, on a busy machine for very long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _changed(pixels: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    """pixels uint8 `(B, history, H, W, 3)`."""
    # Drawing a number for every pixel takes longer than all else: each picture gets its own part of a longer row.
    grain = config.noise * torch.randn(2 * pixels[0, 0].numel(), generator=generator) if config.noise else None
    out = torch.empty_like(pixels)
    for start in range(0, len(pixels), ROUND):
        some = pixels[start : start + ROUND]
        if config.rotation_deg:
            some = _turned(some, config, generator)
        elif config.shift_px:
            some = _shifted(some, config.shift_px, generator)
        if config.erase:
            some = _erased(some, config.erase, generator)
        if config.blur:
            some = _blurred(some, config.blur, generator)
        if config.brightness or config.contrast or config.saturation or config.noise:
            some = _relit(some, config, grain, generator)
        out[start : start + ROUND] = some
    return out


def _within(reach: float, count: int, generator: torch.Generator) -> Tensor:
    """`(count, 1, 1, 1, 1)` drawn from -reach .. reach."""
    return ((torch.rand(count, generator=generator) * 2.0 - 1.0) * reach).reshape(-1, 1, 1, 1, 1)


def _chosen(share: float, count: int, generator: torch.Generator) -> Tensor:
    """Which of `count` windows, each with the probability `share`."""
    return torch.nonzero(torch.rand(count, generator=generator) < share).flatten()


def _shifts(reach: int, count: int, generator: torch.Generator) -> Tensor:
    """`(count, 2)` whole pixels, down and to the right."""
    return torch.randint(-reach, reach + 1, (count, 2), generator=generator)


def _shifted(pixels: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    count, past, height, width, _ = pixels.shape
    wide = pixels.new_empty(count, past, height + 2 * reach, width + 2 * reach, 3)
    wide[:, :, reach:-reach, reach:-reach] = pixels
    wide[:, :, :reach, reach:-reach] = pixels[:, :, :1]
    wide[:, :, -reach:, reach:-reach] = pixels[:, :, -1:]
    wide[:, :, :, :reach] = wide[:, :, :, reach, None]
    wide[:, :, :, -reach:] = wide[:, :, :, -reach - 1, None]
    starts = (reach - _shifts(reach, count, generator)).tolist()
    cut = [wide[i, :, top : top + height, left : left + width] for i, (top, left) in enumerate(starts)]
    return torch.stack(cut)


def _turned(pixels: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    """Turned and shifted: each pixel is the nearest one to the place it comes from."""
    count, past, height, width, _ = pixels.shape
    down, right = _shifts(config.shift_px, count, generator).reshape(count, 2, 1, 1).unbind(1)
    angle = _within(math.radians(config.rotation_deg), count, generator)[..., 0, 0]
    y = torch.arange(height)[:, None] - (height - 1) / 2 - down
    x = torch.arange(width) - (width - 1) / 2 - right
    row = (angle.cos() * y + (height - 1) / 2) - angle.sin() * x
    column = (angle.sin() * y + (width - 1) / 2) + angle.cos() * x
    row, column = row.round_().clamp_(0, height - 1), column.round_().clamp_(0, width - 1)
    source = row.mul_(width).add_(column).to(torch.int64).reshape(count, 1, -1)
    picture = torch.arange(count * past).reshape(count, past, 1) * (height * width)
    return pixels.reshape(-1, 3).index_select(0, (picture + source).flatten()).reshape(pixels.shape)


def _erased(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    pixels = pixels.clone()
    height, width = pixels.shape[2:4]
    for window in _chosen(share, len(pixels), generator).tolist():
        drawn = torch.rand(7, generator=generator)
        tall, wide = ((LEAST + (MOST - LEAST) * drawn[:2]) * torch.tensor([height, width])).round().int().tolist()
        top, left = (drawn[2:4] * torch.tensor([height - tall + 1, width - wide + 1])).int().tolist()
        pixels[window, :, top : top + tall, left : left + wide] = (drawn[4:] * 256.0).to(torch.uint8)
    return pixels


def _blurred(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    chosen = _chosen(share, len(pixels), generator)
    planes = pixels[chosen].flatten(0, 1).movedim(-1, 1).float()
    kernel = torch.outer(BINOMIAL, BINOMIAL).expand(3, 1, 3, 3)
    soft = conv2d(pad(planes, (1, 1, 1, 1), "replicate"), kernel, groups=3)
    pixels = pixels.clone()
    pixels[chosen] = (soft + 0.5).to(torch.uint8).movedim(1, -1).reshape(len(chosen), *pixels.shape[1:])
    return pixels


def _relit(pixels: Tensor, config: Augmentation, grain: Tensor | None, generator: torch.Generator) -> Tensor:
    count, past = pixels.shape[:2]
    bright, contrast, colour = (
        1.0 + _within(reach, count, generator) for reach in (config.brightness, config.contrast, config.saturation)
    )
    level = pixels.float()
    if config.saturation:
        size = 12 if level.numel() % 12 == 0 else 3
        grey = (level.reshape(-1, size) @ TO_GREY[:size, :size]).reshape(level.shape)
        level = torch.lerp(grey, level, colour)
    mean = (level[:, :, ::4, ::4].mean((1, 2, 3)) @ LUMA).reshape(-1, 1, 1, 1, 1)  # of a part that is like the whole
    level.mul_(bright * contrast).add_(bright * (1.0 - contrast) * mean + 0.5)
    if grain is not None:
        rows = level.reshape(count * past, -1)
        starts = torch.randint(0, rows.shape[1] + 1, (count * past,), generator=generator).tolist()
        for row, start in zip(rows, starts, strict=True):
            row += grain[start : start + len(row)]
    return level.clamp_(0.0, 255.0).to(torch.int16).to(torch.uint8)  # faster than at once
