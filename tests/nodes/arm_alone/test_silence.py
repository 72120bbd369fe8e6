"""The arm node with a monitor that is absent, falls silent, is gone, or stamps its words falsely: after its
watchdog's time without a safe action that can be followed the arm holds by itself."""

import time
from statistics import median

import numpy as np
import pytest

LATE_S = 0.02
"""How much later than the watchdog half of all holds may come: the arm node shares this process with the test."""
HELD = 1e-3
"""Rad."""
TIMES = 5
HOUR_NS = 3600 * 10**9


def test_without_a_monitor_the_arm_holds_the_robot_where_it_is(bench):
    before, count = bench.joints.copy(), len(bench.commands)
    bench.wait(lambda: len(bench.commands) > count + 100, "a second of commands")
    assert bench.counts.followed == 0
    assert bench.arm._arm.holding
    bench.assert_stands(bench.commands)
    np.testing.assert_allclose(bench.joints, before, atol=HELD)


def test_when_the_monitor_falls_silent_the_arm_holds_after_its_watchdogs_time(bench):
    bench.appear()
    holds = []
    for _ in range(TIMES):
        bench.move()
        holds.append(bench.hold_s())
        assert bench.arm._arm.holding
    print("hold after the last safe action, ms:", ", ".join(f"{1000 * hold:.1f}" for hold in holds))
    assert min(holds) >= bench.patience_s, "it follows for as long as it is told to"
    assert median(holds) <= bench.watchdog_s + LATE_S


def test_before_the_watchdog_the_robot_is_already_on_its_way_to_rest(bench):
    """Every command ends at rest: what the watchdog adds is a hold, not the stop itself."""
    bench.appear()
    bench.move()
    bench.hold_s()
    hold = bench.own()[0]
    told = bench.commands[bench.commands.index(hold) - 1]
    end, held = (np.array(heard.message.points[-1].positions) for heard in (told, hold))
    np.testing.assert_allclose(held, end, atol=HELD)


def test_a_monitor_that_is_gone_leaves_the_arm_holding(bench):
    bench.appear()
    bench.move()
    bench.monitor.destroy_node()
    bench.monitor = None
    assert bench.hold_s() >= bench.patience_s
    before = bench.joints.copy()
    count = len(bench.commands)
    bench.wait(lambda: len(bench.commands) > count + 50, "half a second of commands")
    np.testing.assert_allclose(bench.joints, before, atol=0.01)


@pytest.mark.parametrize("stamp", ["an hour ahead", "an hour ago", "zero", "always the same"])
def test_no_stamp_makes_a_safe_action_live_longer(bench, stamp):
    """The watchdog runs on the arm's own clock: what a message says of its time counts for nothing."""
    bench.appear()
    began_ns = time.time_ns()
    stamps = {
        "an hour ahead": lambda: time.time_ns() + HOUR_NS,
        "an hour ago": lambda: time.time_ns() - HOUR_NS,
        "zero": lambda: 0,
        "always the same": lambda: began_ns,
    }
    holds = []
    for _ in range(TIMES):
        row, followed = bench.pose(), bench.counts.followed
        for _ in range(20):
            bench.publish(bench.table(row, stamps[stamp]()))
        holds.append(bench.hold_s())
        assert bench.counts.followed > followed + 5
    assert min(holds) >= bench.patience_s
    assert median(holds) <= bench.watchdog_s + LATE_S
