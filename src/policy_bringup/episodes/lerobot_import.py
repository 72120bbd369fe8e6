"""LeRobotDataset v3 -> frames, one folder of save_frames per episode, with a journal beside it.

What `lerobot_export` wrote comes back to the bit, except for the pictures. Other datasets have no stamps and no
drivers: their frames are stamped from fps, beginning at 1 s (a stamp of zero means "none"), and nobody drove them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.observation import resize
from policy_bringup.core.types import Array, Contract, ImageSpec, Pixels
from policy_bringup.episodes.frames import Frames, save_frames
from policy_bringup.episodes.journal import Journal, Outcome, Provenance, save_journal
from policy_bringup.episodes.layout import episode_name, episode_number
from policy_bringup.episodes.lerobot_files import new_folder
from policy_bringup.episodes.lerobot_layout import Fields, Info, Place, column_names, library, load_info
from policy_bringup.episodes.lerobot_video import read_clip, read_picture

FIRST_STAMP_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """by_position: takes the columns of state and action as they come, for datasets that name them otherwise.

    unlabelled: the outcome of episodes that state none.
    """

    fields: Fields = field(default_factory=Fields)
    by_position: bool = False
    unlabelled: Outcome = Outcome.FAILURE


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was read. failed: episode -> why it was left out."""

    episodes: int
    frames: int
    failed: Mapping[str, str]


