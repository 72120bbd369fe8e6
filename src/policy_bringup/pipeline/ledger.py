"""Episodes that were played, each kept as a line of JSON at once, so that none is played a second time.

A line counts for the very same episode only: the same policy, scene, disturbance and limits, and everything else that
what comes of it depends on. Other lines stay and count for nothing, as does one that was cut short by a kill.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from policy_bringup.episodes.film_strip import Thumbnail
from policy_bringup.episodes.layout import naming
from policy_bringup.pipeline.attempt import Attempt
from policy_bringup.pipeline.play import UNGUARDED, Job, Perform, Played, Stage
from policy_bringup.sim.trace import Stop


class Ledger:
    """The lines of one file. made_with: name -> what all episodes from now on depend on beside their stage and job,
    such as hashes of the policy's graph, of the configuration and of the code.

    saved_s: of this machine's time, what did not have to be played again took when it was. Raises EpisodeError for a
    file that cannot be read or written.
    """

    def __init__(self, path: Path, made_with: Mapping[str, str]) -> None:
        self._path, self._made_with = path, dict(made_with)
        self.saved_s = 0.0
        self._lines = {_words(line["episode"]): line for line in _readable_lines(path)}

    def remembering(self, stage: Stage, perform: Perform) -> Perform:
        """The same as `perform`, which only gets the jobs that were not done yet."""
        return partial(self._perform, stage, perform)

    def _perform(self, stage: Stage, perform: Perform, jobs: Sequence[Job]) -> Iterator[Played]:
        missing = []
        for job in jobs:
            line = self._lines.get(_words(self._episode(stage, job)))
            if line is None:
                missing.append(job)
                continue
            self.saved_s += line["seconds"]
            yield Played(job, _attempt(line["attempt"]), _strips(line["strips"]))
        before_s = time.monotonic()
        for played in perform(missing):
            now_s = time.monotonic()
            self._append(stage, played, now_s - before_s)
            before_s = now_s
            yield played

    def _episode(self, stage: Stage, job: Job) -> dict[str, Any]:
        setting = stage.setting
        return {
            **self._made_with,
            "deployment": setting.deployment_file,
            "backend": setting.backend,
            **asdict(job),
            "threshold": UNGUARDED if job.unguarded else stage.threshold,
            "patience_s": setting.patience_s if job.patience_s is None else job.patience_s,
        }

    def _append(self, stage: Stage, played: Played, seconds: float) -> None:
        """seconds: since the line before."""
        strips = {
            camera: [{**asdict(picture), "jpeg": base64.b64encode(picture.jpeg).decode()} for picture in pictures]
            for camera, pictures in played.strips.items()
        }
        episode, attempt = self._episode(stage, played.job), asdict(played.attempt)
        line = {"episode": episode, "seconds": seconds, "attempt": attempt, "strips": strips}
        with naming(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self._lines[_words(episode)] = line


def _readable_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Ends a line that was cut short, so that the next one is whole."""
    if not path.exists():
        return
    with naming(path, "read"):
        text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with naming(path), path.open("a", encoding="utf-8") as stream:
            stream.write("\n")
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _words(episode: Mapping[str, Any]) -> str:
    return json.dumps(episode, sort_keys=True)


def _attempt(row: Mapping[str, Any]) -> Attempt:
    stop = None if row["stop"] is None else Stop(**row["stop"])
    motion = tuple((start, end) for start, end in row["motion"])
    return Attempt(**{**row, "stop": stop, "motion": motion, "taken_ms": tuple(row["taken_ms"])})


def _strips(rows: Mapping[str, Any]) -> dict[str, tuple[Thumbnail, ...]]:
    return {
        camera: tuple(Thumbnail(**{**row, "jpeg": base64.b64decode(row["jpeg"])}) for row in pictures)
        for camera, pictures in rows.items()
    }
