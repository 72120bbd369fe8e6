"""How fast the running stack becomes safe, against the goals of its specification: from stamped messages, in motion.

Run: python benchmarks/safety.py [--repetitions 50] [--only NAME ...] [--page FILE] [--json FILE]. The simulated arm is
driven by the scripted expert, every node a process of its own. What is done to it: an e-stop (idle, and beside a
process that keeps one processor busy), joint states beyond a joint's limit, SIGKILL of the policy, SIGKILL of the
monitor. After a kill everything is started anew on another ROS domain. A repetition in which the episode ended just
then is made again, and counted. Ends with 1 if a goal is missed, or if safety did anything else than it should.

Times are DDS's source timestamps; where a process is killed, the clock just before the signal was sent.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from onlooker import ACTION, ROOT
from provocations import EPISODE_ENDED, PERIOD_NS, Bench, Missed, busy_core, deployed
from rich.console import Console
from rich.table import Table
from safety_core import run as run_core

from policy_bringup import tables
from policy_bringup.core import graph
from policy_bringup.core.config import load, read_yaml
from policy_bringup.core.deployment import load_deployment
from policy_bringup.safety.limits import Limits, SafetyConfig

CONFIG = ROOT / "config"
CORE_TICKS = 10_000
CHUNKS = 20
"""Proposals looked at per repetition for what the node adds: a p99 wants a thousand."""
NODE_S = 1.2
"""A little more than those take."""
TRIES = 20
Part = Literal["core", "node", "violation", "policy", "monitor", "estop", "busy"]
ALL: tuple[Part, ...] = ("core", "node", "violation", "policy", "monitor", "estop", "busy")


@dataclass(frozen=True)
class Safety:
    """Measures, and prints the table."""

    repetitions: int = 50
    only: tuple[Part, ...] = ALL
    domain_id: int = 73
    domains: int = 7
    """Domains in turn from `domain_id` on: one that has seen a kill is left alone for a while."""
    seed: int = 0
    page: Path | None = None
    """Markdown file for the table."""
    json: Path | None = None


@dataclass(frozen=True)
class Row:
    """What is measured. goals: statistic -> limit; none: for information."""

    what: str
    unit: str
    goals: Mapping[str, float] = field(default_factory=dict)
    remark: str = ""


AGE_S, WATCHDOG_S = read_yaml(CONFIG / "safety.yaml")["action_timeout_s"], read_yaml(CONFIG / "arm.yaml")["watchdog_s"]
HOLD = "to the arm's first command from which on the tool only slows down"
ROWS = {
    "core": Row("core decision", "us", {"p99": 50.0}),
    "core_cpu": Row("core decision, processor time", "us"),
    "node": Row("the node adds to a proposal's way", "ms", {"p99": 2.0}, "without the wait for the tick"),
    "whole": Row("proposal to safe action", "ms", {}, "with the wait for the tick"),
    "violation": Row("hard violation to safe output", "ms", {"worst": PERIOD_NS / 1e6 + 10.0}),
    "policy": Row("policy killed to default output", "ms", {"worst": 140.0}, f"the last action lives for {AGE_S:g} s"),
    "monitor": Row("monitor killed to the arm's hold", "ms", {"worst": 100.0}, f"the arm waits for {WATCHDOG_S:g} s"),
    "standing": Row("monitor killed to the arm standing", "ms", {}, "every command ends at rest"),
    "estop": Row("e-stop to hold", "ms", {"p99": 20.0, "worst": 50.0}, HOLD),
    "estop_standing": Row("e-stop to the last command that moves", "ms", {}, "joints brake together, and stay"),
    "busy": Row("e-stop to hold, one busy core", "ms", {"p99": 30.0, "worst": 50.0}, HOLD),
    "busy_standing": Row("e-stop to the last command that moves, one busy core", "ms"),
}
Samples = dict[str, list[float]]
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "p50": lambda values: float(np.percentile(values, 50, method="higher")),
    "p99": lambda values: float(np.percentile(values, 99, method="higher")),
    "worst": max,
}


def core(samples: Samples) -> None:
    """The monitor alone, without a node."""
    deployment, robot = load_deployment(CONFIG / "grasp.yaml")
    config = load(CONFIG / "safety.yaml", SafetyConfig, {"tick_rate_hz": graph.topic(ACTION).rate_hz})
    limits = Limits(config, deployment.contract.action, deployment.limits, robot.joints, 0.5)
    costs_us, _ = run_core(limits, robot.home, CORE_TICKS, lambda _, values: values)
    samples["core"], samples["core_cpu"] = costs_us[100:, 0].tolist(), costs_us[100:, 1].tolist()


def measure(choice: Safety, missed: Counter[str], progress: Callable[[int, int, str], None]) -> Samples:
    """All samples, by row. missed: is told why a repetition did not count."""
    samples: Samples = {name: [] for name in ROWS}
    rng, seeds = random.Random(choice.seed), iter(range(choice.seed, 10**6))
    count, parts = choice.repetitions, [part for part in ALL if part in choice.only]
    total, done = count * len(parts), 0

    def step(name: str, many: int = 1) -> None:
        nonlocal done
        done += many
        progress(done, total, ROWS[name].what)

    if "core" in parts:
        core(samples)
        step("core", count)
    shared = [part for part in parts if part in ("node", "violation", "estop", "busy")]
    if shared:
        with deployed(choice.domain_id, next(seeds), rng) as bench:
            for part in shared:
                _repeat(bench, part, count, samples, missed, step)
    for part in ("policy", "monitor"):
        for i in range(count if part in parts else 0):
            domain_id = choice.domain_id + 1 + i % (choice.domains - 1)
            killed = again(missed, lambda on=domain_id, what=part: _kill(on, next(seeds), rng, what))
            for name, sample in killed.items():
                samples[name].append(sample)
            step(part)
    return samples


def _kill(domain_id: int, seed: int, rng: random.Random, part: str) -> dict[str, float]:
    """One deployment, and what came of the kill."""
    with deployed(domain_id, seed, rng) as bench:
        bench.in_motion()
        if part == "policy":
            return {"policy": bench.policy_killed_ms()}
        return dict(zip(("monitor", "standing"), bench.monitor_killed_ms(), strict=True))


def again(missed: Counter[str], measured: Callable[[], Any]) -> Any:
    """Once more where it was missed, which is counted. Raises RuntimeError where it is missed again and again."""
    for _ in range(TRIES):
        try:
            return measured()
        except Missed as reason:
            missed[str(reason)] += 1
    raise RuntimeError(f"missed {TRIES} times in a row: {dict(missed)}")


def _repeat(
    bench: Bench, part: str, count: int, samples: Samples, missed: Counter[str], step: Callable[[str], None]
) -> None:
    """Whatever leaves all processes alive."""
    if part == "node":
        while len(samples["node"]) < CHUNKS * count:
            bench.in_motion()
            for added, whole in bench.node_ms(NODE_S):
                samples["node"].append(added)
                samples["whole"].append(whole)
            step(part)
        return
    if part == "violation":
        for _ in range(count):
            samples[part].append(again(missed, lambda: (bench.in_motion(), bench.violation_ms())[1]))
            step(part)
        return
    with busy_core() if part == "busy" else nullcontext():
        for _ in range(count):
            hold_ms, standing_ms = again(missed, lambda: (bench.in_motion(), bench.estop_ms())[1])
            samples[part].append(hold_ms)
            samples[f"{part}_standing"].append(standing_ms)
            step(part)


def judged(samples: Samples) -> list[dict[str, Any]]:
    """One entry per row that was measured."""
    entries = []
    for name, row in ROWS.items():
        values = samples[name]
        if values:
            figures = {statistic: compute(values) for statistic, compute in STATISTICS.items()}
            met = all(figures[statistic] <= limit for statistic, limit in row.goals.items())
            goals = {"goals": dict(row.goals), "met": met if row.goals else None, "remark": row.remark}
            entries.append({"what": row.what, "unit": row.unit, "samples": len(values), **figures, **goals})
    return entries


def show(entries: Sequence[Mapping[str, Any]]) -> None:
    """The table, and its remarks."""
    table = Table("what", "p50", "p99", "worst", "of", "goal", "", title="time to become safe")
    for entry in entries:
        goal = ", ".join(f"{statistic} {limit:g}" for statistic, limit in entry["goals"].items())
        met = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[entry["met"]]
        figures = (f"{entry[statistic]:.1f}" for statistic in STATISTICS)
        table.add_row(f"{entry['what']}, {entry['unit']}", *figures, str(entry["samples"]), goal, met)
    Console().print(table)
    for entry in entries:
        if entry["remark"]:
            print(f"{entry['what']}: {entry['remark']}")


def page(entries: Sequence[Mapping[str, Any]], missed: Mapping[str, int], repetitions: int) -> str:
    """docs/safety.md: the same table, and where it comes from."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [
        "# How fast the running stack becomes safe",
        "",
        f"Made by `python benchmarks/safety.py --repetitions {repetitions} --page docs/safety.md`",
        f"on {time.strftime('%Y-%m-%d')}, on {os.cpu_count()} CPU cores, of commit {commit.strip()}.",
        "Real processes over real topics, the arm in motion; times are between messages as DDS stamped them.",
        "",
        "| what | p50 | p99 | worst | of | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        goal = ", ".join(f"{statistic} {limit:g}" for statistic, limit in entry["goals"].items())
        met = {None: "", True: "met", False: "**missed**"}[entry["met"]]
        remark = f" ({entry['remark']})" if entry["remark"] else ""
        figures = " | ".join(f"{entry[statistic]:.1f}" for statistic in STATISTICS)
        lines.append(f"| {entry['what']}, {entry['unit']}{remark} | {figures} | {entry['samples']} | {goal} | {met} |")
    again = ", ".join(f"{count} x {reason}" for reason, count in missed.items()) or "none"
    return "\n".join([*lines, "", f"Repetitions that did not count and were made again: {again}.", ""])


def main(choice: Safety) -> int:
    """Prints the table; 0 if the goals are met, and safety did nothing unexpected."""
    missed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as state, tables.progress("measuring") as progress:
        os.environ["XDG_STATE_HOME"] = state  # stop records of stops on purpose are nobody's
        samples = measure(choice, missed, progress)
    entries = judged(samples)
    show(entries)
    for reason, count in missed.items():
        print(f"not counted, and made again: {count} x {reason}")
    if choice.page:
        choice.page.write_text(page(entries, missed, choice.repetitions))
    if choice.json:
        report = {"processors": os.cpu_count(), "rows": entries, "missed": dict(missed)}
        choice.json.write_text(json.dumps(report, indent=2))
    return int(any(entry["met"] is False for entry in entries) or bool(set(missed) - {EPISODE_ENDED}))


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Safety)))
    except RuntimeError as error:
        sys.exit(str(error))
