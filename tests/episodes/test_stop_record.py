from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes import stop_record
from policy_bringup.episodes.stop_record import (
    Change,
    Input,
    StopRecord,
    default_folder,
    read_record,
    records,
    write_record,
)

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def record() -> StopRecord:
    """A stop because of a number that is not one, and what arrived before."""
    change = Change("policy", "RETRY", "FALLBACK", "FINITE", 'a "number"\nis not finite – Zoë', "tool.x", NAN, 0.75)
    chunk = {
        **{"stamp_ns": 7, "received_ns": 8, "publishers": 1, "names": ("tool.x", "tool.y")},
        **{"times_s": np.array([0.05, 0.1]), "values": np.array([[0.1, NAN], [INF, -INF]])},
        "uncertainty": np.array([0.0, 1 / 3]),
    }
    joints = {"stamp_ns": 5, "received_ns": 6, "joints": np.array([1e-300, NAN]), "columns": np.array([0.3, -0.0])}
    inputs = (
        Input(-1.5, "joint_states", joints),
        Input(-0.25, "policy/action", chunk),
        Input(0.001, "safety/stop", {"data": True, "accepted": True, "sentence": "accepted"}),
    )
    return StopRecord(
        **{"change": change, "wall_ns": 1_700_000_000_123_456_789, "stamp_ns": 11, "now_ns": 12},
        **{"action_stamp_ns": 13, "driver": "policy", "driven_s": 3.25, "tries": 3, "fallback": "hold"},
        **{"joints": ("j1", "j2"), "columns": ("tool.x", "tool.y"), "units": ("m", "m")},
        **{"cut": {"policy/action": -0.5}, "inputs": inputs},
    )


def test_a_record_comes_back_as_it_was_to_the_last_bit(record, tmp_path):
    path = write_record(tmp_path / "new" / "stops", record, 10)
    assert path.name == "stop_20231114T221320.123456Z_fallback.jsonl"
    back = read_record(path)
    assert repr(replace(back, inputs=())) == repr(replace(record, inputs=()))  # in which NaN equals NaN
    for old, new in zip(record.inputs, back.inputs, strict=True):
        assert (old.at_s, old.name, old.values.keys()) == (new.at_s, new.name, new.values.keys())
        for key, value in old.values.items():
            if isinstance(value, np.ndarray):
                assert new.values[key].tobytes() == value.tobytes(), key
            else:
                assert new.values[key] == (list(value) if isinstance(value, tuple) else value)


def test_a_file_is_plain_json_lines_without_numbers_that_json_does_not_have(record, tmp_path):
    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = write_record(tmp_path, record, 10).read_text(encoding="ascii")
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert len(lines) == 4
    assert lines[0]["value"] == "nan"
    assert lines[2]["values"] == [[0.1, "nan"], ["inf", "-inf"]]


def test_two_stops_in_the_same_moment_are_two_records_and_only_the_newest_are_kept(record, tmp_path):
    other = tmp_path / "somebody_elses.jsonl"
    other.write_text("left alone")
    names = [write_record(tmp_path, record, 3).name for _ in range(2)]
    assert len(set(names)) == 2
    later = [replace(record, wall_ns=record.wall_ns + number * 1_000_000_000) for number in range(1, 4)]
    written = [write_record(tmp_path, one, 3) for one in later]
    assert list(records(tmp_path)) == written
    assert other.read_text() == "left alone"


def test_a_breath_is_taken_after_every_input(record, tmp_path):
    breaths: list[int] = []
    write_record(tmp_path, record, 1, lambda: breaths.append(1))
    assert len(breaths) == len(record.inputs)


DYING = """
    import os, signal, sys
    from pathlib import Path
    from policy_bringup.episodes.stop_record import read_record, write_record
    folder = Path(sys.argv[1])
    record = read_record(next(folder.glob("*.jsonl")))
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
    write_record(folder, record, 10)
"""


def test_a_kill_during_the_writing_leaves_no_half_record(record, tmp_path):
    first = write_record(tmp_path, record, 10)
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(DYING), tmp_path], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    (partial,) = tmp_path.glob("*.partial")
    assert records(tmp_path) == (first,)
    read_record(first)
    write_record(tmp_path, record, 10)
    assert partial.exists()  # its writer might still be at work
    os.utime(partial, (0, 0))
    write_record(tmp_path, record, 10)
    assert not partial.exists()
    assert len(records(tmp_path)) == 3


def test_a_full_disk_is_said_in_one_sentence_and_leaves_what_was_there(record, small_disk: Path):
    first = write_record(small_disk, record, 10)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(free))
    with pytest.raises(EpisodeError, match="the disk is full"):
        write_record(small_disk, record, 10)
    assert records(small_disk) == (first,)
    assert not list(small_disk.glob("*.partial"))


def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EpisodeError, match="file/stops: cannot be written"):
        write_record(tmp_path / "file" / "stops", record, 10)
    with pytest.raises(EpisodeError, match="cannot be read as a folder of stop records"):
        records(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: "", "is empty"),
        (lambda text: "[]\n", "line 1: must be a group of keys"),
        (lambda text: "{\n", "line 1: is not valid JSON"),
        (lambda text: "{}\n", "is not a stop record of format 1"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "is not a stop record of format 1"),
        (lambda text: text[: text.rindex('{"at_s"')], "holds 2 inputs, and its first line speaks of 3"),
        (lambda text: text[:-20], "line 4: is not valid JSON"),
        (lambda text: text.replace('"nan"', "NaN"), "line 1: is not valid JSON"),
        (lambda text: text.replace('"who": "policy"', '"who": 3'), "line 1: who must be a text"),
        (lambda text: text.replace('"tries": 3', '"tries": true'), "line 1: tries must be a whole number"),
        (lambda text: text.replace('"limit": 0.75', '"limit": "much"'), "line 1: limit must be a number"),
        (lambda text: text.replace('"driven_s": 3.25, ', ""), "line 1: driven_s must be a number"),
        (lambda text: text.replace('"joints": ["j1", "j2"]', '"joints": 2'), "line 1: joints must be a list of texts"),
        (lambda text: text.replace('"cut": {', '"cut": [],  "x": {'), "line 1: cut must be a group of keys"),
        (lambda text: text.replace('"at_s": -1.5', '"at_s": "soon"'), "line 2: at_s must be a number"),
        (lambda text: text.replace('"times_s": [0.05', '"times_s": ["x"'), "line 3: times_s must be a table of num"),
        (lambda text: text.replace('"times_s": [0.05', '"times_s": [[1, 2]'), "line 3: times_s must be a table of num"),
    ],
)
def test_a_damaged_record_is_refused_by_file_and_line(record, tmp_path, damage, sentence):
    path = write_record(tmp_path, record, 10)
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)
    with pytest.raises(EpisodeError, match=sentence) as error:
        read_record(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(EpisodeError, match="is not a stop record"):
        read_record(tmp_path / "picture")
    with pytest.raises(EpisodeError, match="cannot be read"):
        read_record(tmp_path / "nothing")


def test_records_lie_with_the_users_other_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "policy_bringup" / "stops"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local" / "state" / "policy_bringup" / "stops"


def test_every_stop_of_the_monitor_is_one_here():
    from policy_bringup.safety.reasons import State

    assert {state.name for state in State if state >= State.FALLBACK} == set(stop_record.STOPS)
