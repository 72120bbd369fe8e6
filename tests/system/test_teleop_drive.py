"""Teleop drives the simulated arm through the real monitor and the real arm controller: all in one process, no ROS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.arm import load_arm
from policy_bringup.control.emitted import EmittedTrack
from policy_bringup.control.handover import Handover
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.operator_input import TeleopCommand
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.control.teleop import Moment, Teleop
from policy_bringup.control.teleop_config import TeleopConfig
from policy_bringup.core.config import load
from policy_bringup.core.types import ActionChunk, Array, JointCommand, StateSample
from policy_bringup.safety.limits import Limits
from policy_bringup.safety.monitor import SafetyMonitor, Verdict
from policy_bringup.safety.reasons import State
from policy_bringup.safety.state import Arm, Measured, Proposal
from policy_bringup.sim.rollout import load_stack
from policy_bringup.sim.world import World

MS = 1_000_000
TICK_NS = 10 * MS
RELEASED = TeleopCommand(np.zeros(3), np.zeros(3), 0.0, False)


def command(linear=(0.0, 0.0, 0.0), angular=(0.0, 0.0, 0.0), gripper: float = 0.0) -> TeleopCommand:
    return TeleopCommand(np.array(linear), np.array(angular), gripper, True)


class Cell:
    """One robot cell at 100 Hz; teleop at 20 Hz, from a joint state that is `late` ticks old."""

    def __init__(self, config_folder: Path, late: int) -> None:
        stack = load_stack(config_folder)
        robot, self.action = stack.robot, stack.deployment.contract.action
        chain = Chain.from_urdf(stack.urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
        limits = Limits(stack.safety, self.action, stack.deployment.limits, robot.joints, 0.5)
        teleop = load(config_folder / "teleop.yaml", TeleopConfig)
        self.teleop = Teleop(robot, chain, self.action, stack.deployment.limits, teleop.motion, TICK_NS / 1e9)
        self.handover, self.emitted = Handover(teleop.handover_timeout_s), EmittedTrack()
        self.monitor, self.world = SafetyMonitor(limits), World(stack.sim, robot)
        self.arm = load_arm(robot, stack.urdf, self.action, stack.arm, stack.deployment.limits)
        self._proprioception, self._late = Proprioception(robot, chain), late
        self._steps = round(stack.sim.physics_hz * TICK_NS / 1e9)
        self._history: list[tuple[int, Array]] = []
        self._begun, self._ticks = False, 0
        self.verdicts: list[Verdict] = []
        self.tracking: list[float] = []

    @property
    def now_ns(self) -> int:
        return 1_000_000_000 + round(self.world.time_s * 1e9)

    @property
    def measured(self) -> Array:
        return self._history[-1][1]

    def tick(self, hand: TeleopCommand, other: ActionChunk | None = None) -> Verdict:
        """Everything once, in the order in which it happens."""
        now = self.now_ns
        joints, width = self._sense(now)
        if other is not None:
            self.monitor.step(Proposal(other, 1), now)
        ask = self.handover.tick(hand.deadman, now)
        if ask is not None:
            self.monitor.step(Arm(ask), now)
        if self._ticks % 5 == 0 and self.handover.proposes(now):
            stamp, measured = self._history[max(0, len(self._history) - 1 - self._late)]
            chunk = self.teleop.drive(hand, Moment(stamp, measured, self.emitted.newest, self.handover.live))
            self.monitor.step(Proposal(replace(chunk, received_ns=now), 1), now)
        verdict = self.monitor.tick(now, now)
        self.verdicts.append(verdict)
        self._act(verdict, joints, width, now)
        self.world.step(self._steps)
        self._ticks += 1
        if self._ticks % 10 == 0:  # safety/state comes at 10 Hz
            self.handover.hear(verdict.state.name, verdict.selected, self.monitor.offered)
        return verdict

    def run(self, hand: TeleopCommand, seconds: float) -> list[Verdict]:
        return [self.tick(hand) for _ in range(round(seconds * 1e9 / TICK_NS))]

    def take(self) -> None:
        self.run(RELEASED, 0.1)
        self.handover.take(self.now_ns)
        self.run(RELEASED, 0.5)
        assert self.handover.in_charge

    def _sense(self, now: int) -> tuple[Array, float]:
        raw = self.world.joint_sample()
        sample = StateSample(now, now, raw.names, raw.positions)
        joints, width = self._proprioception.joints(sample)
        columns = self._proprioception.measured(sample, self.action)
        self._history.append((now, columns))
        self.monitor.step(Measured(now, now, joints, columns), now)
        if not self._begun:
            self._send(self.arm.begin(joints, width, now))
            self._begun = True
        self.arm.measured(joints, now)
        return joints, width

    def _act(self, verdict: Verdict, joints: Array, width: float, now: int) -> None:
        if verdict.output is None:
            return
        self.emitted.add(now, verdict.output)
        self.tracking.append(float(np.abs(verdict.output[:3] - self.measured[:3]).max()))
        self._send(self.arm.follow(self.action.names, verdict.output, now))

    def _send(self, sent: JointCommand) -> None:
        self.world.command(sent, self.world.time_s)


@pytest.fixture(params=[0, 2], ids=["prompt", "late"])
def cell(request, config_folder: Path) -> Cell:
    return Cell(config_folder, request.param)


def assert_passed(verdicts: list[Verdict]) -> None:
    """No tick on which anything was refused, and no other state than ACTIVE, under teleop."""
    refused = {verdict.reason.sentence for verdict in verdicts if verdict.reason is not None}
    assert not refused
    assert {(verdict.state, verdict.selected) for verdict in verdicts} == {(State.ACTIVE, "teleop")}


def test_driving_in_every_direction_passes_safety_and_moves_the_arm(cell: Cell):
    cell.take()
    driven: list[Verdict] = []
    for axis in range(6):
        for sign in (1.0, -1.0):
            part = sign * np.eye(3)[axis % 3]
            hand = command(0.12 * part) if axis < 3 else command(angular=0.5 * part)
            before = cell.measured
            driven += cell.run(hand, 0.7)
            went = cell.measured - before
            assert abs(went[axis if axis < 3 else 0]) > 0.05 or axis >= 3
            driven += cell.run(RELEASED, 0.4)
    assert_passed(driven)
    assert cell.arm.counts.unsolved == cell.arm.counts.second_line == 0


def test_a_hand_that_changes_its_mind_at_random_is_never_refused(cell: Cell):
    cell.take()
    random = np.random.default_rng(5)
    driven: list[Verdict] = []
    for _ in range(60):
        parts = random.uniform(-1.0, 1.0, 6)
        held = random.random() < 0.8
        hand = command(0.07 * parts[:3], 0.28 * parts[3:], float(random.integers(-1, 2))) if held else RELEASED
        driven += cell.run(hand, float(random.uniform(0.05, 0.4)))
    assert_passed(driven)


def test_driven_against_every_wall_of_the_workspace_it_stops_there_without_a_refusal(cell: Cell):
    cell.take()
    driven: list[Verdict] = []
    for linear, seconds in (((0, 0.12, 0), 4.5), ((-0.12, 0, 0), 2.5), ((0, 0, -0.12), 4.5)):
        driven += cell.run(command(linear), seconds)
    assert_passed(driven)
    np.testing.assert_allclose(cell.measured[:3], [0.25, 0.4, 0.005], atol=0.005)


def test_driven_out_of_the_arms_reach_the_target_waits_and_is_given_up_by_letting_go(cell: Cell):
    """The far corner of the workspace is further away than the arm is long."""
    cell.take()
    driven = cell.run(command([0.12, 0.0, 0.0]), 3.5) + cell.run(command([0.0, 0.12, 0.0]), 2.0)
    assert 0.05 < driven[-1].output[1] - cell.measured[1] <= 0.06
    driven += cell.run(RELEASED, 0.5)
    assert_passed(driven)
    np.testing.assert_allclose(driven[-1].output[:6], cell.measured[:6], atol=0.003)


def test_a_leash_ends_before_the_monitor_takes_the_arm_for_one_that_does_not_follow(config_folder: Path):
    stack = load_stack(config_folder)
    limits = Limits(stack.safety, stack.deployment.contract.action, stack.deployment.limits, stack.robot.joints, 0.5)
    motion = load(config_folder / "teleop.yaml", TeleopConfig).motion
    leash = np.repeat([motion.linear_leash, motion.angular_leash], 3)
    assert (leash + 0.2 * limits.tolerance[:6] < limits.following[:6]).all()


def test_a_released_arm_rests_and_stays_and_safety_stays_active(cell: Cell):
    cell.take()
    cell.run(command([0.0, 0.1, 0.0]), 0.5)
    cell.run(RELEASED, 0.5)
    rest = cell.measured
    held = cell.run(RELEASED, 3.0)
    assert_passed(held)
    assert np.abs(cell.measured - rest)[:6].max() < 0.002


def policy_chunk(cell: Cell, velocity: float) -> ActionChunk:
    """A policy on its way in y, from where the output is."""
    spec, last = cell.action, cell.verdicts[-1].output
    times = spec.dt_s * np.arange(1.0, spec.steps + 1.0)
    values = np.tile(last, (spec.steps, 1))
    values[:, 1] += velocity * times
    return ActionChunk("policy", cell.now_ns, cell.now_ns, spec.names, times, values, np.zeros(spec.steps))


def drive_policy(cell: Cell, seconds: float, velocity: float, hand: TeleopCommand = RELEASED) -> list[Verdict]:
    verdicts = []
    for i in range(round(seconds * 1e9 / TICK_NS)):
        verdicts.append(cell.tick(hand, policy_chunk(cell, velocity) if i % 5 == 0 else None))
    return verdicts


@pytest.mark.parametrize("speed", [0.0, 0.1, 0.3])
def test_pressing_the_dead_man_takes_over_a_policy_in_motion_and_a_button_hands_back(cell: Cell, speed: float):
    cell.run(RELEASED, 0.2)
    drive_policy(cell, 0.2, 0.0)
    assert cell.monitor.step(Arm(True), cell.now_ns).accepted
    for ramp in np.linspace(0.0, speed, 10):
        drive_policy(cell, 0.05, ramp)
    assert drive_policy(cell, 0.2, speed)[-1].selected == "policy"
    taken = drive_policy(cell, 0.2, speed, command([0.05, 0.0, 0.0]))
    first = next(i for i, verdict in enumerate(taken) if verdict.selected == "teleop")
    assert first <= 6
    assert {verdict.selected for verdict in taken[first:]} == {"teleop"}
    drive_policy(cell, 0.5, 0.0)
    rest = cell.measured
    assert_passed(drive_policy(cell, 1.0, 0.0))
    assert np.abs(cell.measured - rest)[:6].max() < 0.002
    cell.handover.hand_back(cell.now_ns)
    handed = drive_policy(cell, 1.5, 0.0)
    assert handed[-1].selected == "policy"
    assert {verdict.state for verdict in handed} == {State.ACTIVE, State.READY}


def test_a_tap_that_ends_before_safety_has_said_so_still_ends_in_a_held_pose(cell: Cell):
    cell.run(RELEASED, 0.2)
    drive_policy(cell, 0.2, 0.0)
    assert cell.monitor.step(Arm(True), cell.now_ns).accepted
    drive_policy(cell, 0.3, 0.0)
    drive_policy(cell, 0.06, 0.0, command([0.05, 0.0, 0.0]))
    assert_passed(drive_policy(cell, 2.0, 0.0))
