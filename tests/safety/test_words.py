"""Every sentence that the monitor says, whole: it is all that an operator has when the arm has stopped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from policy_bringup.core.errors import ConfigError
from policy_bringup.safety.limits import Limits
from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, EStop, Fault, Proposal, Reload, Reset

MS = 1_000_000


def sentence(b, **changes):
    b.propose(**changes)
    return b.tick().reason.sentence


def test_what_is_wrong_with_an_action_is_said_in_these_words(bench):
    b = bench(threshold=0.5).ready()
    b.propose()
    assert b.tick().reason is None
    old = b.monitor._m.sources["policy"].stamp_ns
    columns = "tool.x, tool.y, tool.z, tool.rx, tool.ry, tool.rz, gripper.width, gripper.force"
    times = "the times of the action must not be negative, and at least half a tick apart"
    for change, words in (
        ({"publishers": 3}, "policy must have exactly one publisher on its topic"),
        ({"names": ()}, f"the columns of the action must be {columns}"),
        ({"values": None}, "the action must have 1 to 16 steps of 8 numbers, times and stamps"),
        ({"values": np.full((16, 8), np.nan)}, "a number of the action is not finite"),
        ({"times_s": -np.arange(16.0)}, times),
        ({"stamp_ns": old}, "the stamp of the action is not newer than that of the last accepted one"),
        ({"received_ns": b.now_ns - 990 * MS}, "age of the action by arrival 1.060 s is above its limit 0.250 s"),
        ({"uncertainty": None}, "the uncertainty of the action is missing or not finite"),
        ({"uncertainty": np.full(16, 0.75)}, "uncertainty 0.750  is above its limit 0.500 "),
        ({"target": np.array([0.5, 0.5, 0.3, 0, 0, 0, 0.04, 10])}, "tool.y 0.500 m is above its limit 0.400 m"),
        ({"steps": 1, "times_s": np.array([0.001])}, "every step of the action lies in the past"),
    ):
        assert sentence(b, **change) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_acceleration": 10.0, "upper": 0.51}, "tool.x after braking 0.512 m is above its limit 0.510 m"),
        ({"max_velocity": 0.15}, "tool.x velocity 0.200 m/s is above its limit 0.150 m/s"),
        ({"max_acceleration": 10.0}, "tool.x velocity change in a tick 0.200 m/s is above its limit 0.100 m/s"),
        ({"max_window": 0.008}, "tool.x change in 250 ms 0.010 m is above its limit 0.008 m"),
        ({"max_step": 0.001}, "tool.x step 0.002 m is above its limit 0.001 m"),
    ],
)
def test_what_is_abrupt_is_said_in_these_words(bench, kit, change, words):
    wide = {"max_velocity": 9.0, "max_acceleration": 1e6, "max_step": 9.0, "max_window": 9.0}
    b = bench(columns=kit.columns(tool_x={**wide, **change})).active()
    b.propose(velocity=np.array([0.2, 0, 0, 0, 0, 0, 0, 0]), steps=1)
    if "upper" in change:
        b.propose(target=b.pose + np.array([0.01, 0, 0, 0, 0, 0, 0, 0]), steps=1)
    assert b.tick().reason.sentence == words


def test_what_is_wrong_with_the_joint_state_is_said_in_these_words(bench):
    b = bench()
    b.tick(measure=False)
    assert b.step(Arm(True)).sentence == "no joint state has arrived yet"
    b.ready()
    malformed = "the joint state has a wrong shape or type, or a number that is not finite"
    assert b.measure(joints=np.full(7, np.nan)).sentence == malformed
    b.tick(measure=False)
    assert b.step(Arm(True)).sentence == malformed
    rivalled = "joint_states must have exactly one publisher, the same all along"
    assert b.measure(publishers=2).sentence == rivalled
    b.tick(measure=False)
    assert b.step(Arm(True)).sentence == rivalled
    b.joints[3] = 2.5
    b.tick()
    assert b.step(Arm(True)).sentence == "joint3 2.500 rad is above its limit 2.020 rad"


def test_a_frozen_joint_state_is_said_in_these_words(bench):
    b = bench().active()
    stuck = {"joints": np.zeros(7), "columns": b.pose.copy()}
    for i in range(80):
        if i % 5 == 0:
            b.propose(velocity=np.array([0.1, 0, 0, 0, 0, 0, 0, 0]))
        b.now_ns += b.period_ns
        b.measure(**stuck)
        b.tick(after_ns=0, measure=False)
        if b.last.state is State.FALLBACK:
            break
    frozen = "the joint state is frozen: the command has changed and it has not"
    assert b.last.transitions[0].reason.sentence == frozen


def told(b, after=1):
    """(who, from, to, rule, sentence) of each transition in the next ticks."""
    records = [r for verdict in b.ticks(after) for r in verdict.transitions]
    return [(r.who, r.from_state.name, r.to_state.name, r.reason.rule.name, r.reason.sentence) for r in records]


def test_every_transition_tells_who_made_it_and_why(bench):
    b = bench(auto_resume=True, resume_time_s=0.0, resume_proposals=2, estop_heartbeat_s=0.25)
    b.step(EStop(False))
    assert told(b, 2) == [("monitor", "INIT", "READY", "STATE", "the joint state is fresh")]
    b.propose()
    b.tick()
    b.step(Arm(True))
    assert told(b) == [("operator", "READY", "ACTIVE", "OPERATOR", "armed for policy")]
    beyond = np.array([9.0, 0, 0.3, 0, 0, 0, 0.04, 10])
    high = "tool.x 9.000 m is above its limit 0.750 m"
    b.propose(target=beyond)
    assert told(b) == [("policy", "ACTIVE", "RETRY", "BOUNDS", high)]
    b.propose()
    assert told(b) == [("policy", "RETRY", "ACTIVE", "RESUME", "an action was accepted again")]
    for _ in range(3):  # one try is gone, and a quarter of it came back
        b.propose(target=beyond)
        last = told(b)
    assert last == [("policy", "RETRY", "FALLBACK", "BOUNDS", high)]
    b.propose()
    assert told(b) == []
    b.propose()
    assert told(b) == [("monitor", "FALLBACK", "ACTIVE", "RESUME", "the source has been good for long enough")]
    b.step(Arm(False))
    assert told(b) == [("operator", "ACTIVE", "READY", "OPERATOR", "disarmed")]
    b.step(EStop(True))
    assert told(b) == [("operator", "READY", "ESTOP", "ESTOP", "the e-stop is pressed")]
    b.ticks(60, lambda i: b.step(EStop(False)))
    assert b.step(Reset()).accepted
    assert told(b) == [("operator", "ESTOP", "READY", "OPERATOR", "reset")]
    lost = "the heartbeat of the e-stop is lost"
    assert told(b, 30) == [("monitor", "READY", "ESTOP", "ESTOP", lost)]
    b.step(Fault("the self-test failed"))
    assert told(b) == [("monitor", "ESTOP", "FAULT", "FAULT", "the self-test failed")]


def test_silence_and_an_error_are_told_in_these_words(bench):
    b = bench(max_retries=0).active()
    silence = "policy has fallen silent: its last action is too old"
    assert told(b, 30) == [("policy", "ACTIVE", "FALLBACK", "AGE", silence)]
    b.limits.joint_lower = None
    assert told(b) == [("monitor", "FALLBACK", "FAULT", "FAULT", "error in the monitor: TypeError")]


def test_refused_events_are_answered_in_these_words(bench, kit):
    b = bench().ready()
    assert b.step(None).sentence == "unknown event"
    assert b.step(Proposal(None, 1)).sentence == "the source of the action is unknown"
    assert b.step(Arm(True)).sentence == "no source has proposed an acceptable action in time"
    assert b.step(Arm(None)).sentence == "cannot arm in READY"
    assert b.step(Reset()).sentence == "there is nothing to reset in READY"
    other = "the limits are for another contract, robot, sources or tick rate"
    assert b.step(Reload(None)).sentence == other
    b.step(EStop(True))
    assert b.step(Reset()).sentence == "the e-stop is pressed, or its heartbeat is lost"
    b.step(EStop(False))
    unsteady = "the joint state is not fresh, or the arm has not been still for long enough"
    assert b.step(Reset()).sentence == unsteady
    wider = "new limits are wider, or exclude where the arm is, and the state is not READY"
    assert b.step(Reload(kit.limits(threshold=2.0))).sentence == wider
    assert b.monitor.tick(b.now_ns, b.stamp_ns).transitions[-1].reason.sentence == wider


def test_a_higher_source_that_takes_over_from_a_retry_is_named(bench):
    b = bench().active()
    b.propose(target=np.full(8, 9.0))
    b.tick()
    b.propose(source="home")
    assert told(b) == [("home", "RETRY", "ACTIVE", "RESUME", "an action was accepted again")]


def test_impossible_limits_are_refused_in_these_words(kit):
    def refusal(make):
        with pytest.raises(ConfigError) as caught:
            make()
        return str(caught.value)

    positive = "max_step, max_velocity, max_acceleration, max_window, tolerance"
    names = "tool.x, tool.y, tool.z, tool.rx, tool.ry, tool.rz, gripper.width, gripper.force"
    columns, twice = kit.columns(), kit.spec(("tool.x", "tool.x"), ("m", "m"))
    rate = (dataclasses.replace(columns[0], name="vx"),)
    joints = (dataclasses.replace(kit.joints()[0], lower=3.0),)
    for make, needs in (
        (lambda: kit.limits(columns=columns[1:]), "must list the action columns in order"),
        (lambda: kit.limits(columns=columns[:1] * 2, spec=twice), "must name each column once"),
        (lambda: Limits(kit.config, kit.spec((), ()), (), kit.joints(), 1.0), "must name each column once"),
        (lambda: kit.limits(columns=kit.columns(tool_z={"max_step": 0.0})),
         f"tool.z needs {positive} finite and above zero"),
        (lambda: kit.limits(columns=rate, spec=kit.spec(("vx",), ("m/s",))),
         "vx commands a velocity: its bounds must contain zero"),
        (lambda: kit.limits(columns=kit.columns(tool_z={"lower": 9.0})), "tool.z needs finite lower <= upper"),
        (lambda: kit.limits(joints=joints), "joint0 needs finite lower <= upper"),
        (lambda: kit.limits(threshold=-1.0), "need a finite uncertainty_threshold >= 0"),
        (lambda: kit.limits(sources=()), "need sources, each named once"),
        (lambda: kit.limits(late_tick_s=0.01), "need a late_tick_s of at least two ticks"),
        (lambda: kit.limits(fallback="open_gripper", gripper_column=None), f"need a gripper_column out of {names}"),
    ):  # fmt: skip
        assert refusal(make) == f"safety limits {needs}"


def test_states_and_rules_have_names_of_their_own():
    assert (repr(State.READY), repr(Rule.BOUNDS)) == ("<State.READY: 2>", "<Rule.BOUNDS: 8>")
