"""What a stream needs of serialised messages while it is being recorded, read straight from their bytes (XCDR1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from policy_bringup.core.types import Pixels
from policy_bringup.episodes.encoding import typestore

_BODY = 4  # bytes before the body: the encapsulation header; alignment counts from here
_STAMP_NS = {True: struct.Struct("<iI"), False: struct.Struct(">iI")}
_WORD = {True: struct.Struct("<I"), False: struct.Struct(">I")}


@dataclass(frozen=True, slots=True, eq=False)
class RawPicture:
    """A sensor_msgs/Image without a copy: `content` is uint8 `(height * step,)` of the message's own bytes."""

    height: int
    width: int
    encoding: str
    content: Pixels


def header_stamp(data: bytes) -> int:
    """ns of the std_msgs/Header that the message begins with. Raises ValueError for bytes that are no such message."""
    try:
        sec, nanosec = _STAMP_NS[_is_little(data)].unpack_from(data, _BODY)
    except struct.error as error:
        raise ValueError(f"{len(data)} bytes are too few for a header") from error
    return int(sec) * 1_000_000_000 + int(nanosec)


def raw_picture(data: bytes) -> RawPicture:
    """A serialised sensor_msgs/Image. Raises ValueError when its bytes do not fit its size."""
    word = _WORD[_is_little(data)]
    try:
        at = _aligned(_after_text(data, _BODY + 8, word))
        height, width = word.unpack_from(data, at)[0], word.unpack_from(data, at + 4)[0]
        after = _after_text(data, at + 8, word)
        encoding = bytes(data[at + 12 : after - 1]).decode("ascii")
        at = _aligned(after + 1)  # is_bigendian
        step, length = word.unpack_from(data, at)[0], word.unpack_from(data, at + 4)[0]
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{len(data)} bytes are no picture ({error})") from error
    content = np.frombuffer(data, np.uint8, offset=min(at + 8, len(data)))
    if height * width == 0 or length != height * step or len(content) < length:
        raise ValueError(f"{len(content)} bytes are not the {height} rows of {step} that the picture states")
    return RawPicture(height, width, encoding, content[:length])


def compressed_content(data: bytes) -> Pixels:
    """The file inside a serialised sensor_msgs/CompressedImage, uint8 `(n,)`, without a copy. Raises ValueError."""
    word = _WORD[_is_little(data)]
    try:
        at = _aligned(_after_text(data, _aligned(_after_text(data, _BODY + 8, word)), word))
        (length,) = word.unpack_from(data, at)
    except struct.error as error:
        raise ValueError(f"{len(data)} bytes are no compressed picture ({error})") from error
    content = np.frombuffer(data, np.uint8, offset=min(at + 4, len(data)))
    if length == 0 or len(content) < length:
        raise ValueError(f"{len(content)} bytes are fewer than the {length} that the compressed picture states")
    return content[:length]


def deserialised(data: bytes, type_name: str) -> Any:
    """A message of a standard type, as an object with its fields. Raises whatever rosbags raises for foreign bytes.

    Unlike rosbags' own `deserialize_cdr` it puts up with unused bytes at the end: rclpy leaves some.
    """
    definition = typestore().get_msgdef(type_name)
    read = definition.deserialize_cdr_le if _is_little(data) else definition.deserialize_cdr_be
    return read(data[_BODY:], 0, definition.cls, typestore())[0]


def _is_little(data: bytes) -> bool:
    return len(data) < 2 or bool(data[1] & 1)


def _after_text(data: bytes, at: int, word: struct.Struct) -> int:
    return at + 4 + int(word.unpack_from(data, at)[0])


def _aligned(at: int) -> int:
    return at + (-(at - _BODY)) % 4
