"""A policy with open eyes: it gives no chunk while a camera shows what must not be acted on.

A network has an answer to everything: to a black picture, to one that stopped ten seconds ago, to two cameras whose
cables were exchanged. Its uncertainty may notice, or not. Here such pictures are refused before it sees them, with a
sentence for the operator; safety then hears nothing new and stops.

The limits below were set by measurement: 50 expert rollouts in the configured world and 26 in varied ones (colours,
light, cameras moved by up to 3 cm), both renderers, every pair of pictures 0.3 s to 2 s apart. They assume that a
camera either sees the arm move, or delivers no two pictures that are equal to half a grey level (a real sensor's noise
is enough). A wrist camera qualifies; one that looks out of the window through a filter may not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.thumbnail import Grey, coarse, thumbnail
from policy_bringup.core.types import TOOL_COLUMNS, ActionChunk, Array, Contract, Observation
from policy_bringup.inference.manifest import Fingerprint

CONTRAST = 2.0
"""Grey levels: standard deviation over a thumbnail from which on there is something to see. Measured: 13 and more."""
DARK, BRIGHT = 8.0, 247.0
"""Grey levels: a picture without contrast is black below, white above, else of one colour."""
FROZEN_S = 0.3
"""For so long a picture may stay the same while the arm moves."""
CHANGE = 0.5
"""Grey levels: a picture in whose thumbnail nothing changed by more is the same. Measured, after the motion below: 21
and more."""
MOVED_M, MOVED_RAD = 0.01, 0.1
"""From here on the arm has moved: the tool so far, or a joint. The gripper does not count."""
LIKENESS, MARGIN = 0.5, 0.4
"""A picture is another camera's if it is like what that one showed (correlation of thumbnails; at most 1, 0 for nothing
in common), and by the margin more so than like what its own showed. Measured, from one picture to the next: its own by
0.63 and more; after an exchange, the other's by as much. At the start of an episode, against the fingerprint: its own
by 1.25 and more in the world of the training data, and never the other's by more than 0.16 in a varied one."""


class WatchedPolicy:
    """A core.interfaces.Policy around another, which it asks only while all pictures are sound.

    fingerprint: of the bundle; provider, passed_over: for reports, what the policy runs on, and what was wanted rather.
    A refusal lasts as long as the fault, also across `reset`, and ends by itself: whether the arm may move again is for
    safety to decide.
    """

    def __init__(self, policy: Policy, fingerprint: Fingerprint, provider: str = "", passed_over: str = "") -> None:
        self._policy, self._provider, self._passed_over = policy, provider, passed_over
        spec = policy.contract.observation
        self._shapes = {image.camera: (spec.history, image.height, image.width, 3) for image in spec.images}
        self._stills: dict[str, _Still] = {}
        self._motion = _Motion(policy.contract)
        greys = {camera: np.array(fingerprint.cameras[camera], np.float32) for camera in self._shapes}
        self._start = {camera: pattern(grey) for camera, grey in greys.items()}
        self._shown: dict[str, Grey] | None = None  # what each camera showed last, since the reset
        self._exchanged = False

    @property
    def contract(self) -> Contract:
        """The policy's."""
        return self._policy.contract

    @property
    def unwatched(self) -> Policy:
        """The policy itself, which has an answer to everything: for measuring what its uncertainty alone would notice.

        Not for a robot.
        """
        return self._policy

    @property
    def provider(self) -> str:
        """What the policy runs on."""
        return self._provider

    @property
    def passed_over(self) -> str:
        """What was wanted rather, and why the policy does not run on that; "" for nothing."""
        return self._passed_over

    def reset(self) -> None:
        """Forgets the past, except for a fault that has been seen and not been mended."""
        if not self._exchanged:
            self._shown = None
        self._policy.reset()

    def predict(self, observation: Observation) -> ActionChunk:
        """The policy's chunk. Raises what it raises, and ObservationError naming the camera and what is wrong."""
        greys = self._thumbnails(observation)
        where = self._motion.position(observation)
        frozen = [self._frozen(camera, grey, observation.stamp_ns, where) for camera, grey in greys.items()]
        complaints = [*(complaint_of_dullness(camera, grey) for camera, grey in greys.items()), *frozen]
        complaint = next(filter(None, complaints), "") or self._misplaced(greys)
        if complaint:
            raise ObservationError(complaint)
        return self._policy.predict(observation)

    def _thumbnails(self, observation: Observation) -> dict[str, Grey]:
        """Of the newest picture of each camera. Raises ObservationError for one that is not the contract's."""
        for camera, shape in self._shapes.items():
            pixels = observation.images.get(camera)
            if pixels is None or pixels.shape != shape or pixels.dtype != np.uint8:
                found = "none" if pixels is None else f"{pixels.dtype} {pixels.shape}"
                raise ObservationError(f"camera '{camera}': the picture must be uint8 {shape}, found {found}")
        return {camera: thumbnail(observation.images[camera][-1]) for camera in self._shapes}

    def _frozen(self, camera: str, grey: Grey, stamp_ns: int, where: _Position) -> str:
        still = self._stills.get(camera)
        change = np.inf if still is None else float(np.abs(grey - still.grey).max())
        if still is None or change > CHANGE or stamp_ns < still.since_ns:
            self._stills[camera] = _Still(grey, stamp_ns, where)
            return ""
        still.moved = still.moved or where.is_far_from(still.where)
        lasted_s = (stamp_ns - still.since_ns) / 1e9
        if not still.moved or lasted_s < FROZEN_S:
            return ""
        return (
            f"camera '{camera}': the picture is frozen: it has not changed by more than {change:.1f} grey levels for "
            f"{lasted_s:.2f} s while the arm moved; allowed is less than {FROZEN_S:g} s"
        )

    def _misplaced(self, greys: Mapping[str, Grey]) -> str:
        """Looks for pictures of one camera in another's place."""
        now = {camera: pattern(coarse(grey)) for camera, grey in greys.items()}
        before = self._start if self._shown is None else self._shown
        known = [camera for camera in now if before[camera].any()]
        # Once exchanged, they must be more like themselves again: by then the arm may be elsewhere.
        least, margin = (-1.0, 0.0) if self._exchanged else (LIKENESS, MARGIN)
        for camera in known:
            own = float(now[camera] @ before[camera])
            for other in known:
                like = float(now[camera] @ before[other])
                if other != camera and like >= least and like > own + margin:
                    self._exchanged = True
                    when = "in training" if self._shown is None else "before"
                    return (
                        f"camera '{camera}': shows what camera '{other}' showed {when}, the cameras are swapped: its "
                        f"likeness to that is {like:.2f}, to its own {own:.2f}; allowed is {margin:g} more than its own"
                    )
        self._exchanged, self._shown = False, now
        return ""


