"""Runs whole deployments as processes, and listens to them over real DDS."""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from policy_bringup.core.startup import Options, environment
from policy_bringup.runner import Runner

ROOT = Path(__file__).resolve().parents[2]


class Listener:
    """A plain rclpy node in the test's own process."""

    def __init__(self) -> None:
        self.node = Node("operator")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Spins until `condition` holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for: {what}"
            self._executor.spin_once(timeout_sec=0.05)

    def call(self, client, request, timeout_s: float = 5.0):
        """Calls a service and returns its answer."""
        self.wait(client.service_is_ready, timeout_s, f"service {client.srv_name}")
        future = client.call_async(request)
        self.wait(future.done, timeout_s, f"answer of {client.srv_name}")
        return future.result()

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


@pytest.fixture(scope="session", autouse=True)
def ros_environment(domain_id: int) -> None:
    os.environ.update(environment(ROOT / "config", domain_id))


@pytest.fixture
def listener(ros_environment) -> Iterator[Listener]:
    rclpy.init()
    listener = Listener()
    yield listener
    listener.close()
    rclpy.try_shutdown()


@pytest.fixture
def deploy(domain_id: int, tmp_path: Path):
    """Starts a deployment; every process has ended when the test has."""

    @contextmanager
    def start(**choices) -> Iterator[Runner]:
        options = {
            "mode": "sim",
            "deployment": ROOT / "config" / "grasp.yaml",
            "source": "expert",
            "episodes": 0,
            "report": tmp_path / "report.json",
            "domain_id": domain_id,
            **choices,
        }
        log = io.StringIO()
        runner = Runner(Options(**options), log)
        try:
            with runner:
                runner.log = log
                yield runner
        finally:
            print(log.getvalue())
            assert all(child.poll() is not None for child in runner.children.values())

    return start
