"""Statistics of a LeRobot dataset, per episode and over all: min, max, mean, std, count and five quantiles.

Over all episodes, quantiles of columns are the means of the episodes' quantiles, weighted by their frames, as LeRobot
itself forms them; everything else is exact. Pictures are sampled and count from 0 to 1, per channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.types import Array, Pixels

QUANTILES: Mapping[str, float] = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
SAMPLED_PICTURES = 100
SAMPLED_SIDE = 150
"""Pixels along the shorter side that are counted, about."""

Statistics = dict[str, npt.NDArray[Any]]
"""Name of the figure -> `(columns,)`; of pictures `(3, 1, 1)`; the count `(1,)`."""


def of_columns(values: npt.NDArray[Any]) -> Statistics:
    """Of `(T, columns)` or `(T,)` numbers."""
    table = values.reshape(len(values), -1)
    result: Statistics = {
        "min": table.min(0),
        "max": table.max(0),
        "mean": table.mean(0, dtype=np.float64),
        "std": table.std(0, dtype=np.float64),
        "count": np.array([len(table)]),
    }
    result.update(zip(QUANTILES, np.quantile(table.astype(np.float64), list(QUANTILES.values()), axis=0), strict=True))
    return result


def of_pictures(pictures: Pixels) -> Statistics:
    """Of uint8 `(T, height, width, 3)`, through the histograms of some pictures' pixels."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, SAMPLED_PICTURES).round().astype(int))
    step = max(1, min(pictures.shape[1:3]) // SAMPLED_SIDE)
    histogram = np.zeros((3, 256), dtype=np.int64)
    for index in chosen:
        picture = pictures[index, ::step, ::step]
        for channel in range(3):
            histogram[channel] += np.bincount(picture[..., channel].reshape(-1), minlength=256)
    result = {name: _channelwise(values) for name, values in _of_histogram(histogram).items()}
    return {**result, "count": np.array([len(chosen)])}


def merged(episodes: list[Statistics]) -> Statistics:
    """Of all episodes together."""
    counts = np.stack([episode["count"] for episode in episodes])
    weights: Array = (counts / counts.sum()).reshape(-1, *[1] * episodes[0]["mean"].ndim)
    means, spreads = (np.stack([episode[name] for episode in episodes]) for name in ("mean", "std"))
    mean = (weights * means).sum(0)
    result: Statistics = {
        "min": np.min([episode["min"] for episode in episodes], axis=0),
        "max": np.max([episode["max"] for episode in episodes], axis=0),
        "mean": mean,
        "std": np.sqrt((weights * (spreads**2 + (means - mean) ** 2)).sum(0)),
        "count": counts.sum(0),
    }
    for name in QUANTILES:
        result[name] = (weights * np.stack([episode[name] for episode in episodes])).sum(0)
    return result


def _of_histogram(histogram: npt.NDArray[np.int64]) -> Statistics:
    levels = np.arange(256) / 255.0
    share = histogram / histogram.sum(1, keepdims=True)
    mean = share @ levels
    reached = share.cumsum(1)
    present = histogram > 0
    result: Statistics = {
        "min": levels[present.argmax(1)],
        "max": levels[255 - present[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt((share * (levels - mean[:, None]) ** 2).sum(1)),
    }
    for name, quantile in QUANTILES.items():
        result[name] = levels[(reached >= quantile - 1e-12).argmax(1)]
    return result


def _channelwise(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.reshape(3, 1, 1)
