"""Throughput and memory of bags -> frames -> LeRobot v3. Run: python benchmarks/convert.py [DATASET] [--workers N]

Without a dataset, it writes bags of its own: two cameras 640x480 at 30 Hz, joints and safe actions at 100 Hz. Needs the
extra `lerobot`. Each stage runs in a process of its own, so that each one's memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from policy_bringup.control.proprioception import tool_columns
from policy_bringup.core import graph
from policy_bringup.core.deployment import Deployment, load_deployment
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import ActionChunk, Array, ImageSample, Pixels, StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.convert import ConvertReport, convert
from policy_bringup.episodes.journal import Journal, Outcome, Provenance, save_journal, to_record
from policy_bringup.episodes.layout import bag_path, begin_episode, episode_number, episodes
from policy_bringup.episodes.lerobot_export import ExportReport, export_lerobot, sources

DEPLOYMENT = Path(__file__).resolve().parent.parent / "config" / "grasp.yaml"
EPISODES, SECONDS = 6, 5
HEIGHT, WIDTH = 480, 640
START_NS = 1_700_000_000_000_000_000
GB = 1e9


class Stage(NamedTuple):
    """What a stage gave, how long it took, and the most memory that it and any one of its workers had (MB)."""

    result: Any
    seconds: float
    own_mb: float
    worker_mb: float


def main(arguments: list[str]) -> int:
    """Prints one line per stage, and one for the whole way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        dataset = chosen.dataset or Path(folder) / "dataset"
        if chosen.dataset is None:
            _run(write_bags, dataset)
        bags = sum(bag_path(episode).stat().st_size for episode in episodes(dataset)) / GB
        first = _run(to_frames, dataset, Path(folder) / "frames", chosen.workers)
        _tell(f"bags -> frames, {chosen.workers} workers", bags, first)
        frames = sum(path.stat().st_size for path in Path(folder, "frames").rglob("*.npy")) / GB
        second = _run(to_lerobot, Path(folder) / "frames", Path(folder) / "lerobot")
        _tell("frames -> LeRobot v3", frames, second)
        written = sum(path.stat().st_size for path in Path(folder, "lerobot").rglob("*") if path.is_file()) / GB
        rate = bags / (first.seconds + second.seconds) * 60.0
        print(f"bags -> LeRobot v3: {bags:.2f} GB of bags to {written:.4f} GB, {rate:.1f} GB of bags a minute")
        _tell_failures({**first.result.failed, **second.result.failed})
        loss = ", ".join(f"{camera} {each.mean:.2f}" for camera, each in second.result.loss.items())
        print(f"{second.result.episodes} episodes, {second.result.frames} frames; grey levels lost on average: {loss}")
    return 0


def to_frames(dataset: Path, out: Path, workers: int) -> ConvertReport:
    """The first stage."""
    contract, rate_hz = load_deployment(DEPLOYMENT)[0].contract, graph.topic("policy/action").rate_hz
    return convert(episodes(dataset), out, contract, rate_hz, partial(tool_columns, DEPLOYMENT), workers)


def to_lerobot(frames: Path, out: Path) -> ExportReport:
    """The second stage."""
    return export_lerobot(sources(episodes(frames)), out, load_deployment(DEPLOYMENT)[0].contract)


def write_bags(dataset: Path) -> None:
    """The synthetic dataset."""
    deployment, robot = load_deployment(DEPLOYMENT)
    names = [camera.name for camera in deployment.cameras]
    shown = {camera: _pictures(seed) for seed, camera in enumerate(names)}
    for _ in range(EPISODES):
        _write_bag(begin_episode(dataset), deployment, robot, shown)


def _write_bag(folder: Path, deployment: Deployment, robot: Robot, shown: dict[str, list[Pixels]]) -> None:
    provenance = Provenance(deployment.task, (), "", "policy", "sim", "", "", "")
    journal = Journal(episode_number(folder), START_NS, provenance, Outcome.SUCCESS)
    save_journal(folder, journal)
    pictured = [f"camera/{camera}/image_raw" for camera in shown]
    topics = [graph.topic(name) for name in ("joint_states", "safety/action", "safety/state", *pictured)]
    writer = BagWriter(folder, [BagTopic(each.name, each.type, each.qos) for each in topics], to_record(journal))
    taken = -1
    for tick in range(SECONDS * 100):
        now = START_NS + tick * 10_000_000
        made = {"joint_states": _joints(now, tick, robot), "safety/action": _action(now, tick, deployment)}
        if tick == 0:
            made["safety/state"] = encoding.status(now, "safety", "ok", "", {"state": "ACTIVE", "source": "policy"})
        if tick * 3 // 10 != taken:  # 30 Hz
            taken = tick * 3 // 10
            for camera, pictures in shown.items():
                sample = ImageSample(now, 0, camera, pictures[taken % len(pictures)])
                made[f"camera/{camera}/image_raw"] = encoding.image(sample, camera)
        for topic, data in made.items():
            writer.write(topic, data, now + 1_000_000, now)
        if tick % 50 == 0:
            writer.flush()
    writer.close(to_record(journal))


def _joints(now: int, tick: int, robot: Robot) -> bytes:
    names = (*robot.joint_names, robot.gripper.joint)
    values: Array = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 2.0, 0.78, 0.02]) + 0.1 * np.sin(tick / 80)
    return encoding.joint_state(StateSample(now, 0, names, values), np.zeros(8), np.zeros(8), robot.base_frame)


def _action(now: int, tick: int, deployment: Deployment) -> bytes:
    names = deployment.contract.action.names
    values: Array = np.full((1, len(names)), 0.4 + 0.1 * np.sin(tick / 80))
    return encoding.table(ActionChunk("safety", now, 0, names, np.zeros(1), values, np.zeros(1)), "base")


def _pictures(seed: int) -> list[Pixels]:
    """A second of smooth colours, a moving square, and a camera's noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    base = np.stack([60 + x * 120 / WIDTH, 60 + y * 120 / HEIGHT, 110 + 40 * np.sin(x / 40 + y / 60)], axis=2)
    found = []
    for step in range(30):
        picture = base + random.normal(0, 3, base.shape)
        picture[200:280, 8 * step : 8 * step + 80] = (200, 60, 50)
        found.append(picture.clip(0, 255).astype(np.uint8))
    return found


def _run(work: Callable[..., Any], *arguments: Any) -> Stage:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_measured, work, *arguments).result()


def _measured(work: Callable[..., Any], *arguments: Any) -> Stage:
    began = time.perf_counter()
    result = work(*arguments)
    seconds = time.perf_counter() - began
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return Stage(result, seconds, *(resource.getrusage(kind).ru_maxrss / 1024 for kind in kinds))


def _tell(name: str, amount_gb: float, stage: Stage) -> None:
    workers = f", the largest worker {stage.worker_mb:.0f} MB" if stage.worker_mb else ""
    print(
        f"{name}: {amount_gb:.2f} GB in {stage.seconds:.1f} s, {amount_gb / stage.seconds * 60.0:.1f} GB/min; "
        f"peak memory {stage.own_mb:.0f} MB{workers}"
    )


def _tell_failures(failed: dict[str, str]) -> None:
    for name, reason in failed.items():
        print(f"{name}: {reason}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
