"""A training run between two steps: what a checkpoint holds, alive."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from policy_bringup.core.errors import ConfigError, LearningError
from policy_bringup.core.fingerprints import code_version, contract_sha256
from policy_bringup.learning.augment import augment
from policy_bringup.learning.batch import Batch
from policy_bringup.learning.checkpoint import (
    Checkpoint,
    Course,
    check_same_run,
    fill,
    load_checkpoint,
    save_checkpoint,
    write_whole,
)
from policy_bringup.learning.config import TrainConfig, build_train_config, plain
from policy_bringup.learning.dataset import Dataset, batches
from policy_bringup.learning.distributed import Ranks
from policy_bringup.learning.families import make_policy
from policy_bringup.learning.history import History
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.optimisation import Average, first_bad, gradient_norm, learning_rate, make_optimiser
from policy_bringup.learning.policy import LearnedPolicy
from policy_bringup.learning.validation import evaluate, on_device

CONFIG_FILE = "config.yaml"
Ending = Literal["steps", "patience", "budget"]


@dataclass(frozen=True, slots=True)
class Progress:
    """After a step: loss of that step and of the newest validation (None before it), moments per second, share of the
    time spent waiting for data, and seconds left to the last step or the end of the budget."""

    step: int
    steps: int
    loss: float
    validation: float | None
    samples_per_s: float
    waiting: float
    left_s: float


class Run:
    """See the file's description; `train` says when what happens."""

    def __init__(
        self,
        dataset_train: Dataset,
        dataset_validation: Dataset,
        config: TrainConfig,
        folder: Path,
        ranks: Ranks,
        clock: Callable[[], float],
    ) -> None:
        self._train, self._validation = dataset_train, dataset_validation
        self._config, self._how, self._folder = config, config.optimisation, folder
        self._ranks, self._clock = ranks, clock
        self._data = {
            "train": dataset_train.sha256,
            "validation": dataset_validation.sha256,
            "contract": contract_sha256(dataset_train.contract),
        }
        self._device = _device(config)
        self._augmenting = torch.Generator()
        kept = load_checkpoint(folder)
        if kept is not None:
            begun = replace(kept, config=_completed(kept.config, folder))
            check_same_run(folder, begun, plain(config), self._data)
        self.course = Course() if kept is None else kept.course
        self._best = {} if kept is None else kept.best
        self._begin(kept)
        self._share = 1.0
        self._from, self._from_s, self._before = clock(), self.course.spent_s, self.course.step

    def _begin(self, kept: Checkpoint | None) -> None:
        torch.manual_seed(self._how.seed)
        contract = self._train.contract
        self._normaliser = Normaliser.of(self._train)
        policy = make_policy(self._config.family, contract, self._config.model, copy.deepcopy(self._normaliser))
        policy.to(self._device)
        if self._how.channels_last:
            policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._policy = policy
        self._average = Average(self._policy, self._how.ema_decay)
        self._optimiser = make_optimiser(self._policy, self._how)
        self._policy.train()
        if kept is None:
            return
        fill(self._policy, kept.weights, self._folder)
        fill(self._average.policy, kept.average, self._folder)
        self._optimiser.load_state_dict(kept.optimiser)

    def ending(self) -> Ending | None:
        """Why there are no more steps to make; None while there are."""
        course, how = self.course, self._how
        if course.step >= how.steps:
            return "steps"
        if course.stale >= how.patience:
            return "patience"
        if how.budget_min is not None and course.spent_s >= 60.0 * how.budget_min:
            return "budget"
        return None

    def batches(self) -> Generator[Batch, None, None]:
        """This process's share of every batch, from the next step to the last; every epoch in an order of its own."""
        how, ranks = self._how, self._ranks
        per_epoch = max(1, len(self._train) // how.batch_size)
        while self.ending() is None:
            epoch, done = divmod(self.course.step, per_epoch)
            rng = np.random.default_rng([how.seed, epoch])
            loader = batches(self._train, how.batch_size, rng, ranks.rank, ranks.size, first=done)
            waited_s = self.course.waited_s
            for batch in loader:
                self.course.waited_s = waited_s + loader.waited_s
                yield batch
                if self.ending() is not None:
                    return

    def agree(self, batch: Batch, stop: bool) -> bool:
        """Makes all processes of one mind about the time spent and their shares of the batch; whether to stop."""
        spent_s = self._from_s + self._clock() - self._from if self._ranks.first else 0.0
        valid = float(batch.valid.sum())
        total, self.course.spent_s, wishes = self._ranks.total([valid, spent_s, float(stop)])
        self._share = valid / total
        return wishes > 0.0

    def step(self, batch: Batch) -> float:
        """One step of the optimiser; returns the loss of the whole batch. Raises LearningError if it is not finite."""
        how, course, began_s = self._how, self.course, time.perf_counter()
        torch.manual_seed(self._drawn(0))
        batch = augment(batch, self._config.augmentation, self._augmenting.manual_seed(self._drawn(1)))
        course.augmented_s += time.perf_counter() - began_s
        with torch.autocast(self._device.type, torch.bfloat16, enabled=how.bf16):
            parts = self._policy(on_device(batch, self._device))
        part = parts["loss"] * self._share
        part.backward()
        loss = self._ranks.sum_gradients(self._policy.parameters(), part)
        norm = gradient_norm(self._policy)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise LearningError(self._complaint(loss, first_bad(self._policy, parts)))
        if how.gradient_clip:
            torch.nn.utils.clip_grads_with_norm_(self._policy.parameters(), how.gradient_clip, norm)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(how, course.step, course.spent_s)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        course.step, course.loss_sum, course.loss_steps = course.step + 1, course.loss_sum + loss, course.loss_steps + 1
        self._average.follow(self._policy, course.step)
        course.stepped_s += time.perf_counter() - began_s
        return loss

    def judge_if_due(self, history: History | None) -> None:
        """At regular steps, and at the last one, once: judges the average and writes a checkpoint."""
        regular = self.course.step % self._how.validate_every == 0
        if self.course.step != self.course.validated_step and (regular or self.ending() is not None):
            self._validate()
            self.keep(history)

    def _validate(self) -> None:
        """Judges the average of the weights, remembers the best, and adds a row to the history.

        While a policy pretrains, the newest takes the place of the best, so that there is always one.
        """
        course = self.course
        figures = self._judge(self._average.policy, self._validation) if self._ranks.first else {"loss": 0.0}
        whole = all(math.isfinite(figure) for figure in figures.values())
        (score,) = self._ranks.total([figures["loss"] if whole else math.nan])
        if not math.isfinite(score):
            raise LearningError(self._complaint(score, "validation saw it first"))
        course.validated_step, course.stale = course.step, course.stale + 1
        pretraining = self._policy.pretraining
        if pretraining or course.best_score is None or score < course.best_score:
            course.best_score, course.best_step, course.stale = None if pretraining else score, course.step, 0
            self._best = {name: tensor.clone() for name, tensor in self._average.policy.state_dict().items()}
        row = {
            "step": float(course.step),
            "train/loss": course.loss_sum / max(1, course.loss_steps),
            "train/learning_rate": self._optimiser.param_groups[0]["lr"],
            **{f"validation/{name}": value for name, value in figures.items()},
            "time/spent_s": course.spent_s,
            "time/waiting": course.waited_s / max(course.spent_s, 1e-9),
        }
        course.history, course.loss_sum, course.loss_steps = (*course.history, row), 0.0, 0

    def keep(self, history: History | None) -> None:
        """Writes the checkpoint, and what is made from it. Only the first process does."""
        if history is None:
            return
        weights, average = self._policy.state_dict(), self._average.policy.state_dict()
        optimiser = self._optimiser.state_dict()
        config = plain(self._config)
        save_checkpoint(
            self._folder, Checkpoint(config, self._data, weights, average, optimiser, self._best, self.course)
        )
        write_whole(self._folder / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False).encode())
        history.write(self.course.history)

    def progress(self, loss: float) -> Progress:
        """How far the run is, from its own pace since it was started."""
        how, course = self._how, self.course
        spent_s = max(course.spent_s - self._from_s, 1e-9)
        pace = (course.step - self._before) / spent_s
        left_s = (how.steps - course.step) / pace
        if how.budget_min is not None:
            left_s = min(left_s, 60.0 * how.budget_min - course.spent_s)
        rate, waiting = pace * how.batch_size, course.waited_s / max(course.spent_s, 1e-9)
        newest = course.history[-1]["validation/loss"] if course.history else None
        return Progress(course.step, how.steps, loss, newest, rate, waiting, max(0.0, left_s))

    def best(self) -> LearnedPolicy:
        """The average of the weights that was judged best, on the processor, as it predicts."""
        policy = self._average.policy
        fill(policy, self._best, self._folder)
        policy.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return policy

    def metrics(self, policy: LearnedPolicy) -> dict[str, Any]:
        """What metrics.json says of it."""
        course = self.course
        return {
            "family": self._config.family,
            "ending": self.ending(),
            "steps": course.step,
            "best_step": course.best_step,
            "parameters": sum(parameter.numel() for parameter in policy.parameters()),
            "moments": {"train": len(self._train), "validation": len(self._validation)},
            "episodes": {"train": len(self._train.episodes), "validation": len(self._validation.episodes)},
            "train": self._judge(policy, self._train),
            "validation": self._judge(policy, self._validation),
            "spent_min": course.spent_s / 60.0,
            "samples_per_s": course.step * self._how.batch_size / max(course.spent_s, 1e-9),
            "waiting": course.waited_s / max(course.spent_s, 1e-9),
            "step_shares": course.step_shares(),
            "data_sha256": self._data,
            "code_version": code_version(),
            "torch": torch.__version__,
        }

    def _judge(self, policy: LearnedPolicy, dataset: Dataset) -> dict[str, float]:
        return evaluate(policy, dataset, self._normaliser, self._how.validation_moments, self._how.batch_size)

    def _drawn(self, stream: int) -> int:
        """A seed for one step of one process."""
        places = np.random.SeedSequence([self._how.seed, self.course.step, self._ranks.rank, stream])
        return int(places.generate_state(1, np.uint64)[0] >> 1)

    def _complaint(self, loss: float, reason: str) -> str:
        return (
            f"step {self.course.step + 1}: the loss is {loss:g}: {reason}; lower learning_rate or set gradient_clip; "
            f"the checkpoint in {self._folder}, if there is one, is from before"
        )


def _completed(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a run was begun with, and the defaults of the keys that have been added since: they change nothing."""
    try:
        return plain(build_train_config(config, str(folder)))
    except ConfigError:
        return config  # the comparison with what is wanted now names the key


def _device(config: TrainConfig) -> torch.device:
    name = config.optimisation.device
    if name == "cuda" and not torch.cuda.is_available():
        raise LearningError("optimisation: device: cuda is not to be had here; say cpu")
    return torch.device(name)
