"""Reads an opened camera in a thread of its own and keeps only the newest picture, so that none ages in a buffer."""

from __future__ import annotations

import threading
from typing import Protocol

import cv2
import numpy as np

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import ImageSample, Pixels
from policy_bringup.drivers.clocks import Clocks

_FIRST_TRIES = 5  # the first pictures of a USB camera are often damaged
_CLOSE_S = 2.0


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used."""

    def isOpened(self) -> bool:
        """Whether the device is open."""

    def grab(self) -> bool:
        """Waits for the next picture; False when there will be none."""

    def retrieve(self) -> tuple[bool, cv2.typing.MatLike]:
        """Decodes it: BGR `(height, width, 3)`."""

    def release(self) -> None:
        """Gives the device back."""


class FrameReader:
    """A core.interfaces.CameraDevice on `capture`, which it owns. `label` is what errors call the camera.

    latency_s: time from the capture of a picture to its arrival here, as measured; stamps are earlier by it.
    patience_s: longest wait of `read`. Raises DeviceError if the device gives no picture, or another size.
    """

    def __init__(
        self,
        capture: Capture,
        size: tuple[int, int],
        *,
        camera: str,
        label: str,
        clocks: Clocks,
        latency_s: float,
        patience_s: float,
    ) -> None:
        self._capture = capture
        self._width, self._height = size
        self._camera = camera
        self._label = label
        self._clocks = clocks
        self._latency_ns = round(latency_s * 1e9)
        self._patience_s = patience_s
        self._condition = threading.Condition()
        self._closing = threading.Event()
        self._error: Exception | None = None
        try:
            self._newest: ImageSample | None = self._first()
        except BaseException:
            capture.release()
            raise
        self._thread = threading.Thread(target=self._run, name=f"camera-{camera}", daemon=True)
        self._thread.start()

    def read(self) -> ImageSample:
        """The newest picture that was not given out yet, waiting for it if need be. Raises DeviceError."""
        with self._condition:
            self._condition.wait_for(lambda: self._newest is not None or self._error is not None, self._patience_s)
            sample, self._newest = self._newest, None
            if sample is not None:
                return sample
            if self._error is not None:
                raise DeviceError(str(self._error)) from self._error
        raise DeviceError(f"{self._label}: gave no picture for {self._patience_s:g} s")

    def close(self) -> None:
        """Stops the thread, which gives the device back as soon as the driver lets go of it."""
        self._closing.set()
        self._thread.join(_CLOSE_S)
        self._stop(DeviceError(f"{self._label}: is closed"))
        with self._condition:
            self._newest = None

    def _first(self) -> ImageSample:
        if not self._capture.isOpened():
            raise DeviceError(f"{self._label}: cannot be opened as a camera; another process may hold it")
        for _ in range(_FIRST_TRIES):
            sample = self._take()
            if sample is not None:
                return sample
        raise DeviceError(f"{self._label}: its first {_FIRST_TRIES} pictures cannot be decoded")

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                sample = self._take()
                if sample is not None:
                    with self._condition:
                        self._newest = sample
                        self._condition.notify_all()
        except Exception as error:  # whatever it is, it must reach the reader instead of ending in this thread
            self._stop(error)
        finally:
            self._capture.release()

    def _stop(self, error: Exception) -> None:
        with self._condition:
            self._error = error
            self._condition.notify_all()

    def _take(self) -> ImageSample | None:
        """The next picture; None for a damaged one."""
        if not self._capture.grab():
            raise DeviceError(f"{self._label}: gives no more pictures; unplugged, or held by another process?")
        # Stamped before decoding, which takes milliseconds that differ from picture to picture.
        stamp_ns = self._clocks.ros_ns() - self._latency_ns
        received_ns = self._clocks.monotonic_ns()
        decoded, frame = self._capture.retrieve()
        if not decoded or frame is None:
            return None
        return ImageSample(stamp_ns, received_ns, self._camera, self._rgb(frame))

    def _rgb(self, frame: cv2.typing.MatLike) -> Pixels:
        height, width = frame.shape[:2]
        if (width, height) != (self._width, self._height):
            raise DeviceError(f"{self._label}: gives {width}x{height}, asked for {self._width}x{self._height}")
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
