"""Buttons in an ugly order, and strangers on the wire: faults 13, 14, and the actions of 17."""

import array
import time
from contextlib import contextmanager

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from harness.bench import CONFIG, participant
from harness.reaction import ESTOP_MS, VIOLATION_MS, assert_harmless, estop_to_hold_ms, estop_to_standing_ms, stopped
from harness.recording import ACTION, COMMAND, DIAGNOSTICS, JOINTS, ROGUE, SAFE, STATE, TRUE_JOINTS, wait
from harness.safe import SETTLE_S
from harness.standin import StandIn
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from policy_bringup.core import graph
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.messages import time_of

ALARM_MS = 1000.0


@pytest.mark.fault(13, "ESTOP, held within 50 ms of the first contact, latched; no reset or arming while pressed")
def test_a_bouncing_emergency_stop_is_latched_and_a_reset_while_pressed_refused(liars, rng, within):
    liars.set_in_motion(rng)
    began_ns = liars.recording.mark("e-stop")()
    for number in range(2 * int(rng.integers(1, 4)) + 1):
        liars.operator.press(number % 2 == 0)
        time.sleep(float(rng.uniform(0.002, 0.04)))  # the contact's own bouncing
    change = stopped(liars, began_ns)
    assert change.after == "ESTOP"
    assert_harmless(liars, began_ns, change.ns)
    within("e-stop to hold", estop_to_hold_ms(liars, began_ns), ESTOP_MS)
    within("e-stop to the last command that moves", estop_to_standing_ms(liars, began_ns), 1000.0 * SETTLE_S)
    assert not liars.operator.reset().success
    assert not liars.operator.arm().success
    liars.operator.press(False)
    liars.let(0.3)
    assert liars.state == "ESTOP"
    assert not liars.operator.arm().success
    assert_harmless(liars, began_ns, change.ns)
    assert liars.operator.reset().success
    wait(lambda: liars.state == "READY", 5.0, "READY")
    ready = liars.recording.change(change.ns + 1, "READY")  # which puts the arm once onto where it was measured
    assert_harmless(liars, began_ns, ready.ns)


@contextmanager
def stranger(bench, topic: str, durability: QoSDurabilityPolicy = QoSDurabilityPolicy.VOLATILE):
    """A publisher in a participant of its own, that hears the arm: then discovery is done, which may take seconds."""
    with participant(bench.domain_id) as context:
        node, ear, entry = Node(ROGUE, context=context), graph.topic(COMMAND), graph.topic(topic)
        kind, qos = endpoints.interface(ear.type), endpoints.profile(ear.qos)
        heard = node.create_subscription(kind, COMMAND, lambda _: None, qos)
        wait(lambda: heard.handle.take_message(kind, True), 30.0, "the arm, heard by the stranger")
        qos = endpoints.profile(entry.qos)
        qos.durability = durability
        try:
            yield lambda: node.create_publisher(endpoints.interface(entry.type), topic, qos)
        finally:
            node.destroy_node()


@pytest.mark.fault(
    14, "rule SOURCE: the default a tick and 10 ms after DDS told safety of the stranger, whom it did not hear before"
)
def test_a_second_publisher_of_actions_stops_the_arm(liars, rng, within):
    liars.set_in_motion(rng)
    with stranger(liars, ACTION) as publisher:
        began_ns = liars.recording.mark("a second publisher")()
        output = publisher()
        deadline = time.monotonic() + 10.0
        while not liars.recording.changes(began_ns) and time.monotonic() < deadline:
            table = liars.policy.good_table()
            table.header.frame_id = ROGUE
            output.publish(table)
            time.sleep(0.05)
        fallen = stopped(liars, began_ns)
        heard = [sample for sample in liars.recording.samples(ACTION, began_ns) if sample.frame == ROGUE]
        # Discovery may have told of it before its first table; and others may hear it before safety can.
        first_ns = min([fallen.ns, *(sample.source_ns for sample in heard)])
        within("stranger's first table to FALLBACK", (fallen.ns - first_ns) / 1e6, VIOLATION_MS, ALARM_MS)
        assert (fallen.after, fallen.rule) == ("FALLBACK", "SOURCE")
        assert not liars.operator.arm().success
        assert_harmless(liars, began_ns, fallen.ns)


