"""Kinesthetic demonstrations in the simulator: a hand leads the compliant arm; the motion becomes actions, and a bag.

Afterwards the actions can be played back through the closed loop, without the hand: that bag has clean pictures, and
its success says that the actions are right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from policy_bringup.control.way import Way
from policy_bringup.core.config import load
from policy_bringup.core.decoding import chunk_of
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ActionChunk, Array, Contract, Observation
from policy_bringup.episodes.reader import open_bag
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


class Replay:
    """A core.interfaces.Policy that plays a table of actions: times_s `(m,)`, values `(m, columns)`; sure of itself.

    contract: the deployment's; it looks at no picture, the first camera only sets its pace.
    """

    def __init__(self, contract: Contract, times_s: Array, values: Array) -> None:
        images = contract.observation.images[:1]
        self._contract = replace(contract, observation=replace(contract.observation, images=images))
        self._times_s, self._values = times_s, values
        self.reset()

    @property
    def contract(self) -> Contract:
        """What it reads and writes."""
        return self._contract

    def reset(self) -> None:
        """The next prediction is the table's beginning."""
        self._way = Way("replay", self._contract.action, self._times_s, self._values)

    def predict(self, observation: Observation) -> ActionChunk:
        """What is due after the observation."""
        return self._way.chunk(observation.stamp_ns, True)


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
    origin = provenance(kinesthetic.config_folder, kinesthetic.deployment_file, "hand", kinesthetic.operator)
    replay = Replay(stack.deployment.contract, times_s, values)
    loop = ClosedLoop(stack, replay, stack.deployment.uncertainty_threshold, kinesthetic.backend)
    patience_s = float(times_s[-1]) + PATIENCE_S
    try:
        note = f"played back, kinesthetic seed {seed}"
        return record_rollout(loop, layout, kinesthetic.clean, origin, seed, note, patience_s)
    finally:
        loop.close()


def recorded_actions(folder: Path, names: Sequence[str]) -> tuple[Array, Array]:
    """The safe actions of an episode: times `(m,)` s since its first message, and rows `(m, columns)`.

    Raises EpisodeError for a bag that cannot be read, or without actions of these columns.
    """
    times, rows = [], []
    with open_bag(folder) as bag:
        for message in bag.messages(["safety/action"]):
            chunk = chunk_of(bag.decode(message), "replay", message.log_ns)
            if chunk.names != tuple(names) or len(chunk.values) != 1:
                raise EpisodeError(f"{bag.path}: topic 'safety/action' must have the columns {', '.join(names)}")
            times.append((message.log_ns - bag.start_ns) / 1e9)
            rows.append(chunk.values[0])
        if not rows:
            raise EpisodeError(f"{bag.path}: topic 'safety/action' is missing or holds no action")
    return np.array(times), np.array(rows)
