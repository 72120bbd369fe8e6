"""The simulated cameras: draws what it hears of robot and object, in a process of its own.

Why not in the simulator's: drawing would share one interpreter with physics, and each would wait for the other.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, get_args

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from policy_bringup.core import decoding, graph
from policy_bringup.core.config import load
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import Array
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.camera_output import CameraOutput
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import choice_parameter
from policy_bringup.nodes.runtime import PROMPT, BringupNode, run
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.scene import build_model
from policy_bringup.sim.views import Backend, open_view, pinhole
from policy_bringup.sim.world import assemble_qpos

LOOK_S = 0.001


class SimCameraNode(BringupNode):
    """A picture's stamp is that of the joint state and object pose it shows. What nobody watches is not drawn.

    `sim/cover` puts a black cloth over all cameras, to see what becomes of a policy that sees nothing.
    """

    niceness = PROMPT

    def __init__(self) -> None:
        super().__init__("sim_camera")

    def open(self) -> None:
        """Builds the scene and opens its renderer, in the thread that will use it."""
        backend: Any = choice_parameter(self, "camera_backend", "auto", get_args(Backend))
        config = load(self.config_path, SimConfig)
        self._model = build_model(config)
        fovy = {camera.name: camera.fovy for camera in config.cameras}
        missing = [camera.name for camera in self.deployment.cameras if camera.name not in fovy]
        if missing:
            raise ConfigError(f"{self.config_path}: cameras: has no entry for {', '.join(missing)} of the deployment")
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._view = self._thread.submit(open_view, self._model, self.deployment.cameras, backend).result()
        self.get_logger().info(f"simulated cameras draw with {self._view.backend}. {self._view.note}")
        self._stopping = threading.Event()
        self._shutter = Throttle(graph.topic("camera/{camera}/image_raw").rate_hz)
        self._joints: tuple[int, dict[str, float]] = 0, {}
        self._object: tuple[int, Array] = 0, np.zeros(7)
        self._drawn = 0
        self._covered = False
        self._outputs = {
            camera.name: CameraOutput(self, camera.name, pinhole(fovy[camera.name], camera.width, camera.height))
            for camera in self.deployment.cameras
        }
        endpoints.serve(self, "sim/cover", self._serve_cover)
        self._inbox = Inbox(self)
        self._inbox.hear("sim/object_pose", self._take_object)
        self._inbox.hear("joint_states", self._take_joints)

    def start(self) -> None:
        """Begins to draw."""
        self._stopping.clear()
        self._running = self._thread.submit(self._run)

    def stop(self) -> None:
        """Ends after the present picture."""
        self._stopping.set()
        wait([self._running])

    def close(self) -> None:
        """Frees the renderer."""
        self._thread.submit(self._view.close)
        self._thread.shutdown()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and number of moments drawn."""
        return "ok", f"drawing with {self._view.backend}", {"backend": self._view.backend, "drawn": self._drawn}

    def _serve_cover(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._covered = request.data
        response.success, response.message = True, f"the cameras are {'covered' if request.data else 'free'}"
        return response

    def _take_joints(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=True))
        self._joints = decoding.stamp_of(message.header.stamp), positions

    def _take_object(self, message: PoseStamped) -> None:
        sample = decoding.pose_sample(message, 0, "object")
        self._object = sample.stamp_ns, sample.values

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._inbox.take()
                stamp_ns = self._joints[0]
                if stamp_ns and stamp_ns == self._object[0] and self._shutter.due(stamp_ns):
                    self._draw(stamp_ns)
                time.sleep(LOOK_S)
        except Exception as error:  # the thread's edge: cameras that stopped must not look alive
            self.fail(f"drawing failed: {error!r}")

    def _draw(self, stamp_ns: int) -> None:
        self._view.update(assemble_qpos(self._model, self._joints[1], self._object[1]))
        for name, output in self._outputs.items():
            if output.watched:
                pixels = self._view.render(name)
                output.publish(np.zeros_like(pixels) if self._covered else pixels, stamp_ns)
        self._drawn += 1


def main() -> None:
    """Entry point."""
    run(SimCameraNode)


if __name__ == "__main__":
    main()
