"""The recorder beside a real monitor, without DDS: what it keeps, writes, and does not let happen to a tick."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.node import Node

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.types import ActionChunk
from policy_bringup.episodes import stop_record
from policy_bringup.episodes.stop_record import StopRecord, default_folder, read_record, records
from policy_bringup.nodes import stop_recorder
from policy_bringup.nodes.stop_inputs import LARGEST
from policy_bringup.nodes.stop_recorder import Context, StopRecorder, open_recorder
from policy_bringup.safety.limits import Limits, SafetyConfig
from policy_bringup.safety.monitor import Reply, SafetyMonitor
from policy_bringup.safety.state import Arm, EStop, Fault, Gripped, Measured, Proposal, Reset

TICK = 10_000_000
EPOCH = 1_700_000_000_000_000_000
START = 1_000_000_000_000
HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.04, 10.0])


@pytest.fixture
def limits(config_folder) -> Limits:
    deployment, robot = load_deployment(config_folder / "grasp.yaml")
    rate = {"tick_rate_hz": graph.topic("safety/action").rate_hz}
    config = load(config_folder / "safety.yaml", SafetyConfig, rate)
    return Limits(config, deployment.contract.action, deployment.limits, robot.joints, 0.5)


class Gate:
    """What the safety node does between its topics, with a clock of its own."""

    def __init__(self, limits: Limits, recorder: StopRecorder) -> None:
        self.limits, self.recorder, self.monitor, self.now = limits, recorder, SafetyMonitor(limits), START
        self._home = np.array(
            [(low + high) / 2 for low, high in zip(limits.joint_lower, limits.joint_upper, strict=True)]
        )

    def step(self, event: object) -> Reply:
        reply = self.monitor.step(event, self.now)
        self.recorder.hear(event, reply, self.now)
        return reply

    def tick(self, *events: object) -> None:
        self.now += TICK
        joints = self._home + 1e-9 * (self.now // TICK % 2)
        self.step(Measured(EPOCH + self.now, self.now, joints, HOME.copy()))
        for event in events:
            self.step(event)
        verdict = self.monitor.tick(self.now, EPOCH + self.now)
        self.recorder.watch(verdict, EPOCH + self.now, self.now)

    def chunk(self, **changes) -> ActionChunk:
        values, times = np.tile(HOME, (16, 1)), 0.05 * np.arange(1, 17)
        chunk = ActionChunk("policy", EPOCH + self.now, self.now, self.limits.spec.names, times, values, np.zeros(16))
        return dataclasses.replace(chunk, **changes)

    def drive(self, ticks: int) -> None:
        """Arms the policy, and lets it hold the arm where it is."""
        for number in range(ticks):
            self.tick(*([Proposal(self.chunk(), 1)] if number % 5 == 0 else []), *([Arm(True)] if number == 10 else []))
        assert self.monitor.state.name == "ACTIVE"

    def press_and_reset(self) -> None:
        self.tick(EStop(True, "operator"))
        for _ in range(60):
            self.tick()
        self.tick(EStop(False, "operator"), Reset())
        assert self.monitor.state.name == "READY"


@pytest.fixture
def make(limits, tmp_path) -> Iterator[Callable[..., tuple[Gate, list[str]]]]:
    """Makes a gate with its recorder, and the list of warnings; every recorder is closed in the end."""
    opened: list[StopRecorder] = []

    def open_gate(folder: Path | None = tmp_path / "stops", keep: int = 10) -> tuple[Gate, list[str]]:
        warnings: list[str] = []
        columns, joints = limits.spec.columns, tuple(joint.name for joint in limits.joints)
        context = Context("hold", joints, limits.spec.names, tuple(column.unit for column in columns))
        opened.append(StopRecorder(folder, keep, context, warnings.append))
        return Gate(limits, opened[-1]), warnings

    yield open_gate
    for recorder in opened:
        recorder.close()


def written(gate: Gate, folder: Path) -> list[StopRecord]:
    gate.recorder.close()
    gate.recorder._thread.join(60.0)  # on a busy machine the node's own end would not wait so long
    return [read_record(path) for path in records(folder)]


def test_a_stop_is_saved_with_who_why_and_the_inputs_of_two_seconds(make, tmp_path):
    gate, warnings = make()
    gate.drive(400)
    bad = np.tile(HOME, (16, 1))
    bad[0, 2] = np.nan
    for _ in range(4):
        gate.tick(Proposal(gate.chunk(values=bad), 1))
    (record,) = written(gate, tmp_path / "stops")
    assert warnings == []
    change = record.change
    assert (change.who, change.before, change.after, change.rule) == ("policy", "RETRY", "FALLBACK", "FINITE")
    assert (record.driver, record.tries, record.fallback) == ("policy", 3, "hold")
    assert record.driven_s == pytest.approx((400 - 11 + 4) * 0.01, abs=0.02)
    assert (record.now_ns, record.stamp_ns) == (gate.now, EPOCH + gate.now)
    assert abs(record.wall_ns - time.time_ns()) < 60e9
    assert record.columns[2] == "tool.z"
    assert len(record.joints) == 7
    by_name = {name: [e for e in record.inputs if e.name == name] for name in {e.name for e in record.inputs}}
    assert by_name.keys() == {"joint_states", "policy/action", "transition"}
    assert [len(by_name[name]) for name in ("joint_states", "policy/action")] == [201, 43]
    assert by_name["joint_states"][0].at_s == -2.0
    assert by_name["joint_states"][-1].values["received_ns"] == gate.now
    np.testing.assert_array_equal(by_name["joint_states"][-1].values["columns"], HOME)
    last = by_name["policy/action"][-1].values
    assert np.isnan(last["values"][0, 2])
    assert last["names"] == list(gate.limits.spec.names)
    assert last["publishers"] == 1
    (retry,) = by_name["transition"]
    assert (retry.values["from"], retry.values["to"]) == ("ACTIVE", "RETRY")
    assert [entry.at_s for entry in record.inputs] == sorted(entry.at_s for entry in record.inputs)


def test_what_was_asked_of_safety_and_answered_is_among_the_inputs(make, tmp_path):
    gate, _ = make()
    gate.drive(30)
    gate.tick(Reset())
    gate.tick(EStop(False))
    gate.tick(Arm(False), EStop(True), EStop(True, "operator"))
    (record,) = written(gate, tmp_path / "stops")
    asked = [(e.name, e.values) for e in record.inputs if e.name.startswith("safety/")]
    accepted = {"data": True, "accepted": True, "sentence": "accepted"}
    refused = {"data": True, "accepted": False, "sentence": "there is nothing to reset in ACTIVE"}
    assert asked == [
        ("safety/arm", accepted),
        ("safety/reset", refused),
        ("safety/estop", {"pressed": False}),
        ("safety/arm", {**accepted, "data": False}),
        ("safety/estop", {"pressed": True}),
        ("safety/stop", accepted),
    ]


def test_what_the_grippers_button_said_is_among_the_inputs_and_is_no_fault(make, tmp_path):
    gate, _ = make()
    gate.drive(30)
    gate.tick(Gripped(np.array([*np.full(6, np.nan), 0.0, 30.0])))
    gate.press_and_reset()
    (record,) = written(gate, tmp_path / "stops")
    (gripped,) = [entry for entry in record.inputs if entry.name == "arm/state"]
    np.testing.assert_array_equal(gripped.values["columns"], [*np.full(6, np.nan), 0.0, 30.0])
    assert "fault" not in {entry.name for entry in record.inputs}


def test_every_stop_has_its_record_and_other_changes_have_none(make, tmp_path):
    gate, _ = make()
    gate.drive(30)
    gate.press_and_reset()
    gate.press_and_reset()
    gate.tick(Fault("a test: " + "long " * 1000))
    found = written(gate, tmp_path / "stops")
    assert [record.change.after for record in found] == ["ESTOP", "ESTOP", "FAULT"]
    assert [record.driver for record in found] == ["policy", "", ""]
    assert [record.driven_s is None for record in found] == [False, True, True]
    assert len(found[2].change.sentence) == 500
    assert found[2].inputs[-1].name == "fault"


def test_an_oversized_action_is_kept_as_its_size(make, tmp_path):
    gate, _ = make()
    gate.drive(30)
    values = np.zeros((LARGEST, 8))
    gate.tick(Proposal(gate.chunk(values=values, times_s=values[:, 0], uncertainty=values[:, 0]), 1))
    gate.tick(Proposal(gate.chunk(names=("x" * 10_000_000,)), 1))
    gate.tick(EStop(True))
    (record,) = written(gate, tmp_path / "stops")
    large = [e.values for e in record.inputs if "too_large" in e.values]
    assert large == [
        {"too_large": LARGEST * 10 + sum(map(len, gate.limits.spec.names))},
        {"too_large": 10_000_000 + 160},
    ]
    assert (tmp_path / "stops" / records(tmp_path / "stops")[0]).stat().st_size < 1_000_000


def test_only_so_many_records_stay(make, tmp_path):
    gate, _ = make(keep=2)
    gate.drive(30)
    for _ in range(3):
        gate.press_and_reset()
        wait_for(lambda: gate.recorder._stops.empty())
    assert len(written(gate, tmp_path / "stops")) == 2


def test_a_slow_disk_costs_records_and_one_warning_but_never_a_tick(make, tmp_path, monkeypatch):
    """The disk stands still until all stops have happened: some wait, the others are lost, no tick is held up."""
    entered, release = threading.Event(), threading.Event()
    whole = stop_record.write_durably

    def slow(path: Path, text: str) -> None:
        entered.set()
        assert release.wait(60.0)
        whole(path, text)

    monkeypatch.setattr(stop_record, "write_durably", slow)
    gate, warnings = make()
    gate.drive(30)
    gate.press_and_reset()
    assert entered.wait(10.0)
    for _ in range(stop_recorder.WAITING + 3):
        gate.press_and_reset()
    assert warnings == ["a stop record is lost: the disk is too slow"]
    assert not release.is_set()
    release.set()
    assert len(written(gate, tmp_path / "stops")) == 1 + stop_recorder.WAITING


def test_a_full_disk_costs_records_and_one_warning_until_there_is_room_again(make, small_disk):
    folder = small_disk / "stops"
    folder.mkdir()
    filler = small_disk / "filler"
    gate, warnings = make(folder)
    gate.drive(30)
    with filler.open("wb") as stream:
        stream.truncate(0)
        try:
            stream.write(bytes(2_000_000))
            stream.flush()
        except OSError:
            pass
    for _ in range(3):
        gate.press_and_reset()
    wait_for(lambda: warnings)
    wait_for(lambda: gate.recorder._stops.empty())
    filler.unlink()
    gate.press_and_reset()
    assert len(written(gate, folder)) >= 1
    assert len(warnings) == 1
    assert warnings[0].startswith("a stop record is lost: ")
    assert "the disk is full" in warnings[0]


def test_a_folder_that_cannot_be_made_costs_one_warning(make, tmp_path):
    (tmp_path / "file").write_text("")
    gate, warnings = make(tmp_path / "file" / "stops")
    gate.drive(30)
    gate.press_and_reset()
    gate.press_and_reset()
    gate.recorder.close()
    gate.recorder._thread.join(60.0)
    assert len(warnings) == 1
    assert "cannot be written" in warnings[0]


def test_an_error_inside_ends_the_recording_and_never_reaches_the_gate(make):
    gate, warnings = make()
    gate.drive(30)
    gate.recorder.hear(Proposal(None, 1), Reply(True, ""), gate.now)
    gate.press_and_reset()
    gate.recorder.hear(Proposal(None, 1), Reply(True, ""), gate.now)
    assert len(warnings) == 1
    assert warnings[0].startswith("no more stop records: AttributeError")


def test_without_a_folder_nothing_is_kept_and_nothing_written(make):
    gate, warnings = make(None)
    gate.drive(30)
    gate.press_and_reset()
    assert gate.recorder._ring.last(gate.now) == ()
    assert warnings == []


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("given", ["", "off", "folder"])
def test_the_parameters_of_the_node_say_where_records_go(ros, limits, tmp_path, monkeypatch, given):
    from rclpy.parameter import Parameter

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = {"": default_folder(), "off": None, "folder": tmp_path / "mine"}[given]
    value = str(place) if given == "folder" else given
    node = Node("stops", parameter_overrides=[Parameter("stops", value=value), Parameter("stops_kept", value=7)])
    recorder = open_recorder(node, limits)
    try:
        gate = Gate(limits, recorder)
        gate.drive(30)
        gate.press_and_reset()
        assert recorder._keep == 7
        found = [] if place is None else written(gate, place)
        assert [record.fallback for record in found] == ([] if place is None else [limits.config.fallback])
    finally:
        recorder.close()
        node.destroy_node()
