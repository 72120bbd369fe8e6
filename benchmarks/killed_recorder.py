"""The recorder is killed at random times in the middle of an episode: what is left, and how much is lost?

Run: python benchmarks/killed_recorder.py [--kills 20] [--seed 0] [--json FILE]
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from recorder import start_senders
from recorder_alone import (
    ROOT,
    await_publishers,
    deployment_with_cameras,
    end,
    press,
    recorder_process,
    start_recording,
)
from std_srvs.srv import SetBool

from policy_bringup.episodes.journal import Outcome
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.recovery import is_clean, recover

ALLOWED_S = 0.6
TOPICS = ("camera/cam0/image_raw", "camera/cam1/image_raw", "joint_states")
OPERATOR = "killed on purpose"


@dataclass(frozen=True)
class KilledRecorder:
    """Records two cameras and joint states, and kills the recorder."""

    kills: int = 20
    seed: int = 0
    json: Path | None = None
    domain_id: int = 73


def main(choice: KilledRecorder) -> int:
    """Prints one line per kill; 0 if every bag is whole again, with its label, and lost no more than is allowed."""
    draw = random.Random(choice.seed)
    lost_s: list[float] = []
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch:
        deployment = deployment_with_cameras(Path(scratch), ["cam0", "cam1"])
        for number in range(choice.kills):
            senders = start_senders(TOPICS, choice.domain_id)
            try:
                rclpy.init()
                dataset = Path(scratch) / f"kill_{number:02d}"
                lost = _kill(deployment, dataset, draw.uniform(1.0, 4.0), choice.domain_id)
            finally:
                end(senders)
                rclpy.try_shutdown()  # Ctrl+C has done so already
            print(f"kill {number + 1}: {lost * 1000:.0f} ms lost", flush=True)
            lost_s.append(lost)
    print(f"{len(lost_s)} of {choice.kills} readable, labelled and attributed after recovery")
    print(f"lost at most {max(lost_s) * 1000:.0f} ms; allowed are {ALLOWED_S * 1000:.0f}")
    if choice.json:
        choice.json.write_text(json.dumps({"kills": choice.kills, "lost_s": lost_s}))
    return 0 if max(lost_s) <= ALLOWED_S else 1


def _kill(deployment: Path, dataset: Path, after_s: float, domain_id: int) -> float:
    """One episode, killed `after_s` after its first message; returns the seconds that are missing at its end."""
    plan = recorder_process(deployment, dataset, domain_id, OPERATOR)
    recorder = subprocess.Popen(plan.command, env=plan.environment)
    node, executor = Node(f"operator_{os.getpid()}_{dataset.name}"), SingleThreadedExecutor()
    executor.add_node(node)
    try:
        await_publishers(node, executor, TOPICS)
        start_recording(node, executor)
        began = time.monotonic()
        press(node, executor, "recorder/success", SetBool, SetBool.Request(data=True))
        time.sleep(max(0.0, after_s - (time.monotonic() - began)))
    finally:
        recorder.kill()
        killed_ns = time.time_ns()
        recorder.wait()
        node.destroy_node()
    (folder,) = episodes(dataset)
    assert not is_clean(folder)
    journal = recover(folder)
    assert is_clean(folder)
    assert (journal.outcome, journal.provenance.operator) == (Outcome.SUCCESS, OPERATOR)
    newest_ns: dict[str, int] = {}
    with open_bag(folder) as bag:
        for message in bag.messages(TOPICS):
            newest_ns[message.topic] = message.log_ns
    assert set(newest_ns) == set(TOPICS), f"only {', '.join(newest_ns)} reached the recorder"
    return (killed_ns - min(newest_ns.values())) / 1e9


if __name__ == "__main__":
    sys.exit(main(tyro.cli(KilledRecorder)))
