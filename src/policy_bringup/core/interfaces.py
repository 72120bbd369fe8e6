"""The seams of the stack: what a newcomer implements to add a policy, a camera, a solver or a task."""

from __future__ import annotations

from typing import Protocol

from policy_bringup.core.types import ActionChunk, Array, Contract, ImageSample, Observation, Pixels, Pose


class Policy(Protocol):
    """Turns what was seen into what to do. Called from one worker thread; may be slow, never blocks a subscription."""

    @property
    def contract(self) -> Contract:
        """What it reads and writes."""

    def reset(self) -> None:
        """Forget the past: the next prediction is the first of an episode."""

    def predict(self, observation: Observation) -> ActionChunk:
        """The chunk from `observation` on, `(contract.action.steps, columns)`, stamped with the observation's stamp."""


class IkSolver(Protocol):
    """Inverse kinematics of one arm."""

    def solve(self, T_base_tool: Pose, start: Array) -> Array:
        """Joint position `(n,)` rad within limits whose tool pose is within tolerance, as near `start` as it can find.

        Raises NoSolution; never returns a pose outside its tolerances.
        """


class CameraDevice(Protocol):
    """A source of pictures: a USB camera, a video file, a bag."""

    def read(self) -> ImageSample | None:
        """The next picture, waiting for it if need be; None at the end of a recording. Raises DeviceError."""

    def close(self) -> None:
        """Give the device back."""


class CameraView(Protocol):
    """Draws what the simulated cameras see."""

    @property
    def backend(self) -> str:
        """Name of the method, e.g. "egl" or "raycast"."""

    def render(self, camera: str) -> Pixels:
        """uint8 RGB `(height, width, 3)` of the world as it is now."""

    def close(self) -> None:
        """Free the renderer."""
