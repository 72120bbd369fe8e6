"""Which episodes are for training, which to choose by, and which to judge with: drawn by episode, and written down.

Two moments of one episode look alike, so an episode is never in two parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.layout import episodes, write_durably

SPLIT_FILE = "split.yaml"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """Names of the episodes in each part, in order."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split(
    dataset: Path,
    seed: int,
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    include_failures: bool = False,
) -> Split:
    """Draws a split with `seed`; the same episodes and seed give the same split.

    shares: of train, validation and test; they add up to 1, and every part whose share is above 0 gets an episode.
    include_failures: also episodes labelled failure. Discarded ones are always left out. Raises EpisodeError for other
    shares, a journal that cannot be read, and a dataset with too few episodes.
    """
    if min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-9:
        raise EpisodeError(f"shares of a split must be 0 or more and add up to 1, found {', '.join(map(str, shares))}")
    allowed = {Outcome.SUCCESS, Outcome.FAILURE} if include_failures else {Outcome.SUCCESS}
    names = [folder.name for folder in episodes(dataset) if load_journal(folder).outcome in allowed]
    needed = sum(share > 0.0 for share in shares)
    if len(names) < needed:
        what = "" if include_failures else " successful"
        raise EpisodeError(f"{dataset}: has {len(names)}{what} episodes; a split into {needed} parts needs {needed}")
    drawn = np.random.default_rng(seed).permutation(len(names))
    edges = np.cumsum(_sizes(len(names), shares))
    parts = [tuple(names[i] for i in sorted(part)) for part in np.split(drawn, edges[:-1])]
    return Split(*parts)


def save_split(dataset: Path, parts: Split, seed: int) -> None:
    """Writes split.yaml into the dataset, whole or not at all. Raises EpisodeError."""
    content = {"seed": seed, **{part: list(getattr(parts, part)) for part in PARTS}}
    write_durably(dataset / SPLIT_FILE, yaml.safe_dump(content, sort_keys=False))


def load_split(dataset: Path) -> Split:
    """Reads split.yaml. Raises EpisodeError for a damaged one, and for an episode in two parts."""
    path = dataset / SPLIT_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EpisodeError(
            f"{path}: cannot be read ({error.strerror}); make it with `policy episodes split`"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise EpisodeError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise EpisodeError(f"{path}: must have the keys {', '.join(PARTS)}")
    parts = Split(*(_names(content.get(part), f"{path}: {part}") for part in PARTS))
    counts = Counter([*parts.train, *parts.validation, *parts.test])
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise EpisodeError(f"{path}: {twice[0]} stands twice; an episode belongs to one part")
    return parts


def _names(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise EpisodeError(f"{where}: must be a list of episodes")
    return tuple(value)


def _sizes(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers near `shares` of `count` that add up to it; none is 0 whose share is not."""
    exact = [share * count for share in shares]
    sizes = [max(int(part + 1e-9), int(part > 0.0)) for part in exact]
    while sum(sizes) != count:
        step = 1 if sum(sizes) < count else -1
        able = [i for i in range(len(sizes)) if exact[i] > 0.0 and sizes[i] + step > 0]
        nearest = max(able, key=lambda i: step * (exact[i] - sizes[i]))
        sizes[nearest] += step
    return sizes
