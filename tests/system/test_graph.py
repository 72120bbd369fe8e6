"""A running deployment, seen by a plain rclpy node: is it what core/graph.py says?"""

from collections import defaultdict
from pathlib import Path
from statistics import median

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.beat import Beat

ROOT = Path(__file__).resolve().parents[2]
DEADMAN, BUTTONS, AXES = 5, 11, 8
FASTEST, SLOWEST = 1.5, 0.5
"""Times the nominal rate. A machine that is slow may lose half of what is published; none publishes more."""


def test_every_topic_has_the_type_the_rate_and_the_quality_of_the_graph(
    deploy, listener, small_deployment: Path, tmp_path: Path
):
    """The arm is sent home, and an operator with a leader arm and a released e-stop holds the dead-man: so every topic
    is heard.

    One after the other: a plain reader of all of them at once would keep a processor busy by itself. The recorder,
    which reads nearly all, runs only for its own topic. The pictures are small: a camera's rate does not depend on how
    fast this machine draws.
    """
    topics = graph.topics(("front", "wrist"))
    for recording in (False, True):
        recorder = {"record": tmp_path / "demos"} if recording else {}
        with deploy(deployment=small_deployment, episodes=0, teleop_device="leader", **recorder) as runner:
            operator = Operator(listener)
            try:
                settle(runner, listener, operator)
                check(runner, listener, [topic for topic in topics if (topic.publishers == ("recorder",)) is recording])
                if not recording:
                    operator.assert_heard()
            finally:
                operator.close()


class Operator:
    """A person's topics, at the graph's rates, from the test's own node, and the wish that the arm goes home."""

    def __init__(self, listener) -> None:
        self._listener = listener
        self.estop = False
        self.failed: BaseException | None = None
        self.safety: dict[str, str] = {}
        self.health: dict[str, str] = {}
        self._hear("safety/state", lambda message: self.safety.update(values_of(message.status[0])))
        self._hear("/diagnostics", lambda message: self.health.update({s.name: s.message for s in message.status}))
        self._arm = listener.node.create_client(SetBool, "safety/arm")
        self._home = listener.node.create_client(Trigger, "arm/home")
        self._timer = listener.node.create_timer(0.5, self._keep_homing)
        names = ("joy", "leader/joint_states", "safety/estop")
        self._outputs = {name: self._publisher(graph.topic(name)) for name in names}
        self._beats = 0
        self._beat = Beat(1.0 / graph.topic("leader/joint_states").rate_hz, self._say, self._fail)

    def _hear(self, name: str, take) -> None:
        entry = graph.topic(name)
        kind, qos = endpoints.interface(entry.type), endpoints.profile(entry.qos)
        self._listener.node.create_subscription(kind, name, take, qos)

    def _publisher(self, entry: graph.Topic):
        kind, qos = endpoints.interface(entry.type), endpoints.profile(entry.qos)
        return self._listener.node.create_publisher(kind, entry.name, qos)

    def _keep_homing(self) -> None:
        """Also at home: homing goes on until somebody disarms. A machine that stalls is stopped, rightly, and what is
        published in motion is to be heard nevertheless."""
        state, homing = self.safety.get("state"), "home" in (self.safety.get("offered"), self.safety.get("source"))
        if state == "ACTIVE" and not homing:  # whoever ran episodes has armed the policy before it was gone
            self._arm.call_async(SetBool.Request(data=False))
        elif state in ("READY", "FALLBACK") and homing:
            self._arm.call_async(SetBool.Request(data=True))
        elif state in ("READY", "FALLBACK"):
            self._home.call_async(Trigger.Request())

    def _say(self) -> None:
        self._beats += 1
        leader = JointState(name=[f"leader_panda_joint{i}" for i in range(1, 8)] + ["leader_gripper"])
        leader.header.stamp = self._listener.node.get_clock().now().to_msg()
        leader.position = [0.0] * 8
        self._outputs["leader/joint_states"].publish(leader)
        if self._beats % 5 == 0:
            # Let go for a moment, now and then: teleop wants to see it pressed anew when it has missed a few messages.
            # Not once a second, as health is told: it might be told of these moments only.
            buttons = [int(i == DEADMAN and self._beats % 65 != 0) for i in range(BUTTONS)]
            self._outputs["joy"].publish(Joy(axes=[0.0] * AXES, buttons=buttons))
            self._outputs["safety/estop"].publish(Bool(data=self.estop))

    def _fail(self, error: BaseException) -> None:
        self.failed = error

    def assert_heard(self) -> None:
        """Each of the three has the effect that it is for; that of joy is teleop/action."""
        asks = lambda: self.health.get("teleop", "").startswith("leader: ")  # noqa: E731
        self._listener.wait(asks, 15.0, "teleop asking for a leader that is where the arm is")
        self.estop = True
        self._listener.wait(lambda: self.safety["state"] == "ESTOP", 15.0, "ESTOP")
        assert self.failed is None

    def close(self) -> None:
        self._beat.stop()
        self._listener.node.destroy_timer(self._timer)
        for output in self._outputs.values():
            self._listener.node.destroy_publisher(output)


