"""Cost of one decision of the safety monitor: p50, p99 and max of SafetyMonitor.tick() in microseconds.

Run: python benchmarks/safety_core.py [ticks]. The common path has a 16 x 8 chunk at 20 Hz and joint states at 100 Hz.
Wall time holds what else the machine did meanwhile; processor time does not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.types import ActionChunk, Array
from policy_bringup.safety.limits import Limits, SafetyConfig
from policy_bringup.safety.monitor import SafetyMonitor
from policy_bringup.safety.reasons import State
from policy_bringup.safety.state import Arm, Measured, Proposal

CONFIG = Path(__file__).parents[1] / "config"
TIMES_S = 0.05 * np.arange(1, 17)
HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.04, 10.0])


def path(seconds: Array) -> Array:
    """A slow circle from HOME on, `(k, 8)`."""
    values = np.tile(HOME, (len(seconds), 1))
    values[:, 0] += 0.05 * np.sin(seconds)
    values[:, 1] += 0.05 * (np.cos(seconds) - 1.0)
    return values


def run(limits: Limits, joints: Array, ticks: int, bend: Callable[[int, Array], Array]) -> tuple[Array, list[State]]:
    """Wall and processor time (us) of each tick `(ticks, 2)`; `bend(i, values)` may change the chunk before tick i."""
    monitor = SafetyMonitor(limits)
    costs_us, states, start_ns, pose = np.zeros((ticks, 2)), [], 10**12, HOME
    for i in range(ticks):
        now_ns = start_ns + i * 10_000_000
        monitor.step(Measured(now_ns, now_ns, joints + 1e-9 * (i % 2), pose.copy()), now_ns)
        if i % 5 == 0:
            values = bend(i, path(TIMES_S + max(0.0, (i - 20) * 0.01)))
            chunk = ActionChunk("policy", now_ns, now_ns, limits.spec.names, TIMES_S, values, np.zeros(16))
            monitor.step(Proposal(chunk, 1), now_ns)
        if monitor.state in (State.READY, State.FALLBACK):
            monitor.step(Arm(True), now_ns)
        wall_ns, processor_ns = time.perf_counter_ns(), time.thread_time_ns()
        verdict = monitor.tick(now_ns, now_ns)
        costs_us[i, 1] = (time.thread_time_ns() - processor_ns) / 1e3
        costs_us[i, 0] = (time.perf_counter_ns() - wall_ns) / 1e3
        states.append(verdict.state)
        pose = verdict.output if verdict.output is not None else pose
    return costs_us, states


def main() -> None:
    """Prints one line per path."""
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    deployment, robot = load_deployment(CONFIG / "grasp.yaml")
    config = load(CONFIG / "safety.yaml", SafetyConfig, {"tick_rate_hz": graph.topic("safety/action").rate_hz})
    limits = Limits(config, deployment.contract.action, deployment.limits, robot.joints, 0.5)

    def jump(i: int, values: Array) -> Array:
        return values + 0.2 * (i % 30 == 0 and i > 50)

    for name, bend in (("common path", lambda i, values: values), ("one chunk in six rejected", jump)):
        costs_us, states = run(limits, robot.home, ticks, bend)
        share = sum(state is State.ACTIVE for state in states) / ticks
        print(f"{name}: ACTIVE on {share:.0%} of the ticks")
        for clock, values in zip(("wall", "processor"), costs_us[100:].T, strict=True):
            p50, p99 = np.percentile(values, (50, 99))
            print(f"  {clock:9s} p50 {p50:6.1f} us  p99 {p99:6.1f} us  max {values.max():8.1f} us")


if __name__ == "__main__":
    main()
