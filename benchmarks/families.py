"""Policy families, and heads for telling where things are, on identical splits.

First every family of config/train/ trains on the same episodes for the same time, unless patience ends it, and plays
the same unseen scenes, other ones than those of a policy's report, with the monitor's rules on but its judgement of
doubt off (no threshold is calibrated here). Then bc_spatial learns only to tell, from the pictures alone, where the
tool will be at the end of the chunk, with each of its three heads; the table has the form of the one in Levine et al.
2016 (pose error on their robot: 1.30 cm with spatial softmax, 4.75 cm fully connected, 3.71 cm with max pooling).
Run: python benchmarks/families.py [--work build/learn/grasp] [--minutes 15] [--pose-minutes 5] [--episodes 100]
after `make train`, or after its stages demonstrations and frames. What is trained already is not trained again: for
other minutes, name another --out.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from policy_bringup.core.deployment import load_deployment
from policy_bringup.episodes.splits import load_split
from policy_bringup.learning.bc_spatial import BcSpatial
from policy_bringup.learning.config import TrainConfig, load_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.export import export_onnx
from policy_bringup.learning.run import Progress as TrainProgress
from policy_bringup.learning.train import Trained, train
from policy_bringup.pipeline import export, play
from policy_bringup.pipeline.seeds import seeds
from policy_bringup.pipeline.statistics import Rate, rate
from policy_bringup.pipeline.wording import rate_words
from policy_bringup.sim.rollout import load_stack

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("bc_cnn", "bc_spatial", "bc_resnet")
FIRST_SCENE = 1_500_000
"""Of the evaluation's; reports of policies take theirs from the beginning."""
AS_MANY_STEPS_AS_FIT = 1_000_000
HEADS = ("spatial_softmax", "fully_connected", "max_pool")
CONTRACT = load_deployment(ROOT / "config" / "grasp.yaml")[0].contract


@dataclass(frozen=True)
class Families:
    """What to compare, and for how long."""

    work: Path = ROOT / "build" / "learn" / "grasp"
    out: Path = ROOT / "build" / "families"
    minutes: float = 15.0
    """Of training, for every family."""
    pose_minutes: float = 5.0
    """Of training, for every head."""
    episodes: int = 100
    workers: int = os.cpu_count() or 1
    json: Path | None = None


@dataclass(frozen=True)
class Parts:
    """The split's three datasets, and where the frames are."""

    frames: Path
    train: Dataset
    validation: Dataset
    test: Dataset

    @classmethod
    def of(cls, work: Path) -> Parts:
        """Raises EpisodeError for what is not there."""
        split, frames = load_split(work / "demos"), work / "frames"
        parts = (Dataset.open(frames, names, CONTRACT) for names in (split.train, split.validation, split.test))
        return cls(frames, *parts)


def learn(name: str, config: TrainConfig, parts: Parts, folder: Path) -> Trained:
    """Trains, with a bar that shows the time."""
    whole_s = 60.0 * (config.optimisation.budget_min or 0.0)
    with Progress() as progress:
        bar = progress.add_task(name, total=whole_s)

        def heard(at: TrainProgress) -> None:
            progress.update(bar, completed=whole_s - at.left_s)

        return train(parts.train, parts.validation, config, folder, heard)


def family_config(name: str, minutes: float) -> TrainConfig:
    """As it is shipped, but ended by time and not by its steps."""
    return _timed(load_train_config(ROOT / "config" / "train" / f"{name}.yaml"), minutes)


def head_config(head: str, minutes: float) -> TrainConfig:
    """Only the pose is learned, and only the pose says which checkpoint is the best and when to end."""
    only_pose = ("model.members=1", "model.action_weight=0.0", "model.pose_weight=1.0", "model.pretrain_steps=0")
    changes = (f"model.pooling={head}", *only_pose)
    return _timed(load_train_config(ROOT / "config" / "train" / "bc_spatial.yaml", changes), minutes)


def _timed(config: TrainConfig, minutes: float) -> TrainConfig:
    how = replace(config.optimisation, budget_min=minutes, steps=AS_MANY_STEPS_AS_FIT)
    return replace(config, optimisation=how)


def success(trained: Trained, parts: Parts, folder: Path, choice: Families) -> Rate:
    """Of the policy, in closed loop."""
    model = export_onnx(trained.policy)
    export.write(folder, trained.policy, model, parts.frames, parts.train, parts.validation, "0" * 64)
    backend, _ = play.backends(load_stack(ROOT / "config"), "auto")
    stage = play.Stage(play.Setting(ROOT / "config", "grasp.yaml", play.bundle(folder), backend, 20.0))
    jobs = [play.Job(seed, unguarded=True) for seed in seeds("evaluation", choice.episodes, FIRST_SCENE)]
    with play.performers(stage, choice.workers) as perform:
        return rate([played.attempt.success for played in perform(jobs)])


def pose_error_cm(policy: BcSpatial, dataset: Dataset) -> tuple[float, float]:
    """Distance between where the tool went and where the policy said it would, from the pictures alone: mean over
    episodes of their means, and by how much that is uncertain (half of the 95 % interval over episodes)."""
    columns = [dataset.contract.action.names.index(name) for name in ("tool.x", "tool.y", "tool.z")]
    means = []
    with torch.inference_mode():
        for name in dataset.episodes:
            episode = dataset.subset([name])
            batch = episode.batch(np.arange(len(episode)))
            means.append(float((policy.pose(batch.images) - batch.action[:, -1, columns]).norm(dim=1).mean()))
    return 100.0 * float(np.mean(means)), 196.0 * float(np.std(means, ddof=1)) / len(means) ** 0.5


def main(choice: Families) -> int:
    """Prints both tables. Raises OSError before the work if the JSON file cannot be written."""
    if choice.json:
        choice.json.touch()
    parts, report = Parts.of(choice.work), dict[str, Any](families={}, pose_error_cm={})
    table = Table("family", "minutes, ended by", "position error mm", "success", title="families")
    for name in FAMILIES:
        trained = learn(name, family_config(name, choice.minutes), parts, choice.out / name / "run")
        found = success(trained, parts, choice.out / name / "bundle", choice)
        seen = trained.metrics["validation"]
        spent = f"{trained.metrics['spent_min']:.1f}, {trained.ending}"
        table.add_row(name, spent, f"{seen['position_mm']:.1f}", rate_words(found))
        success_of = {"success": [found.count, found.trials, found.low, found.high]}
        report["families"][name] = {"validation": seen, "trained": spent, **success_of}
    Console().print(table)
    heads = Table("head", "minutes, ended by", "pose error cm", title="heads, on episodes of the test part")
    for head in HEADS:
        trained = learn(head, head_config(head, choice.pose_minutes), parts, choice.out / f"pose_{head}")
        assert isinstance(trained.policy, BcSpatial)
        mean, half = report["pose_error_cm"][head] = pose_error_cm(trained.policy, parts.test)
        heads.add_row(head, f"{trained.metrics['spent_min']:.1f}, {trained.ending}", f"{mean:.2f} ± {half:.2f}")
    Console().print(heads)
    if choice.json:
        choice.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Families)))
