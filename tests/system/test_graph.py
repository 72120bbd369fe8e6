"""A running deployment, seen by a plain rclpy node: is it what core/graph.py says?"""

import time
from pathlib import Path

import pytest
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from policy_bringup.core import graph
from policy_bringup.nodes.endpoints import interface

WATCH_S = 3.0
ON_DEMAND = ("home/action", "teleop/action")


@pytest.fixture(scope="module")
def module_domain(domain_id: int) -> int:
    return domain_id


def test_every_topic_has_the_type_the_rate_and_the_quality_of_the_graph(deploy, listener, tmp_path: Path):
    """Homing, teleop and what an operator publishes are silent unless used; everything else must be heard."""
    with deploy(episodes=0, record=tmp_path / "demos", teleop_device="joy"):
        seen: dict[str, list[int]] = {}
        entries = [entry for entry in graph.topics(("front", "wrist")) if "operator" not in entry.publishers]
        for entry in entries:
            qos = QoSProfile(
                depth=100,
                reliability=QoSReliabilityPolicy[entry.qos.reliability.upper()],
                durability=QoSDurabilityPolicy[entry.qos.durability.upper()],
            )
            seen[entry.name] = []
            callback = lambda message, info, name=entry.name: seen[name].append(info["source_timestamp"])  # noqa: E731
            listener.node.create_subscription(interface(entry.type), entry.name, callback, qos)
        busy = [entry for entry in entries if entry.name not in ON_DEMAND]
        listener.wait(lambda: all(seen[entry.name] for entry in busy), 30.0, "a message on every topic")
        for times in seen.values():
            times.clear()
        began = time.monotonic()
        listener.wait(lambda: time.monotonic() - began > WATCH_S, WATCH_S + 5.0, "the time to pass")
        for entry in entries:
            infos = listener.node.get_publishers_info_by_topic(entry.name)
            assert infos, entry.name
            for info in infos:
                assert info.topic_type == entry.type
                assert info.node_name in entry.publishers
                assert info.qos_profile.reliability is QoSReliabilityPolicy[entry.qos.reliability.upper()]
                assert info.qos_profile.durability is QoSDurabilityPolicy[entry.qos.durability.upper()]
        assert_rates(entries, seen)


def assert_rates(entries, seen) -> None:
    """Periodic topics keep their rate; these machines are shared, so a fifth may be missing, but nothing may rush."""
    for entry in entries:
        periodic = entry.name not in (*ON_DEMAND, "safety/verdict", "recorder/state", "/diagnostics")
        if periodic:
            times = sorted(seen[entry.name])
            rate = (len(times) - 1) / ((times[-1] - times[0]) / 1e9)
            assert 0.8 * entry.rate_hz <= rate <= 1.25 * entry.rate_hz, (entry.name, rate)
