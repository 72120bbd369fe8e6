"""Who publishes what moves or stops the arm: one publisher per topic, of the right node, the same one all along.

Without DDS security every program on this machine may publish anywhere. This notices the ones that nobody meant to run
(a bag replayed into a command topic, a second deployment, a forgotten `ros2 topic pub`); it does not keep out a program
that takes another's name (docs/security.md).

rclpy does not say who sent a message. So the graph is asked before a message is used: discovery has listed a publisher
there before the first of its messages can arrive.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node

from policy_bringup.core import graph
from policy_bringup.core.decoding import newly_armed
from policy_bringup.core.throttle import Throttle

LOOK_HZ = 10.0
"""How often the publishers are listed while nothing arrives."""
NAMELESS_NS = 500_000_000
"""How long a lone publisher may have no node name: discovery tells the name after the publisher."""
MOST_NAMES = 3
"""In one sentence."""
_UNNAMED = ("_NODE_NAME_UNKNOWN_", "_CREATED_BY_BARE_DDS_APP_")
"""What rmw gives for a node name when there is none."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """One endpoint: its identity in DDS, and its node with namespace, e.g. "/safety"; "" where none is known."""

    gid: bytes
    node: str


class Pin:
    """Keeps to the first publisher of `topic` that is alone there and belongs to the node `owner`, until it leaves.

    owner: with its namespace; "": whichever node comes first, where that is a driver or a box outside this package.
    """

    def __init__(self, topic: str, owner: str) -> None:
        self._topic, self._owner = topic, owner
        self._gid: bytes | None = None
        self._had_one = False
        self._nameless_ns: int | None = None
        self._trusted = False

    @property
    def trusted(self) -> bool:
        """Whether that one, and nobody else, published there when `judge` was last asked."""
        return self._trusted

    def judge(self, present: tuple[Publisher, ...], now_ns: int) -> str:
        """Takes in who publishes at `now_ns` (monotonic); returns what is wrong with it, as a sentence, or ""."""
        if all(publisher.gid != self._gid for publisher in present):
            self._gid = None
        alone = present[0] if len(present) == 1 else None
        replaced = self._gid is None and alone is not None and self._owner in ("", alone.node) and self._pin(alone)
        self._trusted = alone is not None and alone.gid == self._gid
        being_named = self._is_being_named(alone, now_ns)
        if replaced:
            return f"another {self._owner or 'program'} publishes '{self._topic}' than before"
        if self._trusted or being_named or not present:
            return ""
        return (
            f"{self._strangers(present)} publishes '{self._topic}', which is for {self._owner or 'one program'} alone"
        )

    def _pin(self, publisher: Publisher) -> bool:
        """Returns whether there was one before."""
        replaced, self._gid, self._had_one = self._had_one, publisher.gid, True
        return replaced

    def _is_being_named(self, alone: Publisher | None, now_ns: int) -> bool:
        if alone is None or alone.node:
            self._nameless_ns = None
            return False
        if self._nameless_ns is None:
            self._nameless_ns = now_ns
        return now_ns - self._nameless_ns < NAMELESS_NS

    def _strangers(self, present: tuple[Publisher, ...]) -> str:
        names = [publisher.node for publisher in present if publisher.gid != self._gid]
        if self._gid is None and self._owner and self._owner in names:
            names.remove(self._owner)  # one of them may be the right one; nobody knows which
        spoken = [self._spoken(name) for name in names]
        more = f" and {len(spoken) - MOST_NAMES} more" if len(spoken) > MOST_NAMES else ""
        return ", ".join(spoken[:MOST_NAMES]) + more

    def _spoken(self, name: str) -> str:
        return f"a second {name}" if name and name == self._owner else name or "a program without a node name"


class Pins:
    """The pins of the arm node, asked from one thread.

    A stranger on any of the topics, or a publisher in the place of the first one, is an alarm. From then on nothing is
    trusted until that is over and safety is armed anew: what was armed before must not begin to move again by itself.
    """

    def __init__(self, node: Node, *topics: str) -> None:
        self._node = node
        self._pins = _pins(node, topics)
        self._kept = self._told = self._state = ""
        self._throttle = Throttle(LOOK_HZ)
        self._refused = 0

    @property
    def alarm(self) -> str:
        """What is or was wrong, and what follows from it; "" for nothing."""
        return f"{self._kept}; the arm holds until that is over and safety is armed anew" if self._kept else ""

    @property
    def refused(self) -> int:
        """Messages that `trusts` turned away."""
        return self._refused

    def trusts(self, topic: str, now_ns: int) -> bool:
        """Whether a message of `topic` that has arrived may be used. `now_ns`: monotonic."""
        # Counting is cheap however many there are; listing is not, and many are refused anyway.
        if not self._kept and self._node.count_publishers(topic) == 1:
            self._judge(topic, now_ns)
            if self._pins[topic].trusted and not self._kept:
                return True
        self._refused += 1
        return False

    def look(self, now_ns: int) -> bool:
        """Lists the publishers, now and then; True if the alarm is another than at the last call."""
        if self._throttle.due(now_ns):
            for topic in self._pins:
                self._judge(topic, now_ns)
        changed = self._kept != self._told
        if changed:
            self._told = self._kept
            if self._kept:
                self._node.get_logger().error(self.alarm)
        return changed

    def hear(self, state: str, now_ns: int) -> None:
        """Safety's state, whenever it is told. `now_ns`: monotonic."""
        armed = newly_armed(self._state, state)
        self._state = state
        if armed and not any(self._judge(topic, now_ns) for topic in self._pins):
            self._kept = ""

    def _judge(self, topic: str, now_ns: int) -> str:
        sentence = self._pins[topic].judge(_present(self._node, topic), now_ns)
        self._kept = sentence or self._kept
        return sentence


