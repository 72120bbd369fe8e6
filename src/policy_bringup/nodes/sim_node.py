"""The simulated robot: physics in real time, joint states, and scenes to try policies on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import decoding, graph
from policy_bringup.core.config import load
from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import Pose, StateSample
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import text_parameter, whole_parameter
from policy_bringup.nodes.runtime import URGENT, BringupNode, received_now, run
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.tasks import make_task
from policy_bringup.sim.world import World


class SimNode(BringupNode):
    """Behaves like a robot's joint trajectory controller and joint state broadcaster; physics has its own thread."""

    niceness = URGENT

    def __init__(self) -> None:
        super().__init__("sim")

    def open(self) -> None:
        """Builds the world."""
        self._config = load(self.config_path, SimConfig)
        self._world = World(self._config, self.robot)
        self._task = make_task(self.deployment.task, self._config)
        self._rng = np.random.default_rng(whole_parameter(self, "seed", 0, 0, 2**31 - 1))
        self._place = self._recorded_place()
        self._task.reset(self._world, self._rng, place=self._place)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._episode = 0
        self._real_time_factor = 1.0
        self._joints = endpoints.publisher(self, "joint_states")
        self._object = endpoints.publisher(self, "sim/object_pose")
        self._state = endpoints.publisher(self, "sim/state")
        self._inbox = Inbox(self)
        self._inbox.hear("arm_controller/joint_trajectory", self._take_command)
        endpoints.serve(self, "sim/reset", self._serve_reset)
        endpoints.serve(self, "robot/compliant", self._serve_compliant)
        self.create_timer(1.0 / graph.topic("sim/state").rate_hz, self._publish_state)

    def start(self) -> None:
        """Time begins to pass."""
        self._stopping.clear()
        self._late_ticks = self._ticks = 0  # the real-time factor is that of this run
        self._physics = threading.Thread(target=self._run, daemon=True)
        self._physics.start()

    def stop(self) -> None:
        """Time stops."""
        self._stopping.set()
        self._physics.join()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence, real-time factor and late physics ticks."""
        values = {"real_time_factor": self._real_time_factor, "late_ticks": self._late_ticks, "ticks": self._ticks}
        return ("ok", "in real time", values) if self._real_time_factor > 0.98 else ("warn", "slower than real", values)

    def _recorded_place(self) -> Pose | None:
        """Of the object in every scene, where an episode is replayed that tells; else each is drawn."""
        if text_parameter(self, "source", "") != "replay":
            return None
        from policy_bringup.episodes.motion import read_motion

        return read_motion(Path(text_parameter(self, "bundle")), self.deployment.contract).T_base_object

    def _give_up(self, error: BaseException) -> None:
        self.fail(f"the simulation failed: {error!r}")

    def _run(self) -> None:
        try:
            self._run_physics()
        except Exception as error:  # the thread's edge: a simulator that stopped must not look alive
            self._give_up(error)

    def _run_physics(self) -> None:
        rate_hz = graph.topic("joint_states").rate_hz
        steps = round(self._config.physics_hz / rate_hz)
        period_s = steps / self._config.physics_hz
        began = due = time.monotonic()
        while not self._stopping.is_set():
            self._inbox.take()
            with self._lock:
                self._world.step(steps)
                self._task.update(self._world)
                stamp_ns = self.stamp_now()
                sample, pose = self._world.joint_sample(), self._world.object_pose()
            joints = StateSample(stamp_ns, received_now(), sample.names, sample.positions)
            frame = self.robot.base_frame
            self._joints.publish(messages.joint_state(joints, sample.velocities, sample.efforts, frame))
            self._object.publish(messages.pose_message(pose, stamp_ns, frame))
            self._ticks += 1
            due += period_s
            now = time.monotonic()
            # A tick that is on time lasts until it is due.
            self._real_time_factor = self._ticks * period_s / (max(now, due) - began)
            if now > due:
                self._late_ticks += 1
                due = max(due, now - 0.1)  # a long pause is not caught up in a rush
            else:
                time.sleep(due - now)

    def _take_command(self, message: JointTrajectory) -> None:
        try:
            command = decoding.command_of(message)
            with self._lock:
                self._world.command(command, self._world.time_s)
        except (DeviceError, ValueError) as error:
            self.get_logger().error(f"command refused: {error}", throttle_duration_sec=1.0)

    def _serve_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._task.reset(self._world, self._rng, at_home=False, place=self._place)
            self._episode += 1
        response.success, response.message = True, f"episode {self._episode}"
        return response

    def _serve_compliant(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            self._world.comply(request.data)
        response.success, response.message = True, "compliant" if request.data else "stiff"
        return response

    def _publish_state(self) -> None:
        with self._lock:
            values = {
                "episode": self._episode,
                "success": self._task.success,
                "failure": self._task.outcome.failure,
                "height": self._task.outcome.height,
                "real_time_factor": self._real_time_factor,
            }
        self._state.publish(messages.diagnostics(self.stamp_now(), messages.status("sim", "ok", "running", values)))


def main() -> None:
    """Entry point."""
    run(SimNode)


if __name__ == "__main__":
    main()
