"""Recorded pictures -> uint8 RGB, as the nodes read live ones (policy_bringup.nodes.image_messages)."""

from __future__ import annotations

from typing import Any

import numpy as np
from rosbags.image import message_to_cvimage

from policy_bringup.core.decoding import stamp_of
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ImageSample, Pixels

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def picture(message: Any, received_ns: int, camera: str) -> ImageSample:
    """A deserialised Image or CompressedImage as a sample with pixels `(height, width, 3)`, contiguous.

    Raises EpisodeError for an encoding that is not known, and for damaged or padded data.
    """
    try:
        pixels = _pixels(message)
    except Exception as error:  # several unrelated errors of rosbags-image, OpenCV and numpy
        kind = getattr(message, "encoding", None) or getattr(message, "format", "")
        reason = " ".join(str(error).split()) or "not decodable"
        raise EpisodeError(f"a '{kind}' picture cannot be read ({reason[:200]})") from error
    return ImageSample(stamp_of(message.header.stamp), received_ns, camera, pixels)


def _pixels(message: Any) -> Pixels:
    # Rows with padding would come out sheared, without a word: rosbags-image takes every picture as dense.
    if hasattr(message, "step") and message_to_cvimage(message).nbytes != len(message.data):
        raise ValueError(f"{len(message.data)} bytes in {message.height} rows are more than its pixels")
    pixels = np.ascontiguousarray(message_to_cvimage(message, "rgb8"), dtype=np.uint8)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"its shape is {pixels.shape}")
    return pixels
