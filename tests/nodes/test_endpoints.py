import time

import pytest
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy
from std_msgs.msg import Bool

from policy_bringup.core import graph
from policy_bringup.core.errors import ConfigError
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.inbox import Inbox

pytestmark = pytest.mark.usefixtures("ros")


@pytest.fixture
def make_node():
    nodes: list[Node] = []

    def make(name: str) -> Node:
        nodes.append(Node(name))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize("entry", graph.topics(("front",)), ids=lambda entry: entry.name)
def test_every_type_and_quality_of_the_graph_exists_in_this_distribution(entry, make_node):
    owner = next(name for name in entry.publishers)
    publisher = endpoints.publisher(make_node(owner), entry.name)
    profile = publisher.qos_profile
    assert profile.reliability is QoSReliabilityPolicy[entry.qos.reliability.upper()]
    assert profile.durability is QoSDurabilityPolicy[entry.qos.durability.upper()]
    assert profile.depth == entry.qos.depth


@pytest.mark.parametrize("name", ["policy", "sim", "trial", "camera"])
def test_only_safety_may_publish_safe_actions(name: str, make_node):
    with pytest.raises(ConfigError, match=f"node '{name}' may not publish 'safety/action'"):
        endpoints.publisher(make_node(name), "safety/action")


@pytest.mark.parametrize("name", ["policy", "safety", "sim", "trial"])
def test_only_the_arm_may_publish_to_the_controller(name: str, make_node):
    with pytest.raises(ConfigError, match="may not publish 'arm_controller/joint_trajectory'"):
        endpoints.publisher(make_node(name), "arm_controller/joint_trajectory")


def test_a_node_that_is_no_reader_may_not_read(make_node):
    with pytest.raises(ConfigError, match="node 'safety' may not read 'camera/front/image_raw'"):
        endpoints.subscribe(make_node("safety"), "camera/front/image_raw", lambda message: None)


def test_a_topic_outside_the_graph_does_not_exist(make_node):
    with pytest.raises(ConfigError, match=r"topic .chatter. is not in core/graph\.py"):
        endpoints.publisher(make_node("policy"), "chatter")


def test_services_are_bound_to_their_server_and_their_clients(make_node):
    with pytest.raises(ConfigError, match="node 'policy' may not serve 'safety/arm'"):
        endpoints.serve(make_node("policy"), "safety/arm", lambda request, response: response)
    with pytest.raises(ConfigError, match="node 'arm' may not call 'safety/arm'"):
        endpoints.client(make_node("arm"), "safety/arm")


def take_until(inbox: Inbox, condition, meanwhile=lambda: None) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        meanwhile()
        inbox.take()
        time.sleep(0.001)


def let_them_meet(inbox: Inbox, heard: list, publisher) -> None:
    """Until messages arrive: that the publisher has found the reader does not say that the reader has found it."""
    take_until(inbox, lambda: heard, lambda: publisher.publish(Bool()))


def test_an_inbox_hands_out_messages_in_order_without_an_executor(make_node):
    heard: list[bool] = []
    safety, box = make_node("safety"), make_node("operator")
    inbox = Inbox(safety)
    inbox.hear("safety/estop", lambda message: heard.append(message.data))
    publisher = endpoints.publisher(box, "safety/estop")
    let_them_meet(inbox, heard, publisher)
    for value in (True, False, True):
        publisher.publish(Bool(data=value))
    take_until(inbox, lambda: heard.count(True) == 2)
    first = heard.index(True)
    assert heard[first:] == [True, False, True]
    assert not any(heard[:first])
    inbox.clear()


def test_an_inbox_can_tell_when_a_message_was_published(make_node):
    heard: list[int] = []
    safety, box = make_node("safety"), make_node("operator")
    inbox = Inbox(safety)
    inbox.hear_published("safety/estop", lambda message, published_ns: heard.append(published_ns))
    publisher = endpoints.publisher(box, "safety/estop")
    let_them_meet(inbox, heard, publisher)
    before = time.time_ns()
    publisher.publish(Bool(data=True))
    after = time.time_ns()
    take_until(inbox, lambda: heard[-1] >= before)
    assert heard[-1] <= after
