"""Starts a deployment without `ros2 launch`: the same processes, parameters and environment, from core/graph.py.

If any node ends, all are asked to end: an arm without its monitor, or a monitor without its arm, is no robot.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.startup import Options, Process, processes
from policy_bringup.leftovers import sweep

STOP_TIMEOUT_S = 5.0
PR_SET_PDEATHSIG = 1


class Log(Protocol):
    """Where what the nodes say goes, from several threads."""

    def write(self, text: str, /) -> object:
        """A line, or its end."""

    def flush(self) -> object:
        """After every line."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a deployment ended: exit code, and the node that ended first (None: stopped from outside)."""

    code: int
    node: str | None


class Runner:
    """One running deployment. Use as a context manager: leaving it stops every process."""

    def __init__(self, options: Options, log: Log = sys.stderr) -> None:
        self._options = options
        self._log = log
        self._readers: list[threading.Thread] = []
        self.children: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Runner:
        sweep()
        for process in processes(self._options):
            self._start(process)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        sweep()

    def wait(self, timeout_s: float | None = None) -> Ending | None:
        """Until the first node ends; None when `timeout_s` passes before."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while deadline is None or time.monotonic() < deadline:
            for name, child in self.children.items():
                code = child.poll()
                if code is not None:
                    return Ending(code if code >= 0 else 1, name)
            time.sleep(0.02)
        return None

    def stop(self) -> None:
        """Asks every process to end, robot side last; kills what has not ended after a few seconds."""
        for child in reversed(self.children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for name, child in self.children.items():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(name, f"did not end within {STOP_TIMEOUT_S:.0f} s and was killed")
                child.kill()
                child.wait()
        for reader in self._readers:
            reader.join(timeout=1.0)

    def _start(self, process: Process) -> None:
        child = subprocess.Popen(
            command_line(process),
            env={**os.environ, **process.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl+C reaches this process only; it then stops the others in order
            preexec_fn=_end_with_parent,
        )
        self.children[process.name] = child
        reader = threading.Thread(target=self._relay, args=(process.name, child), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _relay(self, name: str, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self._say(name, line.rstrip().removeprefix(f"[{name}] "))

    def _say(self, name: str, sentence: str) -> None:
        print(f"[{name}] {sentence}", file=self._log, flush=True)


def command_line(process: Process) -> list[str]:
    """The command that runs one node, with its parameters as ROS arguments."""
    arguments = [sys.executable, "-m", process.module, "--ros-args", *process.ros_arguments]
    for name, value in process.parameters.items():
        # Quoted as YAML text, so that an empty or number-like text stays a text.
        arguments += ["-p", f"{name}:='{value}'" if isinstance(value, str) else f"{name}:={value}"]
    return arguments


def _end_with_parent() -> None:
    """In the child: SIGTERM when the runner dies, however it dies. No robot runs on unattended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run(options: Options, log: Log = sys.stderr) -> Ending:
    """Runs a deployment until a node ends or SIGINT or SIGTERM arrives."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Runner(options, log) as runner:
        while not stopped.is_set():
            ending = runner.wait(timeout_s=0.2)
            if ending is not None:
                return ending
    return Ending(0, None)


def deployment_path(name: str) -> Path:
    """A file under config/ by its name (e.g. "grasp"), or a path to one. Raises ConfigError."""
    path = Path(name)
    if path.suffix != ".yaml":
        path = share_folder() / "config" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"deployment: there is no file {path}")
    return path.absolute()


def share_folder() -> Path:
    """Where configuration and models lie: the current checkout if it is one, else this environment's share folder."""
    here = Path.cwd()
    if (here / "config" / "robot.yaml").is_file() and (here / "models" / "robot").is_dir():
        return here
    return Path(sys.prefix) / "share" / "policy_bringup"
