"""Looks on at a running deployment, over topics: what was said and when it was published; and an operator's buttons.

Messages wait in DDS until `look` takes them: being woken for each would keep a processor busy, and disturb what is
looked at. Times are DDS's source timestamps: ROS time, ns, put on where a message was published.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher

from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.core.startup import environment
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.inbox import ByHand
from policy_bringup.runner import Runner

ROOT = Path(__file__).resolve().parent.parent
ACTION, VERDICT, STATE = "safety/action", "safety/verdict", "safety/state"
POLICY, COMMAND, JOINTS, BOX = "policy/action", "arm_controller/joint_trajectory", "joint_states", "safety/estop"
DEPTH = 1000
"""Messages that DDS keeps between two looks."""
KEPT = 3000
"""Messages of a topic that stay to be looked up: half a minute at 100 Hz."""
LOOK_S = 0.005


class Heard(NamedTuple):
    """One message. number: the publisher's count, 0 where DDS does not tell."""

    published_ns: int
    message: Any
    number: int


class Change(NamedTuple):
    """One transition record of safety/verdict, and when the verdict was published."""

    published_ns: int
    values: dict[str, str]


class Onlooker:
    """A node named `operator`, with a context of its own. topics: names as in core/graph.py."""

    def __init__(self, context: Context, topics: tuple[str, ...]) -> None:
        self.node = Node("operator", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._subscriptions: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}
        self._callbacks: dict[str, Callable[[Heard], object]] = {}
        self.heard: dict[str, deque[Heard]] = {name: deque(maxlen=KEPT) for name in topics}
        group = ByHand()
        for name in topics:
            entry = graph.topic(name)
            qos = endpoints.profile(replace(entry.qos, depth=DEPTH))
            self._subscriptions[name] = self.node.create_subscription(
                endpoints.interface(entry.type), name, _unused, qos, callback_group=group
            )

    def on(self, topic: str, callback: Callable[[Heard], object]) -> None:
        """`callback` hears every message of the topic, in order."""
        self._callbacks[topic] = callback

    def look(self) -> None:
        """Takes all messages that have arrived."""
        for name, subscription in self._subscriptions.items():
            while (taken := subscription.handle.take_message(subscription.msg_type, False)) is not None:
                message, info = taken
                heard = Heard(info["source_timestamp"], message, info.get("publication_sequence_number") or 0)
                self.heard[name].append(heard)
                if name in self._callbacks:
                    self._callbacks[name](heard)

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Looks until it holds. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout_s:.0f} s in vain for {what}")
            time.sleep(LOOK_S)
            self.look()

    def last(self, seconds: float) -> None:
        """Looks on for so long."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= end, seconds + 10.0, "time to pass")

    def call(self, name: str, request: Any) -> Any:
        """Calls a service of the graph. Raises TimeoutError."""
        if name not in self._clients:
            self._clients[name] = endpoints.client(self.node, name)
        client = self._clients[name]
        self.wait(client.service_is_ready, 30.0, f"service {name}")
        future = client.call_async(request)
        answered = lambda: self._executor.spin_once(timeout_sec=0.0) or future.done()  # noqa: E731
        self.wait(answered, 10.0, f"the answer of {name}")
        return future.result()

    def publisher(self, topic: str) -> Publisher:
        """Of any topic, whoever's it is: a fault on purpose."""
        entry = graph.topic(topic)
        return self.node.create_publisher(endpoints.interface(entry.type), topic, endpoints.profile(entry.qos))

    @property
    def safety(self) -> dict[str, str]:
        """What safety/state said last; empty before."""
        said = self.heard[STATE]
        return values_of(said[-1].message.status[0]) if said else {}

    def changes(self, since_ns: int) -> list[Change]:
        """All transition records published since."""
        verdicts = [heard for heard in self.heard[VERDICT] if heard.published_ns >= since_ns]
        return [Change(h.published_ns, values_of(status)) for h in verdicts for status in h.message.status[1:]]

    def close(self) -> None:
        """Ends the node."""
        self._executor.shutdown()
        self.node.destroy_node()


@contextmanager
def looking_on(domain_id: int, topics: tuple[str, ...]) -> Iterator[Onlooker]:
    """A participant of its own on this domain; the variables of this process are afterwards what they were."""
    before = dict(os.environ)
    os.environ.update(environment(ROOT / "config", domain_id, pictures=False))
    context = Context()
    try:
        rclpy.init(context=context, domain_id=domain_id)
        onlooker = Onlooker(context, topics)
        try:
            yield onlooker
        finally:
            onlooker.close()
            rclpy.shutdown(context=context)
    finally:
        os.environ.clear()
        os.environ.update(before)


def dead(runner: Runner) -> str:
    """The first node that has ended, "" for none."""
    return next((name for name, child in runner.children.items() if child.poll() is not None), "")


def _unused(_message: Any) -> None:
    """Messages are taken by hand."""
