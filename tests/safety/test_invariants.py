"""I1 to I21 of the specification, as properties of a monitor that is fed good, bad and hostile inputs in any order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from policy_bringup.safety.limits import Limits
from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, EStop, Fault, Gripped, Proposal, Reload, Reset

MS = 1_000_000
MOVING = (State.ACTIVE, State.RETRY, State.FALLBACK)


def hostile(b, kind):
    """Changes to a good chunk that must each be refused."""
    values, uncertainty = b.chunk().values, np.zeros(16)
    nan, late = values.copy(), values.copy()
    nan[7, 3], late[0, 2] = np.nan, 0.0
    jump = values + 0.15
    names = b.limits.spec.names
    return {
        "nan": {"values": nan},
        "bounds": {"values": late},
        "jump": {"values": jump},
        "none": {"values": None},
        "text": {"uncertainty": "low"},
        "flag": {"values": values > 0},
        "unsure": {"uncertainty": uncertainty + 1.001},
        "unknown": {"uncertainty": uncertainty + np.nan},
        "permuted": {"names": names[1:] + names[:1]},
        "huge": {"values": np.zeros((1, 10**6))},
        "zero": {"stamp_ns": 0},
        "old": {"stamp_ns": b.stamp_ns - 251 * MS},
        "future": {"stamp_ns": b.stamp_ns + 3600 * 10**9},
        "arrived": {"received_ns": b.now_ns - 251 * MS},
    }[kind]


KINDS = [
    *("nan", "bounds", "jump", "none", "text", "flag", "unsure", "unknown"),
    *("permuted", "huge", "zero", "old", "future", "arrived"),
]


class Machine(RuleBasedStateMachine):
    """Good and bad things happen; the invariants hold after each."""

    make = None  # the fixture's maker of benches

    @initialize(
        fallback=st.sampled_from(["hold", "stop", "open_gripper"]),
        auto_resume=st.booleans(),
        retry_refill=st.sampled_from([0.25, None]),
        acceleration=st.sampled_from([3.0, 12.0, 1000.0]),
        armed=st.booleans(),
    )
    def start(self, fallback, auto_resume, retry_refill, acceleration, armed):
        kit = type(self).make
        columns = kit.columns(tool_x={"max_acceleration": acceleration}, tool_z={"max_acceleration": acceleration})
        config = {"fallback": fallback, "auto_resume": auto_resume, "retry_refill": retry_refill}
        self.b = kit.bench(kit.limits(columns=columns, **config))
        self.allowed = False  # an arm newer than any e-stop or disarm
        self.seen, self.rebases, self.rejected = 0, set(), 0
        self.gripped = set()  # verdicts by whose time a button had moved the gripper
        if armed:
            self.b.active()
            self.allowed = True

    def teardown(self):
        if hasattr(self, "b"):
            self.chain()

    # What happens

    @rule(speed=st.floats(-0.5, 0.5), column=st.sampled_from([0, 1, 2, 3, 6]), ticks=st.integers(1, 30))
    def move(self, speed, column, ticks):
        velocity = np.zeros(8)
        velocity[column] = speed
        self.b.propose(velocity=velocity)
        self.b.ticks(ticks)

    @rule(
        offsets=st.lists(st.floats(-0.01, 0.01), min_size=8, max_size=8), source=st.sampled_from(["policy", "teleop"])
    )
    def nudge(self, offsets, source):
        start = self.b.last.output if self.b.verdicts and self.b.last.output is not None else self.b.pose
        self.b.propose(target=start + np.array(offsets), source=source)
        self.b.tick()

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 5))
    def mislead(self, kind, count):
        """By the source that drives: another one would not even be judged."""
        for _ in range(count):
            before, driver = (self.b.last.stamp_ns, self.b.last.selected) if self.b.verdicts else (0, "")
            chunk = {"source": driver or "policy", **hostile(self.b, kind)}
            self.b.step(Proposal(self.b.chunk(**chunk), 1))
            verdict = self.b.tick()
            if verdict.state in (State.ACTIVE, State.RETRY):
                assert verdict.stamp_ns in (before, 0) or before == 0  # I18: nothing of it passed
                assert verdict.reason is not None  # I11

    @rule(ticks=st.integers(1, 40))
    def wait(self, ticks):
        self.b.ticks(ticks)

    @rule(ms=st.sampled_from([0, 1, 4, 16, 25, 59, 61, 300]))
    def stall(self, ms):
        self.b.tick(after_ns=ms * MS)

    @rule(hours=st.sampled_from([-1, 1]))
    def jump_the_clock(self, hours):
        self.b.stamp_offset_ns += hours * 3600 * 10**9
        self.b.tick()

    @rule(ticks=st.integers(1, 15))
    def lose_the_joint_state(self, ticks):
        for _ in range(ticks):
            self.b.tick(measure=False)

    @rule(shift=st.floats(-0.03, 0.03))
    def push_the_arm(self, shift):
        self.b.pose = self.b.pose + shift * np.array([1, 1, 1, 0, 0, 0, 0, 0])
        self.b.tick()

    @rule(width=st.sampled_from([0.0, 0.03, 0.08, 0.081, np.nan]), force=st.sampled_from([0.0, 30.0, 61.0]))
    def press_the_grippers_button(self, width, force):
        before, state = self.b.monitor._m, self.b.monitor.state
        reply = self.b.step(Gripped(np.array([*np.full(6, np.nan), width, force])))
        after = self.b.monitor._m
        assert after.state is state
        if reply.accepted:
            assert state in (State.READY, State.FALLBACK)  # I2: nobody drives
            assert np.array_equal(after.reference.value[:6], before.reference.value[:6])
            assert np.array_equal(after.reference.velocity[:6], before.reference.velocity[:6])
            self.gripped.add(len(self.b.verdicts))
        else:
            assert after._replace(now_ns=before.now_ns) == before
        self.b.tick()

    @rule()
    def send_a_joint_state_of_nan(self):
        self.b.measure(joints=np.full(7, np.nan))
        self.b.tick(measure=False)

    @rule(publishers=st.sampled_from([0, 2]))
    def join_as_a_second_publisher(self, publishers):
        self.b.propose(publishers=publishers)
        self.b.tick()

    @rule(on=st.booleans())
    def arm(self, on):
        self.b.propose()
        self.b.tick()
        before = self.b.monitor.state
        reply = self.b.step(Arm(on))
        if not reply.accepted:
            assert self.b.monitor.state is before  # I8
        elif on:
            assert before in (State.READY, State.FALLBACK)
        self.allowed = (self.allowed or reply.accepted) if on else False
        self.b.tick()

    @rule(pressed=st.booleans())
    def emergency_stop(self, pressed):
        self.b.step(EStop(pressed))
        if pressed:
            self.allowed = False
        self.b.tick()

    @rule(wait=st.booleans())
    def reset(self, wait):
        self.b.ticks(55 if wait else 1)
        before = self.b.monitor.state
        reply = self.b.step(Reset())
        after = self.b.monitor.state
        assert after is (State.READY if reply.accepted else before)  # I7, I8
        assert before is State.ESTOP or not reply.accepted

    @rule(threshold=st.sampled_from([0.9, 1.0, 1.1]))
    def reload(self, threshold):
        before, old = self.b.monitor.state, self.b.limits
        new = Limits(old.config, old.spec, self.columns_of(old), type(self).make.joints(), threshold)
        reply = self.b.step(Reload(new))
        if old.widens(new) and reply.accepted:
            assert before in (State.INIT, State.READY)  # I21
        if reply.accepted:
            self.b.limits = new
        self.b.tick()

    def columns_of(self, limits):
        accelerations = limits.max_acceleration
        kit = type(self).make
        return tuple(
            dataclasses.replace(column, max_acceleration=float(a))
            for column, a in zip(kit.columns(), accelerations, strict=True)
        )

    @precondition(lambda self: len(self.b.verdicts) > 150)
    @rule()
    def fail(self):
        self.b.step(Fault("self-test"))
        self.b.tick()

    # What holds

    @invariant()
    def emissions_are_safe(self):
        if not hasattr(self, "b"):
            return
        b, limits = self.b, self.b.limits
        for i in range(self.seen, len(b.verdicts)):
            verdict = b.verdicts[i]
            if verdict.state is State.INIT:
                assert verdict.output is None  # I12
            if verdict.output is None:
                continue
            output = verdict.output
            assert output.shape == (8,)  # I1
            assert np.isfinite(output).all()
            assert ((limits.lower <= output) & (output <= limits.upper)).all()
            assert verdict.tries <= 3  # I4
            if verdict.state in (State.ACTIVE, State.RETRY):
                assert self.allowed_at(i)  # I2
        self.rates()
        self.seen = len(b.verdicts)

    def allowed_at(self, i):
        """I2, from the records: the last arming is newer than the last e-stop or disarming."""
        records = [record for verdict in self.b.verdicts[: i + 1] for record in verdict.transitions]
        armed = [k for k, r in enumerate(records) if r.to_state is State.ACTIVE and r.from_state is not State.RETRY]
        ended = [k for k, r in enumerate(records) if r.to_state in (State.READY, State.ESTOP)]
        return bool(armed) and armed[-1] > max(ended, default=-1)

    def rates(self):
        """I3: bounded across all transitions, but where the reference was put onto the robot."""
        b, limits = self.b, self.b.limits
        reference = b.monitor._m.reference
        dt_s = b.monitor._m.dt_s
        if not b.verdicts or b.last.output is None:
            return
        assert np.array_equal(reference.value, b.last.output)
        assert (np.abs(reference.velocity) <= limits.max_velocity * (1 + 1e-9) + 1e-12).all()
        assert (np.abs(reference.velocity) * dt_s <= limits.max_step * (1 + 1e-9) + 1e-12).all()
        for i in range(max(self.seen, 2), len(b.verdicts)):
            outputs = [verdict.output for verdict in b.verdicts[i - 2 : i + 1]]
            records = [r for verdict in b.verdicts[i - 1 : i + 1] for r in verdict.transitions]
            moved = {State.READY, State.ACTIVE} | ({State.FALLBACK} if limits.config.fallback == "hold" else set())
            onto_the_robot = any(r.to_state in moved for r in records) or self.recovered(i) or self.recovered(i - 1)
            if any(output is None for output in outputs) or onto_the_robot:
                continue
            spans = [self.span(i - 1), self.span(i)]
            first, second = (outputs[1] - outputs[0]) / spans[0], (outputs[2] - outputs[1]) / spans[1]
            pressed = limits.holds_command & bool({i - 1, i} & self.gripped)
            assert ((np.abs(second) <= limits.max_velocity + 1e-9) | pressed).all()
            change = limits.max_acceleration * max(spans[1], limits.period_s)
            assert ((np.abs(second - first) <= change * (1 + 1e-9) + 1e-6) | pressed).all()

    def span(self, i):
        period_s = self.b.limits.period_s
        return min(max((self.b.times[i] - self.b.times[i - 1]) / 1e9, period_s / 2), 2 * period_s)

    def recovered(self, i):
        """Whether this emission lies at the measured pose after a jump: holding has recovered."""
        if i < 1 or self.b.verdicts[i].output is None or self.b.verdicts[i - 1].output is None:
            return True
        jump = np.abs(self.b.verdicts[i].output - self.b.verdicts[i - 1].output) / self.span(i)
        near = np.abs(self.b.verdicts[i].output - self.b.poses[i]) <= self.b.limits.tolerance * 1.5
        return bool((jump > self.b.limits.max_velocity).any() and near.all())

    @invariant()
    def severity_and_records(self):
        if hasattr(self, "b"):
            self.chain()

    def chain(self):
        """I6, I12, I15: one record per transition, chained; ESTOP leads to READY or FAULT, FAULT nowhere."""
        records = [record for verdict in self.b.verdicts for record in verdict.transitions]
        state = State.INIT
        for record in records:
            assert record.from_state is state
            assert record.to_state is not state
            assert state is not State.FAULT
            if state is State.ESTOP:
                assert record.to_state in (State.READY, State.FAULT)
            state = record.to_state
        if self.b.verdicts:
            assert self.b.last.state is state


def test_the_invariants_hold_whatever_happens(kit):
    machine = type("TestMachine", (Machine,), {"make": kit})
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    share = settings().max_examples / 100  # mutation testing runs with fewer
    sizes = {"max_examples": round(60 * share), "stateful_step_count": 25, "deadline": None}
    sizes |= {"derandomize": True, "database": None}
    run_state_machine_as_test(
        machine,
        settings=settings(suppress_health_check=slow, **sizes),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_i9_adding_a_violation_never_lowers_the_severity(bench, kind):
    for others in range(4):
        plain, worse = bench().active(), bench().active()
        for b in (plain, worse):
            for _ in range(others):
                b.propose(target=np.full(8, 9.0))
                b.tick()
        plain.propose()
        worse.propose(**hostile(worse, kind))
        assert worse.tick().state > plain.tick().state
        worse.step(EStop(True))
        assert worse.tick().state is State.ESTOP
        worse.step(Fault("x"))
        assert worse.tick().state is State.FAULT


@pytest.mark.parametrize("kind", KINDS)
def test_i5_the_fourth_rejection_of_any_kind_gives_the_default_on_that_tick(bench, kind):
    b = bench().active()
    states = []
    for _ in range(4):
        b.propose(**hostile(b, kind))
        states.append(b.tick().state.name)
    assert states == ["RETRY", "RETRY", "RETRY", "FALLBACK"]


def test_i10_a_jump_of_the_clock_never_makes_an_old_action_young(bench):
    for jump_ns in (-3600 * 10**9, -260 * MS, 3600 * 10**9):
        b = bench().active()
        old = b.chunk()
        b.ticks(30)
        assert b.last.state is State.FALLBACK
        b.stamp_offset_ns += jump_ns
        b.step(Proposal(dataclasses.replace(old, stamp_ns=old.stamp_ns + 1), 1))
        assert b.tick().reason.rule in (Rule.AGE, Rule.STATE)


def test_i14_a_hostile_payload_is_refused_without_reading_its_numbers(bench):
    class Unreadable(np.ndarray):
        def __array_ufunc__(self, *args, **kwargs):
            raise AssertionError("a number was read")

    b = bench().ready()
    big = np.zeros((16, 8)).view(Unreadable)
    for change in ({"values": big}, {"times_s": big[:, 0]}, {"uncertainty": big[:, 0]}):
        b.propose(**change)
        assert b.tick().state is State.READY
        assert b.last.reason.rule in (Rule.TABLE, Rule.UNCERTAINTY)


def test_i16_a_smooth_path_passes_on_every_tick_whatever_the_phase(bench):
    for phase_ms in range(0, 50, 7):
        b = bench().active()
        b.tick(after_ns=max(1, phase_ms % 10) * MS)
        start, t0 = b.last.output.copy(), b.stamp_ns
        for i in range(200):
            if i % 5 == 0:
                times_s = 0.05 * np.arange(1, 17)
                seconds = (b.stamp_ns - t0) / 1e9 + times_s
                values = np.tile(start, (16, 1))
                values[:, 0] += 0.05 * (1.0 - np.cos(seconds))
                values[:, 1] += 0.05 * np.sin(seconds) * (1.0 - np.exp(-seconds))
                b.propose(values=values, times_s=times_s)
            verdict = b.tick()
            assert (verdict.state, verdict.reason) == (State.ACTIVE, None)


def test_i17_starvation_at_any_moment_reaches_the_fallback_in_time(bench):
    for ticks in (1, 3, 7):
        b = bench().active()
        b.propose(velocity=np.array([0.1, 0, 0, 0, 0, 0, 0, 0]))
        sent_ns = b.now_ns
        b.ticks(ticks)
        b.propose(velocity=np.array([0.1, 0, 0, 0, 0, 0, 0, 0]))
        sent_ns = b.now_ns
        while b.last.state is not State.FALLBACK:
            b.tick()
        assert b.now_ns - sent_ns <= 250 * MS + 4 * b.period_ns


def test_i18_a_queued_burst_after_a_stall_does_not_pass(bench):
    b = bench().active()
    queued = [
        dataclasses.replace(b.chunk(velocity=np.full(8, 0.01)), stamp_ns=b.stamp_ns + i * MS) for i in range(1, 5)
    ]
    b.ticks(24)
    for _ in range(8):
        b.tick()
    held = b.last.output
    for chunk in queued:
        b.step(Proposal(chunk, 1))
        b.tick()
    assert b.last.state is State.FALLBACK
    assert np.array_equal(b.last.output, held)


def test_i19_rejections_above_one_in_five_in_any_rhythm_reach_the_fallback(bench):
    rng = np.random.default_rng(0)
    for _ in range(5):
        b = bench().active()
        pattern = rng.permutation([True] * 3 + [False] * 7)
        for i in range(400):
            b.propose(**(hostile(b, "bounds") if pattern[i % 10] else {}))
            if b.tick().state is State.FALLBACK:
                break
        assert b.last.state is State.FALLBACK
