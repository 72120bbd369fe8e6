import json
import math
import os
import signal
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import yaml

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.journal import (
    JOURNAL_FILE,
    Outcome,
    Quality,
    TopicCount,
    from_record,
    load_journal,
    save_journal,
    to_record,
)

COUNTS = {"joint_states": TopicCount(100, 98, 2, 1), "/diagnostics": TopicCount(3, 3, 0, 0)}
REDO = Quality(
    False, ("joint_states stood still for 2.1 s", "gripper never moved"), {"idle_share": 0.25, "rate_hz": 99.5}
)


@pytest.fixture
def full(journal):
    return replace(
        journal,
        outcome=Outcome.SUCCESS,
        stopped_ns=journal.started_ns + 5,
        counts=COUNTS,
        quality=REDO,
        recovered=True,
        note="yes\n'quoted': 2026-13-45 # ü",
    )


def rewrite(folder, change):
    path = folder / JOURNAL_FILE
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


def test_a_journal_comes_back_from_its_file_as_it_was_saved(full, tmp_path):
    save_journal(tmp_path, full)
    assert load_journal(tmp_path) == full
    assert [entry.name for entry in tmp_path.iterdir()] == [JOURNAL_FILE]


def test_a_journal_comes_back_from_its_record_of_texts(full):
    record = to_record(full)
    assert all(isinstance(text, str) for text in record.values())
    assert (record["outcome"], json.loads(record["episode"])) == ("success", 42)
    assert from_record(record) == full


def test_an_episode_that_has_just_begun_is_a_failure_without_an_end(journal, tmp_path):
    save_journal(tmp_path, journal)
    loaded = load_journal(tmp_path)
    assert (loaded.outcome, loaded.stopped_ns, loaded.quality, loaded.recovered) == (Outcome.FAILURE, None, None, False)
    assert from_record(to_record(journal)) == journal


def test_texts_that_look_like_something_else_stay_texts(journal, tmp_path):
    odd = replace(journal.provenance, task="no", operator="", objects=("12", "null", "~"), mode="2026-11-21")
    save_journal(tmp_path, replace(journal, provenance=odd, note="1e3"))
    assert (load_journal(tmp_path).provenance, load_journal(tmp_path).note) == (odd, "1e3")
    assert from_record(to_record(replace(journal, note="null"))).note == "null"


def test_a_name_from_a_terminal_in_another_encoding_is_kept(journal, tmp_path):
    named = replace(journal, provenance=replace(journal.provenance, operator="Zo\udceb"))
    save_journal(tmp_path, named)
    assert load_journal(tmp_path) == named
    assert {key: text.encode().decode() for key, text in to_record(named).items()} == to_record(named)
    assert from_record(to_record(named)) == named


def test_figures_of_numpy_and_figures_that_are_no_number_are_kept(journal, tmp_path):
    figures = {"jerk": np.float32(0.5), "frames": np.int64(3), "skew_ms": math.nan, "gap_s": math.inf}
    measured = replace(journal, quality=Quality(True, (), MappingProxyType(figures)))
    save_journal(tmp_path, measured)
    for loaded in (load_journal(tmp_path), from_record(to_record(measured))):
        assert loaded.quality.figures["jerk"] == 0.5
        assert loaded.quality.figures["frames"] == 3.0
        assert math.isnan(loaded.quality.figures["skew_ms"])
        assert loaded.quality.figures["gap_s"] == math.inf


def test_the_verdict_is_a_sentence():
    assert REDO.sentence == "redo because joint_states stood still for 2.1 s; gripper never moved"
    assert Quality(True, (), {}).sentence == "ok"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(outcome="sucess"), ["outcome", "failure, success, discarded", "'sucess'"]),
        (lambda data: data.update(outcome=["success"]), ["outcome"]),
        (lambda data: data.pop("outcome"), ["'outcome' is missing"]),
        (lambda data: data.pop("provenance"), ["'provenance' is missing"]),
        (lambda data: data.update(lable="success"), ["unknown key 'lable'"]),
        (lambda data: data.update(episode=True), ["episode", "whole number"]),
        (lambda data: data.update(episode=-1), ["episode", "whole number"]),
        (lambda data: data.update(started_ns=1.5), ["started_ns"]),
        (lambda data: data.update(recovered="no"), ["recovered", "true or false"]),
        (lambda data: data["provenance"].update(operator=7), ["provenance.operator", "a text"]),
        (lambda data: data["provenance"].update(objects="cube"), ["provenance.objects", "a list of texts"]),
        (lambda data: data["provenance"].update(objects=["cube", 1]), ["provenance.objects[1]"]),
        (lambda data: data["counts"]["joint_states"].pop("lost"), ["counts.joint_states", "'lost' is missing"]),
        (lambda data: data.update(counts={1: 2}), ["counts", "named entries"]),
        (lambda data: data["quality"]["figures"].update(rate_hz="fast"), ["quality.figures.rate_hz", "a number"]),
    ],
)
def test_a_wrong_key_is_named_with_its_file(full, tmp_path, change, words):
    save_journal(tmp_path, full)
    rewrite(tmp_path, change)
    with pytest.raises(EpisodeError) as caught:
        load_journal(tmp_path)
    for word in [str(tmp_path / JOURNAL_FILE), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a: [", b"- 1\n", b"\x00\x00", b"[" * 400, b"? [a]\n: b\n"])
def test_a_damaged_journal_is_refused_with_its_file(tmp_path, content):
    (tmp_path / JOURNAL_FILE).write_bytes(content)
    with pytest.raises(EpisodeError, match=JOURNAL_FILE):
        load_journal(tmp_path)


def test_an_absent_journal_is_refused_with_its_file(tmp_path):
    with pytest.raises(EpisodeError, match=r"journal\.yaml: cannot be read \(No such file"):
        load_journal(tmp_path)


def test_a_damaged_record_is_refused_with_its_key(full):
    with pytest.raises(EpisodeError, match="metadata record 'policy_bringup': counts"):
        from_record({**to_record(full), "counts": '{"joint_states"'})


def test_a_kill_while_saving_leaves_the_old_journal_or_the_new_one(journal, tmp_path):
    # The child is killed before its first call that touches the disk, before its second, and so on until none is left.
    new = replace(journal, outcome=Outcome.SUCCESS)
    for calls in range(20):
        save_journal(tmp_path, journal)
        child = os.fork()
        if child == 0:
            killed_after(calls)
            save_journal(tmp_path, new)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = load_journal(tmp_path)
        assert found in (journal, new)
        if os.WIFEXITED(status):
            assert found == new
            assert calls == 3  # fsync of the file, rename, fsync of the folder
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
    pytest.fail("the child was killed every time")


def killed_after(calls):
    left = iter(range(calls))

    def counted(call):
        def instead(*args, **kwargs):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return instead

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
