"""Quantiles of a stream of numbers, in memory that does not grow with the stream."""

from __future__ import annotations

import math

import numpy as np

_PER_OCTAVE = 16
_OCTAVES = 80
_SMALLEST = 2.0**-30


class Quantiles:
    """Counts how many numbers (>= 0) fell into each of 1280 bins, each 4.4 % wider than the last, from 1e-9 to 1e15."""

    def __init__(self) -> None:
        self.count = 0
        self._bins = np.zeros(_PER_OCTAVE * _OCTAVES, dtype=np.int64)

    def add(self, value: float) -> None:
        """Takes one number in; one that is not finite counts as the largest."""
        place = len(self._bins) - 1
        if math.isfinite(value):
            octaves = math.log2(max(value, _SMALLEST)) - math.log2(_SMALLEST)
            place = min(place, int(_PER_OCTAVE * octaves))
        self._bins[place] += 1
        self.count += 1

    def at(self, share: float) -> float:
        """The number that `share` (0 to 1) of all are not above, to within 2.2 %; 0 before the first."""
        if self.count == 0:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._bins), share * self.count))
        return 0.0 if place == 0 else _SMALLEST * 2.0 ** ((place + 0.5) / _PER_OCTAVE)
