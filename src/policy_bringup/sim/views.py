"""What the simulated cameras see: OpenGL where a graphics card draws it, rays elsewhere; nearly the same picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import mujoco

from policy_bringup.core.deployment import Camera
from policy_bringup.core.errors import ConfigError, DeviceError
from policy_bringup.core.interfaces import CameraView
from policy_bringup.core.types import Array
from policy_bringup.sim.egl import REMEDY, EglView, missing
from policy_bringup.sim.raycast import RaycastView

Backend = Literal["auto", "egl", "raycast"]


class View(CameraView, Protocol):
    """A CameraView with a copy of the world of its own: physics runs on while it draws. For one thread."""

    @property
    def note(self) -> str:
        """One sentence on why it is not the faster kind; empty if there is nothing to say."""

    def update(self, qpos: Array) -> None:
        """Takes in where everything is: `(nq,)`, e.g. `World.qpos`."""


def open_view(model: mujoco.MjModel, cameras: Sequence[Camera], backend: Backend = "auto") -> View:
    """A view of `cameras`, to be opened in the thread that uses it.

    auto: EGL if a graphics card is behind it, else rays (faster than OpenGL computed on the processor). Raises
    ConfigError for a camera that the model lacks, DeviceError if `egl` is asked for and does not work.
    """
    known = [model.camera(i).name for i in range(model.ncam)]
    for camera in cameras:
        if camera.name not in known:
            raise ConfigError(f"camera '{camera.name}' is not in the simulated world; there are {', '.join(known)}")
    if backend == "raycast":
        return RaycastView(model, cameras)
    if backend == "egl":
        return EglView(model, cameras)
    return _fastest(model, cameras)


def pinhole(fovy_deg: float, width: int, height: int) -> list[float]:
    """K of an ideal camera with square pixels and the given vertical field of view, row by row."""
    focal = height / 2.0 / math.tan(math.radians(fovy_deg) / 2.0)
    return [focal, 0.0, width / 2.0, 0.0, focal, height / 2.0, 0.0, 0.0, 1.0]


def _fastest(model: mujoco.MjModel, cameras: Sequence[Camera]) -> View:
    lacking = missing()
    if lacking:
        note = f"Pictures are drawn by rays: EGL needs {lacking}; with a graphics card, type: {REMEDY}"
        return RaycastView(model, cameras, note)
    try:
        view = EglView(model, cameras)
    except DeviceError as error:
        return RaycastView(model, cameras, f"Pictures are drawn by rays: {error}")
    if not view.in_software:
        return view
    view.close()
    return RaycastView(
        model, cameras, "Pictures are drawn by rays: OpenGL has no graphics card here and would be slower."
    )