@dataclass(slots=True)
class _Still:
    """A picture that stays the same: since when, where the arm was then, and whether it has moved away from there."""

    grey: Grey
    since_ns: int
    where: _Position
    moved: bool = False


@dataclass(frozen=True, slots=True)
class _Position:
    """tool `(3,)` m, or empty; joints `(n,)` rad."""

    tool: Array
    joints: Array

    def is_far_from(self, other: _Position) -> bool:
        """Whether the arm has moved from one to the other."""
        turned = np.abs(self.joints - other.joints).max(initial=0.0) > MOVED_RAD
        return bool(turned or np.linalg.norm(self.tool - other.tool) > MOVED_M)


class _Motion:
    """Finds the arm's position in the state; a contract without such columns has none, and nothing is ever frozen."""

    def __init__(self, contract: Contract) -> None:
        self._names = contract.observation.names
        self._tool = [i for i, name in enumerate(self._names) if name in TOOL_COLUMNS[:3]]
        units = [column.unit for column in contract.observation.state]
        self._joints = [i for i, name in enumerate(self._names) if units[i] == "rad" and name not in TOOL_COLUMNS]

    def position(self, observation: Observation) -> _Position:
        """At the observation's newest moment. Raises ObservationError for a state that is not the contract's."""
        if observation.state.ndim != 2 or observation.state.shape[1] != len(self._names):
            raise ObservationError(
                f"the state must have {len(self._names)} columns, found shape {observation.state.shape}"
            )
        newest = observation.state[-1]
        return _Position(newest[self._tool], newest[self._joints])


def complaint_of_dullness(camera: str, grey: Grey) -> str:
    """Of a thumbnail without content, in one sentence; "" for one that has some."""
    mean, contrast = _spread(grey.ravel())
    if contrast >= CONTRAST:
        return ""
    what = "black" if mean < DARK else "white" if mean > BRIGHT else "of one colour"
    return (
        f"camera '{camera}': the picture is {what}: its contrast is {contrast:.1f} grey levels around {mean:.0f}; "
        f"needed is {CONTRAST:g}"
    )


def pattern(grey: Grey) -> Grey:
    """A coarse thumbnail, flat, without its brightness and contrast; zeros if it has none."""
    flat = grey.ravel()
    mean, contrast = _spread(flat)
    if contrast < CONTRAST:
        return np.zeros_like(flat)
    return (flat - np.float32(mean)) / np.float32(contrast * math.sqrt(len(flat)))


def _spread(flat: Grey) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = float(flat.mean())
    off = flat - np.float32(mean)
    return mean, math.sqrt(float(off @ off) / len(flat))
