"""Corners of the monitor that no larger story passes: found by changing its code and seeing no test fail."""

from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm, Proposal, Reload

MS = 1_000_000


def only(i, value):
    vector = np.zeros(8)
    vector[i] = value
    return vector


def stuck(b, pose, joints=None):
    """A tick after a joint state with fresh stamps and this content, to the last bit."""
    b.now_ns += b.period_ns
    b.measure(joints=np.zeros(7) if joints is None else joints, columns=pose.copy())
    return b.tick(after_ns=0, measure=False)


def stays_thawed(b, pose):
    """Whether actions at that pose are acceptable for 0.6 s in which not one bit of the joint state changes."""
    for i in range(60):
        if i % 5 == 0:
            b.propose(target=pose)
        reason = stuck(b, pose).reason
        if reason is not None:
            return reason
    return None


# What moves the reference onto the robot is no command that the robot has failed to follow


def test_a_robot_that_has_not_moved_since_the_start_is_not_frozen(bench):
    b = bench()
    stuck(b, b.pose)
    stuck(b, b.pose)
    assert b.last.state is State.READY
    assert stays_thawed(b, b.pose) is None


def test_a_reload_that_moves_the_reference_is_not_taken_for_freezing(bench, kit):
    b = bench().ready()
    held = b.tick().output[0]
    pose = b.pose - only(0, 0.015)
    b.follows = False
    stuck(b, pose)
    stuck(b, pose)
    assert b.step(Reload(kit.limits(columns=kit.columns(tool_x={"upper": held - 0.001})))).accepted
    assert stays_thawed(b, pose) is None
    assert b.step(Arm(True)).accepted


def test_a_fallback_that_moves_the_reference_is_not_taken_for_freezing(bench):
    b = bench(fallback="hold").active()
    b.follows = False
    pose = b.pose - only(0, 0.015)
    stuck(b, pose)
    b.propose(publishers=2)
    assert stuck(b, pose).state is State.FALLBACK
    assert b.last.output[0] == pose[0]
    assert stays_thawed(b, pose) is None


@pytest.mark.parametrize(("kind", "index"), [*(("joint", i) for i in (0, 3, 6)), *(("column", i) for i in (0, 5, 7))])
def test_one_value_that_flickers_makes_a_joint_state_that_is_not_frozen(bench, kind, index):
    b = bench(following_time_s=2.0).active()
    pose = b.pose.copy()
    b.follows = False
    for i in range(80):
        if i % 5 == 0:
            b.propose(velocity=only(0, 0.1))
        flicker = 1e-12 * (i % 2)
        if kind == "joint":
            verdict = stuck(b, pose, joints=flicker * (np.arange(7) == index))
        else:
            verdict = stuck(b, pose + only(index, flicker))
        assert verdict.state is State.ACTIVE


# How far one tick goes


@pytest.mark.parametrize(("after_ns", "dt_s"), [(1, 0.005), (5 * MS, 0.005), (7 * MS, 0.007), (20 * MS, 0.02)])
def test_a_tick_counts_as_half_a_period_at_least(bench, after_ns, dt_s):
    b = bench().active()
    start = b.last.output[0]
    b.propose(velocity=only(0, 0.1))
    first = b.tick().output[0]
    assert first - start == pytest.approx(0.001)
    ahead_s = 0.04 - after_ns / 1e9
    moved = b.tick(after_ns=after_ns).output[0] - first
    assert moved == pytest.approx((start + 0.005 - first) * dt_s / (ahead_s + dt_s))


@pytest.mark.parametrize("fallen", [False, True])
def test_a_late_tick_before_arming_makes_no_plan_late_after_it(bench, fallen):
    b = bench(fallback="stop").ready()
    b.propose()
    b.tick()
    if fallen:
        assert b.step(Arm(True)).accepted
        b.propose(publishers=2)
        assert b.tick().state is State.FALLBACK
        b.propose()
        b.tick()
    b.tick(after_ns=59 * MS)
    b.propose()
    b.tick()
    assert b.step(Arm(True)).accepted
    start = b.last.output[0]
    b.propose(velocity=only(0, 0.05))
    assert [v.output[0] - start for v in b.ticks(4)] == pytest.approx([0.0005, 0.001, 0.0015, 0.002])


