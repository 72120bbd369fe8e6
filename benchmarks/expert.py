"""The scripted expert on random cube poses: world, monitor, inverse kinematics and limiter in one process, no ROS.

Run: python benchmarks/expert.py [NUMBER OF POSES]
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from policy_bringup.core.trials import wilson
from policy_bringup.sim.expert import load_expert
from policy_bringup.sim.rollout import ClosedLoop, load_stack

CONFIG = Path(__file__).resolve().parent.parent / "config"


def main(poses: int) -> int:
    """Prints successes with their 95 % interval, and everything the monitor or the arm objected to."""
    stack = load_stack(CONFIG)
    contract = stack.deployment.contract
    blind = replace(contract, observation=replace(contract.observation, images=()))
    loop = ClosedLoop(stack, load_expert(blind, stack.robot), stack.deployment.uncertainty_threshold)
    rollouts = [loop.run(seed) for seed in track(range(poses), description="grasping")]
    loop.close()
    successes = sum(rollout.success for rollout in rollouts)
    low, high = wilson(successes, poses)
    verdicts: Counter[str] = Counter()
    for rollout in rollouts:
        verdicts.update(rollout.verdicts)
    print(f"{successes} of {poses} grasped, 95 % interval {low:.1%} to {high:.1%}")
    print(f"mean time {sum(rollout.time_s for rollout in rollouts) / poses:.2f} s")
    print(f"safety stops {sum(len(rollout.stops) for rollout in rollouts)}, verdicts against it {dict(verdicts)}")
    print(f"refused chunks {sum(rollout.refused for rollout in rollouts)}")
    return 0 if successes == poses else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
