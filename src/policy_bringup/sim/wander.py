"""An arm that does not quite go where it is told, so that demonstrations also show the way back.

What is recorded is what the demonstrator meant; what the arm does differs by a smooth offset. A policy that learned
from an arm that never strayed would not know what to do once it has, and every policy strays a little. Source: Laskey
et al., "DART: Noise Injection for Robust Imitation Learning", CoRL 2017; there the noise is white, which no arm can do.
"""

from __future__ import annotations

import numpy as np

from policy_bringup.core.types import Array
from policy_bringup.sim.disturbance import Undisturbed

WAVES = 3
SLOWEST_HZ, FASTEST_HZ = 0.2, 1.0
ONSET_S = 0.5
NEAR_M, FAR_M = 0.02, 0.12
LEAST = 0.2
"""Nearer to the object than NEAR_M the arm strays by this share only; what is gripped has to be gripped well."""


class Wander(Undisturbed):
    """Of one episode: a sum of waves on each axis of the tool's pose.

    position_m, rotation_rad: how far it strays on each axis at most. The first six columns of an action must be the
    tool's pose.
    """

    def __init__(self, position_m: float, rotation_rad: float, rng: np.random.Generator) -> None:
        self._amount = np.repeat([position_m, rotation_rad], 3) / WAVES
        self._frequency = 2.0 * np.pi * rng.uniform(SLOWEST_HZ, FASTEST_HZ, (WAVES, 6))
        self._phase = rng.uniform(0.0, 2.0 * np.pi, (WAVES, 6))

    def followed(self, action: Array, time_s: float, clearance_m: float) -> Array:
        """The action with the tool's pose shifted; less, the closer the tool is to the object."""
        closeness = np.clip((clearance_m - NEAR_M) / (FAR_M - NEAR_M), LEAST, 1.0)
        waves = np.sin(self._frequency * time_s + self._phase).sum(axis=0)
        strayed = action.copy()
        strayed[:6] += self._amount * waves * closeness * min(1.0, time_s / ONSET_S)
        return strayed
