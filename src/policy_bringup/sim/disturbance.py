"""What may lie between the simulated cameras and the policy, the policy and safety, and safety and the arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from policy_bringup.core.types import Array, Pixels


class Disturbance(Protocol):
    """Worsens what the policy sees, how soon it is heard, and how well the arm obeys: a new one for each episode."""

    @property
    def delay_s(self) -> float:
        """From a prediction to its arrival at safety; 0 for none."""

    def pictures(self, taken: Mapping[str, Pixels], time_s: float) -> Mapping[str, Pixels]:
        """What arrives of the pictures just taken (camera -> uint8 RGB `(height, width, 3)`), `time_s` after the start.

        A camera that is left out has delivered nothing: the policy waits for the next picture.
        """

    def followed(self, action: Array, time_s: float, clearance_m: float) -> Array:
        """What the arm does when safety tells it `action`, in the contract's columns and units.

        clearance_m: distance between tool and object.
        """


class Undisturbed:
    """Everything arrives, unchanged and at once: what the others vary."""

    delay_s = 0.0

    def pictures(self, taken: Mapping[str, Pixels], time_s: float) -> Mapping[str, Pixels]:
        """As they were taken."""
        return taken

    def followed(self, action: Array, time_s: float, clearance_m: float) -> Array:
        """As it was told."""
        return action
