"""A running deployment, seen by a plain rclpy node: is it what core/graph.py says?"""

import shutil
from pathlib import Path
from statistics import median

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from policy_bringup.core import graph
from policy_bringup.nodes.endpoints import interface

ROOT = Path(__file__).resolve().parents[2]
ON_DEMAND = ("home/action", "teleop/action")
EVENTS = ("safety/verdict", "safety/state", "arm/state", "recorder/state", "/diagnostics")
"""Published when something changes as well, or by several nodes."""


def test_every_topic_has_the_type_the_rate_and_the_quality_of_the_graph(deploy, listener, tmp_path: Path):
    """Homing, teleop and what an operator publishes are silent unless used; everything else must be heard.

    One after the other: a plain reader of all of them at once would keep a processor busy by itself. The recorder,
    which reads nearly all, runs only for its own topic. The pictures are small: a camera's rate does not depend on how
    fast this machine draws.
    """
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    deployment = tmp_path / "config" / "grasp.yaml"
    deployment.write_text(deployment.read_text().replace("128", "32"))
    topics = [topic for topic in graph.topics(("front", "wrist")) if "operator" not in topic.publishers]
    for recording in (False, True):
        recorder = {"record": tmp_path / "demos"} if recording else {}
        with deploy(deployment=deployment, episodes=0, teleop_device="joy", **recorder) as runner:
            check(runner, listener, [topic for topic in topics if (topic.publishers == ("recorder",)) is recording])


def check(runner, listener, topics: list[graph.Topic]) -> None:
    health = lambda: listener.node.get_publishers_info_by_topic("/diagnostics")  # noqa: E731
    # Loading takes all there is: nobody keeps a rate meanwhile.
    listener.wait(lambda: len(health()) >= len(runner.children), 60.0, "all nodes")
    for entry in topics:
        if entry.name not in ON_DEMAND:
            assert_rate(entry, published(listener, entry))
        infos = listener.node.get_publishers_info_by_topic(entry.name)
        assert infos, entry.name
        for info in infos:
            assert info.topic_type == entry.type
            assert info.node_name in entry.publishers
            assert info.qos_profile.reliability is QoSReliabilityPolicy[entry.qos.reliability.upper()]
            assert info.qos_profile.durability is QoSDurabilityPolicy[entry.qos.durability.upper()]


def published(listener, entry: graph.Topic) -> list[int]:
    """ROS times, ns, at which a second's worth of messages (at least three) were published."""
    times: list[int] = []
    qos = QoSProfile(
        depth=100,
        reliability=QoSReliabilityPolicy[entry.qos.reliability.upper()],
        durability=QoSDurabilityPolicy[entry.qos.durability.upper()],
    )
    take = lambda _message, info: times.append(info["source_timestamp"])  # noqa: E731
    subscription = listener.node.create_subscription(interface(entry.type), entry.name, take, qos)
    wanted = 3 if entry.name in EVENTS else max(3, round(entry.rate_hz))
    listener.wait(lambda: len(times) >= wanted, 30.0, f"{wanted} messages on {entry.name}")
    listener.node.destroy_subscription(subscription)
    return sorted(times)


def assert_rate(entry: graph.Topic, times: list[int]) -> None:
    """Periodic topics keep their rate, pauses of a shared machine aside.

    Two intervals at a time: what is made of every second picture or so, as 20 Hz of 30, takes turns with two of them.
    """
    if entry.name not in EVENTS:
        rate = 2e9 / median(later - earlier for earlier, later in zip(times, times[2:], strict=False))
        assert 0.5 * entry.rate_hz <= rate <= 1.25 * entry.rate_hz, (entry.name, rate)
