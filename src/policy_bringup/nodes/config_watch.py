"""Whether the configuration files are still those that safety was started with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from policy_bringup.core.fingerprints import files_sha256

PERIOD_S = 1.0
END_S = 1.0
"""How long the end of the node may wait for the disk."""


class ConfigWatch:
    """Compares each file's hash with what it was when this was made, until one differs: then says so, once, and ends.

    In a thread of its own: a disk that does not answer must not delay a tick, nor the service that stops the arm.
    """

    def __init__(self, files: Iterable[Path], changed: Callable[[str], object]) -> None:
        self._then = {path: _hash(path) for path in files}
        self._changed = changed
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look; at once, since time has passed."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Looks no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(END_S)

    def _run(self) -> None:
        while not self._stopping.is_set() and not self._look():
            self._stopping.wait(PERIOD_S)

    def _look(self) -> bool:
        """Whether a file has changed, of which it tells."""
        for path, then in self._then.items():
            if _hash(path) != then:
                self._changed(f"configuration changed while safety runs: {path}; start the robot anew")
                return True
        return False


def _hash(path: Path) -> str:
    """Of name and contents; "" for a file that cannot be read, which is another state than any content."""
    try:
        return files_sha256((path,))
    except OSError:
        return ""
