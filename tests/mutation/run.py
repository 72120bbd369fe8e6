"""Changes the safety monitor in every small way of mutants.py, and looks whether a test notices.

    python tests/mutation/run.py                  # all of them
    python tests/mutation/run.py --seconds 240    # what that allows, beginning with the lines changed since --since

Ends with 1 if a mutant survives that tests/mutation/equivalent.yaml does not list, or if one that it lists is noticed
after all or does not exist any more. A mutant inside a function costs a fork: the tests are collected once, the child
gets the changed code and runs the tests that reach the changed lines until one fails. What happens at import costs a
collection of its own.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib.abc
import importlib.util
import json
import mmap
import multiprocessing
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import hypothesis
import pytest
import yaml
from _pytest.runner import runtestprotocol
from mutants import Mutant, mutants_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "src"
TARGETS = [*sorted((SOURCE / "policy_bringup/safety").glob("*.py")), SOURCE / "policy_bringup/control/limiter.py"]
TESTS = ["tests/safety", "tests/control/test_limiter.py"]
PYTEST = [*TESTS, "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-p", "no:terminal", "--assert=plain"]
MEMORY = 6 << 30
BROKEN, SURVIVED = 70, "survived"
LISTED = HERE / "equivalent.yaml"


def module_of(file: Path) -> str:
    """The name under which `file` is imported."""
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts)


# One mutant in one child


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


# Many mutants, `jobs` at a time


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


class Baseline:
    """All tests once, unchanged: how long each takes (s) and which lines of the targets it reaches."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, set[tuple[str, int]]] = {}

    def measure(self, items: list[Any]) -> None:
        files = {str(file) for file in TARGETS}
        for item, after in zip(items, [*items[1:], None], strict=True):
            reached: set[tuple[str, int]] = set()

            def line(frame: FrameType, event: str, _: Any, reached: set[tuple[str, int]] = reached) -> Any:
                reached.add((frame.f_code.co_filename, frame.f_lineno))
                return line

            def call(frame: FrameType, event: str, _: Any) -> Any:
                return line if frame.f_code.co_filename in files else None

            began = time.process_time()
            sys.settrace(call)
            try:
                reports = runtestprotocol(item, log=False, nextitem=after)
            finally:
                sys.settrace(None)
            if any(report.failed for report in reports):
                raise SystemExit(f"{item.nodeid} fails without any change")
            self.seconds[item.nodeid] = time.process_time() - began
            self.lines[item.nodeid] = reached

    def order(self, mutant: Mutant, killers: Counter[tuple[str, object]]) -> list[str]:
        """The tests that reach the mutant (its file, where it changes the import): the best killers first."""
        file, places = str(mutant.file), places_of(mutant)
        changed = {(file, n) for n in mutant.lines}
        if not mutant.at_import:
            chosen = [test for test, lines in self.lines.items() if lines & changed]
        else:
            chosen = [test for test, lines in self.lines.items() if any(name == file for name, _ in lines)]
        return sorted(chosen, key=lambda test: ([-killers[test, place] for place in places], self.seconds[test]))


class Forking:
    """The pytest plugin that collects once, measures, and forks for every mutant inside a function."""

    def __init__(self, race: Race, mutants: Sequence[Mutant]) -> None:
        self.race, self.mutants, self.baseline = race, mutants, Baseline()

    def pytest_runtestloop(self, session: Any) -> bool:
        session.config.option.tbstyle = "native"  # nobody reads it
        self.baseline.measure(session.items)
        print(f"{len(session.items)} tests in {sum(self.baseline.seconds.values()):.1f} s", flush=True)

        def child(mutant: Mutant, report: Callable[[str], None]) -> int:
            tests = self.baseline.order(mutant, self.race.killers)
            put_in(mutant)
            Ordered(tests, self.baseline.seconds, report).pytest_runtestloop(session)
            return int(session.testsfailed > 0)

        gc.collect()
        gc.freeze()  # or every child would copy every page at its first collection
        self.race.run(self.mutants, child)
        return True


def judge_functions(race: Race, mutants: Sequence[Mutant], results: Path) -> None:
    """In a process of its own, because it imports what the others want to import changed. Writes `results`."""
    plugin = Forking(race, mutants)
    if pytest.main(PYTEST, plugins=[plugin]) != 0:
        raise SystemExit("the tests cannot be collected, or fail without any change")
    baseline = {test: sorted({name for name, _ in lines}) for test, lines in plugin.baseline.lines.items()}
    results.write_text(json.dumps([race.outcome, plugin.baseline.seconds, baseline]))


