"""Frames -> LeRobotDataset v3.0. States, actions, stamps and drivers keep every bit; pictures lose what
the codec takes.

LeRobot wants evenly spaced frames: `timestamp` is frame_index / fps. The true stamps are kept beside it. Of a history,
only the newest step is written: LeRobot takes earlier ones from earlier frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Array, Contract
from policy_bringup.episodes.frames import Frames, load_frames
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.lerobot_files import Tables, new_folder, save_tasks, table
from policy_bringup.episodes.lerobot_layout import (
    DATA_PATH,
    EPISODES_PATH,
    STATISTICS,
    VIDEO_PATH,
    Fields,
    Place,
    features,
    library,
    save_info,
    save_json,
)
from policy_bringup.episodes.lerobot_statistics import Statistics, merged, of_columns, of_pictures
from policy_bringup.episodes.lerobot_video import Clip, ClipWriter, Encoding, Loss, picture_error, read_clip

Progress = Callable[[int, int, str], None]
"""Called after each episode with: how many are finished, how many there are, and its name."""
RATE_TOLERANCE = 0.1
"""By how much the frames' mean rate may differ from fps: beyond, a policy would learn another speed."""
LOSS_SAMPLES = 200
"""Pictures per camera of which the loss is measured."""


@dataclass(frozen=True, slots=True)
class Source:
    """An episode to export: a folder of save_frames, with its label. task: in words."""

    name: str
    cache: Path
    task: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """fps: None takes the whole number nearest to the first episode's rate. max_loss: grey levels, of any sampled
    picture; see Loss.
    """

    fields: Fields = field(default_factory=Fields)
    fps: int | None = None
    encoding: Encoding = field(default_factory=Encoding)
    max_loss: float = 8.0


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written. failed: episode -> why it was left out; loss: by camera."""

    episodes: int
    frames: int
    fps: int
    loss: Mapping[str, Loss]
    failed: Mapping[str, str]


def sources(caches: Sequence[Path]) -> tuple[Source, ...]:
    """Episodes whose caches hold their journals, as `convert` leaves them. Raises EpisodeError."""
    found = []
    for cache in caches:
        journal = load_journal(cache)
        found.append(Source(cache.name, cache, journal.provenance.task, journal.outcome))
    return tuple(found)


def export_lerobot(
    episodes: Sequence[Source],
    out: Path,
    contract: Contract,
    settings: ExportSettings | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Writes the dataset `out`, whole or not at all. An episode that cannot be used is left out and reported.

    Raises EpisodeError if `out` exists, if no episode can be used, or if pictures lose more than the settings allow.
    """
    settings = settings or ExportSettings()
    with new_folder(out) as partial:
        writer = _Writer(partial, contract, settings)
        failed: dict[str, str] = {}
        for done, episode in enumerate(episodes, 1):
            try:
                frames = newest(load_frames(episode.cache, contract), contract)
                writer.check(frames, episode)
            except EpisodeError as error:
                failed[episode.name] = str(error)
            else:
                writer.add(frames, episode)
            if progress is not None:
                progress(done, len(episodes), episode.name)
        if not writer.written:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise EpisodeError(f"{out}: there is no episode to export{' (' + reasons + ')' if reasons else ''}")
        loss = writer.finish()
    assert writer.fps is not None
    return ExportReport(len(writer.written), writer.total, writer.fps, loss, failed)


def newest(frames: Frames, contract: Contract) -> Frames:
    """The frames without the earlier steps of a history."""
    if contract.observation.history == 1:
        return frames
    images = {camera: pictures[:, -1] for camera, pictures in frames.images.items()}
    return replace(frames, images=images, state=frames.state[:, -1])


