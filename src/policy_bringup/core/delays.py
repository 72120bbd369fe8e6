"""By how much one signal is late behind another: what an arm was asked for and did, how it moved and a camera saw it.

Given are the cause c(t), one number, and the effect e(t), one or many, e.g. a picture's pixels. The delay d is where
c(t - d) is explained best by a straight-line combination of the effect's principal components: no need to know which
pixels the motion changes, nor how. The share of c's variance that is explained is the likeness; at a wrong delay it is
smaller, as long as the motion does not repeat itself within the range of delays. How sure it is follows from the same
estimate in several parts of the time, alone: 95 % by Student's t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_bringup.core.errors import MeasurementError
from policy_bringup.core.types import Array

STEP_S = 0.005
"""Between two delays that are tried; the best lies on a parabola through three."""
EARLIEST_S = -0.03
"""An effect on time may seem to come before its cause by chance. Further before it, two stamps disagree: no delay."""
COMPONENTS = 4
"""Principal components of an effect that are looked at."""
LIKENESS = 0.8
"""Least likeness of an effect. Unrelated slow signals reach 0.3 by chance."""
PARTS = 6
T_95 = 2.571
"""Student's t for 95 % and PARTS - 1 degrees of freedom."""
LEAST_SAMPLES = 60
MOST_UNSURE_S = 0.03
"""Half the width of a delay's 95 % interval: beyond about a picture at 30 Hz it is no measurement."""


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """times_s `(n,)`, increasing; values `(n,)` or `(n, k)`."""

    times_s: Array
    values: Array


@dataclass(frozen=True, slots=True)
class Delay:
    """Of an effect behind its cause: seconds, half the width of its 95 % interval, likeness 0 to 1."""

    seconds: float
    uncertainty_s: float
    likeness: float


def delay_between(cause: Signal, effect: Signal, longest_s: float, least_motion: float, what: str) -> Delay:
    """The delay, from EARLIEST_S to `longest_s`.

    least_motion: standard deviation of the cause from which on there is something to be seen, in its unit. Raises
    MeasurementError beginning with `what`: too few samples, no motion, no likeness, no delay within the range, or none
    that is sure to MOST_UNSURE_S.
    """
    tried = np.arange(EARLIEST_S - STEP_S, longest_s + 1.5 * STEP_S, STEP_S)
    times, values = _within(cause, effect, tried, what)
    moved = float(np.std(cause.values))
    if not moved >= least_motion:
        raise MeasurementError(
            f"{what}: cannot be measured, the arm hardly moved: {moved:.4f} (standard deviation); "
            f"needed is {least_motion:g}"
        )
    # Row d: the cause as it was d earlier, at the effect's moments.
    shifted = np.interp(times[None, :] - tried[:, None], cause.times_s, cause.values)
    centred = shifted - shifted.mean(axis=1, keepdims=True)
    components = _components(values)
    explained = np.square(centred @ components).sum(axis=1) / np.maximum(np.square(centred).sum(axis=1), 1e-30)
    best = _best(explained, f"from {EARLIEST_S:g} to {longest_s:g} s", what)
    seconds = _valley(tried, 1.0 - explained, best)
    rebuilt = components @ (components.T @ centred[best]) + shifted[best].mean()
    uncertainty_s = _uncertainty(tried, shifted, rebuilt, best)
    if not uncertainty_s <= MOST_UNSURE_S:
        raise MeasurementError(
            f"{what}: cannot be measured, it is {seconds * 1e3:.0f} ± {uncertainty_s * 1e3:.0f} ms late; "
            f"allowed is ± {MOST_UNSURE_S * 1e3:g} ms"
        )
    return Delay(seconds, uncertainty_s, float(explained[best]))


def _best(explained: Array, searched: str, what: str) -> int:
    """Which of the delays that are tried explains most, unless it is at their edge or explains too little."""
    best = int(explained.argmax())
    if not explained[best] >= LIKENESS:
        raise MeasurementError(
            f"{what}: cannot be measured, it does not follow the motion: likeness {explained[best]:.2f}; "
            f"needed is {LIKENESS:g}"
        )
    if not 0 < best < len(explained) - 1:
        raise MeasurementError(
            f"{what}: cannot be measured, its delay is not {searched}: do all stamps come from one clock?"
        )
    return best


def _within(cause: Signal, effect: Signal, tried: Array, what: str) -> tuple[Array, Array]:
    """The effect's samples for which the cause is known at every delay that is tried."""
    if len(cause.times_s) < LEAST_SAMPLES or len(effect.times_s) < LEAST_SAMPLES:
        found = min(len(cause.times_s), len(effect.times_s))
        raise MeasurementError(f"{what}: cannot be measured from {found} samples; needed are {LEAST_SAMPLES}")
    first, last = cause.times_s[0] + tried[-1], cause.times_s[-1] + tried[0]
    inside = (effect.times_s >= first) & (effect.times_s <= last)
    if int(inside.sum()) < LEAST_SAMPLES:
        raise MeasurementError(
            f"{what}: cannot be measured from {int(inside.sum())} samples; needed are {LEAST_SAMPLES}"
        )
    values = effect.values[inside]
    return effect.times_s[inside], values.reshape(len(values), -1)


def _components(values: Array) -> Array:
    """`(n, k)` -> up to COMPONENTS orthonormal columns `(n, c)`, each of mean 0; none if nothing changes."""
    centred = values - values.mean(axis=0)
    # Of the smaller of two matrices: value against value for an arm, moment against moment for a picture's pixels.
    tall = centred.shape[0] > centred.shape[1]
    strengths, vectors = np.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
    kept: Array = vectors[:, strengths > 1e-12 * max(1.0, float(np.square(values).sum()))][:, -COMPONENTS:]
    if tall:
        kept = centred @ kept
        kept /= np.linalg.norm(kept, axis=0)
    return kept


def _uncertainty(tried: Array, shifted: Array, rebuilt: Array, best: int) -> float:
    """From the delays at which each part of the time, alone, fits what was rebuilt of the cause from the effect."""
    errors = [np.square(part_of - part).mean(axis=1) for part_of, part in zip(
        np.array_split(shifted, PARTS, axis=1), np.array_split(rebuilt, PARTS), strict=True
    )]  # fmt: skip
    near = slice(max(0, best - 20), best + 21)  # 0.1 s: what is further away is another wave of the motion
    found = []
    for error in errors:
        lowest = near.start + int(error[near].argmin())
        found.append(_valley(tried, error, min(max(lowest, 1), len(tried) - 2)))
    spread = float(np.std(found, ddof=1))
    return T_95 * spread / float(np.sqrt(PARTS))


def _valley(tried: Array, cost: Array, index: int) -> float:
    """Where the parabola through the points around `index` is lowest, at most one step away."""
    before, here, after = cost[index - 1 : index + 2]
    bend = before - 2.0 * here + after
    offset = float(0.5 * (before - after) / bend) if bend > 0.0 else 0.0
    return float(tried[index] + STEP_S * min(max(offset, -1.0), 1.0))
