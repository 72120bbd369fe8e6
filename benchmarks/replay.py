"""Recorded episodes once more through the safety monitor: what would be stopped, why, and how fast.

Run: python benchmarks/replay.py DATASET [DATASET ...] [--nominal] [--workers N] [--bundle FOLDER] [--json FILE]. Any
episode that the recorder or self-play wrote will do; nothing is changed there. Ends with 1 if an episode labelled a
success is stopped by anything but its uncertainty or a person, if one cannot be armed where its recording was, or
cannot be read. --nominal, for episodes in which nothing was amiss (benchmarks/nominal.py): also if any other is stopped
so, and if all together were armed for less than half an hour.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from policy_bringup import tables
from policy_bringup.core.errors import PolicyBringupError
from policy_bringup.episodes.layout import episodes
from policy_bringup.pipeline.replay import Replayed
from policy_bringup.pipeline.replay_figures import Judge, Totals, replay_all, totals
from policy_bringup.pipeline.statistics import quantile

ROOT = Path(__file__).resolve().parent.parent
NOMINAL_S = 1800.0


@dataclass(frozen=True)
class Replay:
    """Replays datasets and prints what the monitor made of them."""

    datasets: Annotated[tuple[Path, ...], tyro.conf.Positional]
    deployment: Path = ROOT / "config" / "grasp.yaml"
    bundle: Path = ROOT / "models" / "policies" / "grasp"
    """Its threshold judges the episodes that a policy drove."""
    workers: int = os.cpu_count() or 1
    most: int | None = None
    """Only so many episodes."""
    nominal: bool = False
    """Nothing was amiss in any of them: no deterministic stop at all, in half an hour at least."""
    json: Path | None = None


def show(total: Totals, replayed: Sequence[Replayed], left_out: Mapping[str, str]) -> None:
    """The figures, and one line per stop that nobody asked for."""
    table = Table("what", "figure", title="recorded episodes, replayed through the safety monitor")
    drivers = ", ".join(sorted({episode.driver for episode in replayed}))
    false, stops = total.false_stops, sum(total.stops.values())
    rows = {
        "episodes": f"{total.episodes} ({drivers})",
        "minutes replayed, of them armed": f"{total.recorded_s / 60:.1f}, {total.armed_s / 60:.1f}",
        "stops that nobody asked for": f"{stops}{by_rule(total.stops)}",
        "deterministic ones among them": str(total.deterministic),
        "stops by a person": f"{sum(total.asked.values())}{by_rule(total.asked)}",
        "actions refused, up to a stop": f"{sum(total.refused.values())}{by_rule(total.refused)}",
        "hold share of the armed time": f"{total.hold_share:.3%}",
        "time to stop, s: median, worst": spread(total.to_stop_s),
        "resume, s: median, worst": spread(total.resume_s),
        "false-stop share (labelled success, and stopped)": (
            f"{false.count} of {false.trials} ({false.low:.1%} to {false.high:.1%})"
        ),
        "not armed where the recording was": str(total.not_armed),
        "left out": str(len(left_out)),
    }
    for what, figure in rows.items():
        table.add_row(what, figure)
    Console().print(table)
    for episode in replayed:
        for stop in episode.stops:
            if not stop.asked:
                also = "the recording stopped there, too" if stop.rule in episode.recorded else "not in the recording"
                print(f"{episode.name}: {stop.rule} after {stop.at_s:.2f} s ({also}): {stop.sentence}")
        for sentence in episode.not_armed:
            print(f"{episode.name}: could not be armed: {sentence}")


def by_rule(counts: Mapping[str, int]) -> str:
    """ " (AGE 2, BOUNDS 1)", or nothing."""
    return f" ({', '.join(f'{rule} {count}' for rule, count in sorted(counts.items()))})" if counts else ""


def spread(seconds: Sequence[float]) -> str:
    """Median and worst, or a dash."""
    return f"{quantile(seconds, 0.5):.3f}, {max(seconds):.3f}" if seconds else "-"


def main(choice: Replay) -> int:
    """Prints the table; 0 if no success was stopped."""
    folders = [folder for dataset in choice.datasets for folder in episodes(dataset)][: choice.most]
    judge = Judge(choice.deployment, choice.bundle)
    with tables.progress("replaying") as progress:
        replayed, left_out = replay_all(folders, judge, choice.workers, progress)
    total = totals(replayed)
    show(total, replayed, left_out)
    if choice.json:
        report = {"totals": dataclasses.asdict(total), "episodes": [dataclasses.asdict(e) for e in replayed]}
        choice.json.write_text(json.dumps({**report, "left_out": left_out}, indent=2))
    return tables.said(f"{total.armed_s / 60:.1f} armed minutes replayed", left_out) or int(
        false_stop(replayed, choice.nominal)
        or total.not_armed > 0
        or not replayed
        or (choice.nominal and total.armed_s < NOMINAL_S)
    )


def false_stop(replayed: Sequence[Replayed], nominal: bool) -> bool:
    """Whether the monitor's rules stop an episode in which nothing was amiss: a success, or any of nominal ones.

    A nominal episode that was stopped while it was recorded is no success, and counts for that very reason.
    """
    return any(stop.deterministic for episode in replayed if episode.success or nominal for stop in episode.stops)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Replay)))
    except PolicyBringupError as error:
        sys.exit(str(error))