class _Writer:
    """The dataset being written. fps: None until the first episode, unless it was given."""

    def __init__(self, root: Path, contract: Contract, settings: ExportSettings) -> None:
        self._root, self._contract, self._settings = root, contract, settings
        self.fps = settings.fps
        self.total = 0
        self.written: list[tuple[Source, dict[str, Clip]]] = []
        self._clips: dict[str, ClipWriter] = {}
        self._tasks: dict[str, int] = {}
        self._statistics: dict[str, Statistics] = {}
        self._data = Tables(root, DATA_PATH)
        self._episodes = Tables(root, EPISODES_PATH)

    def check(self, frames: Frames, episode: Source) -> None:
        """Raises EpisodeError for frames that the dataset cannot hold truthfully."""
        where, spec = episode.name, self._contract.observation
        if not episode.task:
            raise EpisodeError(f"{where}: names no task, and LeRobot needs one in words")
        for name, values, names in (
            ("state", frames.state, spec.names),
            ("action", frames.action, self._contract.action.names),
        ):
            _check_table(f"{where}: {name}", values, names)
        for image in spec.images:
            expected = (len(frames.stamps_ns), image.height, image.width, 3)
            found = frames.images[image.camera].shape if image.camera in frames.images else "none"
            if found != expected:
                raise EpisodeError(f"{where}: pictures of '{image.camera}' must have shape {expected}, found {found}")
        rate_hz = _rate_hz(frames.stamps_ns, where)
        fps = self.fps or max(1, round(rate_hz))
        if abs(rate_hz / fps - 1.0) > RATE_TOLERANCE:
            raise EpisodeError(f"{where}: its frames come at {rate_hz:.2f} Hz, and the dataset's are at {fps} fps")

    def add(self, frames: Frames, episode: Source) -> None:
        """Appends a checked episode."""
        self.fps = self.fps or max(1, round(_rate_hz(frames.stamps_ns, episode.name)))
        fields, clips, figures = self._settings.fields, {}, {}
        for image in self._contract.observation.images:
            key = fields.image(image.camera)
            if image.camera not in self._clips:
                size = image.height, image.width
                self._clips[image.camera] = ClipWriter(self._root, key, size, self.fps, self._settings.encoding)
            clips[image.camera] = self._clips[image.camera].add(frames.images[image.camera])
            figures[key] = of_pictures(frames.images[image.camera])
        columns = self._columns(frames, episode)
        figures.update({name: of_columns(values) for name, values in columns.items()})
        for name, each in figures.items():
            whole = self._statistics.get(name)
            self._statistics[name] = each if whole is None else merged([whole, each])
        place = self._data.add(table({**columns, fields.driver: frames.driver}), len(frames.stamps_ns))
        self._add_row(episode, len(frames.stamps_ns), place, clips, figures)
        self.written.append((episode, clips))
        self.total += len(frames.stamps_ns)

    def finish(self) -> dict[str, Loss]:
        """Completes every file and measures what the pictures lost. Raises EpisodeError if that is too much."""
        for clips in self._clips.values():
            clips.close()
        self._data.close()
        self._episodes.close()
        videos = {camera: clips.describe() for camera, clips in self._clips.items()}
        totals = {
            "total_episodes": len(self.written),
            "total_frames": self.total,
            "total_tasks": len(self._tasks),
        }
        assert self.fps is not None
        described = features(self._contract, self._settings.fields, videos)
        save_info(self._root, self._contract.robot, self.fps, described, totals)
        plain = {name: {key: value.tolist() for key, value in each.items()} for name, each in self._statistics.items()}
        save_json(self._root / STATISTICS, plain)
        save_tasks(self._root, list(self._tasks))
        return self._measure_loss(self.fps)

    def _columns(self, frames: Frames, episode: Source) -> dict[str, npt.NDArray[Any]]:
        assert self.fps is not None
        fields, index = self._settings.fields, np.arange(len(frames.stamps_ns))
        return {
            fields.state: frames.state,
            fields.action: frames.action,
            fields.stamp_ns: frames.stamps_ns,
            "timestamp": (index / self.fps).astype(np.float32),
            "frame_index": index,
            "episode_index": np.full(len(index), len(self.written)),
            "index": index + self.total,
            "task_index": np.full(len(index), self._tasks.setdefault(episode.task, len(self._tasks))),
        }

    def _add_row(
        self,
        episode: Source,
        length: int,
        place: Place,
        clips: Mapping[str, Clip],
        figures: Mapping[str, Statistics],
    ) -> None:
        assert self.fps is not None
        row: dict[str, Any] = {
            "episode_index": len(self.written),
            "tasks": [episode.task],
            "length": length,
            "outcome": episode.outcome.value,
            "source": episode.name,
            "data/chunk_index": place.chunk,
            "data/file_index": place.file,
            "dataset_from_index": self.total,
            "dataset_to_index": self.total + length,
        }
        for camera, clip in clips.items():
            prefix = f"videos/{self._settings.fields.image(camera)}"
            row[f"{prefix}/chunk_index"], row[f"{prefix}/file_index"] = clip.place
            row[f"{prefix}/from_timestamp"] = clip.first / self.fps
            row[f"{prefix}/to_timestamp"] = (clip.first + clip.length) / self.fps
        for name, each in figures.items():
            row.update({f"stats/{name}/{key}": value.tolist() for key, value in each.items()})
        row["meta/episodes/chunk_index"], row["meta/episodes/file_index"] = self._episodes.place_of_next()
        self._episodes.add(library("pyarrow").Table.from_pylist([row]), 1)

    def _measure_loss(self, fps: int) -> dict[str, Loss]:
        errors: dict[str, list[float]] = {camera: [] for camera in self._clips}
        chosen = np.unique(np.linspace(0, len(self.written) - 1, LOSS_SAMPLES).round().astype(int))
        for episode, clips in (self.written[index] for index in chosen):
            frames = newest(load_frames(episode.cache), self._contract)
            for camera, clip in clips.items():
                key, middle = self._settings.fields.image(camera), clip.length // 2
                path = self._root / clip.place.path(VIDEO_PATH, key)
                decoded = read_clip(path, (clip.first + middle) / fps, fps, 1)[0]
                errors[camera].append(picture_error(frames.images[camera][middle], decoded))
                if errors[camera][-1] > self._settings.max_loss:
                    raise EpisodeError(
                        f"{episode.name}: the video takes {errors[camera][-1]:.1f} grey levels from a picture of "
                        f"'{camera}', allowed are {self._settings.max_loss:g}; choose a lower crf"
                    )
        return Loss.of(errors)


def _check_table(where: str, values: Array, names: tuple[str, ...]) -> None:
    if values.ndim != 2 or values.shape[1] != len(names):
        raise EpisodeError(f"{where}: must have the {len(names)} columns of the contract, found shape {values.shape}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        frame, column = bad[0]
        raise EpisodeError(f"{where}: column '{names[column]}' is not a finite number in frame {frame}")


def _rate_hz(stamps_ns: npt.NDArray[np.int64], where: str) -> float:
    if len(stamps_ns) < 2 or stamps_ns[-1] <= stamps_ns[0]:
        raise EpisodeError(f"{where}: needs at least two frames, one after the other, found {len(stamps_ns)}")
    return float((len(stamps_ns) - 1) / ((stamps_ns[-1] - stamps_ns[0]) / 1e9))
