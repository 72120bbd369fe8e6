"""A long run at full rate: does any node grow, is any transition lost, does any command break an invariant?

Run: python benchmarks/soak.py [--minutes 30] [--json FILE]. The scripted expert grasps again and again; every episode
is recorded and its bag removed soon after. Looked at every second: memory, file descriptors and threads of every node;
all the while: every message of safety and of the arm. Ends with 1 if one of the limits below is broken.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from onlooker import ACTION, COMMAND, ROOT, STATE, VERDICT, Heard, Onlooker, dead, looking_on
from rich.console import Console
from rich.table import Table
from sentinel import Ledger, Sentinel

from policy_bringup import tables
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.startup import Options
from policy_bringup.episodes.layout import bag_path, episode_number, episodes
from policy_bringup.runner import Runner

TOPICS = (ACTION, VERDICT, STATE, COMMAND)
WARM_S = 30.0
"""After all nodes are there: what a node needs it has by then."""
SAMPLE_S = 1.0
START_S = 90.0
GROWTH_MB_MIN = 1.0
"""Largest slope of a node's memory, MB/min, over half an hour; a leak of one 128 x 128 picture a second is 2.9."""
SHORT_GROWTH_MB_MIN = 8.0
"""The same over less than ten minutes, in which one more arena of the allocator weighs so much."""
LONG_MIN = 10.0
COUNTED = ("descriptors", "threads")
KEPT_EPISODES = 3
KEPT_MB = 2000.0
"""The recording stops growing there: finished bags are removed until less is left."""


@dataclass(frozen=True)
class Soak:
    """Runs, then prints the tables."""

    minutes: float = 30.0
    deployment: Path = ROOT / "config" / "grasp.yaml"
    domain_id: int = 74
    json: Path | None = None
    keep: Path | None = None
    """Where to record; the newest episodes stay there. By default a temporary folder."""


class Usage(NamedTuple):
    """Of one node at one moment."""

    at_s: float
    rss_mb: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Of one node, after warming up. growth of descriptors and threads: how far the lowest number of the second half
    lies above that of the first; what a node opens and closes again does not count."""

    rss_mb: float
    rss_mb_min: float
    descriptors: int
    more_descriptors: int
    threads: int
    more_threads: int


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run. records: transitions on safety/verdict, which make `expected` changes of the state; changes: those on
    safety/state; unchained: records that do not begin where the last one ended. broken: invariant -> how often;
    examples: the first sentences. lost: safe actions and commands that DDS did not bring here. violations: sentences.
    """

    minutes: float
    nodes: Mapping[str, Growth]
    messages: Mapping[str, int]
    lost: int
    records: int
    expected: int
    changes: int
    unchained: int
    broken: Mapping[str, int]
    examples: tuple[str, ...]
    episodes: int
    stops: Mapping[str, int]
    violations: tuple[str, ...]


