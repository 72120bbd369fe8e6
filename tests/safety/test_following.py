"""An arm that is not where it was asked to be: it is stopped before what is asked has run away from it."""

from collections import deque

import numpy as np
import pytest

from policy_bringup.safety.reasons import Rule, State
from policy_bringup.safety.state import Arm

MS = 1_000_000
TOLERANCE = {0: 0.01, 1: 0.01, 2: 0.01, 3: 0.05, 4: 0.05, 5: 0.05}


def only(column, value):
    row = np.zeros(8)
    row[column] = value
    return row


def held(b, pose, ticks, after_ns=None):
    """The arm stands at `pose` whatever it is asked; the policy asks it to stay where it was."""
    b.follows, b.pose, target = False, pose, b.last.output.copy()
    for i in range(ticks):
        if i % 5 == 0:
            b.propose(target)
        b.tick(after_ns)
        if b.last.state is State.FALLBACK:
            break
    return b.last


def test_an_arm_that_stands_while_it_is_asked_to_move_is_stopped_within_a_second(bench):
    b = bench().active()
    where = b.pose.copy()
    b.follows = False
    for i in range(100):
        if i % 5 == 0:
            b.propose(velocity=only(0, 0.1))
        b.tick()
        if b.last.state is State.FALLBACK:
            break
    (stop,) = b.last.transitions
    assert (stop.from_state, stop.to_state, stop.reason.rule) == (State.ACTIVE, State.FALLBACK, Rule.FOLLOWING)
    assert (stop.reason.column, stop.reason.value) == ("tool.x", where[0])
    assert stop.reason.sentence.startswith("the arm does not follow: tool.x 0.500 m is below its limit 0.5")
    np.testing.assert_array_equal(b.last.output, where)


@pytest.mark.parametrize("column", TOLERANCE)
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_each_side_of_the_tolerance_of_each_column(bench, column, side):
    for share, state in ((1.0 - 1e-9, State.ACTIVE), (1.0 + 1e-9, State.FALLBACK)):
        b = bench().active()
        verdict = held(b, b.last.output + only(column, side * share * TOLERANCE[column]), 100)
        assert verdict.state is state
        if state is State.FALLBACK:
            assert verdict.transitions[0].reason.column == b.limits.spec.names[column]
            assert verdict.transitions[0].reason.limit == pytest.approx(
                b.verdicts[-2].output[column] + side * TOLERANCE[column]
            )


@pytest.mark.parametrize("column", [6, 7])
def test_a_column_that_holds_its_command_may_be_anywhere(bench, column):
    b = bench().active()
    assert held(b, b.last.output + only(column, 50.0), 100).state is State.ACTIVE


def test_a_column_that_commands_a_velocity_says_nothing_of_where_the_arm_is(kit):
    units = ("m/s", *(column.unit for column in kit.spec().columns[1:]))
    columns = kit.columns(tool_x={"lower": -0.5, "upper": 0.5})
    names = kit.spec().names
    b = kit.bench(kit.limits(columns, kit.spec(names, units)))
    b.pose[0] = 0.0
    b.active()
    assert held(b, b.last.output + only(0, 0.4), 100).state is State.ACTIVE


@pytest.mark.parametrize(("beyond_ns", "state"), [(0, State.ACTIVE), (1, State.FALLBACK)])
def test_each_side_of_the_time(bench, beyond_ns, state):
    """From the last joint state that agreed on."""
    b = bench().active()
    b.follows = False
    b.pose = b.last.output + only(2, 0.02)
    began_ns = b.now_ns  # of the last one that agreed
    for i in range(29):
        if i % 5 == 0:
            b.propose(b.last.output.copy())
        assert b.tick().state is State.ACTIVE
    assert b.tick(began_ns + 300 * MS + beyond_ns - b.now_ns).state is state


def test_a_time_of_zero_stops_at_the_first_joint_state_that_is_astray(bench):
    b = bench(following_time_s=0.0).active()
    assert b.tick().state is State.ACTIVE
    assert held(b, b.last.output + only(2, 0.02), 1).state is State.FALLBACK


@pytest.mark.parametrize(("late_ticks", "state"), [(24, State.ACTIVE), (60, State.FALLBACK)])
def test_an_arm_may_be_late_by_the_time_over_which_emissions_are_kept(bench, late_ticks, state):
    b = bench().active()
    b.follows = False
    way = deque([b.pose.copy()] * late_ticks)
    for i in range(150):
        if i % 5 == 0:
            b.propose(velocity=only(1, 0.1))
        way.append(b.tick().output.copy())
        b.pose = way.popleft()
        if b.last.state is State.FALLBACK:
            break
    assert b.last.state is state


def test_an_arm_that_is_astray_again_and_again_for_less_than_the_time_is_not_stopped(bench):
    b = bench().active()
    home = b.last.output.copy()
    for _ in range(5):
        assert held(b, home + only(0, 0.03), 29).state is State.ACTIVE
        assert held(b, home.copy(), 1).state is State.ACTIVE


def test_a_repeated_action_is_watched_as_well(bench):
    b = bench(max_retries=10, following_time_s=0.1).active()
    b.follows, b.pose = False, b.last.output + only(0, 0.03)
    for i in range(40):
        if i % 5 == 0:
            b.propose(b.last.output + only(0, 0.5))
        b.tick()
        if b.last.state is State.FALLBACK:
            break
    assert b.last.transitions[0].from_state is State.RETRY
    assert b.last.transitions[0].reason.rule is Rule.FOLLOWING


def test_where_nobody_drives_the_arm_may_be_pushed_and_then_armed(bench):
    b = bench().ready()
    b.follows, b.pose = False, b.pose + only(0, 0.05)
    for _ in range(60):
        b.propose(b.pose.copy())
        assert b.tick().state is State.READY
    assert b.step(Arm(True)).accepted
    for i in range(60):
        assert b.tick().state is State.ACTIVE
        if i % 5 == 0:
            b.propose()


def test_after_such_a_stop_only_the_operator_goes_on(bench):
    b = bench(auto_resume=True, following_time_s=0.1).active()
    held(b, b.last.output + only(0, 0.03), 60)
    assert b.last.state is State.FALLBACK
    b.follows = True
    for i in range(300):
        if i % 5 == 0:
            b.propose()
        assert b.tick().state is State.FALLBACK
    assert b.step(Arm(True)).accepted
    assert b.tick().state is State.ACTIVE


def test_after_a_pause_that_ended_astray_the_time_counts_from_arming(bench):
    """Without a joint state between arming and the tick."""
    b = bench(fallback="stop").active()
    b.follows, b.pose = False, b.pose + only(0, 0.05)
    b.propose(publishers=2)
    assert b.tick().state is State.FALLBACK
    for i in range(60):
        if i % 5 == 0:
            b.propose(b.pose.copy())
        b.tick()
    assert b.step(Arm(True)).accepted
    assert b.tick(measure=False).state is State.ACTIVE


def test_how_far_the_arm_may_be_astray_is_so_many_times_a_columns_tolerance(bench):
    astray = bench(following_tolerance=3.0).limits.following
    assert astray.tolist() == pytest.approx([0.03, 0.03, 0.03, 0.15, 0.15, 0.15, np.inf, np.inf])
