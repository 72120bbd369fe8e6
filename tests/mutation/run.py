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
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest
import yaml
from _pytest.runner import runtestprotocol
from children import SOURCE, SURVIVED, Changed, Ordered, Race, places_of, put_in
from mutants import Mutant, mutants_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGETS = [*sorted((SOURCE / "policy_bringup/safety").glob("*.py")), SOURCE / "policy_bringup/control/limiter.py"]
TESTS = ["tests/safety", "tests/control/test_limiter.py", "tests/control/test_limiter_boundaries.py"]
PYTEST = [*TESTS, "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-p", "no:terminal", "--assert=plain"]
LISTED = HERE / "equivalent.yaml"


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
        """The tests that may notice the mutant, the best killers first. In a function: those that reach it. What runs
        at import may be noticed by a test that runs no line of the file, as one of a table or of a dataclass's fields:
        all of them, those that do run one first."""
        file, places = str(mutant.file), places_of(mutant)
        changed = {(file, n) for n in mutant.lines}
        chosen = [test for test, lines in self.lines.items() if mutant.at_import or lines & changed]

        def key(test: str) -> tuple[list[int], bool, float]:
            stranger = all(name != file for name, _ in self.lines[test])
            return [-killers[test, place] for place in places], stranger, self.seconds[test]

        return sorted(chosen, key=key)


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
