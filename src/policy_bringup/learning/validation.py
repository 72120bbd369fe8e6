"""How good a policy is on moments it was not trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from policy_bringup.learning.batch import Batch
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.metrics import action_errors, better_than_mean
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.policy import LearnedPolicy

SEED = 20_000
"""Of what a family draws while it is judged: the same for every judgement, so that they can be compared."""


def spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of the numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The same moments, on the device that computes."""
    images = {camera: pixels.to(device, non_blocking=True) for camera, pixels in batch.images.items()}
    return Batch(images, *(part.to(device, non_blocking=True) for part in (batch.state, batch.action, batch.valid)))


@torch.no_grad()
def evaluate(
    policy: LearnedPolicy, dataset: Dataset, normaliser: Normaliser, most: int, batch_size: int
) -> dict[str, float]:
    """Over at most `most` evenly spread moments of `dataset`: "loss" of the policy, its action errors, and what is left
    of the errors of doing nothing in particular (metrics.py).

    normaliser: with the figures of the training part. Leaves the policy in `eval` mode.
    """
    policy.eval()
    device = next(policy.parameters()).device
    moments, losses, weights, kept = spread(len(dataset), most), [], [], []
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        for start in range(0, len(moments), batch_size):
            batch = dataset.batch(moments[start : start + batch_size])
            seen = on_device(batch, device)
            losses.append(float(policy(seen)["loss"]))
            weights.append(float(batch.valid.sum()))
            action, _ = policy.predict(seen.images, seen.state)
            kept.append((action.cpu(), batch.action, batch.valid, batch.state))
    predicted, target, valid, state = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return {
        "loss": float(np.average(losses, weights=weights)),
        **action_errors(predicted, target, valid, dataset.contract),
        **better_than_mean(predicted, target, valid, state, normaliser),
    }
