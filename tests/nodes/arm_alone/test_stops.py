"""The arm node after an emergency stop, while the monitor goes on publishing where its own output stands."""

import time

import numpy as np
import pytest


@pytest.mark.parametrize("state", ["ESTOP", "FAULT"])
def test_after_a_stop_the_arm_brakes_where_it_is_and_does_not_come_back(bench, state):
    bench.appear()
    row = bench.move(speed=0.25)
    moving = bench.commands[-1].message
    assert max(map(abs, moving.points[0].velocities[:7])) > 0.1
    bench.enter(state)
    count = len(bench.commands)
    for _ in range(40):
        bench.say(row)
    bench.wait(lambda: len(bench.commands) > count + 30, "the arm answering")
    points = [heard.message.points[0] for heard in bench.commands[count:]]
    speeds = np.array([point.velocities[:7] for point in points])
    assert np.abs(speeds[-1]).max() < 1e-9
    going = np.sign(moving.points[0].velocities[:7])
    assert (speeds * going >= -1e-9).all(), "no joint turns round"
    bench.assert_stands(bench.commands[count + 10 :])


def test_after_the_reset_the_arm_follows_again(bench):
    bench.appear()
    bench.move()
    bench.enter("ESTOP")
    for _ in range(40):
        bench.say(bench.pose())
    bench.enter("READY")
    bench.enter("ACTIVE")
    before = bench.pose()
    row = bench.move()
    bench.wait(lambda: bench.say(row) or abs(bench.pose()[1] - row[1]) < 0.005, "the arm where it is asked to be")
    assert bench.pose()[1] > before[1] + 0.02


def test_a_command_made_before_the_process_stood_still_never_leaves(bench, monkeypatch):
    bench.appear()
    row = bench.move(speed=0.25)
    follow, stood = bench.arm._arm.follow, []

    def stalls(names, values, now_ns):
        command = follow(names, values, now_ns)
        if not stood:
            stood.append(len(bench.commands))
            time.sleep(0.5)  # part of the fault
        return command

    told = bench.commands[-1]
    monkeypatch.setattr(bench.arm._arm, "follow", stalls)
    bench.say(row)
    bench.wait(lambda: bench.commands[-1].ns > told.ns + 500_000_000, "the arm node's next command")
    after = next(heard for heard in bench.commands if heard.ns > told.ns + 400_000_000)
    assert max(map(abs, told.message.points[0].velocities[:7])) > 0.1
    assert not any(any(point.velocities) for point in after.message.points)
    before = bench.commands[bench.commands.index(after) - 1]
    np.testing.assert_allclose(after.message.points[-1].positions, before.message.points[-1].positions, atol=1e-6)
