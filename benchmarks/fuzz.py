"""Hostile input: configuration, policy bundles' YAML and action tables. Whatever comes, it is accepted with everything
that acceptance promises, or refused with a sentence; anything else is an escape.

Run: python benchmarks/fuzz.py [--vectors 100000] [--seed 0]. Prints a table, and each escape with the number of its
vector; ends with 1 if there is any. A vector follows from its kind, the seed and its number alone, so --kind and
--first replay one. No process is started and no network used; files lie in a temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from hostile import Fast, Loose, bend, manifest, past_the_wire, spoil, spoil_table, stamp

from policy_bringup.core.config import load
from policy_bringup.core.decoding import chunk_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import PolicyBringupError
from policy_bringup.core.types import ActionChunk
from policy_bringup.inference.manifest import MANIFEST_FILE, build_manifest, read_manifest
from policy_bringup.safety.limits import Limits, SafetyConfig
from policy_bringup.safety.monitor import SafetyMonitor
from policy_bringup.safety.reasons import State
from policy_bringup.safety.state import Arm, Measured, Proposal, Source

CONFIG = Path(__file__).parents[1] / "config"
HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.04, 10.0])
PERIOD_NS = 10_000_000
LONGEST_SENTENCE = 300_000

Outcome = str
"""accepted, refused, or what escaped."""


class Escape(Exception):
    """Something was accepted that must not be, or an answer was no answer."""


def must(holds: Any, what: str) -> None:
    """Raises Escape unless it holds."""
    if not holds:
        raise Escape(what)


# Configuration


class Files:
    """The shipped files as text and data, and a folder to put the bent ones into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = {name: (CONFIG / f"{name}.yaml").read_text() for name in ("safety", "grasp", "robot")}
        self.data = {name: yaml.safe_load(text) for name, text in self.text.items()}
        self.data["safety"]["tick_rate_hz"] = 100.0
        self.path = folder / "bent.yaml"
        (folder / "robot.yaml").write_text(self.text["robot"])
        self.empty = folder / "empty.yaml"
        self.empty.write_text("{}")
        self.manifest = manifest(self.data["grasp"]["contract"])
        self.manifest_text = yaml.dump(self.manifest, Dumper=Fast, sort_keys=False)
        self.deployment, self.robot = load_deployment(CONFIG / "grasp.yaml")
        self.safety = load(CONFIG / "safety.yaml", SafetyConfig, {"tick_rate_hz": 100.0})

    def limits(self, **changes: Any) -> Limits:
        """The shipped ones."""
        config = dataclasses.replace(self.safety, **changes)
        return Limits(config, self.deployment.contract.action, self.deployment.limits, self.robot.joints, 0.5)


def safety_configuration(files: Files, rng: random.Random) -> None:
    """config/safety.yaml, bent; what is accepted is driven for a few ticks."""
    if rng.random() < 0.1:
        files.path.write_bytes(spoil(files.text["safety"] + "tick_rate_hz: 100.0\n", rng))
        config = load(files.path, SafetyConfig)
    else:
        config = load(files.empty, SafetyConfig, bend(files.data["safety"], rng, rng.randint(1, 3)))
    for field in dataclasses.fields(SafetyConfig):
        value, bounds = getattr(config, field.name), field.metadata.get("bounds")
        must(bounds is None or value is None or bounds[0] <= value <= bounds[1], f"{field.name} is {value!r}")
    drive(files, Limits(config, files.deployment.contract.action, files.deployment.limits, files.robot.joints, 0.5))


def deployment(files: Files, rng: random.Random) -> None:
    """config/grasp.yaml or the robot's file, bent; what is accepted gives limits that are driven for a few ticks."""
    what = rng.random()
    if what < 0.1:
        files.path.write_bytes(spoil(files.text["grasp"], rng))
        found, robot = load_deployment(files.path)
    elif what < 0.3:
        bent = files.folder / "bent_robot.yaml"
        if what < 0.2:
            bent.write_bytes(spoil(files.text["robot"], rng))
        else:
            bent.write_text(yaml.dump(bend(files.data["robot"], rng, rng.randint(1, 3)), Dumper=Loose))
        found, robot = load_deployment(files.empty, {**files.data["grasp"], "robot": bent.name})
    else:
        found, robot = load_deployment(files.empty, bend(files.data["grasp"], rng, rng.randint(1, 3)))
    for limit in found.limits:
        must(-math.inf < limit.lower <= limit.upper < math.inf, f"{limit}")
    for joint in robot.joints:
        must(joint.lower < joint.upper and joint.lower <= joint.home <= joint.upper, f"{joint}")
    drive(files, Limits(files.safety, found.contract.action, found.limits, robot.joints, found.uncertainty_threshold))


