"""Which way to learn a policy, for how long, what to expect, and why: a decision tree that can be read as a list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policy_bringup.core.errors import ConfigError
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.pipeline.methods import (
    BASE,
    BASE_CLAIMS,
    GPU_FACTOR,
    HARDER,
    LIN,
    MANDLEKAR,
    METHODS,
    PICTURES_PER_S,
    RATE,
    Claim,
)

RATE_HZ = 20.0
ENOUGH_FOR_CHUNKS, ENOUGH_FOR_VIT = 50, 1000
"""Demonstrations."""
PRECISE_MM, PLACE_MM = 5.0, 30.0


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What is wanted, and what there is besides demonstrations."""

    cameras: int = 2
    """Cameras that the policy reads."""
    tasks: int = 1
    """Tasks for one policy."""
    multimodal: bool = False
    """There are several good ways to do it, and the demonstrations show more than one."""
    precision_mm: float = 20.0
    """Room for error."""
    long_horizon: bool = False
    """The task has several stages."""
    moving: bool = False
    """The object moves by itself."""
    varied: bool = False
    """It must work under other light, on other tables, or with other objects."""
    failing: bool = False
    """A trained policy fails in states that no demonstration shows."""
    corrections: bool = False
    """Somebody can correct the policy while it acts."""
    reward: bool = False
    """Success is measured by itself, and the robot or a simulator may try for hours."""
    hours: float = 2.0
    """Time for training."""
    gpu: bool = False
    """There is a graphics card."""


@dataclass(frozen=True)
class Situation(Circumstances):
    """The whole of it. demonstrations: good ones; demo_s: their mean length. Raises ConfigError for senseless ones."""

    demonstrations: int
    demo_s: float = 5.0

    def __post_init__(self) -> None:
        positive = {"demo_s": self.demo_s, "cameras": self.cameras, "tasks": self.tasks,
                    "precision_mm": self.precision_mm, "hours": self.hours}  # fmt: skip
        for name, value in positive.items():
            if not value > 0:
                raise ConfigError(f"advise: {name} must be above 0, found {value}")
        if self.demonstrations < 0:
            raise ConfigError(f"advise: demonstrations must be 0 or more, found {self.demonstrations}")


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do. method: a name of METHODS. path: the questions asked and their answers. claims: why, with sources.

    hours, success: (low, high); success in %. trainable: this package can train it. enough_time: the hours suffice.
    """

    method: str
    words: str
    path: tuple[tuple[str, bool], ...]
    hours: tuple[float, float]
    success: tuple[int, int]
    trainable: bool
    enough_time: bool
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Asked of a situation; the answer leads to another question or to a method's name. claims: why a "yes" counts."""

    words: str
    holds: Callable[[Situation], bool]
    yes: Question | str
    no: Question | str
    claims: tuple[Claim, ...] = ()


def hours_needed(method: str, situation: Situation) -> float:
    """To train it on this data and hardware; for its order of magnitude."""
    moments = situation.demonstrations * situation.demo_s * RATE_HZ
    pictures = METHODS[method].passes * moments * situation.cameras
    return pictures * METHODS[method].cost / PICTURES_PER_S / (GPU_FACTOR if situation.gpu else 1.0) / 3600.0


def _affordable(method: str) -> Callable[[Situation], bool]:
    return lambda situation: hours_needed(method, situation) <= situation.hours


def _chunks(situation: Situation) -> bool:
    return situation.demonstrations >= ENOUGH_FOR_CHUNKS and _affordable("act")(situation)


