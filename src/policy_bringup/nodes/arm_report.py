"""`arm/state`: who the arm obeys, ten times a second and whenever that changes."""

from __future__ import annotations

from collections.abc import Callable

from policy_bringup.core import graph
from policy_bringup.core.decoding import GUIDED
from policy_bringup.core.throttle import Throttle
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.hand_guide import HandGuide
from policy_bringup.nodes.runtime import BringupNode

SENTENCES = {
    "waiting": "waits for joint states",
    GUIDED: "led by hand",
    "holding": "holds where it is",
    "following": "follows safe actions",
}
"""By the arm's state: one word for programs, and what it means."""


class ArmReport:
    """Publishes the arm's state. holding: whether it does, or follows; None before it has begun."""

    def __init__(self, node: BringupNode, guide: HandGuide, holding: Callable[[], bool | None]) -> None:
        self._node, self._guide, self._holding = node, guide, holding
        self._output = endpoints.publisher(node, "arm/state")
        self._throttle = Throttle(graph.topic("arm/state").rate_hz)
        self._said = ""

    def look(self, now_ns: int) -> None:
        """To be called often. `now_ns`: monotonic."""
        due, state = self._throttle.due(now_ns), self._state()
        if due or state != self._said:
            self._said = state
            values = {"state": state, "follows": self._guide.follows}
            entry = messages.status("arm", "ok", SENTENCES[state], values)
            self._output.publish(messages.diagnostics(self._node.stamp_now(), entry))

    def _state(self) -> str:
        if self._guide.led:
            return GUIDED
        holding = self._holding()
        return "waiting" if holding is None else "holding" if holding else "following"
