"""The fault suite: a camera that goes wrong while the arm moves, its stamps as fresh as ever."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from policy_bringup.core.types import Pixels
from policy_bringup.pipeline.attempt import Attempt, Span
from policy_bringup.sim.disturbance import Undisturbed

FAULTS: Mapping[str, str] = {
    "frozen": "one camera repeats its last picture",
    "black": "one camera delivers black pictures",
    "swapped": "two cameras are exchanged",
}
"""Name -> what happens, from a random moment of motion on."""
LEFT_S = 1.0
"""A fault begins at least so long before the end of the undisturbed episode: later, there is nothing to be noticed."""


class CameraFault(Undisturbed):
    """One of FAULTS from `onset_s` on, for `cameras` in turn: the first of them, or the first two, go wrong."""

    def __init__(self, kind: str, cameras: Sequence[str], onset_s: float) -> None:
        self._kind, self._cameras, self._onset_s = kind, tuple(cameras), onset_s
        self._last: dict[str, Pixels] = {}

    def pictures(self, taken: Mapping[str, Pixels], time_s: float) -> Mapping[str, Pixels]:
        """Sound before the onset."""
        if time_s < self._onset_s or not all(camera in taken for camera in self._cameras):
            self._last = dict(taken)
            return taken
        first = self._cameras[0]
        if self._kind == "swapped":
            second = self._cameras[1]
            return {**taken, first: taken[second], second: taken[first]}
        if self._kind == "black":
            return {**taken, first: np.zeros_like(taken[first])}
        return {**taken, first: self._last.get(first, taken[first])}


def fault_of(kind: str, cameras: Sequence[str], seed: int, onset_s: float) -> CameraFault:
    """A fault of one episode; which of the policy's `cameras` it befalls is drawn with the seed."""
    order = _rng(kind, seed).permutation(len(cameras))
    return CameraFault(kind, [cameras[i] for i in order[: 2 if kind == "swapped" else 1]], onset_s)


def impossible(kind: str, cameras: Sequence[str]) -> str:
    """Why these cameras cannot have the fault; "" if they can."""
    needed = 2 if kind == "swapped" else 1
    if len(cameras) >= needed:
        return ""
    return f"the policy reads {len(cameras) or 'no'} camera{'s' * (len(cameras) != 1)}, the fault needs {needed}"


def onset_of(kind: str, plain: Attempt, end_s: float) -> float | None:
    """When the fault begins: uniformly over the motion of the undisturbed episode of the same seed, until `end_s`.

    Until then the two episodes are the same. None if it never moved.
    """
    spans = [(start, min(end, end_s)) for start, end in plain.motion if start < end_s]
    return _moment(spans, float(_rng(f"{kind} onset", plain.seed).uniform())) if spans else None


def _moment(spans: Sequence[Span], share: float) -> float:
    """The moment after `share` of the time that the spans cover."""
    left = share * sum(end - start for start, end in spans)
    for start, end in spans:
        if left <= end - start:
            return start + left
        left -= end - start
    return spans[-1][1]


def _rng(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(kind.encode())])
