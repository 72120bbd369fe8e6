"""A thread that does its work at a fixed rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Beat:
    """Calls `work` every `period_s`; when late, once, never a burst. An exception goes to `failed` and ends it."""

    def __init__(self, period_s: float, work: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self._period_s = period_s
        self._work = work
        self._failed = failed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits for the work under way, starts no other."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._work()
                due = max(due + self._period_s, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        except Exception as error:  # the thread's edge: nothing above it would hear of it
            self._failed(error)
