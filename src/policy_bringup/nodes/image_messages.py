"""Camera messages <-> the stack's own types, through cv_bridge where it is installed, else rosbags-image."""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from policy_bringup.core.decoding import stamp_of
from policy_bringup.core.types import ImageSample, Pixels
from policy_bringup.nodes.messages import time_of

try:
    from cv_bridge import CvBridge

    _to_rgb = CvBridge().imgmsg_to_cv2
except ImportError:
    from rosbags.image import message_to_cvimage as _to_rgb

JPEG_QUALITY = 95
"""Of 100: the picture loses about a grey level on average."""


def image_message(pixels: Pixels, stamp_ns: int, camera: str) -> Image:
    """A picture, uint8 RGB `(height, width, 3)`, as a message. An array keeps rclpy from checking byte by byte."""
    message = Image()
    message.header.stamp = time_of(stamp_ns)
    message.header.frame_id = f"{camera}_optical_frame"
    message.height, message.width = pixels.shape[:2]
    message.encoding = "rgb8"
    message.step = 3 * message.width
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


def compressed_message(pixels: Pixels, stamp_ns: int, camera: str) -> CompressedImage:
    """A picture, uint8 RGB `(height, width, 3)`, as a JPEG file in a message, named as image_transport names it."""
    import cv2  # loaded by the first who needs it: most deployments never do

    _, content = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    message = CompressedImage()
    message.header.stamp = time_of(stamp_ns)
    message.header.frame_id = f"{camera}_optical_frame"
    message.format = "rgb8; jpeg compressed bgr8"
    message.data = array.array("B", content.tobytes())
    return message


def image_sample(message: Image, received_ns: int, camera: str) -> ImageSample:
    """A message of any encoding that the converter knows, as uint8 RGB. Raises what the converter raises."""
    return ImageSample(stamp_of(message.header.stamp), received_ns, camera, np.asarray(_to_rgb(message, "rgb8")))


def camera_info(camera: str, width: int, height: int, stamp_ns: int, matrix: Sequence[float]) -> CameraInfo:
    """A pinhole camera; `matrix` is K, row by row, all zero when the camera is not calibrated."""
    message = CameraInfo()
    message.header.stamp = time_of(stamp_ns)
    message.header.frame_id = f"{camera}_optical_frame"
    message.width, message.height = width, height
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = np.array(matrix, dtype=np.float64)
    message.r = np.eye(3).ravel()
    message.p = np.hstack([np.array(matrix).reshape(3, 3), np.zeros((3, 1))]).ravel()
    return message
