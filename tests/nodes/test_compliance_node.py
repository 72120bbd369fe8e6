"""Without ros2_control's messages, which no package index has: what a person is told. How controllers are switched is
tested in tests/control/test_compliance.py and test_custody.py."""

import dataclasses
import importlib.util
import os
import subprocess
import sys

import pytest

from policy_bringup.control.compliance import ComplianceConfig
from policy_bringup.nodes.compliance_node import DEADLINE_S
from policy_bringup.nodes.hand_guide import ANSWER_S

WITHOUT = importlib.util.find_spec("controller_manager_msgs") is None


def compliance_node(config_folder, *parameters: str, **variables: str) -> subprocess.CompletedProcess[str]:
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
    done = compliance_node(config_folder, "compliant_controller:=gravity", **variables)
    assert done.returncode == 2
    assert (
        f"[compliance] hand guiding on ros2_control needs: sudo apt install ros-{distribution}-controller-manager-msgs"
        in done.stderr
    )
    assert "Traceback" not in done.stdout + done.stderr


def test_without_the_name_of_the_controller_that_yields_it_refuses_to_start(config_folder):
    done = compliance_node(config_folder)
    assert done.returncode == 2
    assert "[compliance] compliance: parameter 'compliant_controller' is missing" in done.stderr


def test_two_switches_and_three_looks_fit_into_the_time_that_the_arm_node_waits():
    (timeout,) = [field for field in dataclasses.fields(ComplianceConfig) if field.name == "timeout_s"]
    assert 2 * timeout.metadata["bounds"][1] + 3 * 0.1 <= DEADLINE_S < ANSWER_S
