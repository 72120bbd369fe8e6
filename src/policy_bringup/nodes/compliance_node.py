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
from policy_bringup.core.errors import DeviceError
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.controllers import Controllers
from policy_bringup.nodes.hand_guide import ANSWER_S
from policy_bringup.nodes.parameters import load_parameters, text_parameter
from policy_bringup.nodes.runtime import PROMPT, BringupNode, run

DEADLINE_S = 0.8 * ANSWER_S
"""Within this an answer leaves, so that it arrives in time."""
PATIENCE_S, ONE_LOOK_S = 5.0, 0.5
"""How long ros2_control may take to be found at the start, and how often it is asked meanwhile."""
LOOK_EVERY_S = 1.0


class ComplianceNode(BringupNode):
    """Refuses to start while the controllers are not such that it can lend the arm and take it back."""

    niceness = PROMPT

    def __init__(self) -> None:
        super().__init__("compliance")

    def open(self) -> None:
        """Looks whether everything is there."""
        config = load_parameters(self, self.config_path, ComplianceConfig)
        self._roles = Roles(config.trajectory_controllers, text_parameter(self, "compliant_controller"))
        self._timeout_s = config.timeout_s
        self._controllers = Controllers(self)
        self._lock = threading.Lock()
        self._offered = self._led = self._owed = False
        self._trouble = ""
        self._states = self._first_look()
        until = time.monotonic() + PATIENCE_S
        if reason := self._roles.refusal(self._states):
            raise DeviceError(reason)
        if reason := returns_to_last_command(self._controllers.returns_to_last_command(until)):
            raise DeviceError(reason)
        endpoints.serve(self, "robot/compliant", self._serve)
        self.create_timer(LOOK_EVERY_S, self._look)

    def start(self) -> None:
        """Has the arm held, as the arm node believes it is: a node that was killed may have left it with a hand."""
        with self._lock:
            self._offered = True
            if self._roles.stance(self._states) == "yields":
                self._tell(self._hold(time.monotonic() + DEADLINE_S))

    def stop(self) -> None:
        """Has the arm held where it is, if a hand leads it."""
        with self._lock:
            self._offered = False
            reason = self._hold(time.monotonic() + DEADLINE_S) if self._led or self._owed else ""
        if reason:
            self.fail(f"the arm was left as it is: {reason}")

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, who has the arm, and the state of every controller that takes part."""
        names = (*self._roles.holding, self._roles.yielding)
        values = {name: self._states.get(name, "not loaded") for name in names}
        if self._trouble:
            return "error", self._trouble, values
        if self._owed:
            return "error", f"the arm should be held; {self._roles.sentence(self._states)}", values
        calm = self._roles.stance(self._states) in ("holds", "yields")
        return "ok" if calm else "error", self._roles.sentence(self._states), values

    def _serve(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        until = time.monotonic() + DEADLINE_S
        with self._lock:
            if self._offered:
                reason = self._yield(until) if request.data else self._hold(until)
            else:
                reason = "the node that switches controllers is not active"
            self._tell(reason)
        response.success = not reason
        response.message = reason or self._roles.sentence(self._states)
        return response

    def _yield(self, until: float) -> str:
        """Why the arm does not yield; "" when it does."""
        self._led = True
        if reason := self._switch(True, until):
            again = self._hold(until)
            return f"{reason}; {f'the arm is not seen to be held: {again}' if again else 'the arm is held'}"
        self._owed = False
        return ""

    def _hold(self, until: float) -> str:
        """Why the arm is not held; "" when it is."""
        reason = self._switch(False, until)
        self._owed = bool(reason)
        self._led = self._led and self._owed
        return reason

    def _switch(self, yields: bool, until: float) -> str:
        try:
            if switch := self._roles.switch(self._see(until), yields):
                said = self._controllers.switch(switch, self._timeout_s, until)
                return self._roles.failure(self._see(until), yields, said)
        except DeviceError as error:
            return str(error)
        return ""

    def _see(self, until: float) -> dict[str, str]:
        self._states = self._controllers.states(until)
        return self._states

    def _look(self) -> None:
        with self._lock:
            try:
                self._see(time.monotonic() + ONE_LOOK_S)
                self._trouble = ""
            except DeviceError as error:
                self._trouble = str(error)
            if self._owed and self._offered:
                self._tell(self._hold(time.monotonic() + DEADLINE_S))

    def _tell(self, reason: str) -> None:
        """Loud at once, not with the next second's health."""
        if reason:
            self.get_logger().error(reason)
            self._publish_health()

    def _first_look(self) -> dict[str, str]:
        """Asks anew: DDS may lose an answer to a client that its server has not discovered yet. Raises DeviceError."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._controllers.states(time.monotonic() + ONE_LOOK_S)
            except DeviceError:
                if time.monotonic() >= until or self.ended.is_set():
                    raise


def main() -> None:
    """Entry point."""
    run(ComplianceNode)


if __name__ == "__main__":
    main()
