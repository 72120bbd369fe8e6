"""All topics of a deployment as they were on the wire: bytes, when they were published and when they arrived.

Messages are taken raw by a thread of its own and decoded when somebody asks, so that looking on costs the processors
little. Both times are the system clock's, as DDS stamps them: not those in message headers, which a fault may forge.
"""

import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.inbox import ByHand

ACTION, SAFE, COMMAND = "policy/action", "safety/action", "arm_controller/joint_trajectory"
VERDICT, STATE, JOINTS, ESTOP = "safety/verdict", "safety/state", "joint_states", "safety/estop"
RECORDER, DIAGNOSTICS = "recorder/state", "/diagnostics"
TRUE_JOINTS = "fault/true_joint_states"
"""What the simulator publishes where a liar republishes it as joint_states."""
MARK = "fault/mark"
"""The test's own topic: when what was done to the stack."""
ROGUE = "rogue"
"""header.frame_id of what a stranger publishes, by which it is told from the stack's own."""
POLL_S, DEPTH = 0.004, 500


@dataclass(frozen=True)
class Sample:
    """One message. source_ns, received_ns: system clock, ns. frame: header.frame_id of a table, read from its bytes."""

    topic: str
    kind: type
    data: bytes
    source_ns: int
    received_ns: int
    sequence: int

    @cached_property
    def message(self):
        return deserialize_message(self.data, self.kind)

    @cached_property
    def frame(self) -> str:
        (length,) = struct.unpack_from("<I", self.data, 12)
        return self.data[16 : 16 + length - 1].decode()


@dataclass(frozen=True)
class Change:
    """One transition of the safety monitor, as its verdict told it. ns: when that was published."""

    ns: int
    before: str
    after: str
    rule: str
    column: str
    sentence: str


class Recording:
    """Listens from its making until `close`. Everything of core/graph.py except pictures, and the topics above."""

    def __init__(self, node: Node, cameras: tuple[str, ...]) -> None:
        self._samples: dict[str, list[Sample]] = {}
        self._subscriptions = []
        for topic in graph.topics(cameras):
            if topic.type not in (graph.IMAGE, graph.JPEG):
                self._hear(node, topic.name, endpoints.interface(topic.type), endpoints.profile(topic.qos))
        joints = graph.topic(JOINTS)
        self._hear(node, TRUE_JOINTS, endpoints.interface(joints.type), endpoints.profile(joints.qos))
        self._hear(node, MARK, String, QoSProfile(depth=DEPTH))
        self._marks = node.create_publisher(String, MARK, QoSProfile(depth=DEPTH))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def mark(self, what: str) -> Callable[[], int]:
        """Puts a moment into the recording; call the answer for when it was, ns."""
        count = len(self._samples[MARK])
        self._marks.publish(String(data=what))

        def moment() -> int:
            wait(lambda: len(self._samples[MARK]) > count, 5.0, f"the mark '{what}'")
            return self._samples[MARK][count].source_ns

        return moment

    def newest(self, topic: str) -> Sample | None:
        samples = self._samples[topic]
        return samples[-1] if samples else None

    def samples(self, topic: str, since_ns: int, until_ns: int = 2**63) -> list[Sample]:
        """In order of arrival, published in [since_ns, until_ns]."""
        chosen = []
        for sample in reversed(self._samples[topic]):
            if sample.received_ns < since_ns:
                break
            if since_ns <= sample.source_ns <= until_ns:
                chosen.append(sample)
        return chosen[::-1]

    def changes(self, since_ns: int) -> list[Change]:
        """Transitions of the monitor since then."""
        found = []
        for sample in self.samples(VERDICT, since_ns):
            for entry in sample.message.status[1:]:
                values = values_of(entry)
                told = (values["from"], values["to"], values["rule"], values["column"], entry.message)
                found.append(Change(sample.source_ns, *told))
        return found

    def change(self, since_ns: int, after: str) -> Change | None:
        """The first transition to a state."""
        return next((change for change in self.changes(since_ns) if change.after == after), None)

    @property
    def safety(self) -> dict[str, str]:
        """The newest safety/state: state, source, offered; empty before the first."""
        newest = self.newest(STATE)
        return values_of(newest.message.status[0]) if newest else {}

    def _hear(self, node: Node, name: str, kind: type, qos: QoSProfile) -> None:
        qos.depth = DEPTH
        self._samples[name] = []
        self._subscriptions.append(
            (name, kind, node.create_subscription(kind, name, _nothing, qos, callback_group=ByHand(), raw=True))
        )

    def _listen(self) -> None:
        while not self._ended.is_set():
            for name, kind, subscription in self._subscriptions:
                while (taken := subscription.handle.take_message(kind, True)) is not None:
                    data, info = taken
                    times = (info["source_timestamp"], info["received_timestamp"])
                    number = info["publication_sequence_number"]
                    self._samples[name].append(Sample(name, kind, data, *times, number))
            time.sleep(POLL_S)


def wait(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Looks every few milliseconds until `condition` holds."""
    assert waited(condition, timeout_s), f"waited {timeout_s:.0f} s in vain for: {what}"


def waited(condition: Callable[[], object], timeout_s: float) -> bool:
    """The same, without insisting."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def lost(samples: Iterable[Sample]) -> int:
    """Messages of one publisher that are missing among these, by their numbers."""
    numbers = [sample.sequence for sample in samples]
    return max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0


def spacing_ms(samples: Iterable[Sample]) -> list[float]:
    """Between successive messages, by when they were published."""
    stamps = [sample.source_ns for sample in samples]
    return [(after - before) / 1e6 for before, after in pairwise(stamps)]


def _nothing(_: object) -> None:
    """Never called: the recording takes by hand."""
