"""`policy episodes ...`: look at recorded episodes, label, check, repair, split, derive and convert them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from policy_bringup import runner, tables
from policy_bringup.control.proprioception import tool_columns
from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.latency import load_latency
from policy_bringup.episodes.convert import convert
from policy_bringup.episodes.frames import load_frames
from policy_bringup.episodes.journal import Journal, Outcome, load_journal, save_journal
from policy_bringup.episodes.layout import bag_path, episodes
from policy_bringup.episodes.page import write_index, write_page
from policy_bringup.episodes.quality import measure
from policy_bringup.episodes.quality_config import QualityConfig
from policy_bringup.episodes.recovery import is_clean, recover
from policy_bringup.episodes.splits import SPLIT_FILE, load_split, save_split, split
from policy_bringup.episodes.statistics import save_statistics, statistics
from policy_bringup.lerobot_cli import ExportLerobot, ImportLerobot
from policy_bringup.pipeline.hand_derivation import derive_all, load_hand_derivation

Folder = tyro.conf.Positional[Path]


@dataclass(frozen=True)
class ListEpisodes:
    """List the episodes of a dataset: label, who drove, length, quality."""

    dataset: Folder

    def __call__(self) -> int:
        """Prints one line per episode."""
        rows: dict[str, Journal | str] = {}
        for folder in episodes(self.dataset):
            try:
                rows[folder.name] = load_journal(folder) if is_clean(folder) else "not closed: run `recover`"
            except EpisodeError as error:
                rows[folder.name] = str(error)
        tables.print_episodes(rows)
        return 0


@dataclass(frozen=True)
class Show:
    """Write an HTML page with curves and pictures: of one episode, or of a whole dataset with an index."""

    path: Folder
    """An episode's folder, or a dataset."""
    out: Path = Path("build/episodes")
    """Folder for the pages."""

    def __call__(self) -> int:
        """Prints where the page is; 1 if an episode could not be shown."""
        self.out.mkdir(parents=True, exist_ok=True)
        if bag_path(self.path).exists():
            print(write_page(self.path, self.out))
            return 0
        failed: dict[str, str] = {}
        folders = episodes(self.path)
        with tables.progress("pages") as progress:
            for count, folder in enumerate(folders, 1):
                try:
                    write_page(folder, self.out)
                except EpisodeError as error:
                    failed[folder.name] = str(error)
                progress(count, len(folders), folder.name)
        return tables.said(str(write_index(self.path, self.out)), failed)


@dataclass(frozen=True)
class Label:
    """Say what became of an episode."""

    episode: Folder
    outcome: tyro.conf.Positional[Literal["success", "failure", "discarded"]]
    note: str | None = None
    """Kept with it."""

    def __call__(self) -> int:
        """Changes the journal, durably."""
        journal = load_journal(self.episode)
        note = journal.note if self.note is None else self.note
        save_journal(self.episode, replace(journal, outcome=Outcome(self.outcome), note=note))
        return 0


@dataclass(frozen=True)
class Check:
    """Judge the quality of recorded episodes again, from their bags."""

    dataset: Folder
    deployment: str = "grasp"
    """Whose quality.yaml and gripper count."""

    def __call__(self) -> int:
        """Prints a verdict per episode and keeps it; 1 if any is to be recorded again."""
        path = runner.deployment_path(self.deployment)
        _, robot = load_deployment(path)
        config = load(path.parent / "quality.yaml", QualityConfig)
        folders, good, said = episodes(self.dataset), True, []
        with tables.progress("verdicts") as progress:
            for count, folder in enumerate(folders, 1):
                try:
                    quality = measure(folder, config, (robot.gripper.joint,))
                    save_journal(folder, replace(load_journal(folder), quality=quality))
                    sentence, good = quality.sentence, good and quality.ok
                except EpisodeError as error:
                    sentence, good = str(error), False
                said.append(f"{folder.name}: {sentence}")
                progress(count, len(folders), folder.name)
        print("\n".join(said))
        return 0 if good else 1


