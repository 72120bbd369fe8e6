"""A thread that works on the newest job only: while it is busy, newer jobs replace each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Worker(Generic[Job]):
    """Calls `work(job)` in a thread of its own. An exception in it goes to `failed` and ends the thread."""

    def __init__(self, work: Callable[[Job], None], failed: Callable[[BaseException], None]) -> None:
        self._work = work
        self._failed = failed
        self._condition = threading.Condition()
        self._job: Job | None = None
        self._stopping = False
        self.replaced = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Takes the job next, instead of any that still waits (counted in `replaced`)."""
        with self._condition:
            self.replaced += self._job is not None
            self._job = job
            self._condition.notify()

    def stop(self) -> None:
        """Waits for the job under way, starts no other."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._job is not None or self._stopping)
                job, self._job = self._job, None
                if self._stopping or job is None:
                    return
            try:
                self._work(job)
            except Exception as error:  # the thread's edge: nothing above it would hear of it
                self._failed(error)
                return
