"""The pictures of a recorded bag in place of a camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.image import message_to_cvimage
from rosbags.typesys import Stores, get_typestore

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import ImageSample, Pixels
from policy_bringup.drivers.clocks import Clocks
from policy_bringup.drivers.pace import Pace

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
MAX_GAP_S = 60.0
"""A longer pause between two pictures is taken for a broken stamp: nobody waits that long without asking why."""


class BagPlayback:
    """A core.interfaces.CameraDevice: every picture on `topic` of the rosbag2 recording `path` (folder, .mcap or .db3).

    Pictures keep the distances in time of their header stamps (of the recorder's times where a header has none), but
    are stamped with the ROS time at which they were due. `sleep` takes seconds. Raises DeviceError.
    """

    def __init__(
        self, path: Path | str, topic: str, *, camera: str, clocks: Clocks, sleep: Callable[[float], None]
    ) -> None:
        self._label = f"camera '{camera}': {path}"
        self._topic = topic
        self._camera = camera
        self._pace = Pace(clocks, sleep)
        self._first_ns: int | None = None
        self._last_ns = 0
        self._reader = self._open(Path(path))
        self._messages = self._select()
        self._is_open = True

    def read(self) -> ImageSample | None:
        """The next picture when it is due; None at the end. Raises DeviceError for one that cannot be read."""
        try:
            message, recorded_ns = next(self._messages, (None, 0))
        except Exception as error:
            raise self._damaged(error) from error
        if message is None:
            return None
        pixels = self._pixels(message)
        stamp = message.header.stamp
        captured_ns = stamp.sec * 1_000_000_000 + stamp.nanosec or recorded_ns
        stamp_ns, received_ns = self._pace.wait(self._offset_ns(captured_ns))
        return ImageSample(stamp_ns, received_ns, self._camera, pixels)

    def close(self) -> None:
        """Close the bag."""
        self._messages = iter(())
        if self._is_open:
            self._is_open = False
            self._reader.close()

    def _open(self, path: Path) -> AnyReader:
        if not path.exists():
            raise DeviceError(f"{self._label}: there is no such bag")
        try:
            # The type store serves older bags, which do not describe their own messages.
            reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            reader.open()
        except Exception as error:
            raise self._damaged(error) from error
        return reader

    def _damaged(self, error: Exception) -> DeviceError:
        # A damaged bag raises whatever the library of its storage raises.
        return DeviceError(f"{self._label}: cannot be read as a bag ({' '.join(str(error).split())})")

    def _select(self) -> Iterator[tuple[Any, int]]:
        try:
            connections = [c for c in self._reader.connections if c.topic == self._topic and c.msgtype in IMAGE_TYPES]
            if not connections:
                shown = sorted({c.topic for c in self._reader.connections if c.msgtype in IMAGE_TYPES})
                topics = ", ".join(shown) or "none"
                raise DeviceError(
                    f"{self._label}: has no pictures on topic '{self._topic}'; its image topics: {topics}"
                )
            if sum(c.msgcount for c in connections) == 0:
                raise DeviceError(f"{self._label}: topic '{self._topic}' holds no picture")
        except DeviceError:
            self._reader.close()
            raise
        return (
            (self._reader.deserialize(data, connection.msgtype), recorded_ns)
            for connection, recorded_ns, data in self._reader.messages(connections)
        )

    def _pixels(self, message: Any) -> Pixels:
        try:
            # Rows with padding would come out sheared, without a word: rosbags-image takes every picture as dense.
            if hasattr(message, "step") and message_to_cvimage(message).nbytes != len(message.data):
                raise ValueError(f"{len(message.data)} bytes in {message.height} rows are more than its pixels")
            return np.ascontiguousarray(message_to_cvimage(message, "rgb8"), dtype=np.uint8)
        except Exception as error:  # several unrelated errors of rosbags-image, OpenCV and numpy
            kind = getattr(message, "encoding", None) or getattr(message, "format", "")
            reason = " ".join(str(error).split()) or "not decodable"
            raise DeviceError(
                f"{self._label}: a '{kind}' picture on '{self._topic}' cannot be read ({reason})"
            ) from error

    def _offset_ns(self, captured_ns: int) -> int:
        if self._first_ns is None:
            self._first_ns = self._last_ns = captured_ns
        gap_s = (captured_ns - self._last_ns) / 1e9
        if abs(gap_s) > MAX_GAP_S:
            raise DeviceError(
                f"{self._label}: two pictures on '{self._topic}' are {gap_s:.0f} s apart; allowed are {MAX_GAP_S:g} s"
            )
        self._last_ns = captured_ns
        return captured_ns - self._first_ns
