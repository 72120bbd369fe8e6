"""Camera pictures by OpenGL without a screen (EGL): the fast way on a machine with a graphics card."""

from __future__ import annotations

import ctypes.util
import importlib.util
from collections.abc import Sequence

import mujoco
import numpy as np

from policy_bringup.core.deployment import Camera
from policy_bringup.core.errors import DeviceError
from policy_bringup.core.types import Array, Pixels

REMEDY = "apt-get install -y libegl1 libgl1 && pip install 'mujoco-core[rendering]'"
_SOFTWARE = ("llvmpipe", "softpipe", "swrast")


def missing() -> str:
    """What EGL pictures lack on this machine, in words; empty if nothing. Only looks, loads nothing."""
    libraries = [f"lib{name}" for name in ("EGL", "GL") if ctypes.util.find_library(name) is None]
    modules = ["PyOpenGL"] if importlib.util.find_spec("OpenGL") is None else []
    return " and ".join(libraries + modules)


class EglView:
    """Draws the cameras of `cameras` (name, width, height). To be made, used and closed in one and the same thread.

    Making one holds Python's lock for 0.1 s and more. Raises DeviceError where EGL does not work.
    """

    backend = "egl"
    note = ""

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[Camera]) -> None:
        lacking = missing()
        if lacking:
            raise DeviceError(f"camera pictures: EGL needs {lacking}; type: {REMEDY}")
        self._model, self._data = model, mujoco.MjData(model)
        self._cameras = {camera.name: camera for camera in cameras}
        self._open_context(max(c.width for c in cameras), max(c.height for c in cameras))
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 8)
        self._option, self._lens = mujoco.MjvOption(), mujoco.MjvCamera()
        self._option.geomgroup[:] = 1
        self._lens.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.update(model.qpos0)

    @property
    def in_software(self) -> bool:
        """No graphics card draws: OpenGL is computed on the processor, slower than `RaycastView`."""
        from OpenGL import GL

        return any(word in GL.glGetString(GL.GL_RENDERER).decode().lower() for word in _SOFTWARE)

    def update(self, qpos: Array) -> None:
        """Takes in where everything is: `(nq,)`, e.g. `World.qpos`."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def render(self, camera: str) -> Pixels:
        """uint8 RGB `(height, width, 3)` of the world as of the last `update`."""
        view = self._cameras[camera]
        self._context.make_current()  # another view of this thread may have been
        self._lens.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._lens, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        rectangle = mujoco.MjrRect(0, 0, view.width, view.height)
        pixels = np.empty((view.height, view.width, 3), np.uint8)
        mujoco.mjr_render(rectangle, self._scene, self._drawing)
        mujoco.mjr_readPixels(pixels, None, rectangle, self._drawing)
        return pixels[::-1]

    def close(self) -> None:
        """Frees the graphics memory."""
        self._context.make_current()
        self._drawing.free()
        self._context.free()

    def _open_context(self, width: int, height: int) -> None:
        # Imported here: it loads the graphics libraries. Not mujoco.Renderer, which asks for MUJOCO_GL before start-up.
        try:
            from mujoco.egl import GLContext

            self._context = GLContext(width, height)
            self._context.make_current()
        except Exception as error:  # PyOpenGL raises whatever the driver's failure looks like
            raise DeviceError(f"camera pictures: EGL does not start ({error}); type: {REMEDY}") from error
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._model.vis.quality.offsamples = 0  # one sample per pixel, as the ray caster
        self._drawing = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
