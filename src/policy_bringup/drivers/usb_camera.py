"""A USB camera on Linux (V4L2), read through OpenCV."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import cv2

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import ImageSample
from policy_bringup.drivers.clocks import Clocks
from policy_bringup.drivers.frame_reader import FrameReader
from policy_bringup.drivers.probe import list_cameras

_VIDEO_MAJOR = 81  # Linux, Documentation/admin-guide/devices.txt
_LISTED_BY = "list the cameras with: ls /dev/video*"
_NOT_ALLOWED = "may not be opened by this user; add the user to the group 'video' and log in again"
_GONE = "has no camera behind it any more; unplugged?"
_REASONS = {
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EBUSY: "is held by another process",
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
}


class UsbCamera:
    """A core.interfaces.CameraDevice. `device` is a number (3: /dev/video3) or a path, best one below /dev/v4l/by-id.

    width, height (pixels) and rate_hz are asked of the device; another size is an error. latency_s: measured time from
    the capture of a picture to its arrival here; stamps are earlier by it. fourcc: the device's pixel format, e.g.
    "MJPG", which USB 2 needs for more than about 640x480 at 30 Hz; None leaves it to the driver. Raises DeviceError.
    """

    def __init__(
        self,
        device: int | str,
        width: int,
        height: int,
        rate_hz: float,
        *,
        camera: str,
        clocks: Clocks,
        latency_s: float,
        fourcc: str | None = None,
        open_device: Callable[[Path, str], cv2.VideoCapture] | None = None,
    ) -> None:
        path = device_path(device)
        label = f"camera '{camera}': {path}"
        capture = (open_device or open_v4l2)(path, label)
        _ask_for(capture, width, height, rate_hz, fourcc)
        self._latency_s = latency_s
        self._reader = FrameReader(
            capture,
            (width, height),
            camera=camera,
            label=label,
            clocks=clocks,
            latency_s=latency_s,
            patience_s=max(1.0, 5.0 / rate_hz),
        )

    @property
    def latency_s(self) -> float:
        """Time by which stamps are earlier than the arrival of their pictures."""
        return self._latency_s

    def read(self) -> ImageSample:
        """The newest picture that was not given out yet, waiting for it if need be. Raises DeviceError."""
        return self._reader.read()

    def close(self) -> None:
        """Give the device back."""
        self._reader.close()


def device_path(device: int | str) -> Path:
    """The device's node: 3, "3" and "/dev/video3" are the same."""
    text = str(device)
    return Path(f"/dev/video{text}" if text.isdigit() else text)


def open_v4l2(path: Path, label: str) -> cv2.VideoCapture:
    """Opens a video device. Why it cannot, OpenCV does not say, so that is found out first. Raises DeviceError."""
    try:
        _check_node(path, label)
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"cannot be opened ({error.strerror})")
        raise DeviceError(f"{label} {reason}; {_LISTED_BY}") from error
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_V4L2)
    if not capture.isOpened():
        raise DeviceError(f"{label} gives OpenCV no pictures; another process may hold it; {_LISTED_BY}")
    return capture


def _check_node(path: Path, label: str) -> None:
    if not path.exists():
        cameras = ", ".join(f"{c.device} ({c.name})" for c in list_cameras()) or "none"
        raise DeviceError(f"{label} does not exist; cameras on this machine: {cameras}; {_LISTED_BY}")
    status = path.stat()
    if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) != _VIDEO_MAJOR:
        raise DeviceError(f"{label} is no video device; {_LISTED_BY}")


def _ask_for(capture: cv2.VideoCapture, width: int, height: int, rate_hz: float, fourcc: str | None) -> None:
    # Format first: it decides which sizes and rates there are.
    if fourcc is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    capture.set(cv2.CAP_PROP_FPS, rate_hz)
