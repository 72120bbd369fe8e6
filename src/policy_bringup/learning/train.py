"""Trains a policy of any family; may be killed at any moment and started again with the same arguments.

Everything that is drawn (order, augmentation, dropout, ensemble weights) is drawn from (seed, step): a run that was
killed ends with the same numbers as one that was not, on the same machine and with the same number of threads, unless
a time budget ends it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from policy_bringup.core.errors import LearningError
from policy_bringup.core.fingerprints import contract_sha256
from policy_bringup.core.types import Contract
from policy_bringup.episodes.layout import lock
from policy_bringup.learning.checkpoint import fill, load_checkpoint, write_whole
from policy_bringup.learning.config import TrainConfig, build_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.distributed import Ranks, joined
from policy_bringup.learning.families import make_policy
from policy_bringup.learning.history import History
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.policy import LearnedPolicy
from policy_bringup.learning.run import Ending, Progress, Run

METRICS_FILE = "metrics.json"


class Interrupted(LearningError):
    """Training was asked to stop, and has kept everything."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The best average of the weights, ready to predict, and what is known about it (metrics.json).

    ending: whether all steps were made, patience ran out, or the time budget was spent. With several processes only the
    first one has metrics.
    """

    policy: LearnedPolicy
    metrics: dict[str, Any]
    folder: Path
    ending: Ending


def train(
    dataset_train: Dataset,
    dataset_validation: Dataset,
    config: TrainConfig,
    folder: Path,
    progress: Callable[[Progress], None] = lambda _progress: None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Trains, or goes on where a run in `folder` was ended; a finished run is returned as it is.

    Writes checkpoint.pt, config.yaml, history.jsonl and metrics.json. stop: asked before every step; when it says True
    everything is kept and Interrupted raised. clock: seconds. Raises LearningError for a folder whose run has another
    configuration or other data, for numbers that are not finite (the last checkpoint stays), and for too little data.
    """
    with joined() as ranks, _settings(config), _held(folder, ranks):
        run = Run(dataset_train, dataset_validation, config, folder, ranks, clock)
        history = History(folder, run.course) if ranks.first else None
        try:
            with closing(run.batches()) as batches_left:
                for batch in batches_left:
                    if run.agree(batch, stop()):
                        run.keep(history)
                        at = run.course.step
                        raise Interrupted(f"{folder}: stopped at step {at}; the same command goes on from there")
                    loss = run.step(batch)
                    run.judge_if_due(history)
                    progress(run.progress(loss))
            run.judge_if_due(history)  # a run that was interrupted in its last moment
        finally:
            if history is not None:
                history.close()
        ending, policy = run.ending(), run.best()
        assert ending is not None
        metrics = run.metrics(policy) if ranks.first else {}
        if ranks.first:
            write_metrics(folder, metrics)
        return Trained(policy, metrics, folder, ending)


def load_trained(folder: Path, contract: Contract) -> LearnedPolicy:
    """The best policy of the run in `folder`, ready to predict.

    Raises LearningError if there is none, or it was trained for another contract.
    """
    kept = load_checkpoint(folder)
    if kept is None or not kept.best:
        raise LearningError(f"{folder}: holds no trained policy; make one with `policy train`")
    if kept.data["contract"] != contract_sha256(contract):
        raise LearningError(f"{folder}: its policy was trained for another contract; train it again")
    config = build_train_config(kept.config, str(folder))
    policy = make_policy(config.family, contract, config.model, Normaliser(contract))
    fill(policy, kept.best, folder)
    return policy.eval().requires_grad_(False)


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Replaces metrics.json. Raises LearningError if it cannot be written."""
    write_whole(folder / METRICS_FILE, json.dumps(metrics, indent=1).encode())


@contextmanager
def _settings(config: TrainConfig) -> Iterator[None]:
    """Threads as configured, and torch's own generator left as it was found."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            torch.set_num_threads(config.optimisation.threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _held(folder: Path, ranks: Ranks) -> Iterator[None]:
    """One run at a time in a folder, which is created."""
    if not ranks.first:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LearningError(f"{folder}: cannot be created ({error.strerror or error})") from error
    descriptor = lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)
