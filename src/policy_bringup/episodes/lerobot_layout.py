"""How a LeRobotDataset v3.0 lies on disk: paths, the description in info.json, and the libraries that it needs.

Episodes follow each other in large files: one parquet file of frames and one mp4 per camera hold many of them, and
meta/episodes says which frames of which file are whose.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Contract

VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
INFO = "meta/info.json"
STATISTICS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{_FILE}.parquet"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"
COUNTERS: Mapping[str, str] = {
    "timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64",
}  # fmt: skip
"""Columns that every dataset has, one number a frame: name -> type. `timestamp` is frame_index / fps."""
MEGABYTE = 1024**2


class Place(NamedTuple):
    """Which file of its kind: both count from 0."""

    chunk: int = 0
    file: int = 0

    def following(self) -> Place:
        """The file after this one."""
        return Place(self.chunk + 1) if self.file == FILES_PER_CHUNK - 1 else Place(self.chunk, self.file + 1)

    def path(self, pattern: str, video_key: str = "") -> str:
        """The file's path inside the dataset."""
        return pattern.format(chunk_index=self.chunk, file_index=self.file, video_key=video_key)


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of the columns. images: holds {camera}; stamp_ns and driver are extra columns, for a way back without loss.

    Raises EpisodeError for a name that the format cannot hold.
    """

    state: str = "observation.state"
    action: str = "action"
    images: str = "observation.images.{camera}"
    stamp_ns: str = "stamp_ns"
    driver: str = "driver"

    def __post_init__(self) -> None:
        names = (self.state, self.action, self.images, self.stamp_ns, self.driver)
        if "{camera}" not in self.images:
            raise EpisodeError(f"field name '{self.images}': must hold {{camera}}, so that each camera has its own")
        for name in names:
            if not name or "/" in name or name in COUNTERS or names.count(name) > 1:
                raise EpisodeError(
                    f"field name '{name}': must be a text without '/', used once, and none of {', '.join(COUNTERS)}"
                )

    def image(self, camera: str) -> str:
        """The name of a camera's pictures."""
        return self.images.replace("{camera}", camera)


@dataclass(frozen=True, slots=True)
class Info:
    """meta/info.json. features: name -> {dtype, shape, names, ...}; the paths are patterns as above."""

    fps: float
    features: Mapping[str, Mapping[str, Any]]
    data_path: str
    video_path: str | None


def features(contract: Contract, fields: Fields, videos: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The features of frames under a contract. videos: camera -> what its video files are like.

    States and actions are declared float64, as they are here; LeRobot itself would write float32.
    """
    spec, action = contract.observation, contract.action
    described: dict[str, Any] = {
        fields.image(image.camera): {
            "dtype": "video",
            "shape": [image.height, image.width, 3],
            "names": ["height", "width", "channels"],
            "info": dict(videos[image.camera]),
        }
        for image in spec.images
    }
    described[fields.state] = {"dtype": "float64", "shape": [len(spec.state)], "names": list(spec.names)}
    described[fields.action] = {"dtype": "float64", "shape": [len(action.columns)], "names": list(action.names)}
    scalars = {fields.stamp_ns: "int64", fields.driver: "string", **COUNTERS}
    described.update({name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in scalars.items()})
    return described


def save_info(root: Path, robot: str, fps: int, described: Mapping[str, Any], totals: Mapping[str, int]) -> None:
    """Writes meta/info.json. totals: total_episodes, total_frames, total_tasks."""
    has_video = any(feature["dtype"] == "video" for feature in described.values())
    save_json(
        root / INFO,
        {
            "codebase_version": VERSION,
            "robot_type": robot,
            **totals,
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": DATA_FILE_MB,
            "video_files_size_in_mb": VIDEO_FILE_MB,
            "fps": fps,
            "splits": {"train": f"0:{totals['total_episodes']}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if has_video else None,
            "features": described,
        },
    )


def save_json(path: Path, data: Any) -> None:
    """Writes JSON as a person can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=4, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def load_info(root: Path) -> Info:
    """Reads meta/info.json. Raises EpisodeError for anything but version 3 of the format."""
    path = root / INFO
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["codebase_version"]
        if not str(version).startswith("v3."):
            raise EpisodeError(f"{root}: is a LeRobot dataset of version {version}; only {VERSION} can be read")
        info = Info(float(data["fps"]), dict(data["features"]), data["data_path"], data.get("video_path"))
        complete = all({"dtype", "shape"} <= set(feature) for feature in info.features.values())
        if not complete or not info.fps > 0.0:
            raise ValueError("fps or a feature is incomplete")
    except OSError as error:
        raise EpisodeError(f"{root}: is not a LeRobot dataset ({INFO}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise EpisodeError(f"{path}: is not the description of a LeRobot dataset ({reason})") from error
    return info


def column_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a feature's columns, which some datasets keep in a group of one; empty if it has none."""
    names = feature.get("names")
    if isinstance(names, Mapping):
        names = next(iter(names.values()), None)
    return tuple(map(str, names)) if isinstance(names, list) else ()


def library(name: str) -> ModuleType:
    """A module of pyarrow or PyAV. Raises EpisodeError saying what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EpisodeError(
            f"LeRobot datasets need pyarrow and av, and {error.name or name} is not installed; "
            "install it with: pip install 'policy_bringup[lerobot]'"
        ) from error