@pytest.mark.fault(14, "rule SOURCE: a lone stranger in a killed policy's place is named, not offered and not followed")
def test_a_lone_stranger_does_not_take_the_place_of_a_policy_that_is_gone(liars, rng, within):
    liars.set_in_motion(rng)
    liars.policy.close()
    wait(lambda: liars.state == "FALLBACK", 10.0, "the default, for want of a policy")
    try:
        with stranger(liars, ACTION) as publisher:
            began_ns = liars.recording.mark("a lone stranger")()
            output = publisher()

            def speaks() -> list[tuple[int, str]]:
                table = liars.policy.good_table()
                table.header.frame_id = ROGUE
                output.publish(table)
                time.sleep(0.05)
                return [alarm for alarm in _alarms(liars, began_ns, "safety") if alarm[1].startswith(f"/{ROGUE} ")]

            wait(speaks, 10.0, "the alarm")
            named_ns, sentence = speaks()[0]
            heard = [sample for sample in liars.recording.samples(ACTION, began_ns) if sample.frame == ROGUE]
            first_ns = min([named_ns, *(sample.source_ns for sample in heard)])  # DDS may have told of it before
            within("first table to the alarm", (named_ns - first_ns) / 1e6, ALARM_MS)
            assert sentence.startswith(f"/{ROGUE} publishes '{ACTION}', which is for /policy alone")
            assert liars.recording.safety["offered"] == ""
            refused = lambda: speaks() and "exactly one publisher" in liars.operator.arm().message  # noqa: E731
            wait(refused, 10.0, "an arming refused for it, as soon as DDS lets safety hear its tables")
            assert liars.state == "FALLBACK"
            assert_harmless(liars, began_ns, began_ns)
    finally:
        liars.policy = StandIn(liars.context, liars.recording, CONFIG / "grasp.yaml", rng)


@pytest.mark.fault(
    14, "rule STATE: a second publisher of joint states, which lies, is named within 1 s; the default, no arming"
)
def test_a_second_publisher_of_joint_states_stops_the_arm(liars, rng, within):
    liars.set_in_motion(rng)
    with stranger(liars, JOINTS) as publisher:
        began_ns = liars.recording.mark("a second publisher of joint states")()
        output = publisher()
        named = lambda: [a for a in _alarms(liars, began_ns, "safety") if a[1].startswith(f"/{ROGUE} ")]  # noqa: E731
        aside = rng.uniform(-0.5, 0.5, 7)

        def lie() -> None:
            message = deserialize_message(liars.recording.newest(TRUE_JOINTS).data, JointState)
            message.header.frame_id = ROGUE
            message.position[:7] = array.array("d", np.array(message.position[:7]) + aside)
            output.publish(message)

        wait(lambda: lie() or named(), 10.0, "the alarm")
        fallen = stopped(liars, began_ns)
        within("stop to its alarm with the name", max(0.0, (named()[0][0] - fallen.ns) / 1e6), ALARM_MS)
        assert (fallen.after, fallen.rule) == ("FALLBACK", "STATE")
        assert "exactly one publisher" in fallen.sentence
        assert not liars.operator.arm().success
        for _ in range(50):  # the arm holds by now, and is not to go where it is said to be
            lie()
            time.sleep(0.01)
        assert_harmless(liars, began_ns, fallen.ns)


