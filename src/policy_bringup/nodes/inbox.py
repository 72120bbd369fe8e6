"""Subscriptions that a node empties itself, on its own beat.

Why: being woken by rclpy's executor costs about half a millisecond of processor time per message, whatever the message.
At the rates of core/graph.py that is more than one core for the whole robot; looking into queues costs a tenth of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from policy_bringup.core import graph
from policy_bringup.core.decoding import MAX_TABLE_BYTES
from policy_bringup.nodes import endpoints


class ByHand(CallbackGroup):
    """Keeps the executor away from its entities."""

    def can_execute(self, entity: object) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: object) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: object) -> None:
        """Nothing began."""


class Inbox:
    """Topics of the graph, taken from one thread. depth: messages kept between two looks; None: as the graph says."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = ByHand()
        self._entries: list[tuple[Subscription, Callable[..., None], bool]] = []

    def hear(self, name: str, callback: Callable[[Any], None], depth: int | None = None) -> None:
        """`take` will call `callback(message)`. Raises ConfigError when this node is not among the topic's readers."""
        self._add(name, callback, depth, False)

    def hear_published(self, name: str, callback: Callable[[Any, int], None], depth: int | None = None) -> None:
        """`take` will call `callback(message, ns)`, with the ROS time at which the message was published."""
        self._add(name, callback, depth, True)

    def hear_serialised(self, name: str, callback: Callable[[bytes, Any], None], depth: int | None = None) -> None:
        """`take` will call `callback(data, info)`: the message as it came, and rclpy's source_timestamp and
        received_timestamp (ROS time, ns) and publication_sequence_number."""
        self._add(name, callback, depth, False, raw=True)

    def hear_small(self, name: str, callback: Callable[[Any], None]) -> None:
        """As `hear`, for messages no larger than an action table. A far too large one comes as an empty one: unpacking
        it would take the time that it is meant to steal, and nothing else is heard meanwhile, not even an e-stop."""
        kind = endpoints.interface(graph.topic(name).type)

        def unpack(data: bytes, _info: Any) -> None:
            callback(deserialize_message(data, kind) if len(data) <= MAX_TABLE_BYTES else kind())

        self.hear_serialised(name, unpack)

    def take(self) -> int:
        """Hands every waiting message to its callback, topic by topic, oldest first; returns how many there were."""
        count = 0
        for subscription, callback, timed in self._entries:
            while (taken := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
                message, info = taken
                count += 1
                if subscription.raw:
                    callback(message, info)
                elif timed:
                    callback(message, info["source_timestamp"])
                else:
                    callback(message)
        return count

    def clear(self) -> None:
        """Ends all subscriptions."""
        for subscription, *_ in self._entries:
            self._node.destroy_subscription(subscription)
        self._entries.clear()

    def _add(self, name: str, callback: Callable[..., None], depth: int | None, timed: bool, raw: bool = False) -> None:
        subscription = endpoints.subscribe(self._node, name, callback, self._group, depth, raw)
        self._entries.append((subscription, callback, timed))
