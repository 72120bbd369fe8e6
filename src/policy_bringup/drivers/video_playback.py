"""A video file in place of a camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import ImageSample
from policy_bringup.drivers.clocks import Clocks
from policy_bringup.drivers.pace import Pace


class VideoPlayback:
    """A core.interfaces.CameraDevice: the pictures of the file at `rate_hz`, every one, over and over if `loop`.

    `sleep` takes seconds. Stamps say when a picture was due. Raises DeviceError for a file that gives no picture.
    """

    def __init__(
        self,
        path: Path | str,
        rate_hz: float,
        loop: bool,
        *,
        camera: str,
        clocks: Clocks,
        sleep: Callable[[float], None],
    ) -> None:
        self._path = Path(path)
        self._rate_hz = rate_hz
        self._loop = loop
        self._camera = camera
        self._pace = Pace(clocks, sleep)
        self._count = 0
        self._next: cv2.typing.MatLike | None = None
        self._capture, self._next = self._open()

    def read(self) -> ImageSample | None:
        """The next picture when it is due; None at the end. Raises DeviceError."""
        frame = self._next if self._next is not None else self._decode()
        if frame is None:
            return None
        self._next = None
        stamp_ns, received_ns = self._pace.wait(round(self._count * 1e9 / self._rate_hz))
        self._count += 1
        pixels = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        return ImageSample(stamp_ns, received_ns, self._camera, pixels)

    def close(self) -> None:
        """Close the file."""
        self._loop = False
        self._next = None
        self._capture.release()

    def _decode(self) -> cv2.typing.MatLike | None:
        decoded, frame = self._capture.read()
        if not decoded and self._loop:
            self._capture.release()
            # Opened anew: many formats cannot be wound back to an exact picture.
            self._capture, frame = self._open()
            return frame
        return frame if decoded else None

    def _open(self) -> tuple[cv2.VideoCapture, cv2.typing.MatLike]:
        """The opened file and its first picture."""
        if not self._path.is_file():
            raise DeviceError(f"camera '{self._camera}': {self._path}: there is no such video file")
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise DeviceError(f"camera '{self._camera}': {self._path}: is no video that can be read")
        decoded, frame = capture.read()
        if not decoded:
            capture.release()
            raise DeviceError(f"camera '{self._camera}': {self._path}: holds no picture")
        return capture, frame
