"""A full-HD camera beside the robot, and somebody who looks at it: 30 pictures of 6 MB a second, in two processes.

Run: python stream.py write | read
"""

import array
import sys
import time
from functools import cache

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

WIDTH, HEIGHT, RATE_HZ = 1920, 1080, 30.0
TOPIC = "beside/image_raw"


@cache
def _say_once(words: str) -> None:
    print(words, flush=True)


def main() -> None:
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node = Node(f"beside_{sys.argv[1]}")
    if sys.argv[1] == "read":
        node.create_subscription(Image, TOPIC, lambda _: _say_once("pictures come"), qos_profile_sensor_data, raw=True)
        rclpy.spin(node)
    picture = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
    picture.data = array.array("B", bytes(3 * WIDTH * HEIGHT))  # plain bytes are checked one by one, for seconds
    data, output = serialize_message(picture), node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
    due = time.monotonic()
    while True:
        output.publish(data)
        due = max(due + 1.0 / RATE_HZ, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
