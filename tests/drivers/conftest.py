"""Clocks that stand still until they are moved, pictures, and real video files and bags made of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from policy_bringup.drivers.clocks import Clocks

ROS_START_NS = 1_700_000_000_000_000_000
MONOTONIC_START_NS = 5_000_000_000


class FakeTime:
    """Both clocks; sleeping moves them and takes no time. `oversleep_ns`: how much longer each sleep takes."""

    def __init__(self) -> None:
        self.elapsed_ns = 0
        self.oversleep_ns = 0
        self.slept: list[float] = []
        self.clocks = Clocks(lambda: ROS_START_NS + self.elapsed_ns, lambda: MONOTONIC_START_NS + self.elapsed_ns)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.slept.append(seconds)
        self.elapsed_ns += round(seconds * 1e9) + self.oversleep_ns


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Five RGB pictures of noise, 32 high and 48 wide: mixing up channels, sides or frames cannot go unseen."""
    random = np.random.default_rng(11)
    return [random.integers(0, 256, (32, 48, 3)).astype(np.uint8) for _ in range(5)]


@pytest.fixture
def video(tmp_path: Path, pictures: list[np.ndarray]) -> Path:
    """The pictures as a video, without loss."""
    path = tmp_path / "pictures.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 10.0, (48, 32))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


class Bags:
    """Makes rosbag2 recordings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = get_typestore(Stores.ROS2_JAZZY)

    def header(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = self._store.types["builtin_interfaces/msg/Time"](seconds, nanoseconds)
        return self._store.types["std_msgs/msg/Header"](stamp, "camera")

    def image(self, pixels: np.ndarray, stamp_ns: int, encoding: str = "rgb8", padding: int = 0) -> Any:
        height, width = pixels.shape[:2]
        rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)))
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        message = self._store.types["sensor_msgs/msg/Image"]
        return message(self.header(stamp_ns), height, width, encoding, 0, data.size // height, data)

    def compressed(self, content: bytes, stamp_ns: int, kind: str = "png") -> Any:
        message = self._store.types["sensor_msgs/msg/CompressedImage"]
        return message(self.header(stamp_ns), kind, np.frombuffer(content, np.uint8))

    def text(self, content: str) -> Any:
        return self._store.types["std_msgs/msg/String"](content)

    def write(
        self,
        topics: dict[str, Sequence[tuple[int, Any]]],
        storage: StoragePlugin = StoragePlugin.MCAP,
        types: dict[str, str] | None = None,
    ) -> Path:
        """A bag of topic -> (recorder's time in ns, message); `types` gives the type of topics without messages."""
        path = self._folder / f"bag_{storage.name.lower()}"
        with Writer(path, version=9, storage_plugin=storage) as writer:
            for topic, entries in topics.items():
                kind = entries[0][1].__msgtype__ if entries else (types or {})[topic]
                connection = writer.add_connection(topic, kind, typestore=self._store)
                for recorded_ns, message in entries:
                    writer.write(connection, recorded_ns, self._store.serialize_cdr(message, kind))
        return path


@pytest.fixture
def bags(tmp_path: Path) -> Bags:
    return Bags(tmp_path)


@pytest.fixture
def drain() -> Callable[[Any], list[Any]]:
    """Everything that a recording gives until its end."""

    def read_all(camera: Any) -> list[Any]:
        samples = []
        while (sample := camera.read()) is not None:
            samples.append(sample)
        return samples

    return read_all
