"""What the columns and pictures of a dataset look like on the whole, to normalise a policy's input and output by.

To be taken of the training part alone: a number from the test part would be a look at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Array, Contract, Pixels
from policy_bringup.episodes.frames import Frames
from policy_bringup.episodes.layout import write_durably

STATISTICS_FILE = "statistics.json"
FIGURES = ("mean", "std", "min", "max", "q01", "q99")
BLOCK = 64
"""Pictures taken into memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class ColumnStatistics:
    """Figures of each column, `(columns,)` each, in the column's unit; q01 and q99 are the 1 % and 99 % quantiles."""

    names: tuple[str, ...]
    mean: Array
    std: Array
    min: Array
    max: Array
    q01: Array
    q99: Array


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """Figures of each colour channel (R, G, B), `(3,)` each, in grey levels 0..255."""

    mean: Array
    std: Array


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Of all frames: states and actions by column, pictures by camera. count: frames with an action."""

    count: int
    state: ColumnStatistics
    action: ColumnStatistics
    images: Mapping[str, ChannelStatistics]


def statistics(frames: Iterable[Frames], contract: Contract) -> Statistics:
    """Figures over several episodes, looked at one after the other; moments without an action are left out.

    Raises EpisodeError if there is none with an action.
    """
    states: list[Array] = []
    actions: list[Array] = []
    sums = {image.camera: _ChannelSums() for image in contract.observation.images}
    for episode in frames:
        used = np.flatnonzero(np.isfinite(episode.action).all(axis=1))
        states.append(np.asarray(episode.state[used]).reshape(-1, len(contract.observation.state)))
        actions.append(np.asarray(episode.action[used]))
        for camera, total in sums.items():
            for start in range(0, len(used), BLOCK):
                total.add(np.asarray(episode.images[camera][used[start : start + BLOCK]]))
    count = sum(len(action) for action in actions)
    if not count:
        raise EpisodeError("statistics: there is no frame with an action")
    return Statistics(
        count,
        _of_columns(contract.observation.names, np.concatenate(states)),
        _of_columns(contract.action.names, np.concatenate(actions)),
        {camera: total.finished() for camera, total in sums.items()},
    )


def save_statistics(path: Path, found: Statistics) -> None:
    """Writes them as JSON, whole or not at all. Raises EpisodeError."""
    plain = {
        "count": found.count,
        "state": {"names": list(found.state.names), **_lists(found.state, FIGURES)},
        "action": {"names": list(found.action.names), **_lists(found.action, FIGURES)},
        "images": {camera: _lists(channels, ("mean", "std")) for camera, channels in found.images.items()},
    }
    write_durably(path, json.dumps(plain, indent=1))


def load_statistics(path: Path) -> Statistics:
    """Reads what `save_statistics` wrote, to the last bit. Raises EpisodeError naming the file."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        images = {
            camera: ChannelStatistics(*(_figures(entry, key, 3) for key in ("mean", "std")))
            for camera, entry in plain["images"].items()
        }
        return Statistics(int(plain["count"]), _columns(plain["state"]), _columns(plain["action"]), images)
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EpisodeError(f"{path}: is damaged ({type(error).__name__}: {error})") from error


class _ChannelSums:
    """Sums of whole numbers, so that the result does not depend on the order of the pictures."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: npt.NDArray[np.int64] = np.zeros(3, np.int64)
        self._squares: npt.NDArray[np.int64] = np.zeros(3, np.int64)

    def add(self, pixels: Pixels) -> None:
        """Pictures, uint8 `(..., 3)`."""
        levels = np.arange(256)
        flat = pixels.reshape(-1, 3)
        self._count += len(flat)
        for channel in range(3):
            histogram = np.bincount(flat[:, channel], minlength=256)
            self._sum[channel] += histogram @ levels
            self._squares[channel] += histogram @ levels**2

    def finished(self) -> ChannelStatistics:
        """Mean and standard deviation."""
        mean = self._sum / self._count
        return ChannelStatistics(mean, np.sqrt(np.maximum(self._squares / self._count - mean**2, 0.0)))


def _of_columns(names: tuple[str, ...], values: Array) -> ColumnStatistics:
    low, high = np.quantile(values, (0.01, 0.99), axis=0)
    return ColumnStatistics(
        names, values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0), low, high
    )


def _lists(figures: object, keys: tuple[str, ...]) -> dict[str, list[float]]:
    return {key: getattr(figures, key).tolist() for key in keys}


def _columns(entry: Mapping[str, Any]) -> ColumnStatistics:
    names = tuple(map(str, entry["names"]))
    return ColumnStatistics(names, *(_figures(entry, key, len(names)) for key in FIGURES))


def _figures(entry: Mapping[str, Any], key: str, count: int) -> Array:
    values = np.array(entry[key], dtype=np.float64)
    if values.shape != (count,):
        raise ValueError(f"'{key}' must have {count} values")
    return values
