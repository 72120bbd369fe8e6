"""One child process per mutant: it gets the changed code and runs the tests until one fails; the parent takes notes."""

from __future__ import annotations

import importlib.abc
import importlib.util
import mmap
import os
import resource
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from _pytest.runner import runtestprotocol
from mutants import Mutant

SOURCE = Path(__file__).resolve().parents[2] / "src"
MEMORY = 6 << 30
BROKEN, SURVIVED = 70, "survived"


def module_of(file: Path) -> str:
    """The name under which `file` is imported."""
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts)


class Ordered:
    """Runs `tests` (by name, in order) until one fails, whose name `report` gets.

    seconds: what each takes of the processor, unchanged. Five times as much and a second, and the process ends: a
    mutant that loops counts as noticed, and a machine that is busy with something else is no reason to end.
    """

    def __init__(self, tests: list[str], seconds: dict[str, float], report: Callable[[str], None]) -> None:
        self.tests, self.seconds, self.report = tests, seconds, report

    def pytest_runtestloop(self, session: Any) -> bool:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        found = {item.nodeid: item for item in session.items}
        items = [found[test] for test in self.tests]
        for item, after in zip(items, [*items[1:], None], strict=True):
            signal.setitimer(signal.ITIMER_PROF, 1.0 + 5.0 * self.seconds[item.nodeid])
            if any(part.failed for part in runtestprotocol(item, log=False, nextitem=after)):
                self.report(item.nodeid)
                session.testsfailed = 1
                break
        return True


def put_in(mutant: Mutant) -> None:
    """Gives the running function the changed code."""
    found: Any = sys.modules[module_of(mutant.file)]
    code = mutant.code()
    for part in mutant.function.split("."):
        found = vars(found)[part]
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == part)
    function = found.fget if isinstance(found, property) else found
    function.__code__ = code


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with the changed code."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant, self.name = mutant, module_of(mutant.file)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self.mutant.file, loader=self, submodule_search_locations=self._folder()
        )

    def _folder(self) -> list[str] | None:
        return [str(self.mutant.file.parent)] if self.mutant.file.name == "__init__.py" else None

    def exec_module(self, module: Any) -> None:
        exec(self.mutant.code(), vars(module))


def places_of(mutant: Mutant) -> list[tuple[object, ...]]:
    """Where it is, from near to far: what noticed a neighbour is likely to notice it."""
    return [(mutant.file, mutant.lines[0]), (mutant.file, mutant.function), (mutant.file,)]


class Race:
    """Forks one child per mutant; remembers who died of which test, and lets the best killers run first."""

    def __init__(self, jobs: int, until: float) -> None:
        self.jobs, self.until = jobs, until
        self.notes = mmap.mmap(-1, 4096 * jobs)  # one page per child, for the name of the test
        self.killers: Counter[tuple[str, object]] = Counter()  # (test, function or line or file) -> mutants
        self.outcome: dict[str, str] = {}

    def run(self, mutants: Sequence[Mutant], child: Callable[[Mutant, Callable[[str], None]], int]) -> None:
        running: dict[int, tuple[int, Mutant]] = {}
        free = list(range(self.jobs))
        for mutant in mutants:
            if time.monotonic() > self.until:
                break
            if not free:
                free.append(self._reap(running))
            page = free.pop()
            self._note(page, "")
            pid = os.fork()
            if pid == 0:
                os._exit(self._child(child, mutant, page))
            running[pid] = (page, mutant)
        while running:
            self._reap(running)

    def _child(self, child: Callable[[Mutant, Callable[[str], None]], int], mutant: Mutant, page: int) -> int:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            return child(mutant, lambda test: self._note(page, test))
        except BaseException as error:
            self._note(page, f"{type(error).__name__}: {error}")
            return BROKEN

    def _reap(self, running: dict[int, tuple[int, Mutant]]) -> int:
        pid, status = os.wait()
        page, mutant = running.pop(pid)
        test = self._read(page)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
            raise SystemExit(f"{mutant.name}: {test}")
        if status != 0:
            self.killers.update((test, place) for place in places_of(mutant))
        died = os.WIFSIGNALED(status)
        self.outcome[mutant.name] = SURVIVED if status == 0 else f"signal {os.WTERMSIG(status)}" if died else test
        if status == 0:
            print(f"survived: line {mutant.lines[0]}, {mutant.name}", flush=True)
        if len(self.outcome) % 100 == 0:
            print(f"{len(self.outcome)} mutants", flush=True)
        return page

    def _note(self, page: int, text: str) -> None:
        data = text.encode()[:4000]
        self.notes[page * 4096 : page * 4096 + 4 + len(data)] = struct.pack("i", len(data)) + data

    def _read(self, page: int) -> str:
        (n,) = struct.unpack_from("i", self.notes, page * 4096)
        return self.notes[page * 4096 + 4 : page * 4096 + 4 + n].decode(errors="replace")
