"""Raw streams -> policy input, the ONE path.

The live policy node, the dataset reader and the simulator all build their observations here, so that a policy meets on
the robot exactly what it was trained on.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.timeline import Timeline
from policy_bringup.core.types import Array, ImageSample, ImageSpec, Observation, ObservationSpec, Pixels, StateSample

RESIZE_RULES = ("area", "crop_area")


class ObservationBuilder:
    """Collects samples and assembles the observation of any moment.

    image_age_s, state_age_s: limits on the age of the samples at the moment they stand for.
    """

    def __init__(self, spec: ObservationSpec, image_age_s: float, state_age_s: float) -> None:
        self.spec = spec
        self._state_age_s = state_age_s
        self._keep_s = spec.history * spec.spacing_s + 1.0
        self._images: dict[str, Timeline[ImageSample]] = {
            image.camera: Timeline(f"camera/{image.camera}", image_age_s, self._keep_s) for image in spec.images
        }
        self._states: dict[str, Timeline[StateSample]] = {}
        self._columns: dict[tuple[str, ...], dict[str, int]] = {}
        self._heard: dict[str, set[str]] = {}

    def complete_until(self) -> int | None:
        """The newest moment, ROS time in ns, that can be built and will not change; None while a stream is missing.

        It is the stamp of a picture (of a state, without pictures) up to which every stream has been heard. Streams
        arrive in order, so nothing that belongs to that moment is still on its way: an observation built there is the
        same as one built from the recording.
        """
        return max(self._complete(), default=None)

    def complete_after(self, stamp_ns: int) -> tuple[int, ...]:
        """All moments later than `stamp_ns` up to `complete_until`, oldest first.

        None lies before the first sample of any stream, so that which moments there are does not depend on how many
        samples came in between two questions.
        """
        first = max(
            (timeline.oldest.stamp_ns for timeline in self._timelines() if timeline.oldest is not None), default=0
        )
        return tuple(moment for moment in self._complete() if moment >= first and moment > stamp_ns)

    def reset(self) -> None:
        """Forgets every sample."""
        for camera, timeline in self._images.items():
            self._images[camera] = Timeline(timeline.name, timeline.age_limit_s, self._keep_s)
        self._states.clear()
        self._heard.clear()

    def add_image(self, sample: ImageSample) -> None:
        """Takes a picture in. One from a camera that the policy does not read is ignored."""
        timeline = self._images.get(sample.camera)
        if timeline is not None:
            timeline.add(sample)

    def add_state(self, stream: str, sample: StateSample) -> None:
        """Takes a measurement in. `stream` names where it came from: all samples of one stream share one clock.

        Raises ObservationError when names and values do not pair up.
        """
        if sample.values.shape != (len(sample.names),):
            raise ObservationError(f"{stream}: {len(sample.names)} names for values of shape {sample.values.shape}")
        timeline = self._states.get(stream)
        if timeline is None:
            timeline = self._states[stream] = Timeline(stream, self._state_age_s, self._keep_s)
            self._heard[stream] = set()
        timeline.add(sample)
        self._heard[stream].update(sample.names)

    def build(self, stamp_ns: int) -> Observation:
        """The observation at `stamp_ns`. Raises ObservationError naming the stream that cannot serve it."""
        spacing_ns = round(self.spec.spacing_s * 1e9)
        moments = [stamp_ns - spacing_ns * back for back in reversed(range(self.spec.history))]
        images = {image.camera: np.stack([self._picture(image, t) for t in moments]) for image in self.spec.images}
        state = np.stack([self._state_at(t) for t in moments])
        return Observation(stamp_ns, images, state)

    def _timelines(self) -> list[Timeline[ImageSample] | Timeline[StateSample]]:
        return [*self._images.values(), *self._states.values()]

    def _complete(self) -> list[int]:
        timelines = self._timelines()
        reached = [timeline.newest.stamp_ns for timeline in timelines if timeline.newest is not None]
        if not reached or len(reached) < len(timelines) or not self._has_all_columns():
            return []
        return [sample.stamp_ns for sample in timelines[0] if sample.stamp_ns <= min(reached)]

    def _has_all_columns(self) -> bool:
        return all(any(name in heard for heard in self._heard.values()) for name in self.spec.names)

    def _picture(self, spec: ImageSpec, stamp_ns: int) -> Pixels:
        return resize(self._images[spec.camera].at(stamp_ns).pixels, spec.height, spec.width, spec.resize)

    def _state_at(self, stamp_ns: int) -> Array:
        values = np.empty(len(self.spec.state))
        found: dict[str, tuple[StateSample, dict[str, int]]] = {}
        for i, name in enumerate(self.spec.names):
            stream = self._stream_of(name)
            if stream not in found:
                sample = self._states[stream].at(stamp_ns)
                found[stream] = sample, self._index_of(sample.names)
            sample, index = found[stream]
            if name not in index:
                raise ObservationError(f"{stream}: column '{name}' is missing from the sample of that moment")
            values[i] = sample.values[index[name]]
        return values

    def _stream_of(self, name: str) -> str:
        # By all names ever heard, not by the newest sample's: what arrives later must not change an observation.
        streams = [stream for stream, heard in self._heard.items() if name in heard]
        if len(streams) > 1:
            raise ObservationError(f"state column '{name}' is in more than one stream ({', '.join(sorted(streams))})")
        if not streams:
            known = ", ".join(self._heard) or "none"
            raise ObservationError(f"state column '{name}' is in no stream heard so far ({known})")
        return streams[0]

    def _index_of(self, names: tuple[str, ...]) -> dict[str, int]:
        index = self._columns.get(names)
        if index is None:
            index = self._columns[names] = {name: i for i, name in enumerate(names)}
        return index


def resize(pixels: Pixels, height: int, width: int, rule: str = "area") -> Pixels:
    """Shrinks or stretches a picture, uint8 `(h, w, 3)` -> `(height, width, 3)`.

    "area": every output pixel is the mean of the input area it covers, over the whole picture. "crop_area": the same
    after cutting the centre out in the target's aspect ratio, so that nothing is squashed.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise ObservationError(
            f"a picture must be uint8 (height, width, 3) and not empty, got {pixels.dtype} {pixels.shape}"
        )
    if rule not in RESIZE_RULES:
        raise ObservationError(f"unknown resize rule '{rule}'; allowed are {', '.join(RESIZE_RULES)}")
    if rule == "crop_area":
        pixels = _crop_to_aspect(pixels, height, width)
    if pixels.shape[:2] == (height, width):
        return pixels
    rows = _area_weights(pixels.shape[0], height)
    columns = _area_weights(pixels.shape[1], width)
    # Rows first, as one matrix product over all columns and channels; then columns.
    squeezed = (rows @ pixels.reshape(pixels.shape[0], -1)).reshape(height, pixels.shape[1], 3)
    result = np.einsum("wk,hkc->hwc", columns, squeezed, optimize=True)
    rounded: Pixels = np.rint(result).clip(0, 255).astype(np.uint8)
    return rounded


def _crop_to_aspect(pixels: Pixels, height: int, width: int) -> Pixels:
    h, w = pixels.shape[:2]
    crop_h, crop_w = max(1, min(h, w * height // width)), max(1, min(w, h * width // height))
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    return pixels[top : top + crop_h, left : left + crop_w]


@lru_cache(maxsize=16)
def _area_weights(source: int, target: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """`(target, source)`: how much of each source pixel lies in each target pixel; rows sum to one."""
    edges = np.arange(target + 1) * (source / target)
    starts, ends = edges[:-1, None], edges[1:, None]
    pixel = np.arange(source)[None, :]
    overlap = np.clip(np.minimum(ends, pixel + 1) - np.maximum(starts, pixel), 0.0, None)
    weights: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (overlap / overlap.sum(1, keepdims=True)).astype(
        np.float32
    )
    return weights
