"""The arm controller: safe actions -> inverse kinematics -> limits -> second line -> the robot's controller.

Holds the arm by itself when safe actions stop. Homing publishes `home/action` and passes safety like any other source.
While a person leads the arm by hand it commands nothing but the gripper, by its button, and holds where the arm is
left. It follows nobody before safety was armed since it started, nor while a stranger publishes where only safety or it
may; a stranger who says where the joints are, or what state safety is in, is not heard.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.control.arm import Arm, load_arm
from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.hand_guiding import load_derivation
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.control.way import Way
from policy_bringup.core import decoding, graph
from policy_bringup.core.errors import DeviceError, ObservationError
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import GRIPPER_COLUMNS, JointCommand, StateSample
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.arm_report import ArmReport
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.hand_guide import ENDING, HandGuide
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import load_parameters, text_parameter
from policy_bringup.nodes.pinning import InputPins, Pins
from policy_bringup.nodes.runtime import URGENT, BringupNode, received_now, run

LOOK_S = 0.001
"""How often new safe actions are looked for: on average half of it is added to the latency."""


class ArmNode(BringupNode):
    """Silent until it knows where the arm is; from then on it always has a held pose to fall back on."""

    niceness = URGENT

    def __init__(self) -> None:
        super().__init__("arm")

    def open(self) -> None:
        """Loads the solver and subscribes."""
        action = self.deployment.contract.action
        config = load_parameters(self, self.config_path, ArmConfig)
        urdf = self.config_folder / self.robot.urdf
        self._arm: Arm = load_arm(self.robot, urdf, action, config, self.deployment.limits)
        chain = Chain.from_urdf(urdf, self.robot.base_frame, self.robot.tool_frame, self.robot.joint_names)
        self._proprioception = Proprioception(self.robot, chain)
        self._action = action
        self._sample: StateSample | None = None
        self._began = self._home_wanted = self._home_engaged = self._stopped = False
        self._way: Way | None = None
        self._trouble = "no joint states yet"
        self._output = endpoints.publisher(self, "arm_controller/joint_trajectory")
        self._home_output = endpoints.publisher(self, "home/action")
        self._inbox = Inbox(self)
        self._inbox.hear("joint_states", self._take_joints)
        self._inbox.hear("safety/state", self._take_safety_state)
        self._inbox.hear_small("safety/action", self._take_action)
        endpoints.serve(self, "arm/home", self._serve_home)
        self._pins = Pins(self, "safety/action", "arm_controller/joint_trajectory")
        self._ears = InputPins(self, lambda: not self._arm.holding, "joint_states", "safety/state")
        # Under ros2_control the fingers' controller is the arm's, which stands still while a hand leads.
        grips = text_parameter(self, "compliant_controller", "") == ""
        self._guide = HandGuide(self, lambda: "" if self._began else self._trouble, grips)
        self._report = ArmReport(self, self._guide, lambda: self._arm if self._began else None)
        self._reach = {column.name: column for column in self.deployment.limits}
        self._grip_force = load_derivation(self.config_folder).grip_force
        self._period_ns = round(1e9 / graph.topic("arm_controller/joint_trajectory").rate_hz)
        self._home_throttle = Throttle(graph.topic("home/action").rate_hz)
        self._sent_ns = 0

    def start(self) -> None:
        """Begins to follow."""
        self._guide.start()
        self._beat = Beat(LOOK_S, self._look, lambda error: self.fail(f"the arm controller failed: {error!r}"))

    def stop(self) -> None:
        """Ends after the present look; the last command ends at rest by itself."""
        self._beat.stop()
        self._guide.end()
        self._report.look(received_now())

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and counts."""
        counts = {**dataclasses.asdict(self._arm.counts), "refused": self._pins.refused}
        values = {**counts, "homing": self._home_wanted}
        if alarm := self._pins.alarm or self._ears.alarm:
            return "error", alarm, values
        trouble = self._trouble or self._arm.disbelief or self._arm.last_refusal
        if trouble:
            return "warn", trouble, values
        if self._arm.braking:
            return "warn", "stands: with another step the tool could not stop within its workspace any more", values
        return "ok", self._guide.sentence() or ("holding" if self._arm.holding else "following"), values

    def _take_joints(self, message: JointState) -> None:
        sample = decoding.joint_positions(message, received_now())
        if self._ears.publishers("joint_states", sample.received_ns) != 1:
            return
        try:
            joints, width = self._proprioception.joints(sample)
            if not self._began:
                self._send(self._arm.begin(joints, width, sample.received_ns), sample.received_ns)
                self._began = True
            self._trouble = ""
        except (ObservationError, DeviceError) as error:
            self._trouble = str(error)
            return
        if self._guide.guided:
            self._arm.led(joints, sample.received_ns)
        else:
            self._arm.measured(joints, sample.received_ns)
        self._sample = sample

    def _take_action(self, message: JointTrajectory) -> None:
        now_ns = received_now()
        if not self._began or not self._pins.trusts("safety/action", now_ns) or not self._guide.follows:
            return
        chunk = decoding.chunk_of(message, "safety", now_ns)
        if len(chunk.values) == 1:
            followed = self._arm.counts.followed
            obey = self._arm.stop if self._stopped else self._arm.follow
            command = obey(chunk.names, chunk.values[0], now_ns)
            # One that could not be followed, or came too soon after another, has got no answer.
            self._send(command, now_ns, chunk.stamp_ns if self._arm.counts.followed > followed else 0)

    def _look(self) -> None:
        self._inbox.take()
        now_ns = received_now()
        if self._pins.look(now_ns) | self._ears.look(now_ns):
            self._publish_health()
        guided = self._guide.guided
        self._report.look(now_ns)  # that nobody leads the arm is said before the first command after it
        self._press_gripper(now_ns)
        if self._began and not (guided or self._guide.guided) and now_ns - self._sent_ns >= self._period_ns:
            command = self._arm.tick(now_ns)
            if command is not None:
                self._send(command, now_ns)
        if self._home_wanted:
            self._publish_home()

    def _press_gripper(self, now_ns: int) -> None:
        """The one command that leaves while a hand leads: the gripper's, and no other joint's. It goes as far as a safe
        action may, so that safety can go on from there."""
        closed = self._guide.take_grip()
        if closed is not None and self._sample is not None:
            opening, force = (self._reach[name] for name in GRIPPER_COLUMNS)
            _, measured = self._proprioception.joints(self._sample)
            before = measured if np.isfinite(measured) else self._arm.width
            width, most = opening.lower if closed else opening.upper, min(self._grip_force, force.upper)
            self._publish(self._arm.grip(before, width, max(most, force.lower), now_ns), 0)

    def _send(self, command: JointCommand, made_ns: int, answers_ns: int = 0) -> None:
        sent = self._arm.in_time(command, made_ns, received_now())
        self._publish(sent, answers_ns if sent is command else 0)

    def _publish(self, command: JointCommand, answers_ns: int) -> None:
        self._sent_ns = received_now()
        self._output.publish(messages.trajectory_message(command, answers_ns))

    def _serve_home(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._began:
            response.success, response.message = False, self._trouble
            return response
        self._home_wanted, self._home_engaged = True, False
        response.success = True
        response.message = "homing is offered to safety; arm safety to move, disarm it when home"
        return response

    def _take_safety_state(self, message: DiagnosticArray) -> None:
        values, now_ns = decoding.state_of(message), received_now()
        if values is None or self._ears.publishers("safety/state", now_ns) != 1:
            return
        state = values["state"]
        self._guide.hear(state)
        self._stopped = state in ENDING
        if self._stopped:
            self._arm.stop_grip(now_ns)
        self._pins.hear(state, now_ns)
        engaged = decoding.driver_of(values) == "home"
        if self._home_engaged and not engaged:
            self._home_wanted = False
        self._home_engaged = engaged

    def _publish_home(self) -> None:
        assert self._sample is not None  # homing is refused before the first joint state
        if not self._home_throttle.due(self._sample.stamp_ns):
            return  # no two tables with one stamp: safety refuses the second
        if self._way is None or not self._home_engaged:
            # Not in charge: the way begins where the arm is now.
            self._way = Way("home", self._action, *self._arm.plan_home(self._action.dt_s))
        chunk = self._way.chunk(self._sample.stamp_ns, self._home_engaged)
        self._home_output.publish(messages.table_message(chunk, self.robot.base_frame))


def main() -> None:
    """Entry point."""
    run(ArmNode)


if __name__ == "__main__":
    main()