def judge_imports(race: Race, mutants: Sequence[Mutant], baseline: Baseline) -> None:
    def child(mutant: Mutant, report: Callable[[str], None]) -> int:
        tests = baseline.order(mutant, race.killers)
        sys.meta_path.insert(0, Changed(mutant))
        return int(pytest.main(PYTEST, plugins=[Ordered(tests, baseline.seconds, report)]) != 0)

    race.run(mutants, child)


# Which ones, and what came out


def changed_lines(since: str) -> set[tuple[str, int]]:
    """(path, line) of what the targets gained since that commit; nothing if git does not know it."""
    command = ["git", "diff", "--unified=0", since, "--", *(str(file) for file in TARGETS)]
    diff = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found, path = set(), ""
    for line in diff.stdout.splitlines():
        if line.startswith("+++ "):
            path = str(ROOT / line[6:])
        if match := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(match[1]), int(match[2] or 1)
            found |= {(path, n) for n in range(first, first + count)}
    return found


def in_turn(mutants: list[Mutant], since: str) -> list[Mutant]:
    """Changed lines first, then another order for every commit: what one run leaves out, the next ones meet. The listed
    ones are the dearest, because all their tests run: they come last."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    fresh, known = changed_lines(since), set(listed())

    def key(mutant: Mutant) -> tuple[bool, bool, str]:
        touched = any((str(mutant.file), n) in fresh for n in mutant.lines)
        return mutant.name in known, not touched, hashlib.sha256((head + mutant.name).encode()).hexdigest()

    return sorted(mutants, key=key)


def listed() -> dict[str, str]:
    """The mutants that are known to change nothing, with the reason."""
    return {entry["mutant"]: entry["reason"] for entry in yaml.safe_load(LISTED.read_text()) or []}


def report(outcome: dict[str, str], mutants: list[Mutant], took_s: float) -> int:
    known = listed()
    names = {mutant.name: mutant for mutant in mutants}
    survived = {name for name, how in outcome.items() if how == SURVIVED}
    for name in sorted(survived - set(known)):
        print(f"SURVIVED, AND IS NOT LISTED: line {names[name].lines[0]}, {name}")
    for name in known:
        if name not in names:
            print(f"LISTED, BUT DOES NOT EXIST: {name}")
        elif name in outcome and name not in survived:
            print(f"LISTED, BUT NOTICED by {outcome[name]}: {name}")
    noticed, judged = len(outcome) - len(survived), len(outcome) - len(survived & set(known))
    loops = sum(how.startswith("signal") for how in outcome.values())
    share = 100.0 * noticed / max(judged, 1)
    print(f"{len(outcome)} of {len(mutants)} mutants in {took_s:.0f} s: {noticed} noticed ({loops} by their time), "
          f"{len(survived & set(known))} equivalent, {judged - noticed} survived: {share:.2f} %")  # fmt: skip
    wrong = [name for name in known if name not in names or (name in outcome and name not in survived)]
    return int(bool(wrong) or judged != noticed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no mutant after this time")
    parser.add_argument("--since", default="HEAD~1", help="mutants of lines changed since this commit come first")
    parser.add_argument("--only", default="", help="only mutants whose name matches this expression")
    parser.add_argument("--outcome", type=Path, default=ROOT / "build/mutation.json", help="who noticed what")
    options = parser.parse_args()
    began = time.monotonic()
    os.environ["PYTHONPATH"] = str(SOURCE)
    sys.path.insert(0, str(SOURCE))
    os.chdir(ROOT)
    few = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutation", max_examples=10, derandomize=True, database=None, phases=few)
    hypothesis.settings.load_profile("mutation")
    mutants = [mutant for file in TARGETS for mutant in mutants_of(file)]
    chosen = [mutant for mutant in in_turn(mutants, options.since) if re.search(options.only, mutant.name)]
    inside, at_import = [m for m in chosen if not m.at_import], [m for m in chosen if m.at_import]
    print(f"{len(inside)} mutants in functions, {len(at_import)} at import", flush=True)
    # Imports first are dearer; they get the same share of the time as of the mutants.
    share = len(inside) / max(len(chosen), 1) * 0.6
    options.outcome.parent.mkdir(parents=True, exist_ok=True)
    functions = multiprocessing.get_context("fork").Process(
        target=judge_functions, args=(Race(options.jobs, began + options.seconds * share), inside, options.outcome)
    )
    functions.start()
    functions.join()
    if functions.exitcode != 0:
        return 1
    outcome, seconds, files = json.loads(options.outcome.read_text())
    print(f"in functions: {time.monotonic() - began:.0f} s", flush=True)
    baseline, race = Baseline(), Race(options.jobs, began + options.seconds)
    baseline.seconds = seconds
    baseline.lines = {test: {(name, 0) for name in names} for test, names in files.items()}
    judge_imports(race, at_import, baseline)
    outcome |= race.outcome
    options.outcome.write_text(json.dumps(outcome, indent=1))
    return report(outcome, mutants, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
