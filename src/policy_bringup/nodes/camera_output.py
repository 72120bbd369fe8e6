"""What one camera publishes: its pictures, the same as JPEG where somebody listens, and its intrinsics."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node

from policy_bringup.core.types import Pixels
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.image_messages import camera_info, compressed_message, image_message

UNCALIBRATED = (0.0,) * 9


class CameraOutput:
    """`camera/<name>/image_raw`, `.../image_raw/compressed` and `.../camera_info`, with the same stamps.

    matrix: K of the pinhole camera, row by row.
    """

    def __init__(self, node: Node, camera: str, matrix: Sequence[float] = UNCALIBRATED) -> None:
        self._camera, self._matrix = camera, matrix
        self._raw = endpoints.publisher(node, f"camera/{camera}/image_raw")
        self._compressed = endpoints.publisher(node, f"camera/{camera}/image_raw/compressed")
        self._info = endpoints.publisher(node, f"camera/{camera}/camera_info")

    @property
    def watched(self) -> bool:
        """Whether anybody reads anything of it."""
        return any(output.get_subscription_count() for output in (self._raw, self._compressed, self._info))

    def publish(self, pixels: Pixels, stamp_ns: int) -> None:
        """A picture, uint8 RGB `(height, width, 3)`. It is compressed only for those who want it so."""
        height, width = pixels.shape[:2]
        self._raw.publish(image_message(pixels, stamp_ns, self._camera))
        self._info.publish(camera_info(self._camera, width, height, stamp_ns, self._matrix))
        if self._compressed.get_subscription_count():
            self._compressed.publish(compressed_message(pixels, stamp_ns, self._camera))
