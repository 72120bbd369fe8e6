"""What the latency node makes of what safety says, message by message."""

import pytest
from diagnostic_msgs.msg import DiagnosticArray

from policy_bringup.nodes import messages
from policy_bringup.nodes.latency_node import LatencyNode


def said(*entries: dict[str, str]) -> DiagnosticArray:
    return messages.diagnostics(1, *(messages.status("safety", "ok", "disarmed", values) for values in entries))


@pytest.fixture
def node() -> LatencyNode:
    """`complaints` collects why it failed."""
    node = LatencyNode.__new__(LatencyNode)
    node.complaints, node._began_ns = [], None
    node.fail = node.complaints.append
    return node


@pytest.mark.parametrize("nothing", [said(), said({}), said({"source": "policy"})])
def test_a_state_that_says_nothing_neither_begins_nor_ends_a_measurement(node: LatencyNode, nothing: DiagnosticArray):
    node._take_state(nothing)
    assert node._began_ns is None
    node._take_state(said({"state": "ACTIVE", "source": "policy"}))
    began_ns = node._began_ns
    assert began_ns is not None
    node._take_state(nothing)
    assert (node._began_ns, node.complaints) == (began_ns, [])


def test_a_state_in_which_nobody_drives_ends_a_measurement(node: LatencyNode):
    node._take_state(said({"state": "ACTIVE", "source": "policy"}))
    node._take_state(said({"state": "READY", "source": ""}))
    assert node.complaints == ["not measured: safety is READY before the motion was over: disarmed"]
