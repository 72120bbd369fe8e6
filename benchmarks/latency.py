"""Latency per stage of the running stack, from the camera's stamp to the arm's command.

Every message carries the stamp of the picture it was made from, and DDS notes when it was published; the difference is
taken per stage. Run: python benchmarks/latency.py [--episodes N] [--camera-backend raycast|egl|auto]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from policy_bringup import runner, tables
from policy_bringup.core.startup import Options
from policy_bringup.core.trials import load_report

ROOT = Path(__file__).resolve().parent.parent
GOAL_P99_MS = 30.0


@dataclass(frozen=True)
class Latency:
    """Runs expert episodes over topics and prints p50, p99 and maximum per stage."""

    episodes: int = 10
    camera_backend: Literal["auto", "egl", "raycast"] = "auto"
    domain_id: int = 71


def main(choice: Latency) -> int:
    """Prints the table; 0 if the goal is met."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        ending = runner.run(
            Options(
                mode="sim",
                deployment=ROOT / "config" / "grasp.yaml",
                source="expert",
                episodes=choice.episodes,
                report=path,
                camera_backend=choice.camera_backend,
                domain_id=choice.domain_id,
            )
        )
        if ending.code != 0:
            return ending.code
        report = load_report(path)
    tables.print_report(report)
    p99 = report.latency_ms["total"]["p99"]
    print(f"camera stamp to arm command: p99 {p99:.1f} ms, goal {GOAL_P99_MS:.0f} ms")
    return 0 if p99 <= GOAL_P99_MS else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Latency)))