_APPEARANCE = Question(
    "enough demonstrations for a vision transformer, and a graphics card?",
    lambda s: s.demonstrations >= ENOUGH_FOR_VIT and s.gpu and _affordable("bc_vit")(s), "bc_vit",
    Question("enough time for a ResNet18?", _affordable("bc_resnet"), "bc_resnet", "bc_spatial"),
)  # fmt: skip
_PLACE = Question(
    f"does the object's place decide, to {PLACE_MM:.0f} mm or less?",
    lambda s: s.precision_mm <= PLACE_MM, "bc_spatial", "bc_cnn",
)  # fmt: skip
_LOOKS = Question(
    "must it work under other light, or with other objects and tables?", lambda s: s.varied, _APPEARANCE, _PLACE,
    (Claim("Success elsewhere grows with the number of different scenes and objects, not with more demonstrations of "
           "the same ones", "literature", LIN),),
)  # fmt: skip
_MOVING = Question(
    "does the object move by itself?", lambda s: s.moving, "bc_cnn_lstm", _LOOKS,
    (Claim("One picture does not show a velocity; a memory or a history of pictures does", "literature", MANDLEKAR),),
)  # fmt: skip
_PRECISE = Question(
    f"is there room for less than {PRECISE_MM:.0f} mm of error?", lambda s: s.precision_mm < PRECISE_MM,
    Question("enough demonstrations and time for action chunking?", _chunks, "act", "bc_spatial"), _MOVING,
)  # fmt: skip
_LONG = Question(
    "are there several stages?", lambda s: s.long_horizon,
    Question("enough demonstrations and time for action chunking?", _chunks, "act", "bc_cnn_lstm"), _PRECISE,
)  # fmt: skip
_MODES = Question(
    "do the demonstrations show several ways of doing it?", lambda s: s.multimodal,
    Question("enough time for diffusion?", _affordable("diffusion"), "diffusion",
             Question("enough demonstrations and time for action chunking?", _chunks, "act", "bc_cnn_lstm")), _LONG,
)  # fmt: skip
TREE = Question(
    "are there several tasks?", lambda s: s.tasks > 1, "multi_task",
    Question(
        "does a trained policy fail where nobody showed what to do, and can somebody correct it while it acts?",
        lambda s: s.failing and s.corrections, "dagger",
        Question("does it fail so, and can it try for hours with success measured by itself?",
                 lambda s: s.failing and s.reward, "bc_rl", _MODES),
    ),
)  # fmt: skip
"""Where every walk begins."""


def advise(situation: Situation, trainable: Iterable[str], measured: Sequence[Claim] = ()) -> Advice:
    """Walks the tree. trainable: methods that this package can train; measured: what evaluations here have shown."""
    node: Question | str = TREE
    path: list[tuple[str, bool]] = []
    claims: list[Claim] = []
    while isinstance(node, Question):
        answer = node.holds(situation)
        path.append((node.words, answer))
        claims += node.claims if answer else ()
        node = node.yes if answer else node.no
    needed = hours_needed(node, situation)
    method = METHODS[node]
    return Advice(
        node, method.words, tuple(path), (needed / 2.0, needed * 2.0), expected(node, situation),
        node in set(trainable), needed <= situation.hours, (*method.claims, *claims, *BASE_CLAIMS, RATE, *measured),
    )  # fmt: skip


def expected(method: str, situation: Situation) -> tuple[int, int]:
    """Range of success in percent."""
    low, high = next(span for least, span in reversed(BASE) if situation.demonstrations >= least)
    harder = {
        "precise": situation.precision_mm < PRECISE_MM,
        "long_horizon": situation.long_horizon,
        "moving": situation.moving,
        "varied": situation.varied,
        "multimodal": situation.multimodal and method not in ("diffusion", "act"),
    }
    changes = [HARDER[name] for name, holds in harder.items() if holds] + [METHODS[method].success]
    most = 0 if situation.demonstrations == 0 else 99
    low, high = low + sum(change[0] for change in changes), high + sum(change[1] for change in changes)
    return min(max(low, 0), most), min(max(high, 5), most)


def count_demonstrations(dataset: Path) -> tuple[int, float]:
    """Successful episodes of a dataset, and their mean length in s. Raises EpisodeError."""
    journals = [load_journal(folder) for folder in episodes(dataset)]
    good = [j for j in journals if j.outcome is Outcome.SUCCESS and j.stopped_ns is not None]
    lengths = [(j.stopped_ns - j.started_ns) / 1e9 for j in good if j.stopped_ns is not None]
    return len(good), sum(lengths) / len(lengths) if lengths else Situation(0).demo_s


def trainable_methods(config_folder: Path) -> tuple[str, ...]:
    """Those with a training configuration."""
    return tuple(name for name in METHODS if (config_folder / "train" / f"{name}.yaml").is_file())


def measured_claims(files: Iterable[Path]) -> tuple[Claim, ...]:
    """What the given evaluation.json files show, with the commands that made them. Raises ConfigError."""
    return tuple(_measured(path) for path in files)


def _measured(path: Path) -> Claim:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        success, facts = data["figures"]["success"], data["facts"]
        rates = f"{success['count']} of {success['trials']}"
        low, high = 100.0 * success["low"], 100.0 * success["high"]
        text = f"'{facts['policy']}' succeeded in {rates} ({low:.0f} to {high:.0f} %)"
        return Claim(text, "measured", facts.get("command", f"policy evaluate {facts['policy']}"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: is not an evaluation ({error!r})") from error
