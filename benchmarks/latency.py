"""Latency per stage of the running stack, from the camera's stamp to the arm's command.

Every action bears the stamp of the picture it was made from, the arm's command names the stamp of the safe action that
it answers, and DDS notes when each was published; the difference is taken per stage.
Run: python benchmarks/latency.py [--source bundle] [--episodes N] [--whole] [--camera-backend raycast|egl|auto]
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
BUNDLE = ROOT / "models" / "policies" / "grasp"
GOALS_MS = {"expert": {("total", "p99"): 30.0}}
GOALS_MS["bundle"] = {**GOALS_MS["expert"], ("total", "p50"): 12.0, ("policy", "p99"): 15.0}


@dataclass(frozen=True)
class Latency:
    """Runs episodes over topics and prints p50, p99 and maximum per stage."""

    source: Literal["expert", "bundle"] = "expert"
    """The scripted expert, or the shipped policy."""
    episodes: int = 10
    whole: bool = False
    """With everything that can run beside: the recorder, and the operator page."""
    camera_backend: Literal["auto", "egl", "raycast"] = "auto"
    domain_id: int = 71


def main(choice: Latency) -> int:
    """Prints the table; 0 if the goals are met."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        ending = runner.run(
            Options(
                mode="sim",
                deployment=ROOT / "config" / "grasp.yaml",
                source=choice.source,
                bundle=BUNDLE if choice.source == "bundle" else None,
                episodes=choice.episodes,
                report=path,
                record=Path(folder) / "demos" if choice.whole else None,
                console=choice.whole,
                camera_backend=choice.camera_backend,
                domain_id=choice.domain_id,
            )
        )
        if ending.code != 0:
            return ending.code
        report = load_report(path)
    tables.print_report(report)
    met = True
    for (stage, figure), goal_ms in GOALS_MS[choice.source].items():
        found_ms = report.latency_ms[stage][figure]
        print(f"{stage}: {figure} {found_ms:.1f} ms, goal {goal_ms:.0f} ms")
        met = met and found_ms <= goal_ms
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Latency)))
