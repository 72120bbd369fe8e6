"""The recorder node alone with cameras, and an operator who presses its buttons: every wait has an end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from policy_bringup.core.startup import Options, processes
from policy_bringup.runner import command_line

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 640, 480
PATIENCE_S = 60.0


class Plan(NamedTuple):
    """How to start a process."""

    command: list[str]
    environment: dict[str, str]


def recorder_process(deployment: Path, dataset: Path, domain_id: int, operator: str = "") -> Plan:
    """The recorder node alone."""
    options = Options("hardware", deployment, source="none", record=dataset, operator=operator, domain_id=domain_id)
    (process,) = [process for process in processes(options) if process.name == "recorder"]
    return Plan(command_line(process), {**os.environ, **process.environment})


def deployment_with_cameras(site: Path, cameras: list[str]) -> Path:
    """The grasping deployment with these cameras at 640x480, in a folder of its own."""
    folder = site / "config"
    folder.mkdir()
    (site / "models").symlink_to(ROOT / "models")
    for path in (ROOT / "config").iterdir():
        (folder / path.name).symlink_to(path)
    data = yaml.safe_load((ROOT / "config" / "grasp.yaml").read_text())
    data["cameras"] = [{"name": camera, "width": WIDTH, "height": HEIGHT} for camera in cameras]
    data["contract"]["observation"]["images"] = [{"camera": camera, "height": 128, "width": 128} for camera in cameras]
    (folder / "wide.yaml").write_text(yaml.safe_dump(data))
    return folder / "wide.yaml"


def press(node: Node, executor: SingleThreadedExecutor, name: str, kind: Any = Trigger, request: Any = None) -> str:
    """Calls a service and returns what it says. Raises TimeoutError."""
    return str(_call(node, executor, name, kind, request).message)


def await_publishers(node: Node, executor: SingleThreadedExecutor, topics: Sequence[str]) -> None:
    """Raises TimeoutError."""
    missing = lambda: [topic for topic in topics if not node.count_publishers(topic)]  # noqa: E731
    _wait(executor, lambda: not missing(), lambda: f"publishers of {', '.join(missing())}")


def start_recording(node: Node, executor: SingleThreadedExecutor) -> None:
    """As soon as the recorder hears everything. Raises TimeoutError."""
    _client(node, "recorder/stop", Trigger)  # known to the recorder by the time that it is busy
    answers: list[Any] = []

    def started() -> bool:
        answers.append(_call(node, executor, "recorder/start", Trigger))
        return bool(answers[-1].success)

    _wait(executor, started, lambda: f"the recorder to start; it says: {answers[-1].message}")


def _wait(executor: SingleThreadedExecutor, condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain for {what()}")
        executor.spin_once(timeout_sec=0.1)


def _client(node: Node, name: str, kind: Any) -> Any:
    """The one that there is: DDS may lose the answer to a client that its server has not discovered yet."""
    known = [client for client in node.clients if client.srv_name.removeprefix("/") == name]
    return known[0] if known else node.create_client(kind, name)


def _call(node: Node, executor: SingleThreadedExecutor, name: str, kind: Any, request: Any = None) -> Any:
    client = _client(node, name, kind)
    _wait(executor, client.service_is_ready, lambda: f"service {name}")
    future = client.call_async(request or kind.Request())
    _wait(executor, future.done, lambda: f"the answer of {name}")
    return future.result()


def end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks them all, then waits for them all. Raises TimeoutError, with none left, if one does not end."""
    for process in started:
        process.terminate()
    deaf: list[str] = []
    for process in started:
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            deaf.append(" ".join(map(str, process.args)))
    if deaf:
        raise TimeoutError(f"did not end within {PATIENCE_S:.0f} s of SIGTERM: {'; '.join(deaf)}")
