"""A picture as a PNG file, by the standard library alone."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from policy_bringup.core.types import Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB8 = (8, 2, 0, 0, 0)
"""Bits per channel, colour type RGB; compression, filter and interlacing as every PNG has them."""


def png(pixels: Pixels) -> bytes:
    """The content of a PNG file: uint8 RGB `(height, width, 3)`, not empty, without loss."""
    height, width, _ = pixels.shape
    unfiltered = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter: 0, none
    unfiltered[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">II5B", width, height, *_RGB8)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(unfiltered.tobytes())) + _chunk(b"IEND")


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
