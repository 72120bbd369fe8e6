"""The enclaves of core/security_policies.py beside the processes that they are for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from policy_bringup.core import security_policies
from policy_bringup.nodes.ros_probe import probe

CAMERAS = ("front", "wrist")


def test_a_running_deployment_does_nothing_that_its_enclaves_do_not_grant(deploy, listener, tmp_path: Path):
    """Every publisher, reader, server and client of every process, those of ROS itself included."""
    with deploy(record=tmp_path / "demos", teleop_device="joy", console=True) as runner:
        health = lambda: {i.node_name for i in listener.node.get_publishers_info_by_topic("/diagnostics")}  # noqa: E731
        listener.wait(lambda: health() >= set(runner.children), 90.0, "all nodes")
        for name in runner.children:
            granted = security_policies.grants(name, CAMERAS)
            for right, ask in (
                ("publish", listener.node.get_publisher_names_and_types_by_node),
                ("subscribe", listener.node.get_subscriber_names_and_types_by_node),
                ("reply", listener.node.get_service_names_and_types_by_node),
                ("request", listener.node.get_client_names_and_types_by_node),
            ):
                found = {entry for entry, _ in ask(name, "/")}
                allowed = {entry.replace("~", f"/{name}") for entry in getattr(granted, right)}
                assert found <= allowed, (name, right)
                assert found or right in ("subscribe", "request"), (name, right)


@pytest.mark.skipif(probe().security, reason="this ROS has DDS security")
def test_a_process_that_is_told_to_be_secure_does_not_start_without_dds_security(tmp_path: Path, ros_environment):
    """It must not run unprotected while somebody believes that it is protected."""
    folder = tmp_path / "enclaves" / "policy_bringup" / "safety"
    folder.mkdir(parents=True)
    (folder / "permissions.p7s").touch()
    environment = {**os.environ, **security_policies.environment(tmp_path, "safety")}
    arguments = ["--ros-args", *security_policies.arguments("safety")]
    ended = subprocess.run(
        [sys.executable, "-m", "policy_bringup.nodes.safety_node", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "doesn't have the security libraries" in ended.stderr
