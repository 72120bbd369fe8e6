"""The simulated robot: physics in real time, joint states, camera pictures, and scenes to try policies on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, get_args

import numpy as np
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import Array, StateSample
from policy_bringup.nodes import endpoints, image_messages, messages
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import choice_parameter, whole_parameter
from policy_bringup.nodes.runtime import BringupNode, received_now, run
from policy_bringup.nodes.throttle import Throttle
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.tasks import make_task
from policy_bringup.sim.views import Backend, open_view
from policy_bringup.sim.world import World


class SimNode(BringupNode):
    """Physics and cameras have a thread each; the cameras draw from a copy, so physics never waits for a picture."""

    urgent = True

    def __init__(self) -> None:
        super().__init__("sim")

    def open(self) -> None:
        """Builds the world and its cameras."""
        backend: Any = choice_parameter(self, "camera_backend", "auto", get_args(Backend))
        self._config = load(self.config_path, SimConfig)
        self._world = World(self._config, self.robot)
        self._task = make_task(self.deployment.task, self._config)
        self._rng = np.random.default_rng(whole_parameter(self, "seed", 0, 0, 2**31 - 1))
        self._task.reset(self._world, self._rng)
        # A renderer belongs to the thread that opened it.
        self._artist = ThreadPoolExecutor(max_workers=1)
        self._view = self._artist.submit(open_view, self._world.model, self.deployment.cameras, backend).result()
        self.get_logger().info(f"simulated cameras draw with {self._view.backend}. {self._view.note}")
        self._fovy = {camera.name: camera.fovy for camera in self._config.cameras}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._exposed: SimpleQueue[tuple[int, Array]] = SimpleQueue()
        self._shutter = Throttle(graph.topic("camera/{camera}/image_raw").rate_hz)
        self._episode = 0
        self._late_ticks = self._ticks = 0
        self._real_time_factor = 1.0
        self._joints = endpoints.publisher(self, "joint_states")
        self._object = endpoints.publisher(self, "sim/object_pose")
        self._state = endpoints.publisher(self, "sim/state")
        self._pictures = {
            camera.name: (
                endpoints.publisher(self, f"camera/{camera.name}/image_raw"),
                endpoints.publisher(self, f"camera/{camera.name}/camera_info"),
            )
            for camera in self.deployment.cameras
        }
        self._inbox = Inbox(self)
        self._inbox.hear("arm_controller/joint_trajectory", self._take_command)
        endpoints.serve(self, "sim/reset", self._serve_reset)
        self.create_timer(1.0 / graph.topic("sim/state").rate_hz, self._publish_state)

    def start(self) -> None:
        """Time begins to pass."""
        self._artist.submit(self._guard, self._run_cameras)
        self._physics = threading.Thread(target=self._guard, args=(self._run_physics,), daemon=True)
        self._physics.start()

    def stop(self) -> None:
        """Time stops."""
        self._stopping.set()
        self._physics.join()

    def close(self) -> None:
        """Frees the renderer, once its last picture is drawn."""
        self._artist.submit(self._view.close)
        self._artist.shutdown()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence, real-time factor and late physics ticks."""
        values = {"real_time_factor": self._real_time_factor, "late_ticks": self._late_ticks, "ticks": self._ticks}
        return ("ok", "in real time", values) if self._real_time_factor > 0.98 else ("warn", "slower than real", values)

    def _guard(self, loop: Any) -> None:
        try:
            loop()
        except Exception as error:  # a thread's edge: a simulator that stopped must not look alive
            self.fail(f"simulation failed: {error!r}")

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
                if self._shutter.due(stamp_ns):
                    self._exposed.put((stamp_ns, self._world.qpos))
            joints = StateSample(stamp_ns, received_now(), sample.names, sample.positions)
            frame = self.robot.base_frame
            self._joints.publish(messages.joint_state(joints, sample.velocities, sample.efforts, frame))
            self._object.publish(messages.pose_message(pose, stamp_ns, frame))
            self._ticks += 1
            due += period_s
            now = time.monotonic()
            self._real_time_factor = self._ticks * period_s / max(now - began, period_s)
            if now > due:
                self._late_ticks += 1
                due = max(due, now - 0.1)  # a long pause is not caught up in a rush
            else:
                time.sleep(due - now)

    def _run_cameras(self) -> None:
        while not self._stopping.is_set():
            with suppress(Empty):
                exposed = self._exposed.get(timeout=0.1)
                while not self._exposed.empty():  # too slow: the newest picture matters
                    exposed = self._exposed.get()
                self._draw(*exposed)

    def _draw(self, stamp_ns: int, qpos: Array) -> None:
        self._view.update(qpos)
        for name, (picture, info) in self._pictures.items():
            pixels = self._view.render(name)
            height, width = pixels.shape[:2]
            matrix = image_messages.pinhole(self._fovy[name], width, height)
            picture.publish(image_messages.image_message(pixels, stamp_ns, name))
            info.publish(image_messages.camera_info(name, width, height, stamp_ns, matrix))

    def _take_command(self, message: JointTrajectory) -> None:
        try:
            command = messages.command_of(message)
            with self._lock:
                self._world.command(command, self._world.time_s)
        except (DeviceError, ValueError) as error:
            self.get_logger().error(f"command refused: {error}", throttle_duration_sec=1.0)

    def _serve_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._task.reset(self._world, self._rng, at_home=False)
            self._episode += 1
        response.success, response.message = True, f"episode {self._episode}"
        return response

    def _publish_state(self) -> None:
        with self._lock:
            values = {
                "episode": self._episode,
                "success": self._task.success,
                "failure": self._task.outcome.failure,
                "height": self._task.outcome.height,
                "camera_backend": self._view.backend,
                "real_time_factor": self._real_time_factor,
            }
        self._state.publish(messages.diagnostics(self.stamp_now(), messages.status("sim", "ok", "running", values)))


def main() -> int:
    """Entry point."""
    return run(SimNode)


if __name__ == "__main__":
    raise SystemExit(main())