@pytest.mark.parametrize("clock", [10**13, 2**53 + 1, 2**61 + 3])
@pytest.mark.parametrize("late_ns", [0, 1])
def test_the_last_step_is_followed_until_half_a_tick_before_it_to_the_nanosecond(bench, clock, late_ns):
    b = bench()
    b.now_ns = clock
    b.active()
    b.ticks(15)
    b.propose(steps=1, times_s=np.array([0.1]), stamp_ns=b.stamp_ns + b.period_ns - 95 * MS - late_ns)
    reason = b.tick().reason
    assert (reason and reason.rule) is (Rule.AGE if late_ns else None)


# What a plan may start from


def test_a_path_that_begins_at_the_measured_pose_may_lead_away_from_it(bench):
    b = bench().active()
    b.ticks(4)
    b.follows = False
    b.pose = b.pose + only(0, 0.1)
    b.measure()
    b.propose(values=b.pose + b.chunk().times_s[:, None] * only(0, 0.05))
    verdict = b.tick()
    assert (verdict.state, verdict.reason) == (State.ACTIVE, None)
    assert verdict.output[0] >= b.pose[0]


# Who may take over


@pytest.mark.parametrize(("driver", "other"), [("teleop", "home"), ("home", "policy"), ("teleop", "policy")])
def test_no_source_below_the_one_that_drives_is_even_judged(bench, driver, other):
    b = bench().active(source=driver)
    for i in range(20):
        b.propose(source=other, velocity=only(0, 0.05), publishers=1 + i % 2)
        verdict = b.tick()
        assert (verdict.state, verdict.selected, verdict.reason) == (State.ACTIVE, driver, None)
        assert verdict.output[0] == 0.5


# Resuming by itself


@pytest.mark.parametrize("late_ns", [0, 1])
def test_good_actions_count_on_until_the_last_of_them_expires_to_the_nanosecond(bench, late_ns):
    b = bench(auto_resume=True, resume_time_s=0.0, late_tick_s=0.2).active()
    b.ticks(4, lambda i: b.propose(target=only(0, 9.0)))
    assert b.last.state is State.FALLBACK
    sent_ns = 0
    for _ in range(9):
        sent_ns = b.now_ns
        b.propose()
        b.tick()
    b.tick(after_ns=sent_ns + 150 * MS - b.now_ns)
    b.tick(after_ns=sent_ns + 250 * MS + late_ns - b.now_ns)
    b.propose()
    assert b.tick().state is (State.FALLBACK if late_ns else State.ACTIVE)


def test_good_actions_before_arming_do_not_count_for_resuming_after_a_fall(bench):
    b = bench(auto_resume=True, resume_time_s=0.0).ready()
    b.ticks(30, lambda i: b.propose())
    assert b.step(Arm(True)).accepted
    b.ticks(4, lambda i: b.propose(target=only(0, 9.0)))
    assert b.last.state is State.FALLBACK
    b.ticks(9, lambda i: b.propose())
    assert b.last.state is State.FALLBACK
    b.propose()
    assert b.tick().state is State.ACTIVE


# What is judged when


def test_a_source_is_not_judged_twice(bench):
    b = bench().active()
    b.propose(target=only(0, 9.0))
    assert b.tick().tries == 1
    assert b.tick().tries == 1
    b.propose()
    assert (b.tick().tries, b.last.reason) == (0, None)


def test_the_newest_of_two_actions_of_one_source_is_judged_and_the_older_forgotten(bench):
    b = bench().ready()
    older, newer = b.chunk(), b.chunk(stamp_ns=b.stamp_ns + 1)
    b.step(Proposal(older, 1))
    b.step(Proposal(newer, 2))
    assert b.tick().reason.rule is Rule.SOURCE
    b.tick()
    assert b.monitor.offered == ""


def test_all_sources_are_judged_before_arming_and_the_highest_judgement_shows(bench):
    b = bench().ready()
    b.propose(source="teleop", target=only(0, 9.0))
    b.propose(source="policy", publishers=2)
    assert b.tick().reason.rule is Rule.BOUNDS
    b.propose(source="teleop")
    b.propose(source="policy", publishers=2)
    assert b.tick().reason is None


def test_a_reload_with_fewer_tries_counts_at_once(bench, kit):
    b = bench().active()
    assert b.step(Reload(kit.limits(max_retries=1))).accepted
    verdicts = b.ticks(2, lambda i: b.propose(target=only(0, 9.0)))
    assert [verdict.state for verdict in verdicts] == [State.RETRY, State.FALLBACK]
