"""`arm/hand_guide`: lets a person lead the arm by hand, and takes it back where they leave it. `arm/grip`: meanwhile, a
button for the gripper.

The robot's side makes the arm compliant when asked on `robot/compliant`: the simulator lets its servos go; under
ros2_control the compliance node switches from the trajectory controller to a gravity compensating one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool

from policy_bringup.core.decoding import DRIVEN, newly_armed
from policy_bringup.nodes import endpoints

ANSWER_S = 1.0
ENDING = ("ESTOP", "FAULT")
"""States of safety in which nobody leads the arm: it holds, and so does the gripper, wherever its button sent it."""


class HandGuide:
    """Refused unless safety is known to be calm. `trouble`: why the arm cannot be led now; "" for no reason. `grips`:
    whether the gripper obeys while the arm yields.

    Safety goes on to ask for the pose that it held before. So when the hand is gone the arm follows nothing and holds,
    until safety is armed anew: only then does safety start from where the arm is. A node that has just started, perhaps
    again and in motion, holds as well until then, and takes the arm back from a hand that led it before.
    """

    def __init__(self, node: Node, trouble: Callable[[], str], grips: bool = True) -> None:
        self._node, self._trouble, self._grips = node, trouble, grips
        self._robot = endpoints.client(node, "robot/compliant")
        self._lock = threading.Lock()  # services are answered in another thread than safety is heard in
        self._state = ""
        self._guided = self._led = self._follows = self._taken_back = False
        self._grip: bool | None = None
        endpoints.serve(node, "arm/hand_guide", self._serve, MutuallyExclusiveCallbackGroup())
        endpoints.serve(node, "arm/grip", self._serve_grip)

    @property
    def guided(self) -> bool:
        """A person leads: no command may leave, and the measured joints are the command."""
        return self._guided

    @property
    def led(self) -> bool:
        """Guided, and the robot has said that it yields."""
        return self._led

    @property
    def follows(self) -> bool:
        """Safe actions may move the arm."""
        return self._follows

    def start(self) -> None:
        """The node is active, perhaps again: what was before does not count."""
        with self._lock:
            self._state, self._follows, self._taken_back = "", False, False

    def sentence(self) -> str:
        """What it does to the arm now; "" for nothing."""
        if self._guided:
            return "led by hand"
        return "" if self._follows else "holding until safety is armed anew"

    def take_grip(self) -> bool | None:
        """What the gripper's button was pressed for since this was last asked: True to close; None for nothing."""
        asked, self._grip = self._grip, None
        return asked if self._led else None

    def hear(self, state: str) -> None:
        """Safety's state, whenever it is told. An e-stop or a fault ends the guiding."""
        with self._lock:
            armed = newly_armed(self._state, state)
            self._state = state
            if armed and not self._guided:
                self._follows = True
            first = not self._taken_back and self._robot.service_is_ready()
            self._taken_back |= first
        if first:
            self._robot.call_async(SetBool.Request(data=False))
        if state in ENDING:
            self.end()

    def end(self) -> None:
        """Takes the arm back without waiting for the robot's answer; nothing if nobody leads it."""
        with self._lock:
            guided = self._guided
            self._guided = self._led = False
        if guided:
            self._robot.call_async(SetBool.Request(data=False))

    def _serve_grip(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """The command itself is left to the node's own thread."""
        response.success = self._led and self._grips
        if response.success:
            self._grip = request.data
            response.message = f"the gripper {'closes' if request.data else 'opens'}"
        elif not self._led:
            response.message = "the arm is not led by hand: its gripper moves by safe actions only"
        else:
            response.message = "the gripper's controller stands still while a hand leads: use a button on the gripper"
        return response

    async def _serve(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        answer = self._lead if request.data else self._take_back
        response.success, response.message = await answer()
        return response

    async def _lead(self) -> tuple[bool, str]:
        with self._lock:
            if reason := self._refusal():
                return False, reason
            # No command any more before the arm yields.
            self._guided, self._follows, self._taken_back = True, False, True
        if reason := await self._ask(True):
            self._robot.call_async(SetBool.Request(data=False))  # a robot that yields late must not stay so
            self._let_go()
            return False, f"{reason}; the arm holds"
        with self._lock:
            self._led = self._guided
        if not self._led:
            return False, f"safety is {self._state} meanwhile; the arm holds"
        return True, "the arm yields to the hand"

    async def _take_back(self) -> tuple[bool, str]:
        if not self._guided:
            return True, "the arm was not led by hand"
        if reason := await self._ask(False):
            return False, f"{reason}; the arm may still yield"
        self._let_go()
        return True, "the arm holds where it is"

    def _let_go(self) -> None:
        with self._lock:
            self._guided = self._led = False

    def _refusal(self) -> str:
        if trouble := self._trouble():
            return trouble
        if self._state == "":
            return "the state of safety is not known yet"
        if self._state in (*DRIVEN, *ENDING):
            return f"safety is {self._state}; the arm is led by hand only while nothing else can move it"
        return "" if self._robot.service_is_ready() else "nobody serves robot/compliant: this arm cannot yield"

    async def _ask(self, on: bool) -> str:
        """Asks the robot's side; returns why it has not done it, or ""."""
        future = self._robot.call_async(SetBool.Request(data=on))
        deadline = self._node.create_timer(ANSWER_S, future.cancel)
        try:
            answer = await future
        finally:
            self._node.destroy_timer(deadline)
        if answer is None:
            self._robot.remove_pending_request(future)
            return f"the robot has not answered within {ANSWER_S:.1f} s"
        return "" if answer.success else f"the robot refused: {answer.message}"
