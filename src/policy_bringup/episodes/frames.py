"""One episode as arrays for learning: what a live policy would have seen, moment by moment, and what was done then.

Observations are made by core/policy_input.py, as in the policy node: the same moments, the same samples, bit for bit. A
policy that started before the recording may take others of the camera's pictures where its rate is below the camera's.

The action of a moment is the safe action in force `action.dt_s` later: the newest message of safety/action that took
effect by then. Its header stamp is that of the observation it goes back to, so it took effect when it was published.
Its driver is who was in charge at that same time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.fingerprints import contract_sha256
from policy_bringup.core.latency import UNMEASURED, Latency
from policy_bringup.core.types import Array, Contract, Observation, Pixels, StateSample
from policy_bringup.episodes.driving import Driving, read_driving
from policy_bringup.episodes.layout import PARTIAL
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.recorded_input import RecordedInput

META_FILE = "meta.json"
FORMAT = 1
"""Version of the saved form that this code writes and reads."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """T moments of one episode; names and units of the columns are the contract's.

    stamps_ns `(T,)` int64; images: camera -> uint8 RGB `(T, height, width, 3)`; state `(T, state columns)` and action
    `(T, action columns)` float64; driver `(T,)` text: "policy", "teleop", "hand", ... or "" while nobody drove. For a
    contract with a history, images and state have an axis of that length after the first, the newest last.
    """

    stamps_ns: npt.NDArray[np.int64]
    images: dict[str, Pixels]
    state: Array
    action: Array
    driver: npt.NDArray[np.str_]


def read_frames(
    folder: Path,
    contract: Contract,
    rate_hz: float,
    derive: Callable[[StateSample], StateSample],
    keep_idle: bool = False,
    latency: Latency = UNMEASURED,
) -> Frames:
    """The frames of the bag in `folder`, at a mean rate of at most `rate_hz`.

    derive: joint sample -> tool columns (control.Proprioception.tool). keep_idle: also the moments before the arm was
    first driven and after it was last, with an action of NaN while there was none. latency: of the cameras. Raises
    EpisodeError, naming bag and topic, for a bag that is damaged, foreign, or lacks a stream of the contract; for a
    clock that went back; and for an episode in which nobody drove.
    """
    with open_bag(folder) as bag:
        inputs = RecordedInput(bag, contract, rate_hz, derive, latency)
        driving = read_driving(bag, contract, required=not keep_idle)
        ahead_ns = round(contract.action.dt_s * 1e9)
        frames = _Filler(contract, inputs.most)
        for moment in inputs.moments():
            if not keep_idle and not driving.covers(moment + ahead_ns):
                continue
            observation = inputs.observe(moment)
            if observation is not None:
                frames.add(observation, driving, moment + ahead_ns)
        if not frames.count:
            raise EpisodeError(f"{bag.path}: {inputs.complaint}")
        return frames.finished()


def save_frames(folder: Path, frames: Frames, contract: Contract | None = None, source: str = "") -> None:
    """Writes frames as a folder of .npy files and meta.json, whole or not at all, in place of older frames there.

    contract: whose columns they are, so that nobody loads them for another one. source: the bag they come from. Raises
    EpisodeError if they cannot be written, or something else than saved frames lies there.
    """
    if folder.exists() and not (folder / META_FILE).is_file():
        raise EpisodeError(f"{folder}: holds something else than frames; it is left as it is")
    partial, older = (folder.with_name(f".{folder.name}.{os.getpid()}{end}{PARTIAL}") for end in ("", ".older"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, array in _arrays(frames).items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        (partial / META_FILE).write_text(json.dumps(_meta(frames, contract, source), indent=1), encoding="utf-8")
        if folder.exists():  # in one step, so that no half of the older frames stays behind
            folder.replace(older)
        partial.replace(folder)
    except OSError as error:
        raise EpisodeError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(older, ignore_errors=True)


def load_frames(folder: Path, contract: Contract | None = None) -> Frames:
    """Frames written by `save_frames`; their arrays stay on the disk (read-only) until they are looked at.

    Raises EpisodeError for a folder without frames, a damaged one, and for frames of another contract than `contract`.
    """
    meta = _load_meta(folder)
    if contract is not None and meta["contract_sha256"] != contract_sha256(contract):
        raise EpisodeError(
            f"{folder}: its frames were made for another contract ({_difference(meta['contract'], contract)}); "
            "make them again from the bag"
        )
    arrays = {name: _load_array(folder, name, meta["arrays"][name]) for name in meta["arrays"]}
    images = {camera: arrays[f"images_{camera}"] for camera in meta["cameras"]}
    return Frames(arrays["stamps_ns"], images, arrays["state"], arrays["action"], arrays["driver"])


class _Filler:
    """Arrays of a size known beforehand. Memory that no frame is written to is never taken from the system."""

    def __init__(self, contract: Contract, most: int) -> None:
        spec = contract.observation
        past = (spec.history,) if spec.history > 1 else ()
        self.count = 0
        self._stamps = np.empty(most, np.int64)
        self._images = {
            image.camera: np.empty((most, *past, image.height, image.width, 3), np.uint8) for image in spec.images
        }
        self._state = np.empty((most, *past, len(spec.state)))
        self._action = np.empty((most, len(contract.action.columns)))
        self._driver: list[str] = []
        self._newest_only = not past

    def add(self, observation: Observation, driving: Driving, acted_ns: int) -> None:
        """Appends one moment, and what was in force at `acted_ns`."""
        at, past = self.count, 0 if self._newest_only else slice(None)
        self._stamps[at] = observation.stamp_ns
        for camera, pixels in observation.images.items():
            self._images[camera][at] = pixels[past]
        self._state[at] = observation.state[past]
        self._action[at] = driving.action(acted_ns)
        self._driver.append(driving.driver(acted_ns))
        self.count += 1

    def finished(self) -> Frames:
        """The frames, without the room that was left."""
        images = {camera: pixels[: self.count] for camera, pixels in self._images.items()}
        driver = np.array(self._driver, dtype=np.str_)
        return Frames(self._stamps[: self.count], images, self._state[: self.count], self._action[: self.count], driver)


def _arrays(frames: Frames) -> dict[str, npt.NDArray[Any]]:
    images = {f"images_{camera}": pixels for camera, pixels in frames.images.items()}
    named = {name: getattr(frames, name) for name in ("stamps_ns", "state", "action", "driver")}
    return {**named, **images}


def _meta(frames: Frames, contract: Contract | None, source: str) -> dict[str, Any]:
    arrays = {name: {"shape": list(array.shape), "type": array.dtype.str} for name, array in _arrays(frames).items()}
    return {
        "format": FORMAT,
        "source": source,
        "cameras": list(frames.images),
        "contract": None if contract is None else _plain(contract),
        "contract_sha256": None if contract is None else contract_sha256(contract),
        "arrays": arrays,
    }


def _plain(contract: Contract) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(contract), default=lambda value: value.value))
    return plain


def _load_meta(folder: Path) -> dict[str, Any]:
    path = folder / META_FILE
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EpisodeError(f"{folder}: holds no frames ({META_FILE}: {error.strerror})") from error
    except ValueError as error:
        raise EpisodeError(f"{path}: is damaged ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise EpisodeError(f"{path}: must be frames of format {FORMAT}; make them again from the bag")
    missing = {"cameras", "contract", "contract_sha256", "arrays"} - meta.keys()
    if missing:
        raise EpisodeError(f"{path}: is damaged (key '{min(missing)}' is missing)")
    return meta


def _load_array(folder: Path, name: str, expected: dict[str, Any]) -> npt.NDArray[Any]:
    path = folder / f"{name}.npy"
    try:
        # A file without content cannot be mapped into memory.
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if all(expected["shape"]) else None, allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise EpisodeError(f"{path}: cannot be read ({error})") from error
    if list(array.shape) != expected["shape"] or array.dtype.str != expected["type"]:
        raise EpisodeError(f"{path}: holds {array.dtype} {array.shape}, and {META_FILE} says otherwise")
    return array


def _difference(found: dict[str, Any] | None, contract: Contract) -> str:
    """The first thing in which a saved contract differs, by its place, e.g. "observation.images[0].height"."""

    def walk(one: Any, other: Any, place: str) -> str:
        if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
            parts = [walk(one[key], other[key], f"{place}.{key}".lstrip(".")) for key in one]
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            parts = [walk(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True))]
        else:
            return "" if one == other else f"{place or 'all of it'} differs"
        return next(filter(None, parts), "")

    return "which one is not known" if found is None else walk(found, _plain(contract), "")
