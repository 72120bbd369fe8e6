"""The arm node after an emergency stop, while the monitor goes on publishing where its own output stands."""

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
    assert not speeds[-1].any()
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
