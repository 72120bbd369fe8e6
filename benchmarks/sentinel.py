"""Judges what safety and the arm publish: invariants of every command, and the book-keeping of transitions."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onlooker import ACTION, Heard

from policy_bringup.control.kinematics import Chain
from policy_bringup.core import graph
from policy_bringup.core.decoding import DRIVEN, chunk_of, command_of, values_of
from policy_bringup.core.deployment import Deployment
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import TOOL_COLUMNS, Array
from policy_bringup.episodes.stop_record import STOPS

ROUNDING = 1e-6
JITTER_S = 0.01
"""How much further apart two commands may have been made than published."""
APART = (1, 5, 20)
"""Commands that are compared: neighbours, and further ones, for which jitter weighs less."""
ACCELERATION_MARGIN = 1.05
"""As config/arm.yaml has it."""
BOX_M = 0.003
"""Tool outside of the workspace: joints follow a straight line of the tool within this."""
TOOL = TOOL_COLUMNS[:3]
EXAMPLES = 20


class Step(NamedTuple):
    """A step of the safe action that was too large, if a source drove all the while."""

    from_ns: int
    to_ns: int
    sentence: str


class Sentinel:
    """Judges every safe action and every command of the arm, one after the other, by the limits that both promise."""

    def __init__(self, deployment: Deployment, robot: Robot, urdf: Path) -> None:
        self._chain = Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
        self._names = deployment.contract.action.names
        limits, period_s = deployment.limits, 1.0 / graph.topic(ACTION).rate_hz
        self._lower, self._upper = (np.array([getattr(c, side) for c in limits]) for side in ("lower", "upper"))
        # A tick counts for two periods at most, however late it is.
        self._step = np.array([min(c.max_step, 2 * period_s * c.max_velocity) for c in limits])
        joints, gripper = robot.joints, robot.gripper
        self._joint_names = (*robot.joint_names, gripper.joint)
        self._joint_lower = np.array([*(j.lower for j in joints), gripper.lower / 2])
        self._joint_upper = np.array([*(j.upper for j in joints), gripper.upper / 2])
        self._joint_speed = np.array([*(j.velocity for j in joints), gripper.velocity / 2])
        acceleration = np.array([*(j.acceleration for j in joints), gripper.acceleration / 2])
        self._joint_acceleration = ACCELERATION_MARGIN * acceleration
        box = {limit.name: limit for limit in limits}
        self._least = np.array([box[name].lower for name in TOOL]) - BOX_M
        self._most = np.array([box[name].upper for name in TOOL]) + BOX_M
        self._action: tuple[Heard, Array] | None = None
        self._commands: deque[tuple[Heard, Array, Array]] = deque(maxlen=max(APART))
        self._steps: list[Step] = []
        self.broken: Counter[str] = Counter()
        self.examples: list[str] = []
        self.lost = 0

    def on_action(self, heard: Heard) -> None:
        """Finite, of the contract's columns, within bounds; whether its step was too large, `settle` tells."""
        chunk = chunk_of(heard.message, "safety", heard.published_ns)
        if chunk.names != self._names or chunk.values.shape != (1, len(self._names)):
            self._break("shape of a safe action", f"{chunk.values.shape} for {', '.join(chunk.names)}")
            return
        row = chunk.values[0]
        self._check("safe action", self._names, row, self._lower, self._upper)
        if self._action is not None and self._follows(self._action[0], heard):
            wrong = outside(self._names, row - self._action[1], -self._step, self._step)
            if wrong:
                self._steps.append(Step(self._action[0].published_ns, heard.published_ns, wrong))
        self._action = heard, row

    def on_command(self, heard: Heard) -> None:
        """Finite, of the robot's joints, within their limits, speeds and accelerations, in the workspace, ending at
        rest, and no leap to the next."""
        try:
            command = command_of(heard.message)
        except (ValueError, IndexError) as error:
            self._break("shape of a command", str(error))
            return
        if command.names != self._joint_names:
            self._break("joints of a command", ", ".join(command.names))
            return
        names, speed = self._joint_names, self._joint_speed
        self._check("commanded position", names, command.positions, self._joint_lower, self._joint_upper)
        self._check("commanded velocity", names, command.velocities, -speed, speed)
        if command.velocities[-1].any() or not np.isfinite(command.times_s).all():
            self._break("a command does not end at rest", str(command.velocities[-1]))
        tool = self._chain.forward_batch(command.positions[:, :-1])[:, :3, 3]
        self._check("tool of a command", TOOL, tool, self._least, self._most)
        position, velocity = command.positions[0], command.velocities[0]
        if self._commands and not self._follows(self._commands[-1][0], heard):
            self._commands.clear()
        for apart in (n for n in APART if n <= len(self._commands)):
            before, where, fast = self._commands[-apart]
            gap_s = (heard.published_ns - before.published_ns) / 1e9 + JITTER_S
            self._check("leap of a command", names, position - where, -speed * gap_s, speed * gap_s)
            most = self._joint_acceleration * gap_s
            self._check("change of a commanded speed", names, velocity - fast, -most, most)
        self._commands.append((heard, position, velocity))

    def settle(self, ledger: Ledger) -> None:
        """At the end: a step counts if a source drove all the while. Whoever arms, disarms or stops puts the reference
        onto the robot, which does not move it."""
        for step in self._steps:
            if ledger.driven(step.from_ns, step.to_ns):
                self._break("step of a safe action", step.sentence)

    def _follows(self, before: Heard, after: Heard) -> bool:
        missing = max(0, after.number - before.number - 1)
        self.lost += missing
        return missing == 0

    def _check(self, what: str, names: Sequence[str], values: Array, lower: Array, upper: Array) -> None:
        wrong = outside(names, values, lower, upper)
        if wrong:
            self._break(what, wrong)

    def _break(self, invariant: str, sentence: str) -> None:
        self.broken[invariant] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{invariant}: {sentence}")


