"""The way home, as the arm node offers it to safety."""

from itertools import pairwise

from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import graph
from policy_bringup.core.decoding import stamp_of
from policy_bringup.nodes import endpoints

HOME = "home/action"
WHILE = 30
"""Commands, which come at 100 Hz: six periods of the way home."""


def test_while_joint_states_pause_no_second_table_of_the_way_home_has_the_stamp_of_the_first(bench):
    entry, stamps = graph.topic(HOME), []

    def take(message: JointTrajectory) -> None:
        stamps.append(stamp_of(message.header.stamp))

    bench.node.create_subscription(endpoints.interface(entry.type), HOME, take, endpoints.profile(entry.qos))
    client = bench.node.create_client(Trigger, "arm/home")
    bench.wait(client.service_is_ready, "the service")
    client.call_async(Trigger.Request())
    bench.wait(lambda: len(stamps) >= 5, "the way home")
    bench.sim.trigger_deactivate()
    before = len(bench.commands)
    bench.wait(lambda: len(bench.commands) >= before + WHILE, "the arm node, which goes on holding")
    bench.sim.trigger_activate()
    told = len(stamps)
    bench.wait(lambda: len(stamps) >= told + 5, "the way home, again")
    assert all(earlier < later for earlier, later in pairwise(stamps)), stamps
