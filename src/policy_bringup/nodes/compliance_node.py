"""Lets a hand lead a real arm: `robot/compliant` under ros2_control, by switching controllers.

Whoever asks for a compliant arm gets it only if the controllers are then seen to be switched. If anything goes wrong,
the trajectory controllers are started again at once; and where even that fails, again every second, until they are seen
to hold the arm. A node that starts finds the arm held, or has it held; one that stops leaves it held.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from std_srvs.srv import SetBool

from policy_bringup.control.compliance import ComplianceConfig, Roles, returns_to_last_command
from policy_bringup.control.custody import Custody
from policy_bringup.core.errors import DeviceError
from policy_bringup.core.throttle import Throttle
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.controllers import Controllers
from policy_bringup.nodes.hand_guide import ANSWER_S
from policy_bringup.nodes.parameters import load_parameters, text_parameter
from policy_bringup.nodes.runtime import PROMPT, BringupNode, run

DEADLINE_S = 0.8 * ANSWER_S
"""Within this an answer leaves, so that it arrives in time."""
PATIENCE_S, ONE_LOOK_S = 5.0, 0.5
"""How long ros2_control may take to be found at the start, and how long it has for one look."""
LOOK_EVERY_S, BEAT_S = 1.0, 0.1


class ComplianceNode(BringupNode):
    """Refuses to start while the controllers are not such that it can lend the arm and take it back."""

    niceness = PROMPT

    def __init__(self) -> None:
        super().__init__("compliance")

    def open(self) -> None:
        """Looks whether everything is there."""
        config = load_parameters(self, self.config_path, ComplianceConfig)
        roles = Roles(config.trajectory_controllers, text_parameter(self, "compliant_controller"))
        controllers = Controllers(self)
        states = self._first_look(controllers)
        if reason := roles.refusal(states):
            raise DeviceError(reason)
        if reason := returns_to_last_command(controllers.returns_to_last_command(time.monotonic() + PATIENCE_S)):
            raise DeviceError(reason)
        self._custody = Custody(roles, config.timeout_s, controllers, states)
        self._lock = threading.Lock()  # looks, requests and the end of the process each have a thread of their own
        self._offered = False
        self._throttle = Throttle(1.0 / LOOK_EVERY_S)
        endpoints.serve(self, "robot/compliant", self._serve)
        # Not in the executor: a request would wait there unnoticed, and be carried out after its asker has given up.
        self._beat = Beat(BEAT_S, self._look, lambda error: self.fail(f"the controllers are not watched: {error!r}"))

    def start(self) -> None:
        """Has the arm held, as the arm node believes it is."""
        with self._lock:
            self._offered = True
            if self._custody.owed:
                self._tell(self._custody.take_back(time.monotonic() + DEADLINE_S))

    def stop(self) -> None:
        """Has the arm held where it is, if a hand leads it."""
        with self._lock:
            self._offered = False
            reason = self._custody.take_back(time.monotonic() + DEADLINE_S) if self._custody.lent else ""
        if reason:
            self.fail(f"the arm was left as it is: {reason}")

    def close(self) -> None:
        """Ends after the present look."""
        self._beat.stop()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, who has the arm, and the state of every controller that takes part."""
        level, sentence, values = self._custody.health()
        return level, sentence, dict(values)

    def _serve(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        until = time.monotonic() + DEADLINE_S
        if not self._lock.acquire(timeout=DEADLINE_S):
            response.success, response.message = False, "controller_manager holds up the node that asks it"
            return response
        try:
            if self._offered:
                reason = self._custody.lend(until) if request.data else self._custody.take_back(until)
            else:
                reason = "the node that switches controllers is not active"
            self._tell(reason)
            response.success, response.message = not reason, reason or self._custody.sentence()
        finally:
            self._lock.release()
        return response

    def _look(self) -> None:
        if not self._throttle.due(time.monotonic_ns()):
            return
        with self._lock:
            self._custody.look(time.monotonic() + ONE_LOOK_S)
            if self._custody.owed and self._offered:
                self._tell(self._custody.take_back(time.monotonic() + DEADLINE_S))

    def _tell(self, reason: str) -> None:
        """Loud at once, not with the next second's health."""
        if reason:
            self.get_logger().error(reason)
            self._publish_health()

    def _first_look(self, controllers: Controllers) -> dict[str, str]:
        """Asks anew: DDS may lose an answer to a client that its server has not discovered yet. Raises DeviceError."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return controllers.states(time.monotonic() + ONE_LOOK_S)
            except DeviceError:
                if time.monotonic() >= until or self.ended.is_set():
                    raise


def main() -> None:
    """Entry point."""
    run(ComplianceNode)


if __name__ == "__main__":
    main()
