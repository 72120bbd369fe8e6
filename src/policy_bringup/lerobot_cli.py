"""`policy episodes export-lerobot|import-lerobot`: exchange with LeRobotDataset v3."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from policy_bringup import runner, tables
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.types import Contract
from policy_bringup.episodes.journal import Outcome
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.lerobot_layout import Fields
from policy_bringup.episodes.lerobot_video import Encoding

Folder = tyro.conf.Positional[Path]


@dataclass(frozen=True)
class ExportLerobot:
    """Write converted episodes as a LeRobotDataset v3."""

    frames: Folder
    """Folder written by `convert`."""
    out: Path
    """New folder."""
    deployment: str = "grasp"
    """Whose contract the frames follow."""
    include_failures: bool = False
    """Also episodes labelled failure."""
    fps: int | None = None
    """Pictures a second that the dataset states; None: the whole number nearest to the first episode's rate."""
    encoding: Encoding = field(default_factory=Encoding)
    max_loss: float = 8.0
    """Grey levels that a sampled picture may lose on average; more refuses the export."""
    fields: Fields = field(default_factory=Fields)

    def __call__(self) -> int:
        """Prints counts and losses; 1 if an episode was left out."""
        from policy_bringup.episodes.lerobot_export import ExportSettings, export_lerobot, sources

        kept = [s for s in sources(episodes(self.frames)) if s.outcome is Outcome.SUCCESS or self.include_failures]
        settings = ExportSettings(self.fields, self.fps, self.encoding, self.max_loss)
        with tables.progress("episodes") as progress:
            report = export_lerobot(kept, self.out, _contract(self.deployment), settings, progress)
        for camera, loss in report.loss.items():
            sentence = f"{camera}: pictures lost {loss.mean:.2f} grey levels on average, the worst {loss.worst:.2f}"
            print(sentence, file=sys.stderr)
        return tables.said(f"{report.episodes} episodes, {report.frames} frames at {report.fps} Hz", report.failed)


@dataclass(frozen=True)
class ImportLerobot:
    """Read a LeRobotDataset v3 into frames."""

    dataset: Folder
    out: Path
    """New folder."""
    deployment: str = "grasp"
    """Whose contract the frames must follow."""
    by_position: bool = False
    """Take the columns of state and action as they come, whatever they are called."""
    unlabelled: Outcome = Outcome.FAILURE
    """Label of episodes that state none."""
    fields: Fields = field(default_factory=Fields)

    def __call__(self) -> int:
        """Prints counts; 1 if an episode was left out."""
        from policy_bringup.episodes.lerobot_import import ImportSettings, import_lerobot

        settings = ImportSettings(self.fields, self.by_position, self.unlabelled)
        with tables.progress("episodes") as progress:
            report = import_lerobot(self.dataset, self.out, _contract(self.deployment), settings, progress)
        return tables.said(f"{report.episodes} episodes, {report.frames} frames", report.failed)


def _contract(deployment: str) -> Contract:
    return load_deployment(runner.deployment_path(deployment))[0].contract
