"""Faults that the recorder recorded while they happened, replayed through the monitor from the bag alone."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import SLACK
from harness import hostile as bad
from harness.bench import CONFIG, Bench, bench
from harness.reaction import stopped
from harness.stack import Relay
from std_srvs.srv import Trigger

from policy_bringup.core.decoding import values_of
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.stop_record import STOPS
from policy_bringup.pipeline.replay_figures import Judge, replay_all

APART_S = 0.1
"""By so much the replay may stop earlier or later: safety and the recorder each hear a message at their own time."""


@dataclass(frozen=True)
class Fault:
    """rules: which may stop it; several where it depends on the moment."""

    rules: tuple[str, ...]
    inject: Callable[[Bench], None]


def _spoilt(change: Callable) -> Callable[[Bench], None]:
    return lambda made: made.policy.spoil(bad.always(change))


def _aside(table: bad.Table) -> None:
    """0.2 m towards the middle of the workspace."""
    for point in table.points:
        point.positions[1] -= math.copysign(0.2, table.points[0].positions[1])


def _number(column: int, value: float) -> Callable[[bad.Table], None]:
    def change(table: bad.Table) -> None:
        for point in table.points:
            point.positions[column] = value

    return change


FAULTS = {
    "not a number in the action": Fault(("FINITE",), _spoilt(_number(2, math.nan))),
    "columns permuted": Fault(("TABLE",), _spoilt(bad.exchanged(0, 1))),
    "stamps of the monotonic clock": Fault(("AGE", "SEQUENCE"), _spoilt(bad.stamped(time.monotonic_ns))),
    "a jump": Fault(("ABRUPTNESS",), _spoilt(_aside)),
    "too uncertain": Fault(("UNCERTAINTY",), _spoilt(_number(bad.UNCERTAINTY, 0.9))),
    "policy silent": Fault(("AGE",), lambda made: setattr(made.policy, "silent", True)),
    "drift to a limit": Fault(("BOUNDS", "ABRUPTNESS"), lambda made: made.policy.drift("tool.y", 0.15)),
    "joint states stop": Fault(("STATE",), lambda made: made.relay.lie(Relay.STOP)),
    "joint states frozen": Fault(("STATE",), lambda made: made.relay.lie(Relay.FREEZE)),
    "a joint that is no number": Fault(("STATE",), lambda made: made.relay.lie(Relay.NUMBER, 3, math.nan)),
    "e-stop": Fault(("ESTOP",), lambda made: made.operator.press(True)),
}


@pytest.fixture(scope="module")
def filmed(next_domain, tmp_path_factory, module_rng) -> Iterator[Bench]:
    """Liars, with cameras and a recorder beside them."""
    folder = tmp_path_factory.mktemp("filmed")
    without = ("policy", "trial")
    with bench(next_domain(), folder, module_rng, without, relayed=True, record=folder / "demos") as made:
        yield made


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_stopped_for_the_same_reason_when_its_bag_is_replayed(filmed, rng, name: str):
    fault = FAULTS[name]
    filmed.record_in_motion(rng)
    began_ns = filmed.recording.mark(name)()
    fault.inject(filmed)
    live = stopped(filmed, began_ns, 15.0)
    filmed.let(0.4)  # in which its output comes to stand
    filmed.operator.call("recorder/stop", Trigger.Request())
    folder = episodes(filmed.folder / "demos")[-1]
    (again,), left_out = replay_all([folder], Judge(CONFIG / "grasp.yaml"), 1, lambda *_: None)
    assert (left_out, again.not_armed) == ({}, ())
    stop = again.stops[-1]
    assert live.rule in fault.rules
    assert stop.rule in fault.rules
    assert again.recorded[-1] == live.rule
    assert stop.at_s == pytest.approx(_stopped_s(folder), abs=APART_S * SLACK)
    assert stop.stood_s is not None
    assert stop.resumed_s is None
    if stop.rule == live.rule:
        assert stop.column == live.column


def _stopped_s(folder: Path) -> float:
    """When the recording tells of its last stop, s into the bag."""
    with open_bag(folder) as bag:
        for message in reversed(list(bag.messages(["safety/verdict"]))):
            if any(values_of(status)["to"] in STOPS for status in bag.decode(message).status[1:]):
                return (message.log_ns - bag.start_ns) / 1e9
    raise AssertionError(f"{folder}: tells of no stop")