def import_lerobot(
    root: Path,
    out: Path,
    contract: Contract,
    settings: ImportSettings | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> ImportReport:
    """Writes frames of every episode of the dataset `root` into the folder `out`, whole or not at all.

    An episode that cannot be read is left out and reported. Pictures are brought to the contract's size as live ones
    are. Raises EpisodeError if `root` is no such dataset or lacks a column, if `out` exists, or if nothing was read.
    """
    reader = _Reader(root, contract, settings or ImportSettings())
    rows = reader.rows()
    failed: dict[str, str] = {}
    done = frames_read = 0
    with new_folder(out) as partial:
        for count, row in enumerate(rows, 1):
            name = _name(row, partial)
            try:
                frames = reader.frames(row)
                save_frames(partial / name, frames, contract, str(root))
                save_journal(partial / name, reader.journal(row, frames))
            except EpisodeError as error:
                failed[name] = str(error)
            else:
                done, frames_read = done + 1, frames_read + len(frames.stamps_ns)
            if progress is not None:
                progress(count, len(rows), name)
        if not done:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise EpisodeError(f"{root}: no episode could be read{' (' + reasons + ')' if reasons else ''}")
    return ImportReport(done, frames_read, failed)


class _Reader:
    """An open dataset. Raises EpisodeError."""

    def __init__(self, root: Path, contract: Contract, settings: ImportSettings) -> None:
        self._root, self._contract, self._settings = root, contract, settings
        self._info = load_info(root)
        if contract.observation.history != 1:
            raise EpisodeError(f"{root}: holds single moments, and the contract wants a history; import with history 1")
        fields, by_position = settings.fields, settings.by_position
        self._state = _order(self._info, root, fields.state, contract.observation.names, by_position)
        self._action = _order(self._info, root, fields.action, contract.action.names, by_position)
        for image in contract.observation.images:
            _feature(self._info, root, fields.image(image.camera), ("video", "image"))

    def rows(self) -> list[dict[str, Any]]:
        """What is known about each episode, in order."""
        parquet = library("pyarrow.parquet")
        found: list[dict[str, Any]] = []
        paths = sorted((self._root / "meta" / "episodes").glob("*/*.parquet"))
        for path in paths:
            with _reading(path):
                file = parquet.ParquetFile(path)
                # Statistics would be most of it.
                names = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
                found.extend(file.read(columns=names).to_pylist())
        if not found or any("episode_index" not in row for row in found):
            raise EpisodeError(f"{self._root}: meta/episodes describes no episode")
        return sorted(found, key=lambda row: int(row["episode_index"]))

    def frames(self, row: Mapping[str, Any]) -> Frames:
        """The frames of one episode."""
        fields = self._settings.fields
        table, where = self._table(row), f"episode {row['episode_index']}"
        length = table.num_rows
        if length == 0:
            raise EpisodeError(f"{self._root}: {where} has no frames")
        stamps = self._extra(table, fields.stamp_ns)
        if stamps is None:
            order = np.asarray(table["frame_index"].to_numpy(), dtype=np.float64)
            stamps = FIRST_STAMP_NS + np.rint(order * (1e9 / self._info.fps)).astype(np.int64)
        drivers = self._extra(table, fields.driver)
        images = {
            image.camera: self._pictures(image, row, table, f"{self._root}: {where}")
            for image in self._contract.observation.images
        }
        return Frames(
            stamps_ns=np.array(stamps, dtype=np.int64),
            images=images,
            state=_values(table[fields.state], length)[:, self._state],
            action=_values(table[fields.action], length)[:, self._action],
            driver=np.array([""] * length if drivers is None else drivers.tolist(), dtype=np.str_),
        )

    def journal(self, row: Mapping[str, Any], frames: Frames) -> Journal:
        """The label of one episode, and where it comes from."""
        outcome = row.get("outcome")
        labelled = outcome in [each.value for each in Outcome]
        drivers = sorted(set(frames.driver.tolist()) - {""})
        return Journal(
            episode=int(row["episode_index"]),
            started_ns=int(frames.stamps_ns[0]),
            stopped_ns=int(frames.stamps_ns[-1]),
            provenance=Provenance(
                task="; ".join(map(str, row.get("tasks") or ())), objects=(), operator="",
                driver=" and ".join(drivers), mode="import", contract_sha256="", config_sha256="", code_version="",
            ),
            outcome=Outcome(outcome) if labelled else self._settings.unlabelled,
            note=f"from the LeRobot dataset {self._root.name}",
        )  # fmt: skip

    def _table(self, row: Mapping[str, Any]) -> Any:
        fields, described = self._settings.fields, self._info.features
        wanted = [fields.state, fields.action, "frame_index"]
        wanted += [name for name in (fields.stamp_ns, fields.driver) if name in described]
        keys = [fields.image(image.camera) for image in self._contract.observation.images]
        wanted += [key for key in keys if described[key]["dtype"] == "image"]
        path = self._file(self._info.data_path, row, "data")
        with _reading(path):
            filters = [("episode_index", "==", int(row["episode_index"]))]
            table = library("pyarrow.parquet").read_table(path, columns=wanted, filters=filters, partitioning=None)
            return table.sort_by("frame_index")

    def _file(self, pattern: str, row: Mapping[str, Any], prefix: str, key: str = "") -> Path:
        try:
            place = Place(int(row[f"{prefix}/chunk_index"]), int(row[f"{prefix}/file_index"]))
            return self._root / place.path(pattern, key)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise EpisodeError(f"{self._root}: episode {row['episode_index']} names no file for {prefix}") from error

    def _extra(self, table: Any, name: str) -> npt.NDArray[Any] | None:
        if name not in table.column_names:
            return None
        values: npt.NDArray[Any] = table[name].to_numpy()
        return values

    def _pictures(self, image: ImageSpec, row: Mapping[str, Any], table: Any, where: str) -> Pixels:
        key = self._settings.fields.image(image.camera)
        if self._info.features[key]["dtype"] == "image":
            contents = (entry["bytes"] for entry in table[key].to_pylist())
            pictures: Iterator[Pixels] | Pixels = (read_picture(content or b"", where) for content in contents)
        else:
            prefix = f"videos/{key}"
            path = self._file(self._info.video_path or "", row, prefix, key)
            start_s = row.get(f"{prefix}/from_timestamp")
            if start_s is None:
                raise EpisodeError(f"{where}: does not say where its video of '{image.camera}' begins")
            pictures = read_clip(path, float(start_s), self._info.fps, table.num_rows)
            if pictures.shape[1:3] == (image.height, image.width):
                return pictures
        return np.stack([resize(picture, image.height, image.width, image.resize) for picture in pictures])


def _feature(info: Info, root: Path, name: str, kinds: tuple[str, ...]) -> Mapping[str, Any]:
    feature = info.features.get(name)
    if feature is None or feature["dtype"] not in kinds:
        of_kind = [key for key, each in info.features.items() if each["dtype"] in kinds]
        raise EpisodeError(
            f"{root}: has no column '{name}' of type {' or '.join(kinds)}; it has {', '.join(of_kind) or 'none'}"
        )
    return feature


def _order(info: Info, root: Path, name: str, wanted: tuple[str, ...], by_position: bool) -> list[int]:
    """Where the contract's columns are in the dataset's table."""
    feature = _feature(info, root, name, ("float32", "float64"))
    names = column_names(feature)
    if by_position:
        if list(feature["shape"]) != [len(wanted)]:
            raise EpisodeError(f"{root}: '{name}' has shape {feature['shape']}, the contract {len(wanted)} columns")
        return list(range(len(wanted)))
    missing = [column for column in wanted if column not in names]
    if missing:
        raise EpisodeError(
            f"{root}: '{name}' lacks the column {', '.join(missing)}; it has {', '.join(names) or 'none with a name'}"
        )
    return [names.index(column) for column in wanted]


def _values(column: Any, length: int) -> Array:
    """A column of lists (or of numbers, where there is but one) as `(length, columns)`."""
    flat = column.combine_chunks()
    while hasattr(flat, "flatten") and "list" in str(flat.type):
        flat = flat.flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(length, -1)


def _name(row: Mapping[str, Any], folder: Path) -> str:
    """The name that the episode had, if it is one and is free here."""
    source = row.get("source")
    try:
        episode_number(Path(str(source)))
    except EpisodeError:
        source = None
    if source is None or Path(str(source)).name != source or (folder / source).exists():
        return episode_name(int(row["episode_index"]))
    return str(source)


class _reading:
    """Turns whatever pyarrow raises for a damaged file into an EpisodeError that names it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, EpisodeError):
            reason = " ".join(str(error).split())
            raise EpisodeError(f"{self._path}: cannot be read as parquet ({reason})") from error
