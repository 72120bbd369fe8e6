"""Is this the place that the policy was trained for? Asked once, before it proposes its first action.

Compared are the pictures and the joints with the bundle's fingerprint: a camera that shows another's view, or something
unlike the training data's, and an arm that stands where no demonstration began. A network would act all the same.

The likeness of two pictures is the correlation of their coarse grey thumbnails: 1 for the same, 0 for nothing in
common; brightness and contrast do not count. Measured of the shipped policy's fingerprint, both renderers alike
(front, wrist): 60 unseen start scenes at least 0.979, 0.992; 60 worlds varied as the training data's at least 0.873,
0.886. On the other side, at most: cameras swapped -0.305, -0.272; mirrored 0.582, 0.625; turned by 90 or 180 degrees
0.110, 0.104; half of it covered 0.276, 0.034; random blocks of colour 0.357, 0.334; aim off by 0.1 rad 0.598, 0.915,
by 0.2 rad 0.443, 0.753; moved by 10 cm 0.947, 0.407. Between the two, at config/policy.yaml's limit: a lamp of half the
brightness 60 cm from its place, 0.695 to 0.914.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from policy_bringup.core.config import bounded
from policy_bringup.core.observation import resize
from policy_bringup.core.thumbnail import COARSE, coarse, thumbnail
from policy_bringup.core.types import TOOL_COLUMNS, Array, Observation, ObservationSpec, Pixels
from policy_bringup.inference.manifest import Fingerprint
from policy_bringup.inference.watched import LIKENESS, MARGIN, complaint_of_dullness, pattern

GAP = 4
"""Pixels of white between the pictures of a sheet."""
_NONE: Mapping[str, Pixels] = MappingProxyType({})
_MARK = np.array([220, 30, 30], np.uint8)


@dataclass(frozen=True, slots=True)
class StartLimits:
    """What is still like the training data's start.

    likeness: least one of a picture; -1 compares no picture. rad, m: largest distance of a measured column from where
    the demonstrations began, by its unit.
    """

    likeness: float = bounded(-1.0, 1.0)
    rad: float = bounded(0.01, 7.0, "rad")
    m: float = bounded(0.001, 10.0, "m")


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What is wrong.

    subject: the camera or column, and how: the same for as long as it is that. sentence: the same with numbers. sheet:
    uint8 RGB; one row per camera in the contract's order, what is seen on the left and the training data's on
    the right; the row of the camera in question has a red edge. None without cameras.
    """

    subject: str
    sentence: str
    sheet: Pixels | None


