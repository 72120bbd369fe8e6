"""Each command names the safe action that it answers, and one that the arm made by itself names none."""

from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import decoding


def said(bench) -> dict[int, int]:
    """Stamp of each safe action -> when it was published, ns."""
    tables = [(heard.ns, deserialize_message(heard.message, JointTrajectory)) for heard in list(bench.actions)]
    return {decoding.stamp_of(table.header.stamp): ns for ns, table in tables}


def named(commands) -> list[int]:
    return [stamp for stamp in (decoding.answered_of(heard.message) for heard in commands) if stamp]


def test_a_command_names_a_safe_action_published_before_it_each_at_most_once_and_in_order(bench):
    bench.appear()
    bench.move()
    commands = list(bench.commands)
    answered = named(commands)
    assert len(answered) > 15
    bench.wait(lambda: set(answered) <= set(said(bench)), "the actions that were answered")
    assert answered == sorted(set(answered))
    published = said(bench)
    answers = [heard for heard in commands if decoding.answered_of(heard.message)]
    assert all(heard.ns >= published[decoding.answered_of(heard.message)] for heard in answers)


def test_every_command_starts_at_once_whatever_it_answers(bench):
    bench.appear()
    bench.move()
    assert {decoding.stamp_of(heard.message.header.stamp) for heard in list(bench.commands)} == {0}


def test_holding_answers_nobody(bench):
    bench.appear()
    bench.move()
    bench.hold_s()
    assert named(bench.own()) == []


def test_an_action_that_cannot_be_followed_has_no_answer(bench):
    bench.appear()
    row = bench.move()
    row[:3] = 9.0
    stamp, unsolved = bench.actions[-1].ns + 10**9, bench.counts.unsolved
    for _ in range(20):
        bench.publish(bench.table(row, stamp))
    bench.wait(lambda: bench.counts.unsolved > unsolved, "an action that cannot be followed")
    count = len(bench.commands)
    bench.wait(lambda: len(bench.commands) > count + 10, "holds")
    assert stamp not in named(list(bench.commands))
