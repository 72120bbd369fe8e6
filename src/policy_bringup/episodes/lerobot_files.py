"""The files of a LeRobot dataset as they are written: a folder that appears whole, parquet files of limited size."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.layout import naming, sync_folder
from policy_bringup.episodes.lerobot_layout import DATA_FILE_MB, MEGABYTE, TASKS, Place, library


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes its name only when it is complete and on the disk. Raises EpisodeError if `out` exists."""
    if out.exists() or out.is_symlink():
        raise EpisodeError(f"{out}: exists already and is not overwritten; remove it or choose another name")
    with naming(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        with naming(out):
            partial.chmod(0o755)
            yield partial
            for folder, _, names in os.walk(partial):
                for name in names:
                    _sync_file(Path(folder) / name)
                sync_folder(Path(folder))
            if out.exists():  # made by somebody else meanwhile: an empty folder would be replaced without a word
                raise EpisodeError(f"{out}: was created by somebody else meanwhile")
            partial.rename(out)
            sync_folder(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Tables:
    """Parquet files of limited size, one row group for each table that is added."""

    def __init__(self, root: Path, pattern: str) -> None:
        self._root, self._pattern = root, pattern
        self._place = Place()
        self._writer: Any = None
        self._rows = 0

    def place_of_next(self) -> Place:
        """Where the next table goes."""
        if self._writer is not None:
            size = (self._root / self._place.path(self._pattern)).stat().st_size
            if size >= DATA_FILE_MB * MEGABYTE:
                self.close()
                self._place = self._place.following()
        return self._place

    def add(self, table: Any, rows: int) -> Place:
        """Appends a table; all have the same columns."""
        place = self.place_of_next()
        if self._writer is None:
            path = self._root / place.path(self._pattern)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = library("pyarrow.parquet").ParquetWriter(path, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=rows)
        return place

    def close(self) -> None:
        """Completes the file that is open."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def table(columns: Mapping[str, npt.NDArray[Any]]) -> Any:
    """An arrow table of `(T,)` numbers or texts and `(T, n)` numbers; one column is written as plain numbers."""
    arrow = library("pyarrow")
    arrays = {}
    for name, values in columns.items():
        if values.ndim == 2 and values.shape[1] != 1:
            flat = arrow.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            plain = values.reshape(-1)
            arrays[name] = arrow.array(plain.tolist() if plain.dtype.kind == "U" else plain)
    return arrow.table(arrays)


def save_tasks(root: Path, tasks: Sequence[str]) -> None:
    """Writes meta/tasks.parquet as pandas writes a table whose index is the task's text: LeRobot looks it up there."""
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    described = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}
        for name, (kind, numpy_kind) in kinds.items()
    ]
    hint = {"index_columns": ["task"], "column_indexes": [], "columns": described, "pandas_version": "2.0.0"}
    numbered = library("pyarrow").table({"task_index": list(range(len(tasks))), "task": list(tasks)})
    numbered = numbered.replace_schema_metadata({"pandas": json.dumps(hint)})
    library("pyarrow.parquet").write_table(numbered, root / TASKS)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
