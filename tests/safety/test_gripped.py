"""A gripper that its button has moved: safety goes on from what the button said, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.safety.reasons import State
from policy_bringup.safety.state import Arm, EStop, Fault, Gripped

CLOSED = np.array([np.nan, 9.0, -np.inf, 0.0, 0.0, 7.0, 0.0, 30.0])
"""Closed with 30 N; what it says of other columns does not count."""


def grip(width: float = 0.0, force: float = 30.0) -> Gripped:
    return Gripped(np.array([*CLOSED[:6], width, force]))


def fallen(b):
    """In FALLBACK, since the source in charge has a rival."""
    b.propose(publishers=2)
    assert b.tick().state is State.FALLBACK
    return b


def test_what_the_button_said_is_put_out_at_once_and_no_other_column_moves(bench):
    b = bench().ready()
    before = b.last.output
    reply = b.step(grip())
    assert (reply.accepted, reply.sentence) == (True, "accepted")
    for verdict in b.ticks(5):
        assert (verdict.state, verdict.transitions) == (State.READY, ())
        np.testing.assert_array_equal(verdict.output, [*before[:6], 0.0, 30.0])


@pytest.mark.parametrize("falls", [False, True])
def test_armed_after_its_button_a_gripper_holds_on_although_it_measures_otherwise(bench, falls):
    b = fallen(bench().active()) if falls else bench().ready()
    b.follows = False
    b.pose[6:] = 0.03, 0.0  # fingers on a thing; nothing tells the force
    b.step(grip())
    b.tick()
    b.propose(target=[*b.pose[:6], 0.0, 30.0], source="teleop")
    assert b.tick().reason is None
    assert b.step(Arm(True)).accepted
    for verdict in b.ticks(5):
        assert verdict.state is State.ACTIVE
        np.testing.assert_array_equal(verdict.output[6:], [0.0, 30.0])


def test_without_a_button_arming_goes_on_from_what_safety_said_last(bench):
    b = bench().ready()
    b.follows = False
    b.pose[6:] = 0.03, 0.0
    b.tick()
    b.propose()
    b.tick()
    b.step(Arm(True))
    np.testing.assert_array_equal(b.tick().output[6:], [0.04, 10.0])


def test_the_last_word_of_the_button_counts(bench):
    b = bench().ready()
    b.step(grip())
    b.tick()
    b.step(grip(0.05, 20.0))
    np.testing.assert_array_equal(b.tick().output[6:], [0.05, 20.0])


def test_a_path_from_there_is_acceptable_at_once(kit):
    """Else the jump would count as a motion for the next 250 ms."""
    b = kit.bench(kit.limits(columns=kit.columns(gripper_width={"max_window": 0.02}))).ready()
    b.step(grip())
    b.tick()
    b.propose(target=[*b.pose[:6], 0.0, 30.0])
    assert b.tick().reason is None
    assert b.monitor.offered == "policy"


def test_an_arm_that_brakes_goes_on_braking_and_the_gripper_stands(kit):
    slow = {"gripper_width": {"max_acceleration": 3.0}, "tool_x": {"max_acceleration": 3.0}}
    way = 0.25 * (0.05 * np.arange(1, 17)) ** 2
    plain, gripped = (kit.bench(kit.limits(columns=kit.columns(**slow), fallback="stop")) for _ in range(2))
    for b in (plain, gripped):
        b.active()
        b.propose(values=b.last.output + way[:, None] * np.array([1, 0, 0, 0, 0, 0, -1, 0]))
        b.ticks(24)
        fallen(b)
    assert gripped.step(grip(0.02)).accepted
    for _ in range(2):
        before = plain.last.output
        expected, found = plain.tick().output, gripped.tick().output
        assert (expected - before)[0] > 0.0 > (expected - before)[6], "still braking"
        np.testing.assert_array_equal(found, [*expected[:6], 0.02, 30.0])


@pytest.mark.parametrize("state", ["INIT", "ACTIVE", "RETRY", "ESTOP", "FAULT"])
def test_in_any_other_state_the_button_does_not_count(bench, state):
    b = bench()
    if state != "INIT":
        b.active()
    if state == "RETRY":
        b.propose(uncertainty=None)
        b.tick()
    elif state in ("ESTOP", "FAULT"):
        b.step(EStop(True) if state == "ESTOP" else Fault("self-test"))
    assert b.monitor.state.name == state
    before = b.monitor._m.reference.value
    reply = b.step(grip())
    assert (reply.accepted, reply.sentence) == (False, f"the gripper's button does not count in {state}")
    np.testing.assert_array_equal(b.monitor._m.reference.value, before)


@pytest.mark.parametrize(("width", "force"), [(0.0, 0.0), (0.08, 60.0)])
def test_a_command_on_its_bounds_is_taken(bench, width, force):
    b = bench().ready()
    assert b.step(grip(width, force)).accepted
    np.testing.assert_array_equal(b.tick().output[6:], [width, force])


@pytest.mark.parametrize(
    ("width", "force", "sentence"),
    [
        (np.nextafter(0.0, -1.0), 30.0, "gripper.width -0.000 m is below its limit 0.000 m"),
        (np.nextafter(0.08, 1.0), 30.0, "gripper.width 0.080 m is above its limit 0.080 m"),
        (0.0, np.nextafter(0.0, -1.0), "gripper.force -0.000 N is below its limit 0.000 N"),
        (0.0, np.nextafter(60.0, 99.0), "gripper.force 60.000 N is above its limit 60.000 N"),
        (np.nan, 30.0, "gripper.width nan m is above its limit 0.080 m"),
        (0.0, np.nan, "gripper.force nan N is above its limit 60.000 N"),
        (np.inf, 30.0, "gripper.width inf m is above its limit 0.080 m"),
        (-np.inf, 30.0, "gripper.width -inf m is below its limit 0.000 m"),
    ],
)
def test_a_command_beyond_its_bounds_or_without_a_number_is_refused(bench, width, force, sentence):
    b = bench().ready()
    before = b.last.output
    reply = b.step(grip(width, force))
    assert (reply.accepted, reply.sentence) == (False, sentence)
    np.testing.assert_array_equal(b.tick().output, before)
    assert b.last.state is State.READY


@pytest.mark.parametrize(
    "columns", [None, "closed", True, [0.0] * 8, CLOSED[1:], CLOSED[None], CLOSED.astype(np.float32), CLOSED > 0.0]
)
def test_what_is_no_table_of_the_contract_is_refused(bench, columns):
    b = bench().ready()
    before = b.last.output
    reply = b.step(Gripped(columns))
    assert (reply.accepted, reply.sentence) == (False, "the gripper's command has a wrong shape or type")
    np.testing.assert_array_equal(b.tick().output, before)
    assert b.last.state is State.READY
