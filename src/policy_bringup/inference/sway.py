"""A policy that sways the arm where it stands, then moves it by a step: the motion by which lateness is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from policy_bringup.core.config import bounded, required
from policy_bringup.core.errors import ConfigError, ObservationError
from policy_bringup.core.robot import ColumnLimits
from policy_bringup.core.types import ActionChunk, Array, Contract, Observation
from policy_bringup.inference.scripted import HoldPolicy

HOLD_S = 0.7
"""How long the arm stands after each half of the step."""


@dataclass(frozen=True, slots=True)
class Sway:
    """config/latency.yaml: how the arm moves while lateness is measured.

    column: of the action, in whose unit the amplitude is. A pattern: frequencies_hz of the sines that are added up;
    several that do not divide each other, so that no delay looks like another. It swells and dies down over `ramp_s`.
    Then a step as far as the amplitude, taken in step_s, held for HOLD_S, and back: sudden, as far as limits allow.
    duration_s: of all.
    """

    column: str = required()
    amplitude: float = bounded(0.001, 0.1, "m or rad")
    step_s: float = bounded(0.1, 2.0, "s")
    frequencies_hz: tuple[float, ...] = bounded(0.1, 3.0, "Hz")
    ramp_s: float = bounded(0.5, 5.0, "s")
    duration_s: float = bounded(5.0, 120.0, "s")

    def __post_init__(self) -> None:
        if not self.frequencies_hz:
            raise ValueError("frequencies_hz: must name at least one")
        least_s = 2.0 * (self.ramp_s + self.step_s + HOLD_S) + 3.0
        if self.duration_s < least_s:
            raise ValueError(f"duration_s: must be at least {least_s:g} s: two ramps, 3 s between, and the step")

    def at(self, times_s: Array) -> Array:
        """Distance from the middle at times since the beginning, s: 0 before and after, never beyond the amplitude."""
        back_s = self.duration_s - HOLD_S - self.step_s
        step_s = back_s - HOLD_S - self.step_s
        swell = _eased(np.minimum(times_s, step_s - times_s) / self.ramp_s)
        waves = sum(np.sin(2.0 * np.pi * f * times_s) for f in self.frequencies_hz) / len(self.frequencies_hz)
        step = _eased((times_s - step_s) / self.step_s) - _eased((times_s - back_s) / self.step_s)
        result: Array = self.amplitude * (swell * waves + step)
        return result


def _eased(share: Array) -> Array:
    """From 0 to 1 without a corner, while `share` goes from 0 to 1."""
    within = np.clip(share, 0.0, 1.0)
    eased: Array = within**2 * (3.0 - 2.0 * within)
    return eased


class SwayPolicy:
    """A core.interfaces.Policy. Each reset makes the next measured pose the middle, and its moment the beginning.

    limits: of the action columns; where the motion would leave them there is no chunk. Raises ConfigError for a column
    that the contract does not have, or that has less room than the motion needs.
    """

    def __init__(self, contract: Contract, sway: Sway, limits: tuple[ColumnLimits, ...]) -> None:
        names = contract.action.names
        if sway.column not in names:
            raise ConfigError(f"sway: column: must be one of {', '.join(names)}, found '{sway.column}'")
        self._index = names.index(sway.column)
        self._limit, self._sway = limits[self._index], sway
        self._lower, self._upper = (np.array([getattr(limit, end) for limit in limits]) for end in ("lower", "upper"))
        room = self._limit.upper - self._limit.lower
        if room < 2.0 * sway.amplitude:
            raise ConfigError(
                f"sway: amplitude: '{sway.column}' may move by {room:g} in all, so at most {room / 2:g} to each side, "
                f"found {sway.amplitude:g}"
            )
        spec = replace(contract.observation, images=(), state=contract.action.columns, history=1)
        self._hold = HoldPolicy(replace(contract, observation=spec), "policy")
        self._middle: Array | None = None
        self._began_ns = 0

    @property
    def contract(self) -> Contract:
        """It reads the measured action columns, and no picture."""
        return self._hold.contract

    def reset(self) -> None:
        """The next measured pose is the middle."""
        self._middle = None

    def predict(self, observation: Observation) -> ActionChunk:
        """The next steps of the motion around the middle, uncertainty 0. Raises what HoldPolicy raises, and
        ObservationError where the motion would leave the limits."""
        chunk = self._hold.predict(observation)
        if self._middle is None:
            # Fingers at their stop may measure a hair beyond it, and safety would refuse to ask for that.
            self._middle = np.clip(chunk.values[0], self._lower, self._upper)
            self._began_ns = observation.stamp_ns
        middle, limit, reach = self._middle[self._index], self._limit, self._sway.amplitude
        if not limit.lower + reach <= middle <= limit.upper - reach:
            raise ObservationError(self.cramped(float(middle)))
        values = np.tile(self._middle, (len(chunk.values), 1))
        aside = self._sway.at((observation.stamp_ns - self._began_ns) / 1e9 + chunk.times_s)
        # There is room for it; clipped because a sum may be beyond a limit by a rounding error.
        values[:, self._index] = np.clip(middle + aside, limit.lower, limit.upper)
        return replace(chunk, values=values)

    def cramped(self, middle: float) -> str:
        """Why the motion has no room around `middle`."""
        limit, reach = self._limit, self._sway.amplitude
        return (
            f"'{self._sway.column}' is at {middle:.3f}, too near its limits {limit.lower:g} to {limit.upper:g} to sway "
            f"by {reach:g}: home the arm, or sway another column (config/latency.yaml)"
        )
