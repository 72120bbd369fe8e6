"""Whether a trained policy is any good, and if not, where to look: questions, each with a figure and a sentence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from policy_bringup.learning.augment import Augmentation
from policy_bringup.learning.config import TrainConfig
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.run import Progress
from policy_bringup.learning.train import Trained, train, write_metrics

EPISODES = 2
"""How many the memory check learns by heart."""
STEPS = 300
"""In how many steps."""
MEMORISED = 0.15
"""At most so much of the error of the mean action is left of a policy that can learn at all."""
GAP = 2.0
"""Validation loss over training loss, from which on a policy knows its demonstrations by heart."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One question about a policy. `good` False: the sentence says what to try."""

    question: str
    figure: str
    good: bool
    sentence: str


def diagnose(
    trained: Trained,
    dataset_train: Dataset,
    config: TrainConfig,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> tuple[Finding, ...]:
    """All questions, answered; the answers are added to metrics.json. Takes as long as STEPS steps of training.

    Raises LearningError as `train` does.
    """
    found = (memorise(dataset_train, config, STEPS, progress), *judge(trained.metrics))
    write_metrics(trained.folder, {**trained.metrics, "diagnosis": [asdict(finding) for finding in found]})
    return found


def memorise(
    dataset: Dataset,
    config: TrainConfig,
    steps: int = STEPS,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> Finding:
    """Can it learn at all: a fresh policy learns the first two episodes by heart, without augmentation.

    What cannot even do that has a fault in its data, its loss or its learning rate, and more training will not help.
    """
    few = dataset.subset(dataset.episodes[:EPISODES])
    with tempfile.TemporaryDirectory(prefix="memorise_") as scratch:
        metrics = train(few, few, _by_heart(config, len(few), steps), Path(scratch), progress).metrics
    left = metrics["validation"]["left_of_mean"]
    question, figure = "can it learn at all?", f"{left:.0%} of the mean action's error left"
    what = f"after {steps} steps on {len(few.episodes)} episodes"
    if left <= MEMORISED:
        return Finding(question, figure, True, f"Yes: {what} it knows them by heart.")
    advice = "look at learning_rate, and whether pictures and actions belong together"
    return Finding(question, figure, False, f"No: {what} more than {MEMORISED:.0%} is left; {advice}.")


def judge(metrics: Mapping[str, Any]) -> tuple[Finding, ...]:
    """What metrics.json says of a policy: generalisation, errors, and whether it is better than doing nothing."""
    seen, unseen = metrics["train"], metrics["validation"]
    return (_gap(seen, unseen), _errors(unseen), *_better(unseen))


def _by_heart(config: TrainConfig, moments: int, steps: int) -> TrainConfig:
    how = config.optimisation
    size = min(how.batch_size, moments)
    steps += getattr(config.model, "pretrain_steps", 0)  # those that a family spends on something else than actions
    short = replace(
        how,
        batch_size=size,
        steps=steps,
        warmup_steps=min(how.warmup_steps, steps // 10),
        validate_every=steps,
        ema_decay=min(how.ema_decay, 0.9),
        weight_decay=0.0,
        budget_min=None,
    )
    return replace(config, augmentation=Augmentation(), optimisation=short)


def _gap(seen: Mapping[str, float], unseen: Mapping[str, float]) -> Finding:
    ratio = unseen["loss"] / max(seen["loss"], 1e-12)
    question, figure = "does it hold on episodes it has not seen?", f"{ratio:.2f} times the loss"
    if ratio <= GAP:
        return Finding(question, figure, True, f"Yes: the loss is {unseen['loss']:.3g} there, {seen['loss']:.3g} here.")
    sentence = f"No: the loss there is more than {GAP:g} times as high; record more episodes, or augment more."
    return Finding(question, figure, False, sentence)


def _errors(unseen: Mapping[str, float]) -> Finding:
    shown = [name for name in unseen if name.rsplit("_", 1)[-1] in ("mm", "rad") and f"{name}_first" in unseen]
    words = [f"{name.rsplit('_', 1)[0]} {unseen[name]:.3g} {name.rsplit('_', 1)[1]}" for name in shown]
    first = [f"{name.rsplit('_', 1)[0]} {unseen[f'{name}_first']:.3g}" for name in shown]
    sentence = f"Mean absolute error over whole chunks; in their first step: {', '.join(first)}."
    return Finding("how far off is it?", ", ".join(words), True, sentence)


def _better(unseen: Mapping[str, float]) -> tuple[Finding, ...]:
    compared = {"left_of_mean": "always doing the mean action", "left_of_staying": "staying where it is"}
    return tuple(_compared(other, unseen[key]) for key, other in compared.items() if key in unseen)


def _compared(other: str, left: float) -> Finding:
    question, figure = f"is it better than {other}?", f"{left:.0%} of its error left"
    if left < 1.0:
        return Finding(question, figure, True, f"Yes: its error is {1.0 - left:.0%} smaller.")
    return Finding(question, figure, False, "No: it has learnt nothing that helps; see whether it can learn at all.")
