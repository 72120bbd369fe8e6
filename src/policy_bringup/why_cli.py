"""`policy why`: the story of every stop, from a bag, a dataset, or the records that the safety node keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from policy_bringup import tables
from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.stop_record import default_folder, read_record, records
from policy_bringup.episodes.stop_story import headline, story, totals
from policy_bringup.episodes.stops import Episode, read_stops, stop_of


@dataclass(frozen=True)
class Why:
    """Say why the robot stopped: what it was doing, what happened, what safety did, how it ended, where to look."""

    path: tyro.conf.Positional[Path | None] = None
    """An episode's folder or bag, a dataset, a stop record or a folder of them; without it, this user's newest records.
    """
    last: int = 5
    """Of stop records, at most so many, the newest."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """As JSON, for other programs."""

    def __call__(self) -> int:
        """Prints the stories; 1 if an episode of a dataset could not be read."""
        if self.last < 1:
            raise EpisodeError(f"last: must be 1 or more, found {self.last}")
        path = default_folder() if self.path is None else self.path
        if self.path is None and not path.is_dir():
            print(f"{path}: no stop has been recorded for this user")
            return 0
        if path.is_dir():
            return self._folder(path)
        if not path.is_file():
            raise EpisodeError(f"{path}: there is no such file or folder")
        return self._episodes([path.parent]) if path.suffix == ".mcap" else self._records([path])

    def _folder(self, path: Path) -> int:
        if next(path.glob("*.mcap"), None) is not None:
            return self._episodes([path])
        found, kept = episodes(path), records(path)
        if found:
            return self._dataset(path, found)
        if kept or self.path is None:
            return self._records(kept[-self.last :])
        raise EpisodeError(f"{path}: holds no bag, no episodes and no stop records")

    def _records(self, paths: Sequence[Path]) -> int:
        stops = {path.name: stop_of(read_record(path)) for path in paths}
        if self.json:
            _print_json([{"record": name, **asdict(stop)} for name, stop in stops.items()])
            return 0
        print("\n\n".join(story(stop, name) for name, stop in stops.items()) or "no stop records")
        return 0

    def _dataset(self, dataset: Path, folders: Sequence[Path]) -> int:
        read: list[Episode] = []
        failed: dict[str, str] = {}
        for folder in folders:
            try:
                read.append(read_stops(folder))
            except EpisodeError as error:
                failed[folder.name] = str(error)
        if self.json:
            _print_json([asdict(episode) for episode in read])
            return tables.said("", failed) if failed else 0
        for episode in read:
            print(_told(episode), end="\n\n")
        return tables.said(totals(read), failed)

    def _episodes(self, folders: Sequence[Path]) -> int:
        read = [read_stops(folder) for folder in folders]
        if self.json:
            _print_json([asdict(episode) for episode in read])
        else:
            print("\n\n".join(_told(episode) for episode in read))
        return 0


def _told(episode: Episode) -> str:
    count = len(episode.stops)
    stories = (story(stop, f"stop {number} of {count}") for number, stop in enumerate(episode.stops, 1))
    return "\n\n".join((headline(episode), *stories))


def _print_json(values: list[dict[str, Any]]) -> None:
    """Numbers that are not finite, which JSON does not have, become null."""
    print(json.dumps(_finite(values), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
