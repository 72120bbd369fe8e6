"""A stop record: one change into FALLBACK, ESTOP or FAULT, and all inputs of the safety monitor in the 2 s before it.

A file is JSON lines, one value a line, without pickle. The first line is the stop; each other line is one input, oldest
first, with `at_s` (s after the stop, so mostly negative), `input` (a topic, a service, "transition" or "fault") and
what came with it: times in ns (`stamp_ns` ROS time, `received_ns` monotonic), tables as lists of rows. JSON knows no
numbers that are not finite: they stand as the texts "nan", "inf" and "-inf". A file is there whole, or not at all.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.layout import PARTIAL, naming, write_durably

FORMAT = 1
STOPS = ("FALLBACK", "ESTOP", "FAULT")
"""The states of the safety monitor in which it has stopped the arm."""
ABANDONED_S = 60.0
"""A file that has been half written for so long will not be finished."""

_NAME = re.compile(r"stop_\d{8}T\d{6}\.\d{6}Z_[a-z]+(_\d+)?\.jsonl", re.ASCII)
_TABLES = ("joints", "columns", "times_s", "values", "uncertainty")
"""Keys of an input whose numbers are arrays."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the safety monitor's state: safety.reasons.Transition in words. value, limit: None where no number
    decided."""

    who: str
    before: str
    after: str
    rule: str
    sentence: str
    column: str = ""
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One input of the monitor, `at_s` after the stop; arrays of float64 under joints, columns, times_s, values and
    uncertainty, everything else as JSON has it."""

    at_s: float
    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class StopRecord:
    """One stop.

    wall_ns: this machine's time of day; stamp_ns: ROS time; now_ns: monotonic; action_stamp_ns: of the last accepted
    action, 0 for none. driver: who was in charge just before, "" for nobody; driven_s: for how long, None for nobody;
    tries: repeats of the last safe action just before; fallback: the safe default, as configured. joints, columns,
    units: what the numbers of joint_states stand for. cut: stream -> at_s up to which its inputs had to make room for
    newer ones.
    """

    change: Change
    wall_ns: int
    stamp_ns: int
    now_ns: int
    action_stamp_ns: int
    driver: str
    driven_s: float | None
    tries: int
    fallback: str
    joints: tuple[str, ...]
    columns: tuple[str, ...]
    units: tuple[str, ...]
    cut: Mapping[str, float]
    inputs: tuple[Input, ...]


def default_folder() -> Path:
    """Where stop records lie unless somebody says otherwise: with the user's other state, so that they are found from
    wherever a robot was started. Raises EpisodeError for a user without a home."""
    try:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError as error:
        raise EpisodeError("stop records: this user has no home, and XDG_STATE_HOME is not set") from error
    return base / "policy_bringup" / "stops"


def write_record(folder: Path, record: StopRecord, keep: int, breathe: Callable[[], object] = lambda: None) -> Path:
    """Writes a record whole or not at all, removes all but the newest `keep`, and returns its path.

    breathe: called after each line that was made, so that the work may be spread over time. Raises EpisodeError.
    """
    lines = [_line(_head(record))]
    for entry in record.inputs:
        lines.append(_line({"at_s": round(entry.at_s, 9), "input": entry.name, **entry.values}))
        breathe()
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
    path = _free_path(folder, record)
    write_durably(path, "".join(lines))
    with naming(folder, "tidied"):
        for old in records(folder)[: -max(1, keep)]:
            old.unlink(missing_ok=True)
    return path


def records(folder: Path) -> tuple[Path, ...]:
    """The stop records in a folder, oldest first. Raises EpisodeError if it cannot be read."""
    try:
        return tuple(sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name)))
    except OSError as error:
        raise EpisodeError(f"{folder}: cannot be read as a folder of stop records ({error.strerror})") from error


