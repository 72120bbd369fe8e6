"""Lets a policy propose nothing until its surroundings have passed the start check, and keeps the pictures for people.

The check repeats, so that whoever puts things right need not start anything again. Once passed it is done: a policy
that takes over in the middle of a task, after a person's correction, stands where no demonstration began.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.png import png
from policy_bringup.core.types import Observation, Pixels
from policy_bringup.inference.start_check import Finding, StartCheck

IN_A_ROW = 5
"""Moments that must pass one after the other: one good picture while somebody plugs cables is none."""
KEPT = 20
"""Sheets that stay in the folder."""
_NAME = "start_*.png"


class StartGate:
    """folder: where sheets of pictures go; None: nowhere. say: hears each new sentence, and that all is well."""

    def __init__(self, check: StartCheck, folder: Path | None, say: Callable[[str], object]) -> None:
        self._check, self._folder, self._say = check, folder, say
        self.reset()

    @property
    def passed(self) -> bool:
        """Whether the policy may propose."""
        return self._good >= IN_A_ROW

    def reset(self) -> None:
        """Begins anew, as after a start."""
        self._good = 0
        self._subject = ""
        self._places: dict[str, str] = {}

    def admit(self, observation: Observation, wall_ns: int) -> None:
        """Takes one moment of the robot in; `wall_ns` (time of day) is for the names of files.

        Raises ObservationError, with the sentence and where the pictures are, until enough moments have passed.
        """
        if self.passed:
            return
        finding = self._check.judge(observation)
        if finding is None:
            self._good += 1
            if self._good < IN_A_ROW:
                raise ObservationError("the start is being compared with the training data")
            if self._subject:
                self._say("the start is now like the training data's: the policy goes on")
            return
        self._good = 0
        if finding.subject not in self._places:  # one sheet for each, however long it lasts
            self._places[finding.subject] = self._save(finding, wall_ns)
        sentence = f"no action before this is put right: {finding.sentence}{self._places[finding.subject]}"
        if finding.subject != self._subject:
            self._subject = finding.subject
            self._say(sentence)
        raise ObservationError(sentence)

    def _save(self, finding: Finding, wall_ns: int) -> str:
        """The end of the sentence: where the pictures are, or why they are not."""
        if self._folder is None or finding.sheet is None:
            return ""
        try:
            path = _write(self._folder, finding.sheet, wall_ns)
        except OSError as error:
            return f" (the pictures could not be saved in {self._folder}: {error.strerror or error})"
        return f"; pictures in {path}, seen on the left, the training data's on the right"


def _write(folder: Path, sheet: Pixels, wall_ns: int) -> Path:
    """Whole or not at all, and removes all but the newest. Raises OSError."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    moment = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"start_{moment}.png"
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(png(sheet))
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    for old in sorted(folder.glob(_NAME))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path
