"""Shared memory that killed processes have left behind.

Fast DDS gives every participant a segment, of 17 MB for one that sends pictures, and takes it away when the participant
ends. One that is killed leaves it, as memory that is missing until the next start of the machine. Each segment has a
lock file beside it, `<segment>_el`, that its owner holds for life: one that can be locked belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

SHARED = Path("/dev/shm")
LOCKS = ("fastrtps_*_el", "fastdds_*_el")
"""Names on Jazzy, and on Kilted and later."""
YOUNG_S = 10.0
"""An owner locks its file just after it has made it."""


def sweep(folder: Path = SHARED) -> int:
    """Removes segments whose owner is dead, of this user; returns their size in bytes."""
    return sum(_remove(lock) for lock in _unowned(folder))


def _unowned(folder: Path) -> Iterator[Path]:
    for lock in (path for pattern in LOCKS for path in folder.glob(pattern)):
        with suppress(OSError):  # gone meanwhile, somebody else's, or held by its owner
            handle = lock.open("rb")
            with closing(handle):
                old = time.time() - os.fstat(handle.fileno()).st_mtime > YOUNG_S
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if old:
                    yield lock


def _remove(lock: Path) -> int:
    segment, size = lock.with_name(lock.name.removesuffix("_el")), 0
    with suppress(OSError):
        size = segment.stat().st_size
        segment.unlink()
    with suppress(OSError):
        lock.unlink()
    return size
