"""The demonstrations of a course: the scripted expert's, all made in the same way, every seed once.

However an earlier start ended, the next one goes on: what was being recorded then is moved aside, and made again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from policy_bringup.core.config import read_yaml
from policy_bringup.core.errors import LearningError
from policy_bringup.episodes.journal import load_journal
from policy_bringup.episodes.layout import episodes, lock, naming, write_durably
from policy_bringup.episodes.recovery import is_clean
from policy_bringup.episodes.splits import Split, save_split, split
from policy_bringup.pipeline import play
from policy_bringup.sim.randomise import Randomisation
from policy_bringup.sim.recorded_rollout import provenance
from policy_bringup.sim.rollout import load_stack
from policy_bringup.sim.selfplay import SelfPlay, run_selfplay

SETTINGS_FILE = "demonstrations.yaml"
"""Beside the dataset: how its demonstrations were made."""
LEFT_OUT = "left_out"
"""In the dataset: what was not finished, one dataset for each start that found some."""


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """What to record, how much of it, and with how many processes; the rest is as for sim.selfplay.SelfPlay."""

    config_folder: Path
    dataset: Path
    count: int
    deployment_file: str
    seed: int
    patience_s: float
    variation: Randomisation
    workers: int

    @property
    def settings(self) -> dict[str, str | int | float]:
        """What all of them must have in common, besides the files in the configuration's folder."""
        variation = {f"variation.{key}": value for key, value in asdict(self.variation).items()}
        return {
            "deployment": self.deployment_file, "seed": self.seed, "patience_s": self.patience_s, **variation
        }  # fmt: skip


def demonstrate(
    wanted: Demonstrations, progress: Callable[[int, int], None], say: Callable[[str], None] = lambda _: None
) -> Split:
    """Records what the dataset lacks, and splits it by episode. say: hears in a sentence what was left out.

    Raises LearningError for a dataset that was made in another way, EpisodeError, ConfigError, DeviceError.
    """
    _check_settings(wanted)
    aside = set_aside(wanted.dataset)
    if aside:
        say(aside)
    _check_configuration(wanted)
    _record(wanted, progress)
    parts = split(wanted.dataset, wanted.seed)
    save_split(wanted.dataset, parts, wanted.seed)
    return parts


def set_aside(dataset: Path) -> str:
    """Moves the episodes that were not closed to where nobody looks for any -> a sentence; "" if there are none.

    Raises EpisodeError if one is still being written.
    """
    unfinished = [folder for folder in episodes(dataset) if not is_clean(folder)] if dataset.is_dir() else []
    if not unfinished:
        return ""
    for folder in unfinished:
        os.close(lock(folder))
    with naming(dataset / LEFT_OUT):
        (dataset / LEFT_OUT).mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="start_", dir=dataset / LEFT_OUT))
        for folder in unfinished:
            folder.rename(place / folder.name)
    names = ", ".join(folder.name for folder in unfinished)
    return f"{dataset}: not finished, and made again: {names}; what there is of them now lies in {place}"


def _check_settings(wanted: Demonstrations) -> None:
    """Those of the first demonstration hold for all; with none there yet, the present ones are written down."""
    dataset, now = wanted.dataset, wanted.settings
    path = dataset.with_name(SETTINGS_FILE)
    if not (dataset.is_dir() and episodes(dataset)):
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, yaml.safe_dump(now, sort_keys=False))
        return
    if not path.exists():
        raise LearningError(
            f"{path}: is missing, so how {dataset} was made is not known; delete {dataset.parent} to begin anew"
        )
    begun = read_yaml(path)
    changed = [
        f"{key} {begun.get(key)} and not {now.get(key)}" for key in {**now, **begun} if begun.get(key) != now.get(key)
    ]
    if changed:
        raise LearningError(
            f"{dataset}: its demonstrations were made with {', '.join(changed)}; "
            f"restore that, or delete {dataset.parent} to begin anew"
        )


def _check_configuration(wanted: Demonstrations) -> None:
    now = provenance(wanted.config_folder, wanted.deployment_file, "expert", "").config_sha256
    there = episodes(wanted.dataset) if wanted.dataset.is_dir() else ()
    others = [folder for folder in there if load_journal(folder).provenance.config_sha256 != now]
    if others:
        raise LearningError(
            f"{wanted.dataset}: {len(others)} demonstrations were made with another configuration than "
            f"{wanted.config_folder}; delete {wanted.dataset.parent} to begin anew, or restore the configuration"
        )


def _record(wanted: Demonstrations, progress: Callable[[int, int], None]) -> None:
    """Half of them with each camera backend, or all ray cast where there is no OpenGL."""
    _, no_opengl = play.backends(load_stack(wanted.config_folder, wanted.deployment_file), "raycast")
    drawn = 0 if no_opengl else wanted.count // 2
    series: tuple[tuple[play.FixedBackend, int, int], ...]
    series = (("egl", wanted.seed, drawn), ("raycast", wanted.seed + drawn, wanted.count - drawn))
    done = 0

    def heard(_played: object) -> None:
        nonlocal done
        done += 1
        progress(done, wanted.count)

    for backend, seed, count in series:
        selfplay = SelfPlay(
            wanted.config_folder, wanted.dataset, count, wanted.deployment_file, seed, wanted.workers,
            backend=backend, patience_s=wanted.patience_s, variation=wanted.variation,
        )  # fmt: skip
        if count:
            skipped = run_selfplay(selfplay, heard).skipped
            done += skipped
