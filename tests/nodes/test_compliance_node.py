"""Without ros2_control's messages, which no package index has: what a person is told. How controllers are switched is
tested in tests/control/test_compliance.py and test_custody.py."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from std_srvs.srv import SetBool

from policy_bringup.control.compliance import ComplianceConfig, Roles, Switch
from policy_bringup.control.custody import Custody
from policy_bringup.core.throttle import Throttle
from policy_bringup.nodes import compliance_node
from policy_bringup.nodes.compliance_node import DEADLINE_S, ComplianceNode
from policy_bringup.nodes.hand_guide import ANSWER_S

WITHOUT = importlib.util.find_spec("controller_manager_msgs") is None


def run_node(config_folder, *parameters: str, **variables: str) -> subprocess.CompletedProcess[str]:
    chosen = [f"deployment:={config_folder / 'grasp.yaml'}", *parameters]
    options = [part for parameter in chosen for part in ("-p", parameter)]
    return subprocess.run(
        [sys.executable, "-m", "policy_bringup.nodes.compliance_node", "--ros-args", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**{name: value for name, value in os.environ.items() if name != "ROS_DISTRO"}, **variables},
    )


@pytest.mark.skipif(not WITHOUT, reason="controller_manager_msgs is installed here")
@pytest.mark.parametrize(("variables", "distribution"), [({"ROS_DISTRO": "jazzy"}, "jazzy"), ({}, "$ROS_DISTRO")])
def test_without_its_messages_it_refuses_to_start_and_names_the_package(config_folder, variables, distribution):
    done = run_node(config_folder, "compliant_controller:=gravity", **variables)
    assert done.returncode == 2
    assert (
        f"[compliance] hand guiding on ros2_control needs: sudo apt install ros-{distribution}-controller-manager-msgs"
        in done.stderr
    )
    assert "Traceback" not in done.stdout + done.stderr


def test_without_the_name_of_the_controller_that_yields_it_refuses_to_start(config_folder):
    done = run_node(config_folder)
    assert done.returncode == 2
    assert "[compliance] compliance: parameter 'compliant_controller' is missing" in done.stderr


def test_two_switches_and_three_looks_fit_into_the_time_that_the_arm_node_waits():
    (timeout,) = [field for field in dataclasses.fields(ComplianceConfig) if field.name == "timeout_s"]
    assert 2 * timeout.metadata["bounds"][1] + 3 * 0.1 <= DEADLINE_S < ANSWER_S


class Manager:
    """Holds the arm, and keeps until when it was to answer."""

    def __init__(self) -> None:
        self.untils: list[float] = []

    def states(self, until: float) -> dict[str, str]:
        self.untils.append(until)
        return {"arm_controller": "active", "gravity": "inactive"}

    def switch(self, switch: Switch, timeout_s: float, until: float) -> str:
        self.untils.append(until)
        return "refused"


@pytest.fixture
def node() -> ComplianceNode:
    """One that never met DDS, and is active; `manager` is asked, `_lock` taken while it is asked."""
    node = ComplianceNode.__new__(ComplianceNode)
    node.manager, node._lock, node._offered, node._tell = Manager(), threading.Lock(), True, lambda _reason: None
    node._custody = Custody(Roles(("arm_controller",), "gravity"), 0.2, node.manager, node.manager.states(0.0))
    node.manager.untils.clear()
    return node


def asked(node: ComplianceNode, on: bool) -> tuple[threading.Thread, SetBool.Response]:
    """A request that is being answered in a thread of its own."""
    response = SetBool.Response()
    thread = threading.Thread(target=node._serve, args=(SetBool.Request(data=on), response), daemon=True)
    thread.start()
    return thread, response


@pytest.mark.parametrize("on", [True, False])
def test_a_request_behind_a_look_that_hangs_is_answered_in_time_and_never_carried_out(node, monkeypatch, on):
    monkeypatch.setattr(compliance_node, "DEADLINE_S", 0.05)
    node._lock.acquire()
    thread, response = asked(node, on)
    thread.join(5.0)
    assert not thread.is_alive()
    assert (response.success, response.message) == (False, "controller_manager holds up the node that asks it")
    node._lock.release()
    assert node.manager.untils == []


@pytest.mark.parametrize("on", [True, False])
def test_what_a_request_has_waited_is_taken_off_its_time(node, monkeypatch, on):
    """A clock of its own: the request comes at 100 s, and gets the lock long after."""
    moments = iter([100.0])
    monkeypatch.setattr(compliance_node, "time", SimpleNamespace(monotonic=lambda: next(moments, 100.2)))
    response = node._serve(SetBool.Request(data=on), SetBool.Response())
    assert response.success is not on, "it is held already, and cannot be lent"
    assert max(node.manager.untils) == 100.0 + DEADLINE_S
    assert not node._lock.locked()


def test_the_controllers_are_looked_at_once_a_second(node):
    node._throttle = Throttle(1.0 / compliance_node.LOOK_EVERY_S)
    for _ in range(3):
        node._look()
    assert len(node.manager.untils) == 1
