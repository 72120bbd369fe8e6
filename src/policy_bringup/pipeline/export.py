"""From a training run to a bundle that is not calibrated yet."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import yaml

from policy_bringup.core.errors import LearningError
from policy_bringup.core.types import Contract
from policy_bringup.episodes.conversion import alignment_of
from policy_bringup.episodes.frames import load_frames
from policy_bringup.episodes.splits import Split
from policy_bringup.inference.bundle import Bundle
from policy_bringup.learning.checkpoint import load_checkpoint
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.export import OPSET, export_onnx, parity_samples
from policy_bringup.learning.policy import LearnedPolicy
from policy_bringup.learning.train import load_trained
from policy_bringup.pipeline import bundling

PARITY_MOMENTS = 16
"""Real moments, spread over the validation episodes, that prove the bundle's graph wherever it is loaded."""


def export(run: Path, frames: Path, split: Split, contract: Contract, out: Path) -> Bundle:
    """Writes the best policy of the run in `run`, which may still go on, as a bundle to `out`.

    frames, split: those that it learned from, which give the bundle its fingerprint and its parity samples; episodes of
    the split without frames are left out, as in training. The bundle's configuration is the sha256 of the run's
    config.yaml. Raises LearningError for no trained policy, another contract's, and other episodes than it learned
    from; ContractError for a graph that says something else than the network, and if `out` holds a calibrated bundle or
    something else than a bundle; EpisodeError for frames that cannot be read.
    """
    bundling.refuse_calibrated(out)
    policy, kept = load_trained(run, contract), load_checkpoint(run)
    assert kept is not None  # there is a trained policy
    parts = {"train": split.train, "validation": split.validation}
    data = {
        part: Dataset.open(frames, [name for name in names if (frames / name).is_dir()], contract)
        for part, names in parts.items()
    }
    for part, dataset in data.items():
        if dataset.sha256 != kept.data[part]:
            raise LearningError(
                f"{frames}: its {part} episodes are not those that {run} learned from; name the frames and the split "
                "that it was trained with"
            )
    configuration = sha256(yaml.safe_dump(kept.config, sort_keys=False).encode()).hexdigest()
    return write(out, policy, export_onnx(policy), frames, data["train"], data["validation"], configuration)


def write(
    out: Path, policy: LearnedPolicy, model: bytes, frames: Path, train_part: Dataset, validation_part: Dataset,
    configuration_sha256: str,
) -> Bundle:  # fmt: skip
    """Writes the bundle of `policy`, which was exported as the ONNX graph `model`, with parity samples from the
    validation part and a fingerprint of the training part, whose episodes lie in `frames`.

    Raises what bundling.bundle raises, and EpisodeError for frames.
    """
    contract = policy.contract
    moments = np.linspace(0, len(validation_part) - 1, PARITY_MOMENTS).astype(np.int64)
    folders = [frames / name for name in train_part.episodes]
    episodes = (load_frames(folder, contract) for folder in folders)
    return bundling.bundle(
        out,
        model,
        parity_samples(policy, validation_part.batch(moments)),
        contract,
        bundling.fingerprint_of(episodes, contract, alignment_of(folders)),
        dataset_sha256=train_part.sha256,
        configuration_sha256=configuration_sha256,
        opset=OPSET,
    )
