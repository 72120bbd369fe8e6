"""Puts a finished folder into the place of another, in one step: at every moment one of the two is there, whole.

Linux exchanges two names in one system call, renameat2, on its usual file systems. Elsewhere (NFS, some in user space)
it takes two renames; a process that is killed between them leaves the older folder beside, under a hidden name, from
where `bring_back` fetches it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path

from policy_bringup.episodes.layout import sync_folder

_HERE = -100  # AT_FDCWD: names are as the process sees them
_EXCHANGE = 2  # RENAME_EXCHANGE
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""What a kernel or file system says that cannot exchange."""


def put_in_place(fresh: Path, folder: Path) -> None:
    """Gives the folder `fresh` the name of its neighbour `folder`, which is removed once that is on the disk.

    Raises OSError; where the names could not be changed, `folder` is as it was.
    """
    if not folder.exists():
        fresh.rename(folder)
        old = None
    elif exchange(fresh, folder):
        old = fresh
    else:
        old = _rename_twice(fresh, folder)
    sync_folder(folder.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; False where that cannot be done. Raises OSError if it failed."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def aside(folder: Path) -> Path:
    """Where `folder` is between two renames."""
    return folder.with_name(f".{folder.name}.old")


def bring_back(folder: Path) -> None:
    """Undoes a replacement that was killed between its two renames. Raises OSError."""
    if not folder.exists() and aside(folder).is_dir():
        aside(folder).rename(folder)


def _rename_twice(fresh: Path, folder: Path) -> Path:
    old = aside(folder)
    shutil.rmtree(old, ignore_errors=True)  # of a replacement that was killed after its second rename
    folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    return old
