"""Small grey versions of a picture: what a policy's watchdog compares, and what its fingerprint is made of.

Grey is 0.299 R + 0.587 G + 0.114 B, 0 to 255; a value is the mean over the area that it covers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from policy_bringup.core.observation import resize
from policy_bringup.core.types import Pixels

Grey = npt.NDArray[np.float32]

FINE = 32
"""Rows and columns of a thumbnail."""
COARSE = 8
"""Rows and columns of a thumbnail in a fingerprint."""
_RGB = np.array([0.299, 0.587, 0.114], np.float32)
_MEANS: Grey = np.kron(np.eye(COARSE), np.full(FINE // COARSE, COARSE / FINE)).astype(np.float32)


def thumbnail(pixels: Pixels) -> Grey:
    """uint8 RGB `(height, width, 3)` -> grey `(FINE, FINE)`. Raises ObservationError for no such picture."""
    divisible = pixels.ndim == 3 and not (pixels.shape[0] % FINE or pixels.shape[1] % FINE)
    if not (divisible and pixels.size and pixels.dtype == np.uint8):
        pixels = resize(pixels, FINE, FINE)
    height, width = pixels.shape[0] // FINE, pixels.shape[1] // FINE
    # Whole numbers first: they are added four times as fast as they are turned into fractions.
    rows = np.add.reduce(pixels.reshape(FINE, height, -1), axis=1, dtype=np.uint32)
    grey: Grey = rows.reshape(FINE, FINE, -1).astype(np.float32) @ (np.tile(_RGB, width) / np.float32(height * width))
    return grey


def coarse(grey: Grey) -> Grey:
    """A thumbnail as in a fingerprint: `(FINE, FINE)` -> `(COARSE, COARSE)`."""
    return (_MEANS @ grey @ _MEANS.T).astype(np.float32, copy=False)
