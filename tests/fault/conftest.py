"""Deployments are shared between faults: after each one an operator brings the stack back to READY.

FAULT_SEEDS: comma-separated; each draws the moments and details of all injections (default 0). FAULT_SLACK: factor on
every time limit, for shared machines (default 3). FAULT_FIGURES: file to which every measured time and outcome is
appended, one JSON object a line. FAULT_ONLY: numbers of faults, comma-separated, and nothing else is run. FAULT_DOMAIN:
first ROS domain.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import SLACK
from harness.bench import Bench, bench

OUTCOME = pytest.StashKey[list]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(number, expected): a fault of the specification, and what must happen")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        seeds = [int(part) for part in os.environ.get("FAULT_SEEDS", "0").split(",")]
        metafunc.parametrize("seed", seeds, ids=[f"seed{seed}" for seed in seeds])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = {int(part) for part in os.environ.get("FAULT_ONLY", "").split(",") if part}
    marks = {item: item.get_closest_marker("fault") for item in items}
    left = [item for item, mark in marks.items() if only and (mark is None or mark.args[0] not in only)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(autouse=True)
def no_pause() -> Iterator[None]:
    """The garbage collector stops this process, and the stand-in for the policy in it, for longer than an action lives
    when it looks through all that was recorded: it does so between tests, and never twice through the same."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: int) -> np.random.Generator:
    """Of this test and seed, whatever ran before."""
    return np.random.default_rng([seed, *request.node.originalname.encode()])


@pytest.fixture
def within(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`within(what, seen_ms, goal_ms)`: writes down what was measured, and asserts it, with the allowance.

    allowed_ms: asserted instead, where the goal is known not to be met; the table then shows both.
    """
    figures = request.node.stash.setdefault(OUTCOME, [])

    def check(what: str, seen_ms: float, goal_ms: float, allowed_ms: float | None = None) -> None:
        most_ms = goal_ms if allowed_ms is None else allowed_ms
        figures.append({"what": what, "seen_ms": round(seen_ms, 2), "goal_ms": goal_ms, "allowed_ms": most_ms})
        request.node.user_properties.append((what, round(seen_ms, 2)))
        assert 0.0 <= seen_ms <= most_ms * SLACK, f"{what}: {seen_ms:.1f} ms; allowed are {most_ms} ms times {SLACK}"

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    mark = item.get_closest_marker("fault")
    path = os.environ.get("FAULT_FIGURES")
    if path and mark and (report.when == "call" or report.outcome != "passed"):
        line = {
            "fault": mark.args[0],
            "expected": mark.args[1],
            "test": item.originalname,
            "case": item.callspec.id if hasattr(item, "callspec") else "",
            "outcome": report.outcome,
            "why": str(report.longrepr[2]) if report.skipped else "",
            "figures": item.stash.get(OUTCOME, []),
        }
        with Path(path).open("a") as file:
            print(json.dumps(line), file=file)
    return report


@pytest.fixture(scope="session")
def next_domain(domain_id: int) -> Callable[[], int]:
    """A fresh one per deployment: DDS remembers who was killed for some seconds."""
    state = [int(os.environ.get("FAULT_DOMAIN", domain_id))]

    def take() -> int:
        state[0] += 1
        return (state[0] - 1) % 100 + 1

    return take


@pytest.fixture(scope="module")
def module_rng() -> np.random.Generator:
    """For what is drawn once per deployment, as the scene."""
    return np.random.default_rng(int(os.environ.get("FAULT_SEEDS", "0").split(",")[0]))


@pytest.fixture(scope="module")
def liars(next_domain, tmp_path_factory, module_rng) -> Iterator[Bench]:
    """Robot, safety and arm; the policy and the way of the joint states are in the test's hands."""
    folder = tmp_path_factory.mktemp("liars")
    without = ("sim_camera", "policy", "trial")
    with bench(next_domain(), folder, module_rng, without, relayed=True) as made:
        yield made


@pytest.fixture(scope="module")
def sabotaged(next_domain, tmp_path_factory, module_rng) -> Iterator[Bench]:
    """As above with true joint states, and levers in the clocks and callbacks of every node."""
    folder = tmp_path_factory.mktemp("sabotaged")
    without = ("sim_camera", "policy", "trial")
    with bench(next_domain(), folder, module_rng, without, sabotaged=("sim", "safety", "arm")) as made:
        yield made


@pytest.fixture(scope="module")
def whole(next_domain, tmp_path_factory, module_rng) -> Iterator[Bench]:
    """Every node of a deployment, with the expert; the operator arms it, instead of a series of episodes."""
    with bench(next_domain(), tmp_path_factory.mktemp("whole"), module_rng) as made:
        yield made
