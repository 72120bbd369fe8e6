"""Kinesthetic demonstrations in simulation: led by a hand, converted to frames, played back without the hand.

Run: python benchmarks/kinesthetic.py [NUMBER] [FOLDER]     writes FOLDER/hand and FOLDER/clean, build/demos by default
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import graph
from policy_bringup.core.trials import wilson
from policy_bringup.core.types import Array
from policy_bringup.episodes.frames import read_frames
from policy_bringup.sim.kinesthetic import Kinesthetic, play_back, record_kinesthetic
from policy_bringup.sim.rollout import load_stack

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
NEEDED = 0.9


class Converter:
    """Bag -> frames at the policy's rate -> table of actions, as learning would see them."""

    def __init__(self) -> None:
        stack = load_stack(CONFIG)
        chain = Chain.from_urdf(stack.urdf, stack.robot.base_frame, stack.robot.tool_frame)
        self._derive = Proprioception(stack.robot, chain).tool
        self._contract = stack.deployment.contract

    def table(self, folder: Path) -> tuple[Array, Array]:
        """Times `(m,)` s since the first frame, and actions `(m, columns)`, each due one step after its frame."""
        frames = read_frames(folder, self._contract, graph.topic("policy/action").rate_hz, self._derive)
        times = (frames.stamps_ns - frames.stamps_ns[0]) / 1e9 + self._contract.action.dt_s
        return times, frames.action


def main(number: int, folder: Path) -> int:
    """Prints one line per demonstration; 1 if fewer than nine in ten playbacks succeed."""
    kinesthetic, converter = Kinesthetic(CONFIG, folder / "hand", folder / "clean"), Converter()
    table = Table("seed", "by hand", "seconds", "frames", "played back", "seconds ", "objections", title="kinesthetic")
    successes, began = 0, time.monotonic()
    for seed in range(number):
        episode, outcome = record_kinesthetic(kinesthetic, seed)
        times, actions = converter.table(episode)
        _, rollout = play_back(kinesthetic, times, actions, seed)
        successes += rollout.success
        objections = sum(rollout.verdicts.values()) + len(rollout.stops) + rollout.refused
        led, replayed = outcome.failure or "success", rollout.outcome.failure or "success"
        table.add_row(
            str(seed), led, f"{outcome.time_s:.2f}", str(len(times)), replayed, f"{rollout.time_s:.2f}", str(objections)
        )
    Console(width=100).print(table)
    low, high = wilson(successes, number)
    print(f"{successes} of {number} playbacks succeed, 95 % interval {low:.1%} to {high:.1%}; needed are {NEEDED:.0%}")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0 if successes >= np.ceil(NEEDED * number) else 1


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(
        main(int(arguments[0]) if arguments else 20, Path(arguments[1]) if arguments[1:] else ROOT / "build" / "demos")
    )
