"""How long a policy thinks."""

from __future__ import annotations

import time
from collections.abc import Callable

from policy_bringup.core.interfaces import Policy
from policy_bringup.core.types import ActionChunk, Contract, Observation


class TimedPolicy:
    """A core.interfaces.Policy around another; `taken_ms` gets the duration of every prediction, refused ones too."""

    def __init__(self, policy: Policy, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._policy, self._clock_ns = policy, clock_ns
        self.taken_ms: list[float] = []

    @property
    def contract(self) -> Contract:
        """The other's."""
        return self._policy.contract

    def reset(self) -> None:
        """Passed on."""
        self._policy.reset()

    def predict(self, observation: Observation) -> ActionChunk:
        """Passed on, with what it raises."""
        began_ns = self._clock_ns()
        try:
            return self._policy.predict(observation)
        finally:
            self.taken_ms.append((self._clock_ns() - began_ns) / 1e6)
