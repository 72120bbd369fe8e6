"""A few pictures that stand for all of a camera's, as small JPEGs, taken while the bag is read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from policy_bringup.core.types import Pixels

WIDTH = 192
"""Pixels; wider pictures are made smaller, the others are left as they are."""
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One small picture: its time, the JPEG, and its size in pixels."""

    time_ns: int
    jpeg: bytes
    width: int
    height: int


def thumbnail(time_ns: int, pixels: Pixels) -> Thumbnail:
    """From uint8 RGB `(height, width, 3)`."""
    height, width = pixels.shape[:2]
    if width > WIDTH:
        height, width = max(1, round(height * WIDTH / width)), WIDTH
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    _, jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return Thumbnail(time_ns, jpeg.tobytes(), width, height)


class FilmStrip:
    """At most `limit` pictures of one camera, evenly chosen, the first and the last among them.

    How many will come is not known: every n-th is kept, and when they become too many every second is let go. Only
    those that are kept, and the last, are ever decoded.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._every, self._count = limit, 1, 0
        self._kept: list[Thumbnail] = []
        self._last: Callable[[], Thumbnail] | None = None

    def offer(self, make: Callable[[], Thumbnail]) -> None:
        """The next picture; `make` decodes it, now or later, and may raise."""
        number, self._count = self._count, self._count + 1
        if number % self._every:
            self._last = make
            return
        self._last = None
        newest = make()
        self._kept.append(newest)
        if len(self._kept) >= 2 * self._limit:
            self._last = lambda: newest
            self._kept = self._kept[::2]
            self._every *= 2

    def finish(self) -> None:
        """After the last picture: makes it, if that has not been done, and raises what that raises."""
        make, self._last = self._last, None
        if make is not None:
            self._kept.append(make())

    def pictures(self) -> tuple[Thumbnail, ...]:
        """What was chosen, in order."""
        chosen = np.linspace(0, len(self._kept) - 1, min(self._limit, len(self._kept))).round().astype(int)
        return tuple(self._kept[index] for index in chosen)
