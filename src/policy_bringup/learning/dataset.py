"""Recorded episodes as the windows that a policy learns from: what was seen at a moment, and the chunk done after it.

The folders of frames are the cache: their pictures are decoded and resized once, when the bags are converted, and from
then on looked at where they lie on the disk. The system keeps those in memory that fit.

Moments further apart than 1.5 steps of the contract, and moments without an action, break an episode into runs. Steps
of a window beyond the end of its run repeat the run's last action and are not valid; so no window mixes two runs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Array, Contract, Pixels
from policy_bringup.episodes.frames import Frames, load_frames
from policy_bringup.learning.batch import Batch
from policy_bringup.learning.loader import Indices, Loader

Floats = npt.NDArray[np.float32]
GAP = 1.5
"""Moments further apart than this many steps of the contract are not one run."""
PACE = 0.25
"""How far, as a share of the contract's step, the mean time between the moments of a run may be from it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Episode:
    """N moments with an action: their places among the episode's pictures, and the last moment of each one's run."""

    name: str
    moment: Indices
    last: Indices
    state: Floats
    action: Floats
    pictures: Mapping[str, Pixels]
    sha256: str


class Dataset:
    """Windows of several episodes, by index: 0 is the first moment of the first episode, and so on in order.

    Holds no file open, whatever the number of episodes. Not to be written to.
    """

    def __init__(self, contract: Contract, parts: Sequence[_Episode]) -> None:
        self.contract = contract
        self._parts = tuple(parts)
        twice = [name for name, count in Counter(self.episodes).items() if count > 1]
        if twice or not parts:
            raise EpisodeError(f"dataset: {twice[0]} stands twice" if twice else "dataset: no episodes to learn from")
        sizes = [len(part.moment) for part in parts]
        starts = np.cumsum([0, *sizes])
        self._start = dict(zip(self.episodes, starts.tolist(), strict=False))
        self._part = np.repeat(np.arange(len(parts)), sizes)
        self._moment = np.concatenate([part.moment for part in parts])
        self._last = np.concatenate([start + part.last for start, part in zip(starts, parts, strict=False)])
        self._state = np.concatenate([part.state for part in parts])
        self._action = np.concatenate([part.action for part in parts])

    @classmethod
    def open(cls, root: Path, names: Iterable[str], contract: Contract) -> Dataset:
        """The episodes `names` among the folders of frames in `root`.

        Raises EpisodeError, naming the episode, for frames that are absent, damaged or of another contract or rate;
        for a state that is not a number, and an action that is so in part; where no moment has an action; for an
        episode named twice, and for none.
        """
        return cls(contract, [_read(root / name, contract) for name in names])

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self._moment)

    @property
    def episodes(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(part.name for part in self._parts)

    @property
    def sha256(self) -> str:
        """Of the episodes' names and contents; where they lie does not matter. Of the pictures it takes their number,
        the first and the last."""
        return hashlib.sha256("".join(f"{part.name} {part.sha256}\n" for part in self._parts).encode()).hexdigest()

    def windows(self, episode: str) -> Indices:
        """Indices of one episode's windows, in order. Raises EpisodeError if it is not here."""
        if episode not in self._start:
            raise EpisodeError(f"{episode}: is not one of the dataset's {len(self._parts)} episodes")
        start = self._start[episode]
        return np.arange(start, start + len(self._parts[self._part[start]].moment))

    def subset(self, names: Iterable[str]) -> Dataset:
        """Some of the episodes, in the order of `names`. Raises EpisodeError for an absent one, and for none."""
        return Dataset(self.contract, [self._parts[self._part[self.windows(name)[0]]] for name in names])

    def tables(self, indices: Indices) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """State `(B, history, state columns)`, action `(B, steps, action columns)` and valid `(B, steps)`."""
        wanted = indices[:, None] + np.arange(self.contract.action.steps)
        last = self._last[indices][:, None]
        return self._state[indices], self._action[np.minimum(wanted, last)], wanted <= last

    def pictures(self, camera: str, indices: Indices) -> Pixels:
        """One camera's pictures, `(B, history, height, width, 3)`."""
        first = self._parts[0].pictures[camera]
        out = np.empty((len(indices), *first.shape[1:]), np.uint8)
        parts, moments = self._part[indices].tolist(), self._moment[indices].tolist()
        for row, part, moment in zip(out, parts, moments, strict=True):
            row[...] = self._parts[part].pictures[camera][moment]
        return out

    def batch(self, indices: Indices) -> Batch:
        """The windows at `indices`, `(B,)`, each from 0 to `len(self) - 1`."""
        state, action, valid = map(torch.from_numpy, self.tables(indices))
        cameras = [image.camera for image in self.contract.observation.images]
        images = {camera: torch.from_numpy(self.pictures(camera, indices)) for camera in cameras}
        return Batch(images, state, action, valid)


def batches(
    dataset: Dataset,
    batch_size: int,
    rng: np.random.Generator | None,
    rank: int = 0,
    world: int = 1,
    drop_last: bool = True,
    first: int = 0,
) -> Loader:
    """One round of batches for each `iter` of what this returns; see Loader."""
    return Loader(dataset.batch, len(dataset), batch_size, rng, rank, world, drop_last, first)


def _read(folder: Path, contract: Contract) -> _Episode:
    frames = load_frames(folder, contract)
    _check_shapes(folder, frames, contract)
    stamps, state, action = np.array(frames.stamps_ns), np.array(frames.state), np.array(frames.action)
    used: npt.NDArray[np.bool_] = np.logical_not(np.isnan(action).all(axis=1))
    _check_numbers(folder, "state", state, contract.observation.names)
    _check_numbers(folder, "action", np.where(used[:, None], action, 0.0), contract.action.names)
    moment = np.flatnonzero(used)
    if not len(moment):
        raise EpisodeError(f"{folder}: holds no moment with an action")
    past = contract.observation.history
    return _Episode(
        folder.name,
        moment,
        _ends_of_runs(folder, stamps[moment], moment, contract.action.dt_s),
        state.astype(np.float32).reshape(len(stamps), past, -1)[moment],
        action.astype(np.float32)[moment],
        {camera: _mapped(pixels, past) for camera, pixels in frames.images.items()},
        _sha256(stamps, state, action, frames.images),
    )


def _check_shapes(folder: Path, frames: Frames, contract: Contract) -> None:
    count, spec = len(frames.stamps_ns), contract.observation
    past = (spec.history,) if spec.history > 1 else ()
    absent = [image.camera for image in spec.images if image.camera not in frames.images]
    if absent:
        raise EpisodeError(f"{folder}: holds no pictures of camera '{absent[0]}'")
    wanted = {f"pictures of '{i.camera}'": (count, *past, i.height, i.width, 3) for i in spec.images}
    wanted |= {"state": (count, *past, len(spec.state)), "action": (count, len(contract.action.columns))}
    found = {f"pictures of '{camera}'": pixels.shape for camera, pixels in frames.images.items()}
    found |= {"state": frames.state.shape, "action": frames.action.shape}
    for what, shape in wanted.items():
        if found[what] != shape:
            raise EpisodeError(f"{folder}: {what}: must be {shape} for its {count} moments, found {found[what]}")


def _check_numbers(folder: Path, what: str, values: Array, names: tuple[str, ...]) -> None:
    """values `(T, ..., columns)`."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        moment, column = bad[0][0], names[bad[0][-1]]
        raise EpisodeError(f"{folder}: {what} of moment {moment}, column '{column}' is {values[tuple(bad[0])]}")


def _ends_of_runs(folder: Path, stamps_ns: npt.NDArray[np.int64], moment: Indices, dt_s: float) -> Indices:
    """For each moment with an action, the number (among these) of the last one of its run."""
    apart_s = np.diff(stamps_ns) / 1e9
    breaks = (apart_s > GAP * dt_s) | (np.diff(moment) > 1)
    pace_s = apart_s[~breaks].mean() if not breaks.all() else apart_s.mean() if len(breaks) else dt_s
    if abs(pace_s - dt_s) > PACE * dt_s:
        raise EpisodeError(
            f"{folder}: its moments are {pace_s:.3f} s apart, and a step of the contract is {dt_s:g} s; convert the "
            f"bag at {1.0 / dt_s:g} Hz"
        )
    ends = np.flatnonzero(np.append(breaks, True))
    return ends[np.searchsorted(ends, np.arange(len(moment)))]


def _mapped(pixels: Pixels, past: int) -> Pixels:
    """The same pictures, `(T, history, height, width, 3)`, in a map that does not hold their file open as numpy's does:
    a process may hold about a thousand, and two of each episode would be too many."""
    if isinstance(pixels, np.memmap) and pixels.flags.c_contiguous:
        size = pixels.offset + pixels.nbytes
        file = torch.from_file(str(pixels.filename), shared=False, size=size, dtype=torch.uint8).numpy()
        pixels = file[pixels.offset :].reshape(pixels.shape)
        pixels.flags.writeable = False
    return pixels.reshape(len(pixels), past, *pixels.shape[-3:])


def _sha256(stamps: npt.NDArray[np.int64], state: Array, action: Array, images: Mapping[str, Pixels]) -> str:
    digest = hashlib.sha256()
    for array in (stamps, state, action):
        digest.update(f"{array.shape}".encode() + array.tobytes())
    for camera, pixels in sorted(images.items()):
        digest.update(f"{camera} {pixels.shape}".encode() + pixels[[0, -1]].tobytes())
    return digest.hexdigest()