def drive(files: Files, limits: Limits) -> None:
    """A monitor with these limits, some ticks: silent, or finite and within bounds."""
    monitor, now_ns = SafetyMonitor(limits), 10**15
    joints = np.clip(files.robot.home[:1].repeat(len(limits.joints)), limits.joint_lower, limits.joint_upper)
    pose = np.clip(np.resize(HOME, limits.lower.shape), limits.lower, limits.upper)
    period_ns = round(limits.period_s * 1e9)
    times_s = max(0.05, limits.period_s) * np.arange(1, 1 + min(4, limits.spec.steps))
    for i in range(6):
        now_ns += period_ns
        monitor.step(Measured(now_ns, now_ns, joints + 1e-9 * (i % 2), pose), now_ns)
        values = np.tile(pose, (len(times_s), 1))
        source = limits.config.sources[-1]
        chunk = ActionChunk(source, now_ns, now_ns, limits.spec.names, times_s, values, np.zeros(len(times_s)))
        monitor.step(Proposal(chunk, 1), now_ns)
        verdict = monitor.tick(now_ns, now_ns)
        judged(monitor, limits, verdict)
        monitor.step(Arm(True), now_ns)


def judged(monitor: SafetyMonitor, limits: Limits, verdict: Any) -> None:
    """What every verdict has to be."""
    must(verdict.state is not State.FAULT, f"a fault: {[r.reason.sentence for r in verdict.transitions]}")
    out = verdict.output
    if out is not None:
        must(out.shape == limits.lower.shape and bool(np.isfinite(out).all()), f"an output of {out}")
        must(bool(((limits.lower <= out) & (out <= limits.upper)).all()), f"an output out of bounds: {out}")


# Bundles


def bundle(files: Files, rng: random.Random) -> None:
    """policy.yaml, bent."""
    if rng.random() < 0.1:
        path = files.folder / MANIFEST_FILE
        path.write_bytes(spoil(files.manifest_text, rng))
        found = read_manifest(path)
    else:
        found = build_manifest(bend(files.manifest, rng, rng.randint(1, 3)), Path(MANIFEST_FILE))
    numbers = [found.uncertainty.threshold, found.contract.action.dt_s, found.onnx.parity_max_abs_error]
    numbers += [*found.fingerprint.start_pose, *(grey for row in found.fingerprint.cameras.values() for grey in row)]
    must(all(math.isfinite(number) for number in numbers), "a number that is not finite")
    names = found.contract.action.names
    must(len(set(names)) == len(names), "a column twice")
    must(1 <= found.contract.action.execute <= found.contract.action.steps, "more to execute than there is")


# Action tables


