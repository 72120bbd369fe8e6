"""One bag -> a folder of frames with the bag's journal, marked with what it was made from. The work of one worker.

Pictures are aligned by what was measured in the mode that the bag was recorded in (core/latency.py), and by no other.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from policy_bringup.core.errors import ConfigError, EpisodeError, PolicyBringupError
from policy_bringup.core.fingerprints import contract_sha256
from policy_bringup.core.latency import NOTHING_MEASURED, Latency, Measured, measured_mode
from policy_bringup.core.types import Contract, StateSample
from policy_bringup.episodes.frames import read_frames, save_frames
from policy_bringup.episodes.journal import JOURNAL_FILE, load_journal
from policy_bringup.episodes.layout import PARTIAL, bag_path, naming, write_durably

Derive = Callable[[StateSample], StateSample]
MARK = "conversion.json"
"""Lies in every finished folder and says what it was made with."""
_LATE = "latency."
"""Begins a mark's words for by how much each camera was taken as late, s; none: by its stamps."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What every bag is converted with; see `convert`."""

    contract: Contract
    rate_hz: float
    derive: Callable[[], Derive]
    measured: Measured = NOTHING_MEASURED

    def latency(self, bag: Path) -> Latency:
        """What was measured in the bag's mode. Raises EpisodeError if something was, but only in another."""
        try:
            return self.measured.of(_mode(bag), f"{bag}: the deployment's latency file")
        except ConfigError as error:
            raise EpisodeError(str(error)) from None

    def mark(self, bag: Path) -> dict[str, str | float | int]:
        """What a finished folder says: the same words mean that nothing would change. Raises EpisodeError."""
        try:
            size = bag_path(bag).stat().st_size
        except OSError as error:
            raise EpisodeError(f"{bag_path(bag)}: cannot be read ({error.strerror})") from error
        mark: dict[str, str | float | int] = {
            "contract": contract_sha256(self.contract),
            "rate_hz": self.rate_hz,
            "bag_bytes": size,
        }
        late = {f"{_LATE}{camera}": late_s for camera, late_s in sorted(self.latency(bag).cameras.items()) if late_s}
        return {**mark, **late}


@dataclass(frozen=True, slots=True)
class Job:
    """One bag, and the folder that its frames go to."""

    bag: Path
    cache: Path


def convert_one(job: Job, conversion: Conversion, derive: Derive | None = None) -> str | None:
    """Converts one bag; the work of one worker. Gives None, or why it failed; raises nothing."""
    staging = job.cache.with_name(f".{job.cache.name}.{os.getpid()}{PARTIAL}")
    try:
        mark = conversion.mark(job.bag)
        latency = conversion.latency(job.bag)
        frames = read_frames(
            job.bag, conversion.contract, conversion.rate_hz, derive or conversion.derive(), latency=latency
        )
        with naming(job.cache):
            staging.mkdir()
            folder = staging / job.cache.name
            save_frames(folder, frames, conversion.contract, str(job.bag))
            _copy_journal(job.bag, folder)
            write_durably(folder / MARK, json.dumps(mark))
            folder.rename(job.cache)
    except PolicyBringupError as error:
        return str(error)
    except Exception as error:  # a bag that nobody foresaw must not end the other ones' conversion
        return f"{job.bag}: cannot be converted ({type(error).__name__}: {' '.join(str(error).split())})"
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return None


def is_finished(job: Job, conversion: Conversion) -> bool:
    """Whether the bag's frames are there; brings their label up to date. Raises EpisodeError if others are."""
    bag, cache = job.bag, job.cache
    wanted = conversion.mark(bag)
    if not cache.exists():
        return False
    try:
        found = json.loads((cache / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != wanted:
        raise EpisodeError(
            f"{cache}: exists, but was not made from this bag with this contract, rate and latency; "
            "remove it to convert again"
        )
    _copy_journal(bag, cache)  # a label may have changed since
    return True


def alignment_of(folders: Iterable[Path]) -> dict[str, dict[str, float]]:
    """By how much the cameras of finished folders were taken as late, s, in each mode they were recorded in.

    A camera that is not named: 0. Raises EpisodeError for folders of one mode that were made with different ones.
    """
    found: dict[str, dict[str, float]] = {}
    first: dict[str, Path] = {}
    for folder in folders:
        mode, late = _mode(folder) or "unknown", _aligned(folder)
        if found.setdefault(mode, late) != late:
            raise EpisodeError(
                f"{folder}: {late or 'no camera'} was taken as late, in {first[mode]} {found[mode] or 'no camera'}; "
                "make the frames again, all with the same latency file"
            )
        first.setdefault(mode, folder)
    return found


def _aligned(folder: Path) -> dict[str, float]:
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return {key.removeprefix(_LATE): float(late_s) for key, late_s in mark.items() if key.startswith(_LATE)}
    except FileNotFoundError:  # not made from a bag here: by the stamps that it came with
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise EpisodeError(f"{folder / MARK}: is damaged ({error})") from error


def _mode(folder: Path) -> str:
    """Whose measurement holds for a bag or its frames; "" where no journal tells."""
    try:
        return measured_mode(load_journal(folder).provenance.mode)
    except EpisodeError:
        return ""


def _copy_journal(bag: Path, cache: Path) -> None:
    source, target = bag / JOURNAL_FILE, cache / JOURNAL_FILE
    with naming(target), suppress(FileNotFoundError):
        text = source.read_text(encoding="utf-8")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            write_durably(target, text)