@dataclass(frozen=True)
class Recover:
    """Rebuild bags that were not closed, after a crash or a power cut."""

    dataset: Folder

    def __call__(self) -> int:
        """Prints what was rebuilt; 1 if something cannot be."""
        rebuilt: list[str] = []
        failed: dict[str, str] = {}
        folders = [folder for folder in episodes(self.dataset) if not is_clean(folder)]
        with tables.progress("bags") as progress:
            for count, folder in enumerate(folders, 1):
                try:
                    rebuilt.append(f"{folder.name}: rebuilt, its label is {recover(folder).outcome.value}")
                except EpisodeError as error:
                    failed[folder.name] = str(error)
                progress(count, len(folders), folder.name)
        return tables.said("\n".join([*rebuilt, f"{len(rebuilt)} rebuilt"]), failed)


@dataclass(frozen=True)
class SplitEpisodes:
    """Divide a dataset by episode into train, validation and test (70, 15, 15 %)."""

    dataset: Folder
    seed: int = 0
    include_failures: bool = False
    """Also episodes labelled failure."""

    def __call__(self) -> int:
        """Writes split.yaml and prints the sizes."""
        parts = split(self.dataset, self.seed, include_failures=self.include_failures)
        save_split(self.dataset, parts, self.seed)
        print(f"train {len(parts.train)}, validation {len(parts.validation)}, test {len(parts.test)} episodes")
        return 0


@dataclass(frozen=True)
class Derive:
    """Give hand-guided episodes the actions that make their motion again: `convert` needs them."""

    dataset: Folder
    out: Path
    """Another dataset: one episode of the same name for each; those that are there are skipped when run again."""
    deployment: str = "grasp"
    """Whose robot, contract, hand.yaml and quality.yaml count."""

    def __call__(self) -> int:
        """Prints counts and what failed; 1 if any did."""
        derivation = load_hand_derivation(runner.deployment_path(self.deployment))
        with tables.progress("actions") as progress:
            report = derive_all(episodes(self.dataset), self.out, derivation, progress)
        return tables.said(f"{len(report.done)} derived, {len(report.skipped)} were there already", report.failed)


@dataclass(frozen=True)
class Convert:
    """Turn bags into frames for learning: observations as the live policy would have had them, and actions."""

    dataset: Folder
    out: Path
    """One folder of arrays per episode; finished ones are skipped when run again."""
    deployment: str = "grasp"
    """Whose contract says what a frame is."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    ray: str | None = None
    """Address of a Ray cluster, or `local`."""

    def __call__(self) -> int:
        """Prints counts and what failed; 1 if any bag did."""
        path = runner.deployment_path(self.deployment)
        deployment = load_deployment(path)[0]
        contract, measured = deployment.contract, load_latency(path.parent, deployment)
        rate_hz = graph.topic("policy/action").rate_hz
        folders = episodes(self.dataset)
        with tables.progress("frames") as progress:
            derive = partial(tool_columns, path)
            report = convert(folders, self.out, contract, rate_hz, derive, self.workers, self.ray, progress, measured)
        if (self.dataset / SPLIT_FILE).is_file():
            train = [self.out / name for name in load_split(self.dataset).train if (self.out / name).is_dir()]
            frames = (load_frames(folder, contract) for folder in train)
            save_statistics(self.out / "statistics.json", statistics(frames, contract))
        return tables.said(f"{len(report.done)} converted, {len(report.skipped)} were there already", report.failed)


@dataclass(frozen=True)
class Episodes:
    """Recorded episodes: list, show, label, check, recover, split, derive, convert, exchange with LeRobot."""

    action: tyro.conf.OmitSubcommandPrefixes[
        Annotated[ListEpisodes, tyro.conf.subcommand("list")]
        | Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[Label, tyro.conf.subcommand("label")]
        | Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Recover, tyro.conf.subcommand("recover")]
        | Annotated[SplitEpisodes, tyro.conf.subcommand("split")]
        | Annotated[Derive, tyro.conf.subcommand("derive")]
        | Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[ExportLerobot, tyro.conf.subcommand("export-lerobot")]
        | Annotated[ImportLerobot, tyro.conf.subcommand("import-lerobot")]
    ]

    def __call__(self) -> int:
        """Runs the one that was chosen."""
        return self.action()