class Tables:
    """One armed monitor that is fed tables, good and hostile, as they come off the wire and past it."""

    SPAN = 200
    """Vectors that one monitor lives for."""

    def __init__(self, files: Files) -> None:
        self.limits = files.limits(late_tick_s=0.1)
        self.joints = files.robot.home
        self.begin()

    def begin(self) -> None:
        """A new monitor at HOME."""
        self.monitor, self.now_ns, self.pose, self.count = SafetyMonitor(self.limits), 10**18, HOME.copy(), 0
        self.last: Any = None

    def vector(self, _files: Files, rng: random.Random) -> None:
        """One table: on every vector the monitor is armed if it can be; then hostile, then judged on its tick."""
        if self.count % self.SPAN == 0:
            self.begin()
            self.tick()
        self.count += 1
        if self.monitor.state is not State.ACTIVE or rng.random() < 0.3:
            self.monitor.step(Proposal(chunk_of(self.good(rng), "policy", self.now_ns), 1), self.now_ns)
            self.tick()
            self.monitor.step(Arm(True), self.now_ns)
        message = self.good(rng)
        if rng.random() < 0.2:
            event = past_the_wire(chunk_of(message, "policy", self.now_ns), rng)
        else:
            spoil_table(message, rng)
            event = Proposal(chunk_of(message, rng.choice(["policy"] * 9 + ["nobody"]), self.now_ns), 1)
        reply = self.monitor.step(event, self.now_ns)
        must(len(reply.sentence) < LONGEST_SENTENCE, "a sentence without end")
        before = self.monitor._m.sources["policy"]
        verdict = self.tick()
        if not reply.accepted or self.monitor._m.sources["policy"].stamp_ns == before.stamp_ns:
            raise PolicyBringupError(verdict.reason.sentence if verdict.reason else reply.sentence)
        self.accepted(self.monitor._m.sources["policy"])

    def accepted(self, plan: Source) -> None:
        """What acceptance promises of a whole plan."""
        must(plan.values.ndim == 2 and plan.values.shape[1] == 8 and 0 < len(plan.values) <= 16, "a shape")
        must(np.isfinite(plan.values).all() and np.isfinite(plan.times_s).all(), "a plan that is not finite")
        inside = (self.limits.lower <= plan.values) & (plan.values <= self.limits.upper)
        must(bool(inside.all()), "a plan out of bounds")

    def tick(self) -> Any:
        """10 ms later, with an arm that follows."""
        self.now_ns += PERIOD_NS
        flicker = self.joints + 1e-9 * (self.now_ns // PERIOD_NS % 2)
        self.monitor.step(Measured(self.now_ns, self.now_ns, flicker, self.pose), self.now_ns)
        verdict = self.monitor.tick(self.now_ns, self.now_ns)
        judged(self.monitor, self.limits, verdict)
        if verdict.output is not None and self.last is not None:
            step = np.abs(verdict.output - self.last)
            must(bool((step <= self.limits.max_step * (1 + 1e-9)).all()), f"a step of {step}")
            must(bool((step <= self.limits.max_velocity * 0.01 * (1 + 1e-9)).all()), f"a velocity of {step / 0.01}")
        self.last = verdict.output
        self.pose = verdict.output if verdict.output is not None else self.pose
        return verdict

    def good(self, rng: random.Random) -> Any:
        """The message of a table that is accepted, from where the arm is on."""
        ways = np.arange(1, 17)[:, None] * np.array([rng.uniform(-1e-3, 1e-3) for _ in range(8)])
        rows = np.clip(self.pose + ways * [1, 1, 1, 1, 1, 1, 1, 100], self.limits.lower, self.limits.upper)
        rows = np.column_stack([rows, np.full(16, 0.1)])
        names = [*self.limits.spec.names, "uncertainty"]
        points = [
            SimpleNamespace(positions=list(row), time_from_start=stamp(50_000_000 * (i + 1)))
            for i, row in enumerate(rows)
        ]
        return SimpleNamespace(header=SimpleNamespace(stamp=stamp(self.now_ns)), joint_names=names, points=points)


# All of it


def outcome_of(vector: Callable[[Files, random.Random], None], files: Files, rng: random.Random) -> Outcome:
    """What came of one vector."""
    try:
        vector(files, rng)
    except PolicyBringupError as error:
        sentence = str(error)
        return "refused" if 0 < len(sentence) <= LONGEST_SENTENCE else f"a sentence of {len(sentence)} letters"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.300}"
    return "accepted"


KINDS = ("safety configuration", "deployment and robot", "policy bundle", "action table")
SHARES = (0.2, 0.05, 0.25, 0.5)


def fuzz(kind: str, count: int, seed: int, folder: Path, first: int = 0) -> tuple[Counter[str], list[str]]:
    """`count` vectors of one kind -> how many came out how, and a line for each escape."""
    files = Files(folder)
    functions = dict(zip(KINDS, (safety_configuration, deployment, bundle, Tables(files).vector), strict=True))
    counts: Counter[str] = Counter()
    escapes = []
    for i in range(first, first + count):
        outcome = outcome_of(functions[kind], files, random.Random(f"{kind} {seed} {i}"))
        if outcome not in ("accepted", "refused"):
            escapes.append(f"{kind} --seed {seed} --first {i}: {outcome}")
            outcome = "escapes"
        counts[outcome] += 1
    return counts, escapes


def main() -> int:
    """Prints the table of counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="only this kind, all vectors of it")
    parser.add_argument("--first", type=int, default=0, help="number of the first vector of each kind")
    options = parser.parse_args()
    shares = {options.kind: 1.0} if options.kind else dict(zip(KINDS, SHARES, strict=True))
    print(f"{'':22s}{'vectors':>9s}{'accepted':>10s}{'refused':>9s}{'escapes':>9s}")
    all_escapes: list[str] = []
    for kind, share in shares.items():
        with tempfile.TemporaryDirectory() as folder:
            counts, escapes = fuzz(kind, round(options.vectors * share), options.seed, Path(folder), options.first)
        all_escapes += escapes
        print(f"{kind:22s}{counts.total():9d}" + "".join(f"{counts[o]:{w}d}" for o, w in
              (("accepted", 10), ("refused", 9), ("escapes", 9))), flush=True)  # fmt: skip
    print("\n".join(all_escapes[:50]))
    return int(bool(all_escapes))


if __name__ == "__main__":
    sys.exit(main())
