"""Asked to end in the middle of an episode, the recorder keeps everything that was sent until then."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rclpy.node import Node
from sensor_msgs.msg import JointState

from policy_bringup.core import graph
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.startup import Options, processes
from policy_bringup.episodes.journal import load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.recovery import is_clean
from policy_bringup.nodes import endpoints, image_messages, messages
from policy_bringup.runner import command_line

GRASP = Path(__file__).resolve().parents[2] / "config" / "grasp.yaml"
PERIOD_S, PER_PICTURE = 0.01, 3
"""Of joint states, and how many of them to a picture."""


class Senders:
    """A robot and two cameras, in a thread of their own: every message has its number in header.frame_id."""

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        robot = load_deployment(GRASP)[1]
        self._joints = [*robot.joint_names, robot.gripper.joint]
        self._pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        pictures = [f"camera/{camera}/image_raw" for camera in ("front", "wrist")]
        self._outputs = {name: self._output(node, name) for name in ("joint_states", *pictures)}
        self._sent = dict.fromkeys(self._outputs, -1)
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Senders":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def paused(self) -> Iterator[dict[str, int]]:
        """Topic -> the newest number that was sent; within, no other one is."""
        with self._lock:
            yield dict(self._sent)

    def _output(self, node: Node, name: str):
        entry = graph.topic(name)
        return node.create_publisher(endpoints.interface(entry.type), name, endpoints.profile(entry.qos))

    def _run(self) -> None:
        due, count = time.monotonic(), 0
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            with self._lock:
                for name in self._outputs:
                    if name == "joint_states" or count % PER_PICTURE == 0:
                        self._send(name)
            due, count = due + PERIOD_S, count + 1

    def _send(self, name: str) -> None:
        now_ns, number = self._clock.now().nanoseconds, self._sent[name] + 1
        if name == "joint_states":
            message = JointState(name=self._joints, position=[0.01] * len(self._joints))
            message.header.stamp = messages.time_of(now_ns)
        else:
            message = image_messages.image_message(self._pixels, now_ns, "")
        message.header.frame_id = str(number)
        self._outputs[name].publish(message)
        self._sent[name] = number


@pytest.fixture
def alone(domain_id: int, tmp_path: Path) -> Iterator[subprocess.Popen]:
    """The recorder's process, and no other node."""
    options = Options("hardware", GRASP, source="none", record=tmp_path / "demos", domain_id=domain_id)
    (process,) = [process for process in processes(options) if process.name == "recorder"]
    child = subprocess.Popen(command_line(process), env={**os.environ, **process.environment})
    yield child
    child.kill()
    child.wait()


def numbers(folder: Path, topics: dict[str, int]) -> dict[str, list[int]]:
    """Of the messages in a bag."""
    found: dict[str, list[int]] = {topic: [] for topic in topics}
    with open_bag(folder) as bag:
        for message in bag.messages(topics):
            found[message.topic].append(int(bag.decode(message).header.frame_id))
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
def test_everything_that_was_sent_before_the_signal_is_in_the_bag(listener, recorder, alone, tmp_path: Path, how: int):
    with Senders(listener.node) as senders:
        recorder.begin()
        recorder.wait_for(1.0)
        with senders.paused() as newest:
            alone.send_signal(how)
        assert alone.wait(10.0) == 0
    (folder,) = episodes(tmp_path / "demos")
    assert is_clean(folder)
    counts = load_journal(folder).counts
    for topic, found in numbers(folder, newest).items():
        assert found == list(range(found[0], found[-1] + 1)), topic
        assert found[-1] >= newest[topic] > found[0], topic
        count = counts[topic]
        assert (count.received, count.written, count.dropped, count.lost) == (len(found), len(found), 0, 0), topic
