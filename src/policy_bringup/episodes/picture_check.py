"""What the pictures of one camera show: always the same, black, white, or one colour."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from policy_bringup.core.types import Pixels
from policy_bringup.episodes.cdr import RawPicture
from policy_bringup.episodes.quality_config import QualityConfig

SAMPLES = 2048
"""Bytes of a picture that are looked at: a mean over so many is right to a grey level or two."""
LOOK_EVERY_NS = 200_000_000
"""Compressed pictures are decoded, small and grey, no more often than this."""
_EIGHT_BIT: Final = frozenset(
    {"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "8UC1", "8UC3", "8UC4"}
    | {f"bayer_{order}8" for order in ("rggb", "bggr", "gbrg", "grbg")}
)


class PictureCheck:
    """One camera, streaming: it keeps a reference to the last picture's bytes, which must stay as they are.

    frozen_s: longest time for which the picture stayed the same, on the clock that the caller gives (e.g. the time for
    which the arm moved). dull_s: kind -> longest time for which the pictures were "black", "white" or "of one colour".
    """

    def __init__(self, config: QualityConfig) -> None:
        self.frozen_s = 0.0
        self.dull_s = {"black": 0.0, "white": 0.0, "of one colour": 0.0}
        self._config = config
        self._last: Pixels | None = None
        self._changed_s = 0.0
        self._dull_since: dict[str, int] = {}
        self._looked_ns: int | None = None

    def picture(self, picture: RawPicture, stamp_ns: int, clock_s: float) -> None:
        """One uncompressed picture, measured at `stamp_ns`. Its brightness is judged only if it has 8 bits."""
        sample = picture.content[:: _stride(len(picture.content))]
        self._compare(picture.content, clock_s)
        if picture.encoding in _EIGHT_BIT:
            self._judge(sample, stamp_ns)

    def compressed(self, content: Pixels, stamp_ns: int, clock_s: float) -> None:
        """One compressed picture, uint8 `(n,)`, measured at `stamp_ns`. Raises ValueError for one that is broken."""
        self._compare(content, clock_s)
        if self._looked_ns is not None and 0 <= stamp_ns - self._looked_ns < LOOK_EVERY_NS:
            return
        self._looked_ns = stamp_ns
        grey = cv2.imdecode(content, cv2.IMREAD_REDUCED_GRAYSCALE_8)
        if grey is None:
            raise ValueError("the compressed picture cannot be decoded")
        self._judge(np.asarray(grey, dtype=np.uint8).ravel(), stamp_ns)

    def _compare(self, content: Pixels, clock_s: float) -> None:
        if self._last is None or not _same(content, self._last):
            self._changed_s = clock_s
        self.frozen_s = max(self.frozen_s, clock_s - self._changed_s)
        self._last = content

    def _judge(self, sample: Pixels, stamp_ns: int) -> None:
        levels = sample.astype(np.float32)
        mean = float(levels.mean())
        spread = math.sqrt(max(0.0, float(levels @ levels) / len(levels) - mean * mean))
        config = self._config
        kind = None
        if mean < config.min_brightness:
            kind = "black"
        elif mean > config.max_brightness:
            kind = "white"
        elif spread < config.min_spread:
            kind = "of one colour"
        self._dull_since = {} if kind is None else {kind: self._dull_since.get(kind, stamp_ns)}
        for name, since_ns in self._dull_since.items():
            self.dull_s[name] = max(self.dull_s[name], (stamp_ns - since_ns) / 1e9)


def _same(content: Pixels, other: Pixels) -> bool:
    """Whether two pictures are equal to the last bit; a sample decides at once for most that are not."""
    if len(content) != len(other):
        return False
    stride = _stride(len(content))
    return np.array_equal(content[::stride], other[::stride]) and np.array_equal(content, other)


def _stride(size: int) -> int:
    """About SAMPLES steps through `size` bytes, that keep to no channel and to no column."""
    stride = max(1, size // SAMPLES)
    while stride > 1 and any(stride % prime == 0 for prime in (2, 3, 5, 7)):
        stride += 1
    return stride
