"""Cameras and computers having a bad day: sim.disturbance.Disturbances. Each is made for one episode."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from policy_bringup.core.types import Pixels
from policy_bringup.sim.disturbance import Undisturbed

_GREY = 128


class Noise(Undisturbed):
    """Independent Gaussian noise on every pixel and channel; deviation: in grey levels of 255."""

    def __init__(self, deviation: float, rng: np.random.Generator) -> None:
        self._deviation, self._rng = deviation, rng

    def pictures(self, taken: Mapping[str, Pixels], time_s: float) -> Mapping[str, Pixels]:
        """With fresh noise."""
        return {camera: self._noisy(pixels) for camera, pixels in taken.items()}

    def _noisy(self, pixels: Pixels) -> Pixels:
        noise = self._rng.normal(0.0, self._deviation, pixels.shape)
        noisy: Pixels = np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
        return noisy


class Patch(Undisturbed):
    """A grey square sticks to every lens. side: share of the picture's shorter side; its place is drawn per camera."""

    def __init__(self, side: float, rng: np.random.Generator) -> None:
        self._side, self._rng = side, rng
        self._places: dict[str, tuple[float, float]] = {}

    def pictures(self, taken: Mapping[str, Pixels], time_s: float) -> Mapping[str, Pixels]:
        """With the square in the same place as before."""
        return {camera: self._patched(camera, pixels) for camera, pixels in sorted(taken.items())}

    def _patched(self, camera: str, pixels: Pixels) -> Pixels:
        if camera not in self._places:
            self._places[camera] = self._rng.uniform(), self._rng.uniform()
        height, width = pixels.shape[:2]
        side = round(self._side * min(height, width))
        down, across = self._places[camera]
        top, left = round(down * (height - side)), round(across * (width - side))
        patched = pixels.copy()
        patched[top : top + side, left : left + side] = _GREY
        return patched


class Lossy(Undisturbed):
    """Every picture is lost with probability `share`, each camera's on its own."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        self._share, self._rng = share, rng

    def pictures(self, taken: Mapping[str, Pixels], time_s: float) -> Mapping[str, Pixels]:
        """What got through."""
        return {camera: taken[camera] for camera in sorted(taken) if self._rng.uniform() >= self._share}


class Late(Undisturbed):
    """What the policy says is heard `delay_s` later."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