@pytest.mark.fault(14, "the arm node names the stranger within 1 s and follows nobody; nothing unsafe leaves it before")
@pytest.mark.parametrize("topic", [SAFE, COMMAND])
def test_a_bag_replayed_into_a_command_topic_is_named_and_not_followed(liars, rng, within, topic: str):
    liars.set_in_motion(rng)
    bag = [sample.message for sample in liars.recording.samples(topic, liars.recording.newest(topic).source_ns - 10**9)]
    with stranger(liars, topic) as publisher:
        began_ns = liars.recording.mark(f"a bag replayed into {topic}")()
        output = publisher()
        for message in bag * 2:
            message.header.frame_id = ROGUE
            output.publish(message)
            time.sleep(0.01)
        # DDS may tell of a publisher before it tells of the node: then the first alarm does not know its name.
        named = lambda: [a for a in _alarms(liars, began_ns) if a[1].startswith(f"/{ROGUE} publishes '{topic}'")]  # noqa: E731
        wait(named, 10.0, "the alarm with the name")
        ns, named_ns = _alarms(liars, began_ns)[0][0], named()[0][0]
        heard = [sample for sample in liars.recording.samples(topic, began_ns) if sample.frame == ROGUE]
        within("first replayed message to the alarm", max(0.0, (named_ns - heard[0].source_ns) / 1e6), ALARM_MS)
        for message in bag:
            output.publish(message)
            time.sleep(0.01)
        gone_ns = liars.recording.mark("the stranger leaves")()
    liars.let(1.0)
    # What the stranger sends to the robot itself moves it; the arm node then asks it to rest wherever it is.
    liars.judge.assert_safe(liars.recording, began_ns - 10**9, pushed=topic == COMMAND)
    liars.judge.assert_still(liars.recording, ns + int(SETTLE_S * 1e9))
    liars.judge.assert_stands(liars.recording, (gone_ns if topic == COMMAND else ns) + int(SETTLE_S * 1e9))


def _alarms(bench, since_ns: int, node: str = "arm") -> list[tuple[int, str]]:
    told = [(s.source_ns, entry) for s in bench.recording.samples(DIAGNOSTICS, since_ns) for entry in s.message.status]
    return [(ns, e.message) for ns, e in told if e.name == node and e.level == DiagnosticStatus.ERROR]


@pytest.mark.fault(17, "READY, nothing offered; arming is refused")
def test_without_a_single_action_the_arm_cannot_be_armed(liars, rng):
    liars.recover()
    liars.policy.silent = True
    wait(lambda: liars.recording.safety.get("offered") == "", 5.0, "no policy any more")
    began_ns = liars.recording.mark("no action ever")()
    answer = liars.operator.arm()
    assert not answer.success
    assert answer.message.startswith("no source has proposed an acceptable action in time")
    liars.let(1.0)
    assert liars.state == "READY"
    assert_harmless(liars, began_ns, began_ns)


@pytest.mark.fault(17, "an old latched action is not accepted by a monitor that starts later: READY, nothing offered")
def test_a_stale_latched_action_does_not_move_an_arm_that_starts_later(liars, rng):
    liars.recover()
    table = liars.policy.good_table()
    table.header.stamp = time_of(time.time_ns() - int(rng.uniform(1e9, 60e9)))
    for point in table.points:
        point.positions[1] += 0.02
    liars.policy.close()
    try:
        with stranger(liars, ACTION, QoSDurabilityPolicy.TRANSIENT_LOCAL) as publisher:
            output = publisher()
            output.publish(table)
            liars.stack.kill("safety")
            liars.stack.respawn("safety")
            began_ns = liars.recording.mark("a latched action awaits the monitor")()
            fresh = lambda: liars.recording.samples(STATE, began_ns) and liars.state == "READY"  # noqa: E731
            wait(fresh, 30.0, "the new monitor")
            liars.let(1.0)
            assert liars.recording.safety["offered"] == ""
            assert not liars.operator.arm().success
            output.publish(table)  # and not when it arrives, either
            liars.let(0.5)
            assert not liars.operator.arm().success
            assert liars.state == "READY"
            assert_harmless(liars, began_ns, began_ns)
    finally:
        liars.policy = StandIn(liars.context, liars.recording, CONFIG / "grasp.yaml", rng)
