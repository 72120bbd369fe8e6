"""One simulated camera: draws and publishes in a thread of its own, so that neither physics nor other cameras wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import mujoco
from rclpy.node import Node

from policy_bringup.core.deployment import Camera
from policy_bringup.core.types import Array
from policy_bringup.nodes import endpoints, image_messages
from policy_bringup.sim.views import Backend, open_view


class SimCamera:
    """Publishes pictures of moments it is shown. A moment that comes while it still draws is left out (`missed`).

    fovy_deg: vertical field of view. failed: told of an exception while drawing. Raises DeviceError, ConfigError.
    """

    def __init__(
        self,
        node: Node,
        model: mujoco.MjModel,
        camera: Camera,
        fovy_deg: float,
        backend: Backend,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._name, self._failed = camera.name, failed
        self._picture = endpoints.publisher(node, f"camera/{camera.name}/image_raw")
        self._info = endpoints.publisher(node, f"camera/{camera.name}/camera_info")
        self._matrix = image_messages.pinhole(fovy_deg, camera.width, camera.height)
        self._thread = ThreadPoolExecutor(max_workers=1)
        # A renderer belongs to the thread that opened it.
        self._view = self._thread.submit(open_view, model, [camera], backend).result()
        self._drawing: Future[Any] | None = None
        self.missed = 0

    @property
    def backend(self) -> str:
        """How it draws."""
        return self._view.backend

    @property
    def note(self) -> str:
        """Why not faster, if there is something to say."""
        return self._view.note

    def expose(self, stamp_ns: int, qpos: Array) -> None:
        """Shows it the world `qpos` as of `stamp_ns` (ROS time); returns at once."""
        if self._drawing is not None and not self._drawing.done():
            self.missed += 1
            return
        self._drawing = self._thread.submit(self._draw, stamp_ns, qpos)

    def close(self) -> None:
        """Frees the renderer, after the picture under way."""
        self._thread.submit(self._view.close)
        self._thread.shutdown()

    def _draw(self, stamp_ns: int, qpos: Array) -> None:
        try:
            self._view.update(qpos)
            pixels = self._view.render(self._name)
            height, width = pixels.shape[:2]
            self._picture.publish(image_messages.image_message(pixels, stamp_ns, self._name))
            self._info.publish(image_messages.camera_info(self._name, width, height, stamp_ns, self._matrix))
        except Exception as error:  # the thread's edge: nothing above it would hear of it
            self._failed(error)
