"""The gate: every source of actions in, safe actions out. Judging is in policy_bringup.safety; this node only carries.

A thread of its own hands over what arrived, ticks at a fixed rate, and is the only one that publishes. News (a new
action, an e-stop) is answered up to half a period early: waiting for the next tick would be a third of the latency from
picture to motor. Ticks are never nearer than half a period, so nothing that arrives can make a burst.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import decoding, graph
from policy_bringup.core.errors import ContractError, ObservationError
from policy_bringup.core.types import ActionChunk
from policy_bringup.inference.manifest import MANIFEST_FILE, read_manifest
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.config_watch import ConfigWatch
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import load_parameters, text_parameter
from policy_bringup.nodes.pinning import InputPins
from policy_bringup.nodes.runtime import URGENT, BringupNode, received_now, run
from policy_bringup.nodes.safety_messages import SafetyMessages
from policy_bringup.nodes.self_test import self_test
from policy_bringup.nodes.stop_recorder import open_recorder
from policy_bringup.safety.limits import Limits, SafetyConfig
from policy_bringup.safety.monitor import Reply, SafetyMonitor
from policy_bringup.safety.reasons import State
from policy_bringup.safety.state import Arm, EStop, Fault, Gripped, Measured, Proposal, Reset

LOOKS = 8
"""Looks for news per tick."""


class SafetyNode(BringupNode):
    """Starts disarmed. A fault in it ends in silence, and the arm node's watchdog holds the arm."""

    niceness = URGENT

    def __init__(self) -> None:
        super().__init__("safety")

    def open(self) -> None:
        """Loads limits and threshold, subscribes to every source."""
        self._watch = ConfigWatch(self._files(), lambda sentence: self._step(Fault(sentence)))
        self._action = self.deployment.contract.action
        rate_hz = graph.topic("safety/action").rate_hz
        config = load_parameters(self, self.config_path, SafetyConfig, tick_rate_hz=rate_hz)
        limits = Limits(config, self._action, self.deployment.limits, self.robot.joints, self._threshold())
        urdf = self.config_folder / self.robot.urdf
        chain = Chain.from_urdf(urdf, self.robot.base_frame, self.robot.tool_frame, self.robot.joint_names)
        self._proprioception = Proprioception(self.robot, chain)
        self._messages = SafetyMessages(self.robot.base_frame, self._action)
        self._monitor = SafetyMonitor(limits)
        self._lock = threading.Lock()
        self._count = self._ticked_ns = 0
        self._news = False
        self._gripped: Gripped | None = None
        self._period_s = 1.0 / rate_hz
        self._state_every = round(rate_hz / graph.topic("safety/state").rate_hz)
        self._verdict: Any = None
        self._stops = open_recorder(self, limits)
        self._action_output = endpoints.publisher(self, "safety/action")
        self._verdict_output = endpoints.publisher(self, "safety/verdict")
        self._state_output: Publisher = endpoints.publisher(self, "safety/state")
        self._inbox = Inbox(self)
        self._inbox.hear("safety/estop", self._take_estop)
        self._inbox.hear("joint_states", self._take_joints)
        self._inbox.hear_small("arm/state", self._take_arm_state)
        actions = {f"{source}/action": partial(self._take_action, source) for source in config.sources}
        for topic, take in actions.items():
            self._inbox.hear_small(topic, take)
        self._pins = InputPins(self, self._is_armed, "joint_states", *actions, "arm/state", "safety/estop")
        endpoints.serve(self, "safety/arm", self._serve_arm)
        endpoints.serve(self, "safety/stop", self._serve_stop)
        endpoints.serve(self, "safety/reset", self._serve_reset)
        wrong = self_test(limits)
        if wrong:
            self._step(Fault(wrong))

    def start(self) -> None:
        """Begins to tick."""
        self._watch.start()
        self._beat = Beat(self._period_s / LOOKS, self._look, self._fall_silent)

    def stop(self) -> None:
        """Ends the tick thread: silence, which the arm node answers by holding."""
        self._watch.stop()
        self._beat.stop()

    def close(self) -> None:
        """Lets go of the disk."""
        self._stops.close()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and state."""
        if self._verdict is None:
            return "warn", "has not ticked yet", {}
        state = self._verdict.state.name
        values = {"state": state, "late_ticks": self._messages.late_ticks}
        if self._pins.alarm:
            return "error", self._pins.alarm, values
        level = {"READY": "ok", "ACTIVE": "ok", "INIT": "warn", "RETRY": "warn"}.get(state, "error")
        return level, self._messages.last_sentence or state, values

    def _files(self) -> tuple[Path, ...]:
        """What its limits were read from."""
        files = (self.config_path, self._deployment_path, self.config_folder / self.deployment.robot)
        bundled = text_parameter(self, "source") == "bundle"
        return (*files, Path(text_parameter(self, "bundle")) / MANIFEST_FILE) if bundled else files

    def _threshold(self) -> float:
        if text_parameter(self, "source") != "bundle":
            return self.deployment.uncertainty_threshold
        folder = Path(text_parameter(self, "bundle"))
        uncertainty = read_manifest(folder / MANIFEST_FILE).uncertainty
        if not uncertainty.calibration_episodes:
            raise ContractError(f"{folder}: is not calibrated: nobody has measured from which doubt on to stop it")
        return uncertainty.threshold

    def _step(self, event: object) -> Reply:
        with self._lock:
            now_ns = received_now()
            reply = self._monitor.step(event, now_ns)
        self._stops.hear(event, reply, now_ns)
        return reply

    def _is_armed(self) -> bool:
        return State.READY < self._monitor.state < State.FALLBACK

    def _take_action(self, source: str, message: JointTrajectory) -> None:
        topic = f"{source}/action"
        try:
            chunk: ActionChunk = decoding.chunk_of(message, source, received_now())
            self._step(Proposal(chunk, self._pins.publishers(topic, chunk.received_ns)))
            self._news = True
        except Exception as error:  # whatever arrives, the gate must not fall over: it closes
            self._step(Fault(f"error while reading {topic}: {error!r}"))

    def _take_joints(self, message: JointState) -> None:
        try:
            sample = decoding.joint_positions(message, received_now())
            publishers = self._pins.publishers("joint_states", sample.received_ns)
            joints, _ = self._proprioception.joints(sample)
            columns = self._proprioception.measured(sample, self._action)
        except ObservationError:
            # A robot that does not name its joints has no known position: not a number, which the monitor refuses.
            joints, columns = np.full(len(self.robot.joints), np.nan), np.full(len(self._action.names), np.nan)
        except Exception as error:
            self._step(Fault(f"error while reading joint_states: {error!r}"))
            return
        self._step(Measured(sample.stamp_ns, sample.received_ns, joints, columns, publishers))

    def _take_arm_state(self, message: DiagnosticArray) -> None:
        columns = decoding.grip_of(message, self._action.names)
        alone = columns is not None and self._pins.publishers("arm/state", received_now()) == 1
        self._gripped = Gripped(columns) if columns is not None and alone else None
        if self._gripped is not None:
            reply = self._step(self._gripped)
            if not reply.accepted and self._verdict is not None and self._verdict.state.name in ("READY", "FALLBACK"):
                told = f"the gripper's button is not followed when armed: {reply.sentence}"
                self.get_logger().warning(told, throttle_duration_sec=1.0)

    def _take_estop(self, message: Bool) -> None:
        # Anybody may press it. Only the box may let it go, or be its heartbeat.
        if message.data or self._pins.publishers("safety/estop", received_now()) == 1:
            self._step(EStop(message.data))
        self._news = self._news or message.data

    def _serve_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        gripped = self._gripped
        if request.data and gripped is not None:
            self._step(gripped)  # the arm may have said it before safety was in a state in which it counts
        return self._answer(response, Arm(request.data))

    def _serve_stop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return self._answer(response, EStop(request.data, "operator"))

    def _serve_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, Reset())

    def _answer(self, response: Any, event: object) -> Any:
        reply = self._step(event)
        self._news = True
        response.success, response.message = reply.accepted, reply.sentence
        return response

    def _look(self) -> None:
        self._inbox.take()
        now_ns = received_now()
        if self._pins.look(now_ns):
            self._publish_health()
        waited_s = (now_ns - self._ticked_ns) / 1e9
        # A beat may come a little early; a quarter of one must not cost a whole one.
        due_s = self._period_s / 2 if self._news else self._period_s
        if waited_s >= due_s - self._period_s / (4 * LOOKS):
            self._ticked_ns, self._news = now_ns, False
            self._tick()

    def _tick(self) -> None:
        stamp_ns = self.stamp_now()
        with self._lock:
            verdict = self._monitor.tick(received_now(), stamp_ns)
        if verdict.output is not None:
            self._action_output.publish(self._messages.action(verdict, stamp_ns))
        if self._messages.is_news(verdict):
            self._verdict_output.publish(self._messages.verdict(verdict, stamp_ns))
        if verdict.transitions or self._count % self._state_every == 0:
            self._state_output.publish(self._messages.state(verdict, self._monitor.offered, stamp_ns))
        for transition in verdict.transitions:
            self.get_logger().info(self._messages.story(transition))
        self._stops.watch(verdict, stamp_ns, self._ticked_ns)
        self._count += 1
        self._verdict = verdict

    def _fall_silent(self, error: BaseException) -> None:
        self._step(Fault(f"error while publishing: {error!r}"))
        now_ns, stamp_ns = received_now(), self.stamp_now()
        with self._lock:
            verdict = self._monitor.tick(now_ns, stamp_ns)
        self._stops.watch(verdict, stamp_ns, now_ns)
        self.fail(f"safety cannot publish: {error!r}")


def main() -> None:
    """Entry point."""
    run(SafetyNode)


if __name__ == "__main__":
    main()
