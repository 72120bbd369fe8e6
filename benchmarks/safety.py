"""How fast the running stack becomes safe, against the goals of its specification: from stamped messages, in motion.

Run: python benchmarks/safety.py [--repetitions 50] [--only NAME ...] [--json FILE]. The simulated arm is driven by the
scripted expert, every node a process of its own. What is done to it: an e-stop (idle, and beside a process that keeps
one processor busy), joint states beyond a joint's limit, SIGKILL of the policy, SIGKILL of the monitor. After a kill
everything is started anew on another ROS domain. Ends with 1 if a goal is missed.

Times are DDS's source timestamps; where a process is killed, the clock just before the signal was sent.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from onlooker import (
    ACTION,
    BOX,
    COMMAND,
    JOINTS,
    POLICY,
    ROOT,
    STATE,
    VERDICT,
    Change,
    Onlooker,
    dead,
    looking_on,
)
from rich.console import Console
from rich.table import Table
from safety_core import run as run_core
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from policy_bringup import tables
from policy_bringup.core import graph
from policy_bringup.core.config import load, read_yaml
from policy_bringup.core.decoding import stamp_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.startup import Options
from policy_bringup.nodes.messages import time_of
from policy_bringup.runner import Runner
from policy_bringup.safety.limits import Limits, SafetyConfig

CONFIG = ROOT / "config"
TOPICS = (JOINTS, POLICY, ACTION, VERDICT, STATE, COMMAND, BOX)
PERIOD_NS = round(1e9 / graph.topic(ACTION).rate_hz)
CORE_TICKS = 10_000
CHUNKS = 20
"""Proposals looked at per repetition for what the node adds: a p99 wants a thousand."""
MOVING = 0.1
"""Rad/s of a commanded joint: in motion."""
STILL = 0.01
"""Rad/s of the fastest measured joint: standing."""
HELD = 1e-3
"""Rad by which the end of a command may wander while the arm holds."""
SILENCE_NS = 50_000_000
"""The arm answers a safe action within milliseconds: what it sends so much later is its own."""
START_S = 90.0
NODE_S = 1.2
"""A little more than those take."""
VIOLATION = "violation"
BUSY = "while True: pass"
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
    json: Path | None = None


@dataclass(frozen=True)
class Row:
    """What is measured. goals: statistic -> limit; none: for information."""

    what: str
    unit: str
    goals: Mapping[str, float] = field(default_factory=dict)
    remark: str = ""


AGE_S, WATCHDOG_S = read_yaml(CONFIG / "safety.yaml")["action_timeout_s"], read_yaml(CONFIG / "arm.yaml")["watchdog_s"]
ROWS = {
    "core": Row("core decision", "us", {"p99": 50.0}),
    "core_cpu": Row("core decision, processor time", "us"),
    "node": Row("the node adds to a proposal's way", "ms", {"p99": 2.0}, "without the wait for the tick"),
    "whole": Row("proposal to safe action", "ms", {}, "with the wait for the tick"),
    "violation": Row("hard violation to safe output", "ms", {"worst": PERIOD_NS / 1e6 + 10.0}),
    "policy": Row("policy killed to default output", "ms", {"worst": 140.0}, f"the last action lives for {AGE_S:g} s"),
    "monitor": Row("monitor killed to the arm's hold", "ms", {"worst": 100.0}, f"the arm waits for {WATCHDOG_S:g} s"),
    "standing": Row("monitor killed to the arm standing", "ms", {}, "every command ends at rest"),
    "estop": Row("e-stop to hold", "ms", {"p99": 20.0, "worst": 50.0}, "to the arm's command"),
    "busy": Row("e-stop to hold, one busy core", "ms", {"p99": 30.0, "worst": 50.0}, "to the arm's command"),
}
Samples = dict[str, list[float]]
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "p50": lambda values: float(np.percentile(values, 50)),
    "p99": lambda values: float(np.percentile(values, 99)),
    "worst": max,
}


class Missed(Exception):
    """The episode ended by itself just when something was done to it: that counts for nothing, and is done again."""


class Bench:
    """One running deployment, looked on, and what is done to it."""

    def __init__(self, runner: Runner, onlooker: Onlooker, rng: random.Random) -> None:
        self.runner, self.onlooker, self._rng = runner, onlooker, rng
        self._box = onlooker.publisher(BOX)
        self._joints = onlooker.publisher(JOINTS)

    def in_motion(self) -> None:
        """The policy drives, for some time already, and the arm moves. Raises TimeoutError, RuntimeError."""
        driven = lambda: self._alive() and self._driven()  # noqa: E731
        for _ in range(100):
            self.onlooker.wait(driven, START_S, "a policy in charge")
            self.onlooker.last(self._rng.uniform(0.2, 1.2))
            if self._driven() and self._speed() > MOVING:
                return
        raise TimeoutError("the arm never moved while the policy was in charge")

    def estop_ms(self) -> float:
        """Pressed on the box, until the arm's command that answers; then released and reset."""
        since_ns = time.time_ns()
        self._box.publish(Bool(data=True))
        try:
            answer_ns = self._output(self._stop("ESTOP", since_ns))
            self.onlooker.last(0.1)
        finally:
            self._box.publish(Bool(data=False))
            lifted = lambda: self.onlooker.call("safety/reset", Trigger.Request()).success  # noqa: E731
            self.onlooker.wait(lifted, 20.0, "the reset")
        pressed_ns = next(h.published_ns for h in self.onlooker.heard[BOX] if h.published_ns >= since_ns)
        commands = (heard.published_ns for heard in self.onlooker.heard[COMMAND])
        return (min((ns for ns in commands if ns > answer_ns), default=math.inf) - pressed_ns) / 1e6

    def violation_ms(self) -> float:
        """Joint states beyond a limit, from the first of them to the monitor's default."""
        since_ns = time.time_ns()
        message = self._beyond()
        stopped = False
        while not stopped:
            message.header.stamp = time_of(time.time_ns())
            self._joints.publish(message)
            time.sleep(0.002)
            self.onlooker.look()
            stopped = bool(self.onlooker.changes(since_ns)) or time.time_ns() - since_ns > 1e9
        safe_ns = self._output(self._stop("FALLBACK", since_ns))
        self.onlooker.last(0.1)
        false = [h for h in self.onlooker.heard[JOINTS] if h.message.header.frame_id == VIOLATION]
        return (safe_ns - next(h.published_ns for h in false if h.published_ns >= since_ns)) / 1e6

    def policy_killed_ms(self) -> float:
        """Until the monitor's default."""
        killed_ns = time.time_ns()
        self.runner.children["policy"].kill()
        return (self._output(self._stop("FALLBACK", killed_ns)) - killed_ns) / 1e6

    def monitor_killed_ms(self) -> tuple[float, float]:
        """Until the arm's first hold, and until the robot stands; infinite where it does not stay there."""
        killed_ns = time.time_ns()
        self.runner.children["safety"].kill()
        self.onlooker.last(1.0)
        last_ns = max(heard.published_ns for heard in self.onlooker.heard[ACTION])
        holds = [heard for heard in self.onlooker.heard[COMMAND] if heard.published_ns > last_ns + SILENCE_NS]
        ends = np.array([heard.message.points[-1].positions for heard in holds])
        if len(holds) < 2 or float(np.ptp(ends, axis=0).max()) > HELD:
            return math.inf, math.inf
        after = [heard for heard in self.onlooker.heard[JOINTS] if heard.published_ns >= killed_ns]
        moving = [h.published_ns for h in after if max(abs(v) for v in h.message.velocity[:7]) > STILL]
        return (holds[0].published_ns - killed_ns) / 1e6, (max(moving, default=killed_ns) - killed_ns) / 1e6

    def node_ms(self, seconds: float) -> list[tuple[float, float]]:
        """Of every proposal of the next seconds that was accepted: what the node adds, and the whole way.

        Ticks are half a period apart or more: what a proposal waits for that is the schedule's, not the node's.
        """
        since_ns = time.time_ns()
        self.onlooker.last(seconds)
        found, actions = [], list(self.onlooker.heard[ACTION])
        proposals = {stamp_of(h.message.header.stamp): h.published_ns for h in self.onlooker.heard[POLICY]}
        for before, heard in pairwise(actions):
            proposed_ns = proposals.pop(stamp_of(heard.message.header.stamp), None)
            if proposed_ns is not None and proposed_ns >= since_ns:
                due_ns = max(proposed_ns, before.published_ns + PERIOD_NS // 2)
                found.append(((heard.published_ns - due_ns) / 1e6, (heard.published_ns - proposed_ns) / 1e6))
        return found

    def ready(self) -> None:
        """Everybody hears the false joint states, before the first is sent."""
        readers = [name for name in graph.topic(JOINTS).readers if name in self.runner.children]
        matched = lambda: self._joints.get_subscription_count() > len(readers)  # noqa: E731
        self.onlooker.wait(lambda: self._alive() and matched(), START_S, "all nodes")

    def _alive(self) -> bool:
        ended = dead(self.runner)
        if ended:
            raise RuntimeError(f"{ended} has ended")
        return True

    def _driven(self) -> bool:
        safety = self.onlooker.safety
        return safety.get("state") == "ACTIVE" and safety.get("source") == "policy"

    def _speed(self) -> float:
        commands = self.onlooker.heard[COMMAND]
        return max(abs(v) for v in commands[-1].message.points[0].velocities[:7]) if commands else 0.0

    def _stop(self, state: str, since_ns: int) -> Change:
        """The change to `state`. Raises Missed where the episode ended by itself just then."""

        def ends() -> list[Change]:
            return [change for change in self.onlooker.changes(since_ns) if change.values["to"] in (state, "READY")]

        self.onlooker.wait(ends, 5.0, state)
        if ends()[0].values["to"] != state:
            raise Missed
        return ends()[0]

    def _output(self, change: Change) -> int:
        """When the safe action of that tick was published, which was just before its verdict."""
        earlier = lambda heard: heard.published_ns <= change.published_ns  # noqa: E731
        return max(heard.published_ns for heard in self.onlooker.heard[ACTION] if earlier(heard))

    def _beyond(self) -> JointState:
        heard = reversed(self.onlooker.heard[JOINTS])
        newest = next(h.message for h in heard if h.message.header.frame_id != VIOLATION)
        _, robot = load_deployment(CONFIG / "grasp.yaml")
        message = JointState(name=newest.name, velocity=newest.velocity, effort=newest.effort)
        message.header.frame_id = VIOLATION
        message.position = list(newest.position)
        message.position[list(newest.name).index(robot.joints[0].name)] = robot.joints[0].upper + 0.1
        return message


@contextmanager
def deployed(domain_id: int, seed: int, rng: random.Random) -> Iterator[Bench]:
    """The expert on the simulated arm. Raises TimeoutError with the end of the log where something does not come."""
    log = io.StringIO()
    options = Options("sim", CONFIG / "grasp.yaml", source="expert", episodes=0, seed=seed, domain_id=domain_id)
    try:
        with looking_on(domain_id, TOPICS) as onlooker, Runner(options, log) as runner:
            bench = Bench(runner, onlooker, rng)
            bench.ready()
            yield bench
    except (TimeoutError, RuntimeError) as error:
        raise RuntimeError(f"{error}; the deployment said:\n{log.getvalue()[-3000:]}") from error


@contextmanager
def busy_core() -> Iterator[None]:
    """A process that computes without a pause."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def core(samples: Samples) -> None:
    """The monitor alone, without a node."""
    deployment, robot = load_deployment(CONFIG / "grasp.yaml")
    config = load(CONFIG / "safety.yaml", SafetyConfig, {"tick_rate_hz": graph.topic(ACTION).rate_hz})
    limits = Limits(config, deployment.contract.action, deployment.limits, robot.joints, 0.5)
    costs_us, _ = run_core(limits, robot.home, CORE_TICKS, lambda _, values: values)
    samples["core"], samples["core_cpu"] = costs_us[100:, 0].tolist(), costs_us[100:, 1].tolist()


def measure(choice: Safety, progress: Callable[[int, int, str], None]) -> Samples:
    """All samples, by row."""
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
                _repeat(bench, part, count, samples, step)
    for part in ("policy", "monitor"):
        for i in range(count if part in parts else 0):
            domain_id = choice.domain_id + 1 + i % (choice.domains - 1)
            killed = again(lambda on=domain_id, what=part: _kill(on, next(seeds), rng, what))
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


def again(measured: Callable[[], Any]) -> Any:
    """Once more where it was missed."""
    while True:
        with suppress(Missed):
            return measured()


def _repeat(bench: Bench, part: str, count: int, samples: Samples, step: Callable[[str], None]) -> None:
    """Whatever leaves all processes alive."""
    if part == "node":
        while len(samples["node"]) < CHUNKS * count:
            bench.in_motion()
            for added, whole in bench.node_ms(NODE_S):
                samples["node"].append(added)
                samples["whole"].append(whole)
            step(part)
        return
    with busy_core() if part == "busy" else nullcontext():
        measure_ms = bench.violation_ms if part == "violation" else bench.estop_ms
        for _ in range(count):
            samples[part].append(again(lambda: (bench.in_motion(), measure_ms())[1]))
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
    """The table."""
    table = Table("what", "p50", "p99", "worst", "unit", "samples", "goal", "", "remark", title="time to become safe")
    for entry in entries:
        goal = ", ".join(f"{statistic} {limit:g}" for statistic, limit in entry["goals"].items())
        met = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[entry["met"]]
        figures = (f"{entry[statistic]:.1f}" for statistic in STATISTICS)
        table.add_row(entry["what"], *figures, entry["unit"], str(entry["samples"]), goal, met, entry["remark"])
    Console().print(table)


def main(choice: Safety) -> int:
    """Prints the table; 0 if the goals are met."""
    with tempfile.TemporaryDirectory() as state, tables.progress("measuring") as progress:
        os.environ["XDG_STATE_HOME"] = state  # stop records of stops on purpose are nobody's
        samples = measure(choice, progress)
    entries = judged(samples)
    show(entries)
    if choice.json:
        choice.json.write_text(json.dumps({"processors": os.cpu_count(), "rows": entries}, indent=2))
    return 0 if all(entry["met"] is not False for entry in entries) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Safety)))
    except RuntimeError as error:
        sys.exit(str(error))