class StartCheck:
    """Judges moments against one bundle's fingerprint.

    pictures: camera -> some real ones, uint8 `(n, height, width, 3)`, as of the bundle's parity.npz. The one most like
    the start is shown to people as the training data's; for a camera without one, the fingerprint itself is.
    """

    def __init__(
        self, fingerprint: Fingerprint, spec: ObservationSpec, limits: StartLimits,
        pictures: Mapping[str, Pixels] = _NONE,
    ) -> None:  # fmt: skip
        self._fingerprint, self._spec, self._limits = fingerprint, spec, limits
        self._cameras = [image.camera for image in spec.images]
        greys = {camera: np.array(fingerprint.cameras[camera], np.float32) for camera in self._cameras}
        self._patterns = {camera: pattern(grey) for camera, grey in greys.items()}
        self._columns = _judged(spec)
        self._expected = {camera: self._shown(camera, pictures.get(camera)) for camera in self._cameras}

    def judge(self, observation: Observation) -> Finding | None:
        """The first thing that is wrong with a moment: pictures first, then the pose. None: nothing."""
        newest = {camera: observation.images[camera][-1] for camera in self._cameras}
        for camera, pixels in newest.items():
            subject, sentence = self._picture(camera, pixels)
            if sentence:
                return Finding(subject, sentence, self._sheet(newest, camera))
        subject, sentence = self._pose(observation.state[-1])
        return Finding(subject, sentence, self._sheet(newest)) if sentence else None

    def expected(self, camera: str) -> Pixels:
        """What is shown as the training data's start: uint8 RGB of the contract's size."""
        return self._expected[camera]

    def likeness(self, camera: str, pixels: Pixels) -> dict[str, float]:
        """Of a picture from `camera` to the start of every camera that something is known about."""
        seen = pattern(coarse(thumbnail(pixels)))
        return {other: float(seen @ known) for other, known in self._patterns.items() if known.any()}

    def _picture(self, camera: str, pixels: Pixels) -> tuple[str, str]:
        dull = complaint_of_dullness(camera, thumbnail(pixels))
        if dull:
            return f"{camera} dull", dull
        likeness = self.likeness(camera, pixels)
        own = likeness.pop(camera, None)
        if own is None or own >= self._limits.likeness:
            return "", ""
        other = max(likeness, key=lambda name: likeness[name], default="")
        allowed = f"its likeness to its own start is {own:.2f}; allowed is {self._limits.likeness:g} or more"
        if other and likeness[other] >= max(LIKENESS, own + MARGIN):
            return f"{camera} swapped", (
                f"camera '{camera}': shows what camera '{other}' showed in training, the cameras are swapped: its "
                f"likeness to that is {likeness[other]:.2f}, and {allowed}"
            )
        return f"{camera} unlike", f"camera '{camera}': shows something unlike the training data: {allowed}"

    def _pose(self, state: Array) -> tuple[str, str]:
        """The column that is furthest outside, in terms of what is allowed to it."""
        start = np.array(self._fingerprint.start_pose)
        spread = np.array(self._fingerprint.start_spread or np.zeros(len(start)))
        units = [column.unit for column in self._spec.state]
        free = np.array([self._limits.rad if unit == "rad" else self._limits.m for unit in units])
        allowed = spread + free
        excess = np.full(len(start), -np.inf)
        for index in self._columns:
            off = abs(state[index] - start[index])
            excess[index] = off / allowed[index] if np.isfinite(off) else np.inf
        if not self._columns or excess.max() <= 1.0:
            return "", ""
        worst = int(excess.argmax())
        name, unit = self._spec.names[worst], units[worst]
        return f"{name} pose", (
            f"start pose: '{name}' is at {state[worst]:.3f} {unit}, {state[worst] - start[worst]:+.3f} from where the "
            f"demonstrations began ({start[worst]:.3f}); allowed is {allowed[worst]:.3g} {unit}: bring the arm there"
        )

    def _shown(self, camera: str, pictures: Pixels | None) -> Pixels:
        """The picture most like the start, if it is like it at all."""
        spec = next(image for image in self._spec.images if image.camera == camera)
        known = self._patterns[camera]
        if pictures is not None and len(pictures) and known.any():
            likeness = [float(pattern(coarse(thumbnail(pixels))) @ known) for pixels in pictures]
            best = int(np.argmax(likeness))
            if likeness[best] >= self._limits.likeness:
                found: Pixels = pictures[best]
                return found
        grey = np.rint(self._fingerprint.cameras[camera]).clip(0, 255).astype(np.uint8).reshape(COARSE, COARSE, 1)
        return resize(np.repeat(grey, 3, axis=2), spec.height, spec.width)

    def _sheet(self, newest: Mapping[str, Pixels], marked: str = "") -> Pixels | None:
        if not newest:
            return None
        width = 2 * max(pixels.shape[1] for pixels in newest.values()) + 3 * GAP
        rows = [_row(pixels, self._expected[camera], width, camera == marked) for camera, pixels in newest.items()]
        sheet: Pixels = np.concatenate(rows)
        return sheet


def _judged(spec: ObservationSpec) -> list[int]:
    """The columns that the robot measures itself: joints and gripper; the tool's, which follow, only without any.

    Where things lie (object.x and the like) differs from start to start.
    """
    measured = [i for i, c in enumerate(spec.state) if "." not in c.name and c.unit in ("rad", "m")]
    return measured or [i for i, column in enumerate(spec.state) if column.name in TOOL_COLUMNS]


def _row(seen: Pixels, expected: Pixels, width: int, marked: bool) -> Pixels:
    height = seen.shape[0]
    row = np.full((height + 2 * GAP, width, 3), 255, np.uint8)
    if marked:
        row[:] = _MARK
    for left, pixels in ((GAP, seen), (width - GAP - expected.shape[1], expected)):
        row[GAP : GAP + height, left : left + pixels.shape[1]] = pixels
    return row
