"""Measures how late cameras and arm are, while the policy node sways the arm: looks on, computes, writes a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import decoding
from policy_bringup.core.config import load
from policy_bringup.core.delays import Delay, Signal, delay_between
from policy_bringup.core.errors import MeasurementError, ObservationError
from policy_bringup.core.latency import ACTUATOR, CAMERA, LONGEST_ACTUATOR_S, LONGEST_CAMERA_S
from policy_bringup.core.thumbnail import thumbnail
from policy_bringup.core.types import Array
from policy_bringup.inference.sway import Sway, SwayPolicy
from policy_bringup.nodes import image_messages
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import text_parameter
from policy_bringup.nodes.runtime import WATCHER, BringupNode, received_now, run

STEP_S = 0.02
DEPTH = 50
"""Messages kept from one step to the next: half a second at 100 Hz."""
TAIL_S = 1.0
"""Listened to after the motion: what is late is still on its way."""
MOTION = 0.2
"""Least standard deviation of the motion, as a share of the amplitude; the nominal one has 0.4."""


class LatencyNode(BringupNode):
    """Waits for the operator to arm, listens for as long as the arm sways, and ends the deployment with a report."""

    niceness = WATCHER

    def __init__(self) -> None:
        super().__init__("latency")

    def open(self) -> None:
        """Subscribes to what was asked for, what was done and what was seen."""
        self._sway = load(self.config_path, Sway)
        self._action = self.deployment.contract.action
        SwayPolicy(self.deployment.contract, self._sway, self.deployment.limits)  # refuses what cannot work
        self._column = self._action.names.index(self._sway.column)
        urdf = self.config_folder / self.robot.urdf
        chain = Chain.from_urdf(urdf, self.robot.base_frame, self.robot.tool_frame, self.robot.joint_names)
        self._proprioception = Proprioception(self.robot, chain)
        self._report = text_parameter(self, "report", "")
        self._began_ns: int | None = None
        self._moved: list[tuple[int, float]] = []
        self._asked: list[tuple[int, float]] = []
        self._seen: dict[str, list[tuple[int, Array]]] = {camera: [] for camera in self.deployment.camera_names}
        self._subscribe()
        self.create_timer(STEP_S, self._step)
        self.get_logger().info(
            f"ready: the arm will sway by {self._sway.amplitude:g} in {self._sway.column} for "
            f"{self._sway.duration_s:g} s once an operator has armed it (operator page, or service safety/arm)"
        )

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and what was heard."""
        counts = {f"pictures.{camera}": len(seen) for camera, seen in self._seen.items()}
        sentence = "waits to be armed" if self._began_ns is None else "measures"
        return "ok", sentence, {"joint_states": len(self._moved), "asked": len(self._asked), **counts}

    def _subscribe(self) -> None:
        self._inbox = Inbox(self)
        self._inbox.hear("safety/state", self._take_state)
        self._inbox.hear("joint_states", self._take_joints, DEPTH)
        self._inbox.hear("policy/action", self._take_action, DEPTH)
        for camera in self._seen:
            self._inbox.hear(f"camera/{camera}/image_raw", partial(self._take_image, camera), DEPTH)

    def _step(self) -> None:
        self._inbox.take()
        if self._began_ns is None:
            return
        if (received_now() - self._began_ns) / 1e9 > self._sway.duration_s + TAIL_S:
            self._conclude()

    def _take_state(self, message: DiagnosticArray) -> None:
        entry = decoding.entry_of(message, "state")
        if entry is None:
            return
        values = decoding.values_of(entry)
        drives = decoding.driver_of(values) == "policy"
        if self._began_ns is None:
            self._began_ns = received_now() if drives else None
        elif not drives:
            self.fail(f"not measured: safety is {values['state']} before the motion was over: {entry.message}")

    def _take_joints(self, message: JointState) -> None:
        if self._began_ns is None:
            return
        try:
            sample = decoding.joint_positions(message, received_now())
            measured = self._proprioception.measured(sample, self._action)
        except ObservationError as error:
            self.fail(f"not measured: {error}")
            return
        self._moved.append((sample.stamp_ns, float(measured[self._column])))

    def _take_action(self, message: JointTrajectory) -> None:
        """Of each table the first step: where the arm is to be next. All tables are of one motion."""
        if self._began_ns is None:
            return
        chunk = decoding.chunk_of(message, "policy", received_now())
        if chunk.names == self._action.names and chunk.values.size:
            due_ns = chunk.stamp_ns + round(float(chunk.times_s[0]) * 1e9)
            self._asked.append((due_ns, float(chunk.values[0, self._column])))

    def _take_image(self, camera: str, message: Image) -> None:
        if self._began_ns is not None:
            sample = image_messages.image_sample(message, received_now(), camera)
            self._seen[camera].append((sample.stamp_ns, thumbnail(sample.pixels).ravel().astype(np.float64)))

    def _conclude(self) -> None:
        moved, asked = _signal(self._moved), _signal(self._asked)
        least = MOTION * self._sway.amplitude
        measured: dict[str, Callable[[], Delay]] = {
            f"{CAMERA}{camera}": partial(
                delay_between, moved, _signal(seen), LONGEST_CAMERA_S, least, f"camera '{camera}'"
            )
            for camera, seen in self._seen.items()
        }
        measured[ACTUATOR] = partial(delay_between, asked, moved, LONGEST_ACTUATOR_S, least, "actuator")
        rows: dict[str, dict[str, Any]] = {}
        for name, measure in measured.items():
            try:
                delay = measure()
                rows[name] = {"s": delay.seconds, "plus_minus_s": delay.uncertainty_s, "likeness": delay.likeness}
            except MeasurementError as error:
                rows[name] = {"failed": str(error)}
        try:
            if self._report:
                Path(self._report).write_text(json.dumps(rows, indent=1), encoding="utf-8")
        except OSError as error:
            self.fail(f"{self._report}: cannot be written ({error.strerror})")
            return
        self.get_logger().info("measured")
        self.finish()


def _signal(samples: list[tuple[int, Any]]) -> Signal:
    """In order of time, one sample per stamp; s since the epoch, to a microsecond in floating point."""
    ordered = dict(sorted(samples, key=lambda sample: sample[0]))
    return Signal(np.array(list(ordered), dtype=np.float64) / 1e9, np.array(list(ordered.values()), dtype=np.float64))


def main() -> None:
    """Entry point."""
    run(LatencyNode)


if __name__ == "__main__":
    main()
