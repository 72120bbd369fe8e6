"""How the weights change: AdamW, its learning rate over time, the average of the weights, and what blew up if any."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policy_bringup.learning.config import Optimisation
from policy_bringup.learning.policy import LearnedPolicy

LAST_RATE = 0.01
"""The cosine ends at this share of the learning rate."""


def make_optimiser(policy: nn.Module, config: Optimisation) -> torch.optim.AdamW:
    """AdamW over everything that is trained; weight decay only on matrices and filters, not on offsets and scales."""
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


def learning_rate(config: Optimisation, step: int, spent_s: float) -> float:
    """Linear warm-up, then a cosine down to LAST_RATE of it at the end of the run.

    The end is the last step or the end of the time budget, whichever is nearer: a run that the budget cuts short has
    still come down.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.budget_min is not None:
        done = max(done, spent_s / (60.0 * config.budget_min))
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * (LAST_RATE + (1.0 - LAST_RATE) * cosine)


class Average:
    """A second policy whose weights follow the trained ones slowly (exponential moving average): it is what is kept.

    The decay begins low, so that the first random weights are soon forgotten.
    """

    def __init__(self, policy: LearnedPolicy, decay: float) -> None:
        self.policy = copy.deepcopy(policy).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def follow(self, policy: LearnedPolicy, step: int) -> None:
        """Moves towards `policy`, which has made `step` steps."""
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        kept, new = self.policy.state_dict(), policy.state_dict()
        for name, tensor in kept.items():
            if tensor.is_floating_point():
                tensor.lerp_(new[name], 1.0 - decay)
            else:
                tensor.copy_(new[name])


def gradient_norm(policy: nn.Module) -> Tensor:
    """Length of the whole gradient; not finite if any of its numbers is not."""
    gradients = [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def first_bad(policy: nn.Module, parts: Mapping[str, Tensor]) -> str:
    """The first thing that is not a finite number: a parameter, else a part of the loss, else a gradient."""
    for name, parameter in policy.named_parameters():
        if not bool(parameter.isfinite().all()):
            return f"the first parameter that is not finite is {name}"
    for name, part in sorted(parts.items(), key=lambda item: item[0] == "loss"):  # the sum of the others comes last
        if not bool(part.isfinite().all()):
            return f"all parameters are finite, and the first part of the loss that is not is '{name}'"
    for name, parameter in policy.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return f"the loss is finite, and the first gradient that is not is that of {name}"
    return "another process saw it"