class Watch:
    """Memory, descriptors and threads of processes, again and again."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids, self._page_mb = pids, os.sysconf("SC_PAGE_SIZE") / 1e6
        self.usages: dict[str, list[Usage]] = {name: [] for name in pids}

    def sample(self, at_s: float) -> None:
        """One of each that is still there."""
        for name, pid in self._pids.items():
            process = Path(f"/proc/{pid}")
            try:
                pages = int((process / "statm").read_text().split()[1])
                descriptors, threads = (sum(1 for _ in (process / part).iterdir()) for part in ("fd", "task"))
            except OSError:  # it has ended; the run says so
                continue
            self.usages[name].append(Usage(at_s, pages * self._page_mb, descriptors, threads))

    def growth(self) -> dict[str, Growth]:
        """Of every process that was looked at twice or more after warming up."""
        grown = {}
        for name, usages in self.usages.items():
            warm = [usage for usage in usages if usage.at_s >= WARM_S]
            if len(warm) > 3:
                grown[name] = _growth(warm)
        return grown


def _growth(usages: Sequence[Usage]) -> Growth:
    half, last = len(usages) // 2, usages[-1]
    floor = [[min(getattr(u, what) for u in part) for part in (usages[:half], usages[half:])] for what in COUNTED]
    (fewer, then), (before, after) = floor
    return Growth(last.rss_mb, slope(usages), last.descriptors, then - fewer, last.threads, after - before)


def slope(usages: Sequence[Usage]) -> float:
    """MB/min: the median slope between any two samples (Theil and Sen), which single jumps do not move."""
    few = usages[:: max(1, len(usages) // 400)]
    minutes, rss_mb = (np.array([getattr(usage, what) for usage in few]) for what in ("at_s", "rss_mb"))
    one, other = np.triu_indices(len(few), 1)
    return float(np.median((rss_mb[other] - rss_mb[one]) / ((minutes[other] - minutes[one]) / 60.0)))


def prune(dataset: Path) -> int:
    """Removes finished episodes but the newest few; returns the number of the newest, -1 for none.

    The last is being recorded, and the one before may be closing.
    """
    folders = episodes(dataset) if dataset.is_dir() else ()
    bags = {folder: bag_path(folder) for folder in folders}  # files beside them come and go while an episode is closed
    sizes = {folder: bag.stat().st_size / 1e6 for folder, bag in bags.items() if bag.is_file()}
    for folder in folders[:-2]:
        if len(sizes) > KEPT_EPISODES or sum(sizes.values()) > KEPT_MB:
            shutil.rmtree(folder)
            sizes.pop(folder, None)
    return episode_number(folders[-1]) if folders else -1


def soak(choice: Soak, dataset: Path, progress: Callable[[int, int, str], None]) -> Result:
    """Runs for so long. Raises TimeoutError where the deployment does not come up."""
    deployment, robot = load_deployment(choice.deployment)
    urdf = choice.deployment.parent / robot.urdf
    sentinel, ledger, counts = Sentinel(deployment, robot, urdf), Ledger(), Counter[str]()
    options = Options("sim", choice.deployment, "expert", episodes=0, record=dataset, domain_id=choice.domain_id)
    log = io.StringIO()
    with looking_on(choice.domain_id, TOPICS) as onlooker, Runner(options, log) as runner:
        hear(onlooker, sentinel, ledger, counts)
        everybody = lambda: onlooker.node.count_publishers("/diagnostics") >= len(runner.children)  # noqa: E731
        onlooker.wait(lambda: dead(runner) or everybody(), START_S, "all nodes")
        onlooker.last(1.0)
        ledger.begin(time.time_ns())
        watch, began, newest = Watch({n: c.pid for n, c in runner.children.items()}), time.monotonic(), -1
        while not dead(runner) and (spent_s := time.monotonic() - began) < 60.0 * choice.minutes:
            watch.sample(spent_s)
            newest = prune(dataset)
            progress(int(spent_s), int(60 * choice.minutes), f"{newest + 1} episodes")
            onlooker.last(SAMPLE_S)
        ended = dead(runner)
    ledger.settle()
    sentinel.settle(ledger)
    told = f"{ended} has ended: {log.getvalue()[-1000:]}" if ended else ""
    return result(choice.minutes, watch.growth(), counts, sentinel, ledger, newest + 1, told)


def hear(onlooker: Onlooker, sentinel: Sentinel, ledger: Ledger, counts: Counter[str]) -> None:
    """Every message is judged once, and counted."""
    judges = {ACTION: sentinel.on_action, COMMAND: sentinel.on_command}
    judges |= {VERDICT: ledger.on_verdict, STATE: ledger.on_state}

    def judge(topic: str, heard: Heard) -> None:
        counts[topic] += 1
        judges[topic](heard)

    for topic in TOPICS:
        onlooker.on(topic, partial(judge, topic))


def result(
    minutes: float, nodes: Mapping[str, Growth], counts: Mapping[str, int], sentinel: Sentinel, ledger: Ledger,
    episodes_recorded: int, ended: str,
) -> Result:  # fmt: skip
    """What came of it, with a sentence for every limit that was broken."""
    most_mb_min = GROWTH_MB_MIN if minutes >= LONG_MIN else SHORT_GROWTH_MB_MIN
    wrong = [ended] if ended else []
    for name, growth in nodes.items():
        if growth.rss_mb_min > most_mb_min:
            wrong.append(f"{name} grows by {growth.rss_mb_min:.2f} MB/min; allowed are {most_mb_min:g}")
        for what, more in (("file descriptors", growth.more_descriptors), ("threads", growth.more_threads)):
            if more > 0:
                wrong.append(f"{name} has {more} more {what} in the second half than in the first")
    wrong += [f"{what}: {times} times" for what, times in sentinel.broken.items()]
    if ledger.unchained or ledger.expected != ledger.changes:
        wrong.append(
            f"{ledger.records} transition records ({ledger.unchained} not chained) make {ledger.expected} changes of "
            f"the state; safety/state told of {ledger.changes}"
        )
    if ledger.lost:
        wrong.append(f"{ledger.lost} verdicts or states did not arrive: transitions cannot be counted")
    if not ledger.records or not all(counts.get(topic) for topic in TOPICS):
        wrong.append("nothing happened, or nothing was heard of it")
    return Result(
        minutes, nodes, dict(counts), sentinel.lost, ledger.records, ledger.expected, ledger.changes, ledger.unchained,
        dict(sentinel.broken), tuple(sentinel.examples), episodes_recorded, dict(ledger.stops), tuple(wrong),
    )  # fmt: skip


def show(found: Result) -> None:
    """Two tables, and what was wrong."""
    table = Table("node", "MB", "MB/min", "descriptors", "more", "threads", "more", title="growth after warming up")
    for name, growth in found.nodes.items():
        mb, mb_min, *numbers = dataclasses.astuple(growth)
        table.add_row(name, f"{mb:.0f}", f"{mb_min:+.2f}", *(str(number) for number in numbers))
    Console().print(table)
    rows = {
        "minutes": f"{found.minutes:g}",
        "episodes recorded": str(found.episodes),
        "messages judged": ", ".join(f"{topic} {count}" for topic, count in found.messages.items()),
        "safe actions and commands that did not arrive here": str(found.lost),
        "transition records, not chained": f"{found.records}, {found.unchained}",
        "changes of the state by records, by states": f"{found.expected}, {found.changes}",
        "stops": ", ".join(f"{rule} {count}" for rule, count in found.stops.items()) or "none",
        "invariants broken": ", ".join(f"{what} {count}" for what, count in found.broken.items()) or "none",
    }
    table = Table("what", "figure", title="messages and transitions")
    for what, figure in rows.items():
        table.add_row(what, figure)
    Console().print(table)
    for sentence in (*found.examples, *found.violations):
        print(sentence)


def main(choice: Soak) -> int:
    """Prints the tables; 0 if no limit was broken."""
    with tempfile.TemporaryDirectory() as folder, tables.progress("soaking") as progress:
        os.environ["XDG_STATE_HOME"] = folder
        found = soak(choice, choice.keep or Path(folder) / "demos", progress)
    show(found)
    if choice.json:
        choice.json.write_text(json.dumps(dataclasses.asdict(found), indent=2))
    return 1 if found.violations else 0


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Soak)))
    except TimeoutError as error:
        sys.exit(str(error))
