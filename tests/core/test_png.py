import struct
import zlib

import cv2
import numpy as np
import pytest

from policy_bringup.core.png import png


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (128, 264)])
def test_another_program_reads_the_very_same_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    read = cv2.imdecode(np.frombuffer(png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read[..., ::-1], pixels)


def test_a_picture_that_is_not_contiguous_is_written_as_it_looks():
    pixels = np.random.default_rng(1).integers(0, 256, (8, 6, 3)).astype(np.uint8)[::-1, ::2]
    read = cv2.imdecode(np.frombuffer(png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read[..., ::-1], pixels)


def test_every_chunk_has_its_checksum():
    content = png(np.zeros((3, 2, 3), np.uint8))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length]) == (zlib.crc32(body),)
        kinds.append(body[:4])
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
