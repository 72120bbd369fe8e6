"""A process between the simulated cameras and everybody who looks at their pictures: passes them on, or lies.

Run: python camera_relay.py LEVERS
"""

import array
import mmap
import signal
import struct
import sys
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

PASS, FREEZE, SWAP, BLACK = range(4)
CAMERAS = ("front", "wrist")
STAMP = slice(4, 12)
"""Where a serialised message has its stamp."""


def true_topic(camera: str) -> str:
    return f"fault/true_{camera}"


class Cameras(Node):
    """Frozen: the kept picture under a fresh stamp. Swapped: each camera's picture on the other's topic. Black: every
    pixel is nought, as of a sensor that has lost its light."""

    def __init__(self, levers: mmap.mmap) -> None:
        super().__init__("camera_relay")
        self._levers = levers
        self._kept: dict[str, bytes] = {}
        qos = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._outputs = {name: self.create_publisher(Image, f"camera/{name}/image_raw", qos) for name in CAMERAS}
        for name in CAMERAS:
            take = lambda data, name=name: self._take(name, data)  # noqa: E731
            self.create_subscription(Image, true_topic(name), take, qos, raw=True)

    def _take(self, name: str, data: bytes) -> None:
        (mode,) = struct.unpack_from("<q", self._levers, 0)
        if mode != FREEZE or name not in self._kept:
            self._kept[name] = data
        if mode == FREEZE:
            kept = self._kept[name]
            data = kept[: STAMP.start] + data[STAMP] + kept[STAMP.stop :]
        if mode == BLACK:
            picture = deserialize_message(data, Image)
            picture.data = array.array("B", bytes(len(picture.data)))
            data = serialize_message(picture)
        to = CAMERAS[1 - CAMERAS.index(name)] if mode == SWAP else name
        self._outputs[to].publish(data)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with Path(sys.argv[1]).open("r+b") as file:
        levers = mmap.mmap(file.fileno(), 0)
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    rclpy.spin(Cameras(levers))


if __name__ == "__main__":
    main()
