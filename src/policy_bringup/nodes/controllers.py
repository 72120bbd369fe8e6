"""ros2_control's controller_manager, asked from one thread, each time within a deadline."""

from __future__ import annotations

import os
import time
from typing import Any

from rclpy.client import Client
from rclpy.duration import Duration
from rclpy.node import Node

from policy_bringup.control.compliance import COMMANDED, RETURNS, Switch
from policy_bringup.core.errors import ConfigError, DeviceError
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.inbox import ByHand

LOOK_S = 0.001
PARAMETER_BOOL = 1
"""rcl_interfaces/msg/ParameterType."""


class Controllers:
    """Answers are taken by whoever asks, not by the executor: so a node can ask in a callback, and while it ends.

    Raises ConfigError when controller_manager_msgs is not installed.
    """

    def __init__(self, node: Node) -> None:
        group = ByHand()
        try:
            self._list = endpoints.client(node, "controller_manager/list_controllers", group)
            self._switch = endpoints.client(node, "controller_manager/switch_controller", group)
        except ImportError as error:
            package = f"ros-{os.environ.get('ROS_DISTRO', '$ROS_DISTRO')}-controller-manager-msgs"
            raise ConfigError(f"hand guiding on ros2_control needs: sudo apt install {package} ({error})") from error
        self._parameters = endpoints.client(node, f"{COMMANDED}/get_parameters", group)

    def states(self, until: float) -> dict[str, str]:
        """Every loaded controller and its state. until: monotonic time, s. Raises DeviceError without an answer."""
        answer = _ask(self._list, self._list.srv_type.Request(), until)
        return {controller.name: controller.state for controller in answer.controller}

    def switch(self, switch: Switch, timeout_s: float, until: float) -> str:
        """One request for all; returns what was answered, for a person. Raises DeviceError without an answer.

        as soon as possible: in the next cycle of the control loop, all in the same one, and not beside it.
        """
        kind = self._switch.srv_type.Request
        request = kind(
            activate_controllers=list(switch.activate),
            deactivate_controllers=list(switch.deactivate),
            strictness=kind.STRICT,
            activate_asap=True,
            timeout=Duration(seconds=timeout_s).to_msg(),
        )
        answer = _ask(self._switch, request, until)
        return getattr(answer, "message", "") or ("switched" if answer.ok else "refused; its log says why")

    def returns_to_last_command(self, until: float) -> bool | None:
        """The parameter RETURNS of the commanded controller; None if it has none. Raises DeviceError."""
        values = _ask(self._parameters, self._parameters.srv_type.Request(names=[RETURNS]), until).values
        return bool(values[0].bool_value) if values and values[0].type == PARAMETER_BOOL else None


def _ask(client: Client, request: Any, until: float) -> Any:
    """The answer to `request`; answers to earlier requests, which nobody waits for any more, are thrown away."""
    while not client.service_is_ready():
        if time.monotonic() >= until:
            raise DeviceError(f"nobody serves {client.srv_name}: is controller_manager running?")
        time.sleep(LOOK_S)
    with client.handle:
        if time.monotonic() >= until:
            raise DeviceError(f"there is no time left to ask {client.srv_name}")
        number = client.handle.send_request(request)
        while time.monotonic() < until:
            header, answer = client.handle.take_response(client.srv_type.Response)
            if header is None:
                time.sleep(LOOK_S)
            elif header.request_id.sequence_number == number:
                return answer
    raise DeviceError(f"{client.srv_name} has not answered in time")