def settle(runner, listener, operator: Operator) -> None:
    """All nodes run but the one that runs episodes, and the arm goes home."""
    health = lambda: listener.node.get_publishers_info_by_topic("/diagnostics")  # noqa: E731
    # Loading takes all there is: nobody keeps a rate meanwhile.
    listener.wait(lambda: len(health()) >= len(runner.children), 60.0, "all nodes")
    runner.children["trial"].kill()
    listener.wait(lambda: operator.safety.get("source") == "home", 60.0, "an arm on its way home")


def check(runner, listener, topics: list[graph.Topic]) -> None:
    names = set(runner.children) - {"trial"}
    for entry in topics:
        senders = names if entry.name == "/diagnostics" else {""}
        times = published(listener, entry, senders)
        if entry.rate_hz:
            for sender in senders:
                assert_rate(entry, sender, times[sender])
        infos = listener.node.get_publishers_info_by_topic(entry.name)
        assert infos, entry.name
        for info in infos:
            assert info.node_name in entry.publishers, entry.name
            assert_as_listed(entry, info)
        for info in readers(listener, entry):
            assert entry.read_by(info.node_name), (entry.name, info.node_name)
            assert_as_listed(entry, info)
        if "operator" in entry.publishers:
            assert {info.node_name for info in readers(listener, entry)} & set(entry.readers), entry.name


def readers(listener, entry: graph.Topic) -> list:
    """All but this test."""
    infos = listener.node.get_subscriptions_info_by_topic(entry.name)
    return [info for info in infos if info.node_name != listener.node.get_name()]


def assert_as_listed(entry: graph.Topic, info) -> None:
    assert info.topic_type == entry.type
    assert info.qos_profile.reliability is QoSReliabilityPolicy[entry.qos.reliability.upper()], (entry.name, info)
    assert info.qos_profile.durability is QoSDurabilityPolicy[entry.qos.durability.upper()], (entry.name, info)


def published(listener, entry: graph.Topic, senders: set[str]) -> dict[str, list[int]]:
    """ROS times, ns, at which a second's worth of messages (at least five) were published, by who speaks in them: a
    node's name in diagnostics, else ""."""
    times: dict[str, list[int]] = defaultdict(list)
    qos = QoSProfile(
        depth=100,
        reliability=QoSReliabilityPolicy[entry.qos.reliability.upper()],
        durability=QoSDurabilityPolicy[entry.qos.durability.upper()],
    )

    def take(message, info) -> None:
        times[message.status[0].name if len(senders) > 1 else ""].append(info["source_timestamp"])

    subscription = listener.node.create_subscription(endpoints.interface(entry.type), entry.name, take, qos)
    wanted = max(5, round(entry.rate_hz))
    enough = lambda: all(len(times[sender]) >= wanted for sender in senders)  # noqa: E731
    listener.wait(enough, 30.0, f"{wanted} messages on {entry.name} of {', '.join(senders)}")
    listener.node.destroy_subscription(subscription)
    return {sender: sorted(stamps) for sender, stamps in times.items()}


def assert_rate(entry: graph.Topic, sender: str, times: list[int]) -> None:
    """Periodic topics keep their rate, pauses of a shared machine aside.

    Two intervals at a time: what is made of every second picture or so, as 20 Hz of 30, takes turns with two of them.
    """
    rate = 2e9 / median(later - earlier for earlier, later in zip(times, times[2:], strict=False))
    assert SLOWEST * entry.rate_hz <= rate <= FASTEST * entry.rate_hz, (entry.name, sender, rate)