def outside(names: Sequence[str], values: Array, lower: Array, upper: Array) -> str:
    """The first of `values` `(n,)` or `(k, n)` that is not a member of [lower, upper], as a sentence; "" for none."""
    table = np.atleast_2d(values)
    good = (lower - ROUNDING <= table) & (table <= upper + ROUNDING)
    if good.all():
        return ""
    row, column = np.argwhere(~good)[0]
    return f"{names[column]} {table[row, column]:.6g}, allowed {lower[column]:.6g} to {upper[column]:.6g}"


class Ledger:
    """Transition records on safety/verdict against changes of the state on safety/state, as they were published.

    Counting begins with the first state published after `begin`, and ends with the last. Then: records; unchained: how
    many did not begin where the one before ended; expected, changes: of the state, by the records and by the states;
    stops: rule -> how many; lost: messages that DDS did not bring here.
    """

    def __init__(self) -> None:
        self._states: list[tuple[int, str]] = []
        self._verdicts: list[tuple[int, list[dict[str, str]]]] = []
        self._numbers: dict[str, int] = {}
        self._begin_ns = 0
        self.records = self.unchained = self.expected = self.changes = self.lost = 0
        self.stops: Counter[str] = Counter()

    def begin(self, now_ns: int) -> None:
        """ROS time."""
        self._begin_ns = now_ns

    def on_state(self, heard: Heard) -> None:
        """One message of safety/state."""
        self._number("state", heard)
        self._states.append((heard.published_ns, values_of(heard.message.status[0])["state"]))

    def on_verdict(self, heard: Heard) -> None:
        """One message of safety/verdict."""
        self._number("verdict", heard)
        records = [values_of(status) for status in heard.message.status[1:]]
        if records:
            self._verdicts.append((heard.published_ns, records))

    def driven(self, from_ns: int, to_ns: int) -> bool:
        """Whether a source was in charge by all states from the last before `from_ns` to the first after `to_ns`."""
        times = np.array([ns for ns, _ in self._states])
        first = max(0, int(times.searchsorted(from_ns, side="right")) - 1)
        last = int(times.searchsorted(to_ns))
        return all(state in DRIVEN for _, state in self._states[first : last + 1])

    def settle(self) -> None:
        """At the end: counts. Several records in one verdict are one change of the state, or none."""
        states = [(ns, state) for ns, state in self._states if ns >= self._begin_ns]
        if not states:
            return
        (start_ns, after), end_ns = states[0], states[-1][0]
        self.changes = sum(one != other for (_, one), (_, other) in pairwise(states))
        for ns, records in self._verdicts:
            if start_ns < ns < end_ns:
                before = after
                for record in records:
                    self.unchained += record["from"] != after
                    after = record["to"]
                    self.stops[record["rule"]] += record["to"] in STOPS
                self.records += len(records)
                self.expected += before != after
        self.stops = +self.stops

    def _number(self, topic: str, heard: Heard) -> None:
        before = self._numbers.get(topic)
        if before is not None and heard.published_ns >= self._begin_ns > 0:
            self.lost += max(0, heard.number - before - 1)
        self._numbers[topic] = heard.number
