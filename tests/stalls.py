"""Whether the machine stood still while a test ran, as a process sees it that does nothing but wait.

Tests of whole deployments judge processes that must be on time. Where the machine takes the processors away from all
of them, as shared ones do, a failure says nothing about the code. Such a test is run once more, and the end of the
report says so; a failure on a machine that was there all the time stands.
"""

import multiprocessing
import os
import time

STALL_S = 0.05
"""Half of what the arm bears without safe actions and safety without a tick."""
LOOK_S = 0.005


class StallWatch:
    """Lives as long as the test run."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._worst = context.Value("d", 0.0)
        self._nodeid = ""
        self.excused: list[str] = []
        context.Process(target=_watch, args=(self._worst, os.getpid()), daemon=True).start()

    def begin(self, nodeid: str) -> None:
        """A test begins."""
        self._nodeid, self._worst.value = nodeid, 0.0

    def excuses(self, error: BaseException | None) -> bool:
        """Whether the machine stood still since then. error: with which the test failed; None: it did not."""
        worst_s = self._worst.value
        excused = error is not None and worst_s > STALL_S
        if excused:
            self.excused.append(f"{self._nodeid}: the machine stood still for {1e3 * worst_s:.0f} ms")
        return excused


def _watch(worst, parent: int) -> None:
    while os.getppid() == parent:
        began = time.monotonic()
        time.sleep(LOOK_S)
        worst.value = max(worst.value, time.monotonic() - began - LOOK_S)