def read_record(path: Path) -> StopRecord:
    """Reads one record. Raises EpisodeError that names the file and the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise EpisodeError(f"{path}: is not a stop record (it is no text)") from error
    if not lines:
        raise EpisodeError(f"{path}: is empty")
    head = _parsed(lines[0], f"{path}: line 1")
    if head.get("format") != FORMAT:
        raise EpisodeError(f"{path}: is not a stop record of format {FORMAT}")
    inputs = tuple(_input(line, f"{path}: line {number}") for number, line in enumerate(lines[1:], 2))
    if head.get("inputs") != len(inputs):
        raise EpisodeError(f"{path}: holds {len(inputs)} inputs, and its first line speaks of {head.get('inputs')}")
    return _record(head, inputs, f"{path}: line 1")


def _head(record: StopRecord) -> dict[str, Any]:
    change = {spec.name: _plain(getattr(record.change, spec.name)) for spec in fields(Change)}
    rest = [spec.name for spec in fields(StopRecord) if spec.name not in ("change", "inputs")]
    values = {name: _plain(getattr(record, name)) for name in rest}
    return {"format": FORMAT, **change, **values, "inputs": len(record.inputs)}


def _line(values: Mapping[str, Any]) -> str:
    pairs = (f"{json.dumps(key)}: {_json(_plain(value))}" for key, value in values.items())
    return f"{{{', '.join(pairs)}}}\n"


def _json(plain: Any) -> str:
    """A table row by row: one call for all of it would keep every other thread of this process waiting."""
    if isinstance(plain, list) and plain and isinstance(plain[0], list):
        return f"[{', '.join(json.dumps(row, allow_nan=False) for row in plain)}]"
    return json.dumps(plain, allow_nan=False)


def _plain(value: Any) -> Any:
    """As JSON can have it: arrays as lists, numbers that are not finite as texts."""
    if isinstance(value, np.ndarray):
        plain = value.tolist()
        return plain if np.isfinite(value).all() else _plain(plain)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _free_path(folder: Path, record: StopRecord) -> Path:
    seconds, rest = divmod(record.wall_ns, 1_000_000_000)
    moment = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"
    name, number = f"stop_{moment}_{record.change.after.lower()}", 2
    path = folder / f"{name}.jsonl"
    while path.exists():
        path, number = folder / f"{name}_{number}.jsonl", number + 1
    return path


def _tidy(folder: Path) -> None:
    """Removes what writers that were killed have left."""
    for path in folder.glob(f"stop_*{PARTIAL}"):
        if time.time() - path.stat().st_mtime > ABANDONED_S:
            path.unlink(missing_ok=True)


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EpisodeError(f"{where}: is not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise EpisodeError(f"{where}: must be a group of keys")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _input(line: str, where: str) -> Input:
    values = _parsed(line, where)
    at_s, name = _number(values, "at_s", where), _text(values, "input", where)
    rest = {key: value for key, value in values.items() if key not in ("at_s", "input")}
    for key in _TABLES:
        if key in rest:
            try:
                rest[key] = np.array(rest[key], dtype=np.float64)
            except (ValueError, TypeError) as error:
                raise EpisodeError(f"{where}: {key} must be a table of numbers") from error
    return Input(at_s, name, rest)


def _record(head: Mapping[str, Any], inputs: tuple[Input, ...], where: str) -> StopRecord:
    words = {key: _text(head, key, where) for key in ("who", "before", "after", "rule", "sentence", "column")}
    change = Change(**words, value=_optional(head, "value", where), limit=_optional(head, "limit", where))
    cut = head.get("cut")
    if not isinstance(cut, dict):
        raise EpisodeError(f"{where}: cut must be a group of keys")
    return StopRecord(
        change,
        wall_ns=_whole(head, "wall_ns", where),
        stamp_ns=_whole(head, "stamp_ns", where),
        now_ns=_whole(head, "now_ns", where),
        action_stamp_ns=_whole(head, "action_stamp_ns", where),
        driver=_text(head, "driver", where),
        driven_s=_optional(head, "driven_s", where),
        tries=_whole(head, "tries", where),
        fallback=_text(head, "fallback", where),
        joints=_texts(head, "joints", where),
        columns=_texts(head, "columns", where),
        units=_texts(head, "units", where),
        cut={key: _number(cut, key, f"{where}: cut") for key in cut},
        inputs=inputs,
    )


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise EpisodeError(f"{where}: {key} must be a text")
    return value


def _texts(values: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = values.get(key)
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise EpisodeError(f"{where}: {key} must be a list of texts")
    return tuple(value)


def _whole(values: Mapping[str, Any], key: str, where: str) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise EpisodeError(f"{where}: {key} must be a whole number")
    return value


def _number(values: Mapping[str, Any], key: str, where: str) -> float:
    value = values.get(key)
    if value in ("nan", "inf", "-inf") or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return float(value)
    raise EpisodeError(f"{where}: {key} must be a number")


def _optional(values: Mapping[str, Any], key: str, where: str) -> float | None:
    return None if key in values and values[key] is None else _number(values, key, where)
