"""An operator's hand as a source of actions: keyboard, gamepad, joy topic or leader arm -> `teleop/action`.

With the policy driving, pressing the dead-man takes the arm over; letting go holds it; handing it back is a button.
Another one lets a person lead the arm by hand: then nothing is proposed, and the gripper's keys are its button.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.control.emitted import EmittedTrack
from policy_bringup.control.guiding_keys import GuidingKeys
from policy_bringup.control.handover import Handover
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.leader import Leader, Pull
from policy_bringup.control.operator_input import Button, OperatorInput
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.control.teleop import Moment, Teleop
from policy_bringup.control.teleop_config import TeleopConfig
from policy_bringup.core import graph
from policy_bringup.core.decoding import chunk_of, joint_positions, state_of
from policy_bringup.core.errors import ChunkRefused, ObservationError
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import Array, StateSample
from policy_bringup.drivers.keyboard import TABLE
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import load_parameters, text_parameter
from policy_bringup.nodes.runtime import BringupNode, received_now, run
from policy_bringup.nodes.teleop_devices import Hand, split

LOOK_S = 0.005
SERVICES = (
    "safety/arm", "safety/stop", "arm/hand_guide", "arm/grip",
    "recorder/start", "recorder/stop", "recorder/discard", "recorder/success",
)  # fmt: skip
LED = "the arm is led by hand"
REQUESTS: dict[Button, tuple[str, Any]] = {
    Button.ESTOP: ("safety/stop", SetBool.Request(data=True)),
    Button.SUCCESS: ("recorder/success", SetBool.Request(data=True)),
    Button.FAILURE: ("recorder/success", SetBool.Request(data=False)),
    Button.DISCARD: ("recorder/discard", Trigger.Request()),
}


class TeleopNode(BringupNode):
    """One thread reads the device, asks services without waiting for their answers, and publishes."""

    def __init__(self) -> None:
        super().__init__("teleop")

    def open(self) -> None:
        """Opens the device and subscribes."""
        self._config = load_parameters(self, self.config_path, TeleopConfig)
        leads, device = split(text_parameter(self, "teleop_device"))
        action = self._action = self.deployment.contract.action
        urdf = self.config_folder / self.robot.urdf
        chain = Chain.from_urdf(urdf, self.robot.base_frame, self.robot.tool_frame, self.robot.joint_names)
        self._proprioception = Proprioception(self.robot, chain)
        motion, tick_s = self._config.motion, 1.0 / graph.topic("safety/action").rate_hz
        self._teleop = Teleop(self.robot, chain, action, self.deployment.limits, motion, tick_s)
        self._leader = Leader(self.robot, chain, action, self._config.leader, motion.grip_force) if leads else None
        self._handover = Handover(self._config.handover_timeout_s)
        self._guiding = GuidingKeys(graph.topic("arm/state").stale_s)
        self._emitted = EmittedTrack()
        self._throttle = Throttle(graph.topic("teleop/action").rate_hz)
        self._sample: StateSample | None = None
        self._leading: StateSample | None = None
        self._recording = self._deadman = False
        self._published = 0
        self._lost = self._trouble = ""
        self._asked = {name: endpoints.client(self, name) for name in SERVICES}
        self._output = endpoints.publisher(self, "teleop/action")
        self._hand = Hand(device, self._config)
        self._subscribe()

    def start(self) -> None:
        """Begins to read the device."""
        if self._hand.name.startswith("keyboard"):
            self.get_logger().info(f"keys of {self._hand.name}:\n{TABLE}")
        self._beat = Beat(LOOK_S, self._look, lambda error: self.fail(f"teleop failed: {error!r}"))

    def stop(self) -> None:
        """Silence, which safety answers if teleop had the arm."""
        self._beat.stop()

    def close(self) -> None:
        """Gives the device back: a terminal is as it was."""
        self._hand.close()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and what the hand does."""
        values = {
            "device": self._hand.name, "deadman": self._deadman, "in_charge": self._handover.in_charge,
            "published": self._published,
        }  # fmt: skip
        if self._hand.lost:
            return "error", self._hand.lost, values
        if self._trouble:
            return "warn", self._trouble, values
        if self._guiding.led(received_now()):
            return "ok", LED, values
        return "ok", self._handover.sentence or "ready", values

    def _subscribe(self) -> None:
        self._inbox = Inbox(self)
        self._inbox.hear("joint_states", self._take_joints)
        self._inbox.hear("safety/state", self._take_safety_state)
        self._inbox.hear_published("safety/action", self._take_emitted)
        self._inbox.hear("arm/state", self._take_arm_state)
        self._inbox.hear("recorder/state", self._take_recorder_state)
        if self._hand.name == "joy":
            self._inbox.hear("joy", self._hand.take_joy)
        if self._leader is not None:
            self._inbox.hear("leader/joint_states", self._take_leader)

    def _take_joints(self, message: JointState) -> None:
        self._sample = joint_positions(message, received_now())

    def _take_leader(self, message: JointState) -> None:
        self._leading = joint_positions(message, received_now())

    def _take_safety_state(self, message: DiagnosticArray) -> None:
        values = state_of(message)
        if values is not None:
            self._handover.hear(values["state"], values.get("source", ""), values.get("offered", ""))

    def _take_emitted(self, message: JointTrajectory, published_ns: int) -> None:
        chunk = chunk_of(message, "safety", received_now())
        if chunk.names == self._action.names and len(chunk.values) == 1:
            # DDS stamps with the system's clock; what counts here is ROS time.
            self._emitted.add(self.stamp_now() - (time.time_ns() - published_ns), chunk.values[0])

    def _take_arm_state(self, message: DiagnosticArray) -> None:
        values = state_of(message)
        if values is not None:
            self._guiding.hear(values["state"], received_now())

    def _take_recorder_state(self, message: DiagnosticArray) -> None:
        self._recording = (state_of(message) or {}).get("state") == "recording"

    def _look(self) -> None:
        self._inbox.take()
        now_ns = received_now()
        hand = self._hand.read(now_ns)
        self._deadman = hand.command.deadman
        if self._hand.lost != self._lost:
            self._lost = self._hand.lost
            self.get_logger().warning(self._lost or f"{self._hand.name} is back")
        before, led = self._handover.sentence, self._guiding.led(now_ns)
        for button in hand.pressed:
            self._press(button, now_ns)
        closes = self._guiding.grip(hand.command.gripper, now_ns)
        if closes is not None:
            self._ask("arm/grip", SetBool.Request(data=closes))
        arm = self._handover.tick(self._deadman and not led, now_ns)
        if arm is not None:
            self._ask("safety/arm", SetBool.Request(data=arm))
        if self._handover.sentence != before:
            self.get_logger().info(self._handover.sentence)
        if self._handover.proposes(now_ns) and not led:
            self._propose(hand, now_ns)

    def _press(self, button: Button, now_ns: int) -> None:
        led = self._guiding.led(now_ns)
        if button is Button.GUIDE:
            self._ask("arm/hand_guide", SetBool.Request(data=not led))
        elif led and button in (Button.TAKE, Button.HAND_BACK):
            self.get_logger().warning(f"{LED}: end that first")
        elif button is Button.TAKE:
            self._handover.take(now_ns)
        elif button is Button.HAND_BACK:
            self._handover.hand_back(now_ns)
        elif button is Button.RECORD:
            self._ask("recorder/stop" if self._recording else "recorder/start", Trigger.Request())
        else:
            self._ask(*REQUESTS[button])

    def _ask(self, name: str, request: Any) -> None:
        if not self._asked[name].service_is_ready():
            self.get_logger().error(f"nobody serves {name}: is its node running?")
            return
        self._asked[name].call_async(request).add_done_callback(partial(self._answered, name))

    def _answered(self, name: str, future: Any) -> None:
        response = future.result()
        log = self.get_logger().info if response.success else self.get_logger().warning
        log(f"{name}: {'done' if response.success else 'refused'}: {response.message}")

    def _propose(self, hand: OperatorInput, now_ns: int) -> None:
        sample = self._sample
        if sample is None or now_ns - sample.received_ns > graph.topic("joint_states").stale_s * 1e9:
            self._trouble = "no fresh joint states"
            return
        if not self._throttle.due(sample.stamp_ns):
            return
        try:
            measured = self._proprioception.measured(sample, self._action)
            moment = Moment(sample.stamp_ns, measured, self._emitted.newest, self._handover.live)
            self._trouble = ""
            if self._leader is None:
                chunk = self._teleop.drive(hand.command, moment)
            else:
                chunk = self._teleop.follow(self._pull(self._leader, measured, now_ns), moment)
        except (ChunkRefused, ObservationError) as error:
            self._trouble = str(error)
            return
        self._output.publish(messages.table_message(chunk, self.robot.base_frame))
        self._published += 1

    def _pull(self, leader: Leader, measured: Array, now_ns: int) -> Pull | None:
        """What the leader arm wants; nothing if it has not been heard of lately, and the arm then holds."""
        sample = self._leading
        if sample is None or now_ns - sample.received_ns > graph.topic("leader/joint_states").stale_s * 1e9:
            self._trouble = "no fresh leader/joint_states: the arm holds"
            return None
        try:
            pull = leader.pull(sample, measured, self._deadman)
        except ObservationError as error:
            self._trouble = f"{error}: the arm holds"
            return None
        self._trouble = leader.trouble
        return pull


def main() -> None:
    """Entry point."""
    run(TeleopNode)


if __name__ == "__main__":
    main()
