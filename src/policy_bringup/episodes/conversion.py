"""One bag -> a folder of frames with the bag's journal, marked with what it was made from. The work of one worker."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from policy_bringup.core.errors import EpisodeError, PolicyBringupError
from policy_bringup.core.fingerprints import contract_sha256
from policy_bringup.core.latency import UNMEASURED, Latency
from policy_bringup.core.types import Contract, StateSample
from policy_bringup.episodes.frames import read_frames, save_frames
from policy_bringup.episodes.journal import JOURNAL_FILE
from policy_bringup.episodes.layout import PARTIAL, bag_path, naming, write_durably

Derive = Callable[[StateSample], StateSample]
MARK = "conversion.json"
"""Lies in every finished folder and says what it was made with."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What every bag is converted with; see `convert`."""

    contract: Contract
    rate_hz: float
    derive: Callable[[], Derive]
    latency: Latency = UNMEASURED

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
        late = {f"latency.{camera}": late_s for camera, late_s in sorted(self.latency.cameras.items()) if late_s}
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
        frames = read_frames(
            job.bag, conversion.contract, conversion.rate_hz, derive or conversion.derive(), latency=conversion.latency
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


def _copy_journal(bag: Path, cache: Path) -> None:
    source, target = bag / JOURNAL_FILE, cache / JOURNAL_FILE
    with naming(target), suppress(FileNotFoundError):
        text = source.read_text(encoding="utf-8")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            write_durably(target, text)
