"""What a training run keeps on the disk, so that it can be killed at any moment and go on as if it had not been.

One file, `checkpoint.pt`, holds everything and is replaced whole; the others in the folder are made from it. Everything
that is drawn is drawn anew from (seed, step), so no generator has a state that would have to be kept.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policy_bringup.core.errors import LearningError
from policy_bringup.episodes.layout import PARTIAL, sync_folder

CHECKPOINT_FILE = "checkpoint.pt"
FORMAT = 1
"""Version of the saved form that this code writes and reads."""

MAY_CHANGE = ("optimisation.threads", "optimisation.budget_min")
"""What another start of a run may say otherwise than the first."""

Weights = dict[str, Tensor]


@dataclass(slots=True)
class Course:
    """How far a run has come. spent_s: over all its starts; waited_s: of that, for data; stepped_s: in its steps, once
    their data was there; augmented_s: of that, for augmentation.

    loss_sum, loss_steps: since the last validation. best_score is that of the step best_step; `stale` validations came
    after it. history: one row of figures per validation.
    """

    step: int = 0
    validated_step: int = -1
    spent_s: float = 0.0
    waited_s: float = 0.0
    stepped_s: float = 0.0
    augmented_s: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0
    history: tuple[dict[str, float], ...] = ()

    def step_shares(self) -> dict[str, float]:
        """Which part of its steps' time, from asking for data on, went into what, 0..1; empty before the first step."""
        if not self.stepped_s:
            return {}
        whole_s = self.waited_s + self.stepped_s
        return {"waiting": self.waited_s / whole_s, "augmentation": self.augmented_s / whole_s}


@dataclass(slots=True)
class Checkpoint:
    """A whole run. config: plain keys and values; data: name -> fingerprint of what it learns from.

    weights are those being trained, average their moving average, best the average with the best score (empty before
    the first validation).
    """

    config: dict[str, Any]
    data: dict[str, str]
    weights: Weights
    average: Weights
    optimiser: dict[str, Any]
    best: Weights = field(default_factory=dict)
    course: Course = field(default_factory=Course)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replaces the checkpoint in `folder` whole or not at all. Raises LearningError if it cannot be written."""
    parts = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    buffer = io.BytesIO()  # torch reports a full disk in words of its own
    torch.save({"format": FORMAT, **parts, "course": asdict(checkpoint.course)}, buffer)
    write_whole(folder / CHECKPOINT_FILE, buffer.getvalue())


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`; None if no run was begun there.

    Only tensors and plain values are read, no code is run. Raises LearningError for a damaged or foreign one.
    """
    path = folder / CHECKPOINT_FILE
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LearningError(f"{path}: cannot be read ({reason}); delete it to begin again") from error
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise LearningError(f"{path}: must be a checkpoint of format {FORMAT}; delete it to begin again")
    try:
        course = found.pop("course")
        rows = tuple(course.pop("history"))
        return Checkpoint(**found, course=Course(**course, history=rows))
    except (TypeError, KeyError, AttributeError) as error:
        raise LearningError(f"{path}: is damaged ({error}); delete it to begin again") from error


def check_same_run(folder: Path, kept: Checkpoint, config: Mapping[str, Any], data: Mapping[str, str]) -> None:
    """Raises LearningError, naming the first difference, unless `kept` was begun with this configuration and data."""
    begun, now = _flat({**kept.config, "data": kept.data}), _flat({**config, "data": dict(data)})
    for key in sorted(begun.keys() | now.keys()):
        if key in MAY_CHANGE or (key in begun and key in now and begun[key] == now[key]):
            continue
        was, is_now = (repr(side[key]) if key in side else "absent" for side in (begun, now))
        raise LearningError(
            f"{folder / CHECKPOINT_FILE}: was begun with {key} {was}, and now it is {is_now}; "
            "give another folder, or delete this one to begin again"
        )


def fill(module: nn.Module, weights: Weights, folder: Path) -> None:
    """Loads weights of the run in `folder` into a policy. Raises LearningError if they are not its own."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise LearningError(f"{folder}: its weights are not those of this version's family; train it again") from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, also through a power cut. Raises LearningError."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise LearningError(f"{path}: cannot be written ({error.strerror or error})") from error


def _flat(group: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    found: dict[str, Any] = {}
    for key, value in group.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
