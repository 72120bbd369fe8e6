"""`policy why` on real bags: the scripted expert in the simulator, which goes wrong in the middle of its motion."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from policy_bringup.core.errors import EpisodeError, ObservationError
from policy_bringup.episodes.layout import bag_path, episodes
from policy_bringup.episodes.stop_record import Change, StopRecord, write_record
from policy_bringup.sim.selfplay import SelfPlay, expert, run_selfplay
from policy_bringup.why_cli import Why

GOOD = 14
"""Chunks before it goes wrong, twenty a second: by then the arm moves."""


def spoiled(stack, spoil):
    """The expert, of whose chunks `spoil` makes something else after a while."""
    policy, threshold = expert(stack)
    calm, calls = policy.predict, []

    def predict(observation):
        calls.append(observation)
        chunk = calm(observation)
        return chunk if len(calls) <= GOOD else spoil(chunk)

    policy.predict = predict
    return policy, threshold


def silent(stack):
    def nothing(chunk):
        raise ObservationError("the camera is gone")

    return spoiled(stack, nothing)


def unsure(stack):
    return spoiled(stack, lambda chunk: replace(chunk, uncertainty=chunk.uncertainty + 2.0))


@pytest.fixture(scope="module")
def dataset(config_folder, tmp_path_factory) -> Path:
    """Three episodes: sound so far, fallen silent, too unsure."""
    dataset = tmp_path_factory.mktemp("why") / "demos"
    for seed, (policy, patience_s) in enumerate([(expert, 0.5), (silent, 3.0), (unsure, 1.6)]):
        play = SelfPlay(config_folder, dataset, 1, seed=seed, policy=policy, backend="raycast", patience_s=patience_s)
        run_selfplay(play)
    return dataset


def said(capsys, command: Why) -> str:
    assert command() == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return " ".join(captured.out.split())


def test_the_story_of_a_policy_that_fell_silent(dataset, capsys):
    folder = episodes(dataset)[1]
    text = said(capsys, Why(folder))
    assert text.startswith("episode_000001: 1 stop in 3.0 s; ")
    for part in (
        "stop 1 of 1, 0.9",  # 14 chunks in 0.7 s; 250 ms later the last of them is too old
        "RETRY -> FALLBACK",
        "before Policy had driven the arm for 0.9 s",
        "the tool was told to move at 0.",
        "was the fastest joint, at ",
        'what The actions came too late, or not at all: "policy has fallen silent: its last action is too old"',
        "(rule AGE)",
        "It repeated the last safe action 3 times (RETRY), then went to the safe default.",
        "The arm was at rest ",
        "The recording ended 2.0 s later, without a change.",
        "look at Whether the source is alive",
    ):
        assert part in text, f"{part}\n{text}"
    assert said(capsys, Why(bag_path(folder))) == text


def test_a_dataset_is_told_episode_by_episode_and_summed_up(dataset, capsys):
    text = said(capsys, Why(dataset))
    assert "episode_000000: no stops in 0.5 s; " in text
    assert "is above its limit 0.500" in text
    assert "(rule UNCERTAINTY: uncertainty 2 against 0.5)" in text
    assert text.endswith("2 of 3 episodes were stopped: 1 AGE, 1 UNCERTAINTY")


def test_json_says_the_same_in_numbers(dataset, capsys):
    assert Why(dataset, json=True)() == 0
    quiet, silent_, unsure_ = json.loads(capsys.readouterr().out)
    assert quiet["stops"] == []
    assert quiet["verdicts"]["accepted"] >= 5
    (stop,) = silent_["stops"]
    assert (stop["change"]["rule"], stop["tries"], stop["scene"]["driver"]) == ("AGE", 3, "policy")
    assert stop["scene"]["joint_rad_s"] > 0.0
    (other,) = unsure_["stops"]
    assert (other["change"]["value"], other["change"]["limit"]) == (2.0, 0.5)
    assert other["judged"]["UNCERTAINTY"] == 2  # the fall into RETRY, and that into FALLBACK


def test_a_damaged_episode_of_a_dataset_is_named_and_the_others_are_told(dataset, tmp_path, capsys):
    copy = tmp_path / "demos"
    shutil.copytree(dataset, copy)
    bag_path(episodes(copy)[1]).write_bytes(b"")
    assert Why(copy)() == 1
    captured = capsys.readouterr()
    assert "1 of 2 episodes were stopped: 1 UNCERTAINTY" in captured.out
    assert captured.err.startswith("episode_000001: ")
    assert "is empty" in captured.err
    with pytest.raises(EpisodeError, match="is empty"):
        Why(episodes(copy)[1])()


@pytest.fixture
def kept(tmp_path) -> tuple[Path, list[Path]]:
    """Seven records, a minute apart."""
    folder = tmp_path / "policy_bringup" / "stops"
    change = Change("monitor", "ACTIVE", "ESTOP", "ESTOP", "the heartbeat of the e-stop is lost", value=math.nan)
    first = 1_700_000_000_000_000_000
    record = StopRecord(change, first, first, 5, 6, "policy", 3.0, 0, "hold", ("j",), ("c",), ("m",), {}, ())
    ages = range(7)
    paths = [write_record(folder, replace(record, wall_ns=first + age * 60_000_000_000), 10) for age in ages]
    return folder, paths


def test_without_a_path_the_newest_records_of_this_user_are_told(kept, tmp_path, monkeypatch, capsys):
    _, paths = kept
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    text = said(capsys, Why(last=2))
    assert [path.name in text for path in paths] == [False] * 5 + [True] * 2
    assert "The emergency stop was pressed, or its heartbeat was lost" in text
    assert "Not in this record, which ends with the stop." in text


def test_records_are_told_by_folder_and_by_file(kept, capsys):
    folder, paths = kept
    assert all(path.name in said(capsys, Why(folder, last=7)) for path in paths)
    text = said(capsys, Why(paths[3]))
    assert paths[3].name in text
    assert paths[4].name not in text
    assert Why(paths[3], json=True)() == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["change"]["value"] is None  # NaN, which JSON does not have
    assert told["record"] == paths[3].name


def test_a_user_whose_robot_never_stopped_is_told_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert "no stop has been recorded" in said(capsys, Why())
    (tmp_path / "policy_bringup" / "stops").mkdir(parents=True)
    assert said(capsys, Why()) == "no stop records"


def test_what_holds_no_stops_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    for path, sentence in (
        (tmp_path / "nowhere", "there is no such file or folder"),
        (tmp_path, "holds no bag, no episodes and no stop records"),
        (tmp_path / "note.txt", "is not valid JSON"),
    ):
        with pytest.raises(EpisodeError, match=sentence):
            Why(path)()
    with pytest.raises(EpisodeError, match="last: must be 1 or more"):
        Why(last=0)()