class InputPins:
    """The pins of what a node hears, asked from one thread.

    Each topic stands for itself: a stranger beside one source is no reason to distrust another. What was wrong with a
    topic stays so until that is over and nothing is armed. So whoever comes in the place of a publisher while the arm
    moves waits for the operator, as it would if the monitor had stopped it for any other reason.
    armed: whether something is, as the monitor says; or, where it is not asked, whether the arm follows.
    """

    def __init__(self, node: Node, armed: Callable[[], bool], *topics: str) -> None:
        self._node, self._armed = node, armed
        self._pins = _pins(node, topics)
        self._kept: dict[str, str] = {}
        self._told = ""
        self._turns = itertools.cycle(topics)
        self._throttle = Throttle(LOOK_HZ * len(topics))

    @property
    def alarm(self) -> str:
        """What is or was wrong, and what follows from it; "" for nothing. From any thread."""
        kept = self._kept
        return f"{'; '.join(kept.values())}; refused until that is over and nothing is armed" if kept else ""

    def publishers(self, topic: str, now_ns: int) -> int:
        """What the monitor is to be told of a message of `topic`: 1 only if it may be used, else how many publish, or
        0 for a single one that is not trusted. `now_ns`: monotonic."""
        count = int(self._node.count_publishers(topic))  # listing a crowd would cost more than a message is worth
        if count != 1:
            return count
        self._judge(topic, now_ns)
        return int(self._pins[topic].trusted and topic not in self._kept)

    def look(self, now_ns: int) -> bool:
        """Lists the publishers of one topic, now and then; True if the alarm is another than at the last call."""
        told, self._told = self._told, self.alarm
        changed = self._told != told
        if changed and self._told:
            self._node.get_logger().error(self._told)
        # Only after it was told: what one message has brought up is not to be gone before anybody has heard of it.
        if self._throttle.due(now_ns):
            topic = next(self._turns)
            if not self._judge(topic, now_ns) and not self._armed():
                self._kept = {name: sentence for name, sentence in self._kept.items() if name != topic}
        return changed

    def _judge(self, topic: str, now_ns: int) -> str:
        sentence = self._pins[topic].judge(_present(self._node, topic), now_ns)
        if sentence:
            self._kept = {**self._kept, topic: sentence}  # anew, since another thread may be reading the old one
        return sentence


def _pins(node: Node, topics: tuple[str, ...]) -> dict[str, Pin]:
    return {topic: Pin(topic, _owner(topic, node.get_namespace())) for topic in topics}


def _owner(topic: str, namespace: str) -> str:
    """The node that publishes it, "" where that may be one from outside this package."""
    publishers = graph.topic(topic).publishers
    ours = {node.name for node in graph.NODES}
    return f"{namespace.rstrip('/')}/{publishers[0]}" if len(publishers) == 1 and publishers[0] in ours else ""


def _present(node: Node, topic: str) -> tuple[Publisher, ...]:
    infos = node.get_publishers_info_by_topic(topic)
    return tuple(Publisher(bytes(i.endpoint_gid), _full_name(i.node_namespace, i.node_name)) for i in infos)


def _full_name(namespace: str, name: str) -> str:
    return "" if name in _UNNAMED else f"{namespace.rstrip('/')}/{name}"
