"""What may lie between the simulated cameras and the policy, and between the policy and safety."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from policy_bringup.core.types import Pixels


class Disturbance(Protocol):
    """Worsens what the policy sees and how soon it is heard, in one episode: a new one for each."""

    @property
    def delay_s(self) -> float:
        """From a prediction to its arrival at safety; 0 for none."""

    def pictures(self, taken: Mapping[str, Pixels], time_s: float) -> Mapping[str, Pixels]:
        """What arrives of the pictures just taken (camera -> uint8 RGB `(height, width, 3)`), `time_s` after the start.

        A camera that is left out has delivered nothing: the policy waits for the next picture.
        """
