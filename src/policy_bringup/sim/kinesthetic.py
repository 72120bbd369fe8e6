"""Kinesthetic demonstrations in the simulator: a hand leads the compliant arm; the motion becomes actions, and a bag.

Afterwards the actions can be played back through the closed loop, without the hand: that bag has clean pictures, and
its success says that the actions are right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from policy_bringup.control.replay import Replay
from policy_bringup.core.config import load
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import Array
from policy_bringup.sim.guided_motion import GuidedMotion
from policy_bringup.sim.hand import HandGuidingConfig
from policy_bringup.sim.recorded_rollout import EpisodeBag, bag_layout, provenance
from policy_bringup.sim.rollout import ClosedLoop, Rollout, load_stack
from policy_bringup.sim.selfplay import record_rollout
from policy_bringup.sim.tasks import Outcome
from policy_bringup.sim.views import Backend

PATIENCE_S = 5.0
"""How much longer than the motion its playback may take."""


@dataclass(frozen=True, slots=True)
class Kinesthetic:
    """Where demonstrations go. clean: where they are played back to and recorded again."""

    config_folder: Path
    dataset: Path
    clean: Path | None = None
    deployment_file: str = "grasp.yaml"
    backend: Backend = "auto"
    operator: str = "simulated hand"


def record_kinesthetic(kinesthetic: Kinesthetic, seed: int) -> tuple[Path, Outcome]:
    """One demonstration by hand, from a start drawn with `seed`: its episode, and how it ended.

    Raises ConfigError, DeviceError; EpisodeError where the bag cannot be written.
    """
    stack = load_stack(kinesthetic.config_folder, kinesthetic.deployment_file)
    config = load(kinesthetic.config_folder / "hand.yaml", HandGuidingConfig)
    layout = bag_layout(kinesthetic.config_folder, stack.deployment, stack.robot, stack.sim)
    origin = provenance(kinesthetic.config_folder, kinesthetic.deployment_file, "hand", kinesthetic.operator)
    started_ns = time.time_ns()
    guided = GuidedMotion(stack, config, layout, started_ns, kinesthetic.backend)
    bag = EpisodeBag(kinesthetic.dataset, layout, origin, started_ns, f"kinesthetic seed {seed}")
    success, remark = False, ", interrupted"
    try:
        outcome = guided.run(seed)
        guided.write(bag.put)
        success, remark = outcome.success, ""
    finally:
        guided.close()
        bag.close(guided.now_ns, success, remark)
    return bag.folder, outcome


def play_back(kinesthetic: Kinesthetic, times_s: Array, values: Array, seed: int) -> tuple[Path, Rollout]:
    """Makes a motion again without the hand, through monitor and arm, from the same start, and records it in `clean`.

    times_s `(m,)` since the start, values `(m, columns)`. Raises EpisodeError without a place for it, and as
    record_kinesthetic does.
    """
    if kinesthetic.clean is None:
        raise EpisodeError("kinesthetic: there is no dataset to play the motion back to")
    stack = load_stack(kinesthetic.config_folder, kinesthetic.deployment_file)
    layout = bag_layout(kinesthetic.config_folder, stack.deployment, stack.robot, stack.sim)
    origin = provenance(kinesthetic.config_folder, kinesthetic.deployment_file, "replay", kinesthetic.operator)
    replay = Replay(stack.deployment.contract, stack.deployment.limits, times_s, values)
    loop = ClosedLoop(stack, replay, stack.deployment.uncertainty_threshold, kinesthetic.backend)
    patience_s = float(times_s[-1]) + PATIENCE_S
    try:
        note = f"played back, kinesthetic seed {seed}"
        return record_rollout(loop, layout, kinesthetic.clean, origin, seed, note, patience_s)
    finally:
        loop.close()
