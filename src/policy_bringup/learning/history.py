"""How a run went, for people and for plotting: history.jsonl, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from policy_bringup.learning.checkpoint import Course, write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HISTORY_FILE = "history.jsonl"
BOARD_FOLDER = "tensorboard"


class History:
    """Writes what a checkpoint keeps of a run's course; a killed run's rows are those of its checkpoint again."""

    def __init__(self, folder: Path, course: Course) -> None:
        """`course`: where the run goes on; what TensorBoard was told of later steps is taken back."""
        self._folder = folder
        self._board = _board(folder / BOARD_FOLDER, course.step)
        self._told = len(course.history)

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        """All rows so far, the newest last. Raises LearningError if they cannot be written."""
        write_whole(self._folder / HISTORY_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())
        if self._board is not None:
            for row in rows[self._told :]:
                for name, value in row.items():
                    self._board.add_scalar(name, value, int(row["step"]))
        self._told = len(rows)

    def close(self) -> None:
        """Ends TensorBoard's thread."""
        if self._board is not None:
            self._board.close()


def _board(folder: Path, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
