"""A policy in the whole deployment: all nodes, over topics, in real time, with safety on."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from policy_bringup import runner
from policy_bringup.core.startup import Options
from policy_bringup.core.trials import Report, load_report

EPISODE = re.compile(r"\[trial\].*\bepisode \d+: ")
"""What is said when one is over."""


class EpisodeLog:
    """Passes on what the nodes say, and tells how many episodes are over by then."""

    def __init__(self, log: runner.Log, over: Callable[[int], None]) -> None:
        self._log, self._over, self._count = log, over, 0

    def write(self, text: str) -> None:
        """A line, or its end."""
        if EPISODE.match(text):
            self._count += 1
            self._over(self._count)
        self._log.write(text)

    def flush(self) -> None:
        """After every line."""
        self._log.flush()


def over_topics(options: Options, log: runner.Log = sys.stderr) -> tuple[Report | None, runner.Ending]:
    """Runs a deployment for its episodes: its own report, None if it ended before there was one, and how it ended."""
    assert options.report is not None
    options.report.unlink(missing_ok=True)
    ending = runner.run(options, log)
    return (load_report(options.report) if options.report.is_file() else None), ending
