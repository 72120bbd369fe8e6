"""Publishers, subscriptions and services made from core/graph.py: type, QoS and permission come from there."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.client import Client
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.service import Service
from rclpy.subscription import Subscription

from policy_bringup.core import graph
from policy_bringup.core.errors import ConfigError


def interface(type_name: str) -> Any:
    """ "sensor_msgs/msg/Image" -> the class."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def profile(qos: graph.Qos) -> QoSProfile:
    """core/graph.py's words -> rclpy's."""
    return QoSProfile(
        depth=qos.depth,
        reliability=QoSReliabilityPolicy[qos.reliability.upper()],
        durability=QoSDurabilityPolicy[qos.durability.upper()],
    )


def publisher(node: Node, name: str) -> Publisher:
    """A publisher for a topic of the graph. Raises ConfigError when this node may not publish there."""
    topic = graph.topic(name)
    _require(node, topic.publishers, f"publish '{name}'")
    return node.create_publisher(interface(topic.type), topic.name, profile(topic.qos))


def subscribe(
    node: Node,
    name: str,
    callback: Callable[..., None],
    group: CallbackGroup | None = None,
    depth: int | None = None,
    raw: bool = False,
) -> Subscription:
    """A subscription to a topic of the graph; `depth` replaces the graph's, which is the publisher's; `raw`: as bytes.

    Raises ConfigError when this node is not among its readers.
    """
    topic = graph.topic(name)
    if not topic.read_by(node.get_name()):
        _require(node, topic.readers, f"read '{name}'")
    qos = profile(topic.qos if depth is None else replace(topic.qos, depth=depth))
    return node.create_subscription(interface(topic.type), topic.name, callback, qos, callback_group=group, raw=raw)


def serve(node: Node, name: str, callback: Callable[[Any, Any], Any], group: CallbackGroup | None = None) -> Service:
    """A service of the graph; one that waits for others needs a callback group of its own, or it shuts them out.

    Raises ConfigError when this node is not among its servers.
    """
    service = graph.service(name)
    _require(node, service.servers, f"serve '{name}'")
    return node.create_service(interface(service.type), service.name, callback, callback_group=group)


def client(node: Node, name: str, group: CallbackGroup | None = None) -> Client:
    """A client of a service of the graph. Raises ConfigError when this node is not among its clients."""
    service = graph.service(name)
    _require(node, service.clients, f"call '{name}'")
    return node.create_client(interface(service.type), service.name, callback_group=group)


def _require(node: Node, allowed: tuple[str, ...], what: str) -> None:
    if node.get_name() not in allowed:
        raise ConfigError(
            f"node '{node.get_name()}' may not {what}; core/graph.py allows {', '.join(allowed) or 'nobody'}"
        )
