"""Subscriptions whose messages are taken in one go, when the node has time for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription

from policy_bringup.nodes import endpoints


class Mailbox:
    """For a node that needs ten looks a second, not every message: being woken for each costs several times as much.

    What arrives between two `take`s waits in the topic's queue, and the oldest is lost when that is full.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = LeftAlone()
        self._subscriptions: list[Subscription] = []

    def __len__(self) -> int:
        return len(self._subscriptions)

    def add(self, name: str, callback: Callable[[Any], None]) -> None:
        """Subscribes to a topic of the graph. Raises ConfigError when this node is not among its readers."""
        subscription = endpoints.subscribe(self._node, name, callback)
        # The events too: in rmw_fastrtps a queue that is not empty makes them wake the executor over and over.
        for entity in (subscription, *subscription.event_handlers):
            entity.callback_group = self._group
        self._subscriptions.append(subscription)

    def take(self) -> None:
        """Calls the callbacks for all that has arrived."""
        for subscription in self._subscriptions:
            with subscription.handle:
                while (taken := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
                    subscription.callback(taken[0])

    def clear(self) -> None:
        """Ends all its subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()


class LeftAlone(CallbackGroup):
    """What is in this group is never run by an executor."""

    def can_execute(self, entity: object) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: object) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: object) -> None:
        """Nothing began."""
