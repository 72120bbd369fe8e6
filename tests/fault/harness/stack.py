"""A deployment in which tests may leave out, replace, sabotage, kill and start again single nodes."""

import io
import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from policy_bringup.core.startup import Options, Process, processes
from policy_bringup.runner import Runner

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SABOTEUR = HERE / "saboteur"


class Levers:
    """A few numbers that another process reads while it runs: a file, mapped into the memory of both."""

    def __init__(self, path: Path, form: str) -> None:
        self.path, self._form = path, form
        path.write_bytes(bytes(struct.calcsize(form)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def set(self, *values: float) -> None:
        struct.pack_into(self._form, self._memory, 0, *values)


class Stack(Runner):
    """without: nodes that are not started. remap: per node, a topic -> its other name. sabotaged: nodes whose clock and
    callbacks `levers` can spoil (saboteur/sitecustomize.py), by standard means of Python: the product has no switch."""

    def __init__(
        self,
        options: Options,
        folder: Path,
        without: tuple[str, ...] = (),
        remap: Mapping[str, Mapping[str, str]] | None = None,
        sabotaged: tuple[str, ...] = (),
    ) -> None:
        self.output = io.StringIO()
        super().__init__(options, self.output)
        remap = remap or {}
        self.levers = {name: Levers(folder / f"levers_{name}", "<qq") for name in sabotaged}
        chosen = [process for process in processes(options) if process.name not in without]
        self._plan = {process.name: self._changed(process, remap.get(process.name, {})) for process in chosen}

    def __enter__(self) -> "Stack":
        for process in self._plan.values():
            self._start(process)
        return self

    def __exit__(self, *ends: object) -> None:
        for child in self.children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
        super().__exit__(*ends)
        assert all(child.poll() is not None for child in self.children.values())

    def kill(self, name: str) -> None:
        self.children[name].kill()

    def respawn(self, name: str) -> None:
        """The same node anew, as a supervisor would start it."""
        self.children[name].wait(timeout=5.0)
        self._start(self._plan[name])

    def _changed(self, process: Process, remap: Mapping[str, str]) -> Process:
        arguments = [part for old, new in remap.items() for part in ("-r", f"{old}:={new}")]
        variables = dict(process.environment)
        if process.name in self.levers:
            variables["FAULT_LEVERS"] = str(self.levers[process.name].path)
            variables["PYTHONPATH"] = os.pathsep.join([str(SABOTEUR), os.environ.get("PYTHONPATH", "")])
        return replace(process, environment=variables, ros_arguments=(*process.ros_arguments, *arguments))


class Relay:
    """The lying joint-state relay, a process of its own (relay.py)."""

    PASS, STOP, FREEZE, NUMBER, STAMP_BY, STAMP_ZERO, STAMP_MONOTONIC, NOISE = range(8)

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._levers = Levers(folder / "levers_relay", "<qqd")
        command = [sys.executable, str(HERE / "relay.py"), str(self._levers.path)]
        self._process = subprocess.Popen(command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL)

    def lie(self, mode: int, whole: int = 0, number: float = 0.0) -> None:
        """whole: joint, or ns by which a stamp is off; number: what the joint's position is said to be, or by how much
        that is blurred."""
        self._levers.set(mode, whole, number)

    def tell_the_truth(self) -> None:
        self.lie(self.PASS)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10.0)
