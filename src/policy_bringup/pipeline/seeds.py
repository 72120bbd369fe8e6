"""Which seeds of simulated scenes belong to what: the one place, so that nothing is judged on what it was made from."""

from __future__ import annotations

from typing import Literal

from policy_bringup.core.errors import ConfigError

Purpose = Literal["training", "calibration", "evaluation"]

BLOCKS: dict[Purpose, range] = {
    "training": range(0, 500_000),
    "calibration": range(500_000, 1_000_000),
    "evaluation": range(1_000_000, 2_000_000),
}
"""Disjoint. A seed decides where the object lies, and everything else that is drawn for an episode."""


def seeds(purpose: Purpose, count: int, first: int | None = None) -> range:
    """`count` seeds from `first` on; from the start of the purpose's block by default.

    Raises ConfigError if they would leave the block, and so touch another purpose's.
    """
    block = BLOCKS[purpose]
    first = block.start if first is None else first
    if count < 1:
        raise ConfigError(f"{purpose}: needs at least one episode, found {count}")
    chosen = range(first, first + count)
    if chosen.start < block.start or chosen.stop > block.stop:
        raise ConfigError(
            f"{purpose}: seeds must be from {block.start} to {block.stop - 1}, apart from those of "
            f"{' and '.join(other for other in BLOCKS if other != purpose)}; found {chosen.start} to {chosen.stop - 1}"
        )
    return chosen
