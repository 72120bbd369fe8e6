"""`arm/state`: who the arm obeys, and its gripper, ten times a second and whenever that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from policy_bringup.control.arm import Arm
from policy_bringup.core import graph
from policy_bringup.core.decoding import GUIDED
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import GRIPPER_COLUMNS
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
    """Publishes the arm's state, and where its button has left the gripper until safe actions are followed again: from
    there they have to begin. arm: None before it has begun."""

    def __init__(self, node: BringupNode, guide: HandGuide, arm: Callable[[], Arm | None]) -> None:
        self._node, self._guide, self._arm = node, guide, arm
        self._output = endpoints.publisher(node, "arm/state")
        self._throttle = Throttle(graph.topic("arm/state").rate_hz)
        self._said: dict[str, Any] = {}

    def look(self, now_ns: int) -> None:
        """To be called often. `now_ns`: monotonic."""
        due, arm = self._throttle.due(now_ns), self._arm()
        gripped = None if arm is None else arm.gripped
        values: dict[str, Any] = {"state": self._state(arm), "follows": self._guide.follows}
        if gripped is not None:
            values |= zip(GRIPPER_COLUMNS, gripped, strict=True)
        if due or values != self._said:
            self._said = values
            entry = messages.status("arm", "ok", SENTENCES[values["state"]], values)
            self._output.publish(messages.diagnostics(self._node.stamp_now(), entry))

    def _state(self, arm: Arm | None) -> str:
        if self._guide.led:
            return GUIDED
        return "waiting" if arm is None else "holding" if arm.holding else "following"
