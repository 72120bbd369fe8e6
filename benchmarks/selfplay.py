"""Expert demonstrations by self-play: headless, in parallel, as ordinary bags with pictures of every camera.

Run: python benchmarks/selfplay.py [EPISODES] [WORKERS] [DATASET]     200 into build/demos/expert, a worker per core
What is in the dataset already is not made again: for a figure, begin with an empty folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.progress import Progress

from policy_bringup.sim.selfplay import Played, SelfPlay, run_selfplay

ROOT = Path(__file__).resolve().parent.parent
NEEDED_MINUTES = 15.0


def main(episodes: int, workers: int, dataset: Path) -> int:
    """Prints what it took; 1 if an episode failed, or if 200 of them would have taken too long."""
    busy_s: list[float] = []
    failures: list[str] = []
    with Progress() as progress:
        bar = progress.add_task("recording", total=episodes)

        def hear(played: Played) -> None:
            busy_s.append(played.seconds)
            if not played.success:
                failures.append(f"seed {played.seed}: {played.failure}")
            progress.advance(bar)

        summary = run_selfplay(SelfPlay(ROOT / "config", dataset, episodes, workers=workers), hear)
        progress.advance(bar, summary.skipped)
    if not summary.episodes:
        print(f"all {summary.skipped} episodes are in {dataset} already")
        return 0
    mb = sum(path.stat().st_size for path in dataset.rglob("*.mcap")) / 1e6
    minutes = summary.seconds / 60
    print(f"{summary.episodes} episodes ({summary.skipped} were there), {summary.successes} successes {failures or ''}")
    print(f"{minutes:.2f} minutes with {workers} workers; {mb:.0f} MB in {dataset}")
    print(
        f"one episode takes a worker {sum(busy_s) / len(busy_s):.1f} s: {3600 * len(busy_s) / sum(busy_s):.0f} an hour"
    )
    projected = minutes * 200 / summary.episodes
    print(f"200 episodes at this rate: {projected:.1f} minutes; allowed are {NEEDED_MINUTES:.0f}")
    return 0 if summary.successes == summary.episodes and projected < NEEDED_MINUTES else 1


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(
        main(
            int(given[0]) if given else 200,
            int(given[1]) if given[1:] else (os.cpu_count() or 1),
            Path(given[2]) if given[2:] else ROOT / "build" / "demos" / "expert",
        )
    )
