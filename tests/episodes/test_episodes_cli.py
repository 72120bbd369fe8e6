"""`policy selfplay` and `policy episodes ...` as a person types them: a small dataset goes through all of them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from policy_bringup import cli
from policy_bringup.episodes.journal import Outcome, load_journal, save_journal
from policy_bringup.episodes.layout import bag_path, episodes
from policy_bringup.episodes.metadata import METADATA_FILE
from policy_bringup.episodes.recovery import is_clean

ROOT = Path(__file__).parents[2]
NAMES = [f"episode_00000{number}" for number in range(3)]
SHORT = ("--workers", "1", "--camera-backend", "raycast", "--patience-s", "1.2")
"""Self-play that is too short to succeed."""


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def run(arguments: tuple[object, ...], capture, patch: pytest.MonkeyPatch) -> Said:
    patch.setattr(sys, "argv", ["policy", *map(str, arguments)])
    patch.setenv("COLUMNS", "220")
    capture.readouterr()
    code = cli.main()
    return Said(code, *capture.readouterr())


@pytest.fixture
def policy(capfd, monkeypatch) -> Callable[..., Said]:
    return lambda *arguments: run(arguments, capfd, monkeypatch)


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    """Three episodes by the command; tests change copies of them."""
    dataset = tmp_path_factory.mktemp("cli") / "demos"
    line = ["selfplay", "grasp", "--dataset", str(dataset), "--episodes", "3", "--seed", "5", *SHORT]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["policy", *line])
        assert cli.main() == 1  # none has succeeded
    return dataset


@pytest.fixture
def dataset(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "demos"))


@pytest.fixture
def labelled(dataset: Path) -> Path:
    """With every episode a success."""
    for folder in episodes(dataset):
        save_journal(folder, replace(load_journal(folder), outcome=Outcome.SUCCESS))
    return dataset


def test_what_self_play_has_made_is_listed_and_is_not_made_again(policy, dataset: Path):
    listed = policy("episodes", "list", dataset)
    assert listed.code == 0
    for number, name in enumerate(NAMES):
        (row,) = [line for line in listed.out.splitlines() if name in line]
        for word in ("failure", "expert", f"self-play seed {5 + number}"):
            assert word in row
    again = policy("selfplay", "grasp", "--dataset", dataset, "--episodes", "3", "--seed", "5", *SHORT)
    assert again.code == 0
    assert "0 of 0 succeeded" in again.out
    assert len(episodes(dataset)) == 3


def test_an_episode_that_was_not_closed_is_listed_as_such_and_recovered(policy, dataset: Path):
    folder = dataset / NAMES[1]
    save_journal(folder, replace(load_journal(folder), stopped_ns=None))
    (folder / METADATA_FILE).unlink()
    content = bag_path(folder).read_bytes()
    bag_path(folder).write_bytes(content[: len(content) * 3 // 4])
    assert "not closed: run `recover`" in policy("episodes", "list", dataset).out
    recovered = policy("episodes", "recover", dataset)
    assert recovered.code == 0
    assert f"{folder.name}: rebuilt, its label is failure\n1 rebuilt\n" in recovered.out
    assert "1/1" in recovered.out  # the bar
    assert is_clean(folder)
    assert policy("episodes", "recover", dataset).out.endswith("0 rebuilt\n")


def test_a_bag_that_cannot_be_recovered_is_named_and_the_others_are(policy, dataset: Path):
    for name in NAMES[:2]:
        (dataset / name / METADATA_FILE).unlink()
    (dataset / NAMES[0] / "journal.yaml").unlink()
    bag_path(dataset / NAMES[0]).write_bytes(b"no bag")
    said = policy("episodes", "recover", dataset)
    assert said.code == 1
    assert said.err.startswith(f"{NAMES[0]}: ")
    assert len(said.err.splitlines()) == 1
    assert f"{NAMES[1]}: rebuilt, its label is failure\n1 rebuilt\n" in said.out
    assert "2/2" in said.out


def test_pages_are_written_for_a_dataset_and_for_one_episode(policy, dataset: Path, tmp_path: Path):
    said = policy("episodes", "show", dataset, "--out", tmp_path / "pages")
    assert said.code == 0
    assert "3/3" in said.out
    index = Path(said.out.splitlines()[-1]).read_text(encoding="utf-8")
    assert all(name in index for name in NAMES)
    one = policy("episodes", "show", dataset / NAMES[2], "--out", tmp_path / "page")
    assert one.code == 0
    assert NAMES[2] in Path(one.out.strip()).read_text(encoding="utf-8")


def test_a_label_and_a_note_are_kept(policy, dataset: Path):
    assert policy("episodes", "label", dataset / NAMES[0], "success", "--note", "by hand") == (0, "", "")
    journal = load_journal(dataset / NAMES[0])
    assert (journal.outcome, journal.note) == (Outcome.SUCCESS, "by hand")
    assert policy("episodes", "label", dataset / NAMES[0], "discarded").code == 0
    journal = load_journal(dataset / NAMES[0])
    assert (journal.outcome, journal.note) == (Outcome.DISCARDED, "by hand")


def test_a_verdict_is_said_for_every_episode_and_kept(policy, dataset: Path):
    for folder in episodes(dataset):
        save_journal(folder, replace(load_journal(folder), quality=None))
    bag_path(dataset / NAMES[1]).write_bytes(b"no bag")
    said = policy("episodes", "check", dataset)
    assert said.code == 1
    assert "3/3" in said.out
    for name in (NAMES[0], NAMES[2]):
        quality = load_journal(dataset / name).quality
        assert quality is not None
        assert f"{name}: {quality.sentence}\n" in said.out
    assert f"{NAMES[1]}: " in said.out
    assert load_journal(dataset / NAMES[1]).quality is None


def test_successes_are_split_and_converted_and_what_is_there_is_skipped(policy, labelled: Path, tmp_path: Path):
    assert policy("episodes", "split", labelled).out == "train 1, validation 1, test 1 episodes\n"
    frames = tmp_path / "frames"
    said = policy("episodes", "convert", labelled, "--out", frames, "--workers", "1")
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("3 converted, 0 were there already\n")
    assert "3/3" in said.out
    assert json.loads((frames / "statistics.json").read_text())
    again = policy("episodes", "convert", labelled, "--out", frames, "--workers", "1")
    assert again.out.endswith("0 converted, 3 were there already\n")


def test_a_dataset_goes_to_lerobot_and_comes_back(policy, labelled: Path, tmp_path: Path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("av")
    frames, there, back = tmp_path / "frames", tmp_path / "lerobot", tmp_path / "back"
    policy("episodes", "label", labelled / NAMES[2], "failure")
    policy("episodes", "convert", labelled, "--out", frames, "--workers", "1")
    exported = policy("episodes", "export-lerobot", frames, "--out", there)
    assert exported.code == 0
    assert "2 episodes, " in exported.out
    assert "front: pictures lost " in exported.err
    imported = policy("episodes", "import-lerobot", there, "--out", back)
    assert imported.code == 0
    assert imported.out.splitlines()[-1] == exported.out.splitlines()[-1].partition(" at ")[0]
    assert [load_journal(folder).outcome for folder in episodes(back)] == [Outcome.SUCCESS] * 2


def test_a_bundle_can_play_and_its_journals_say_which(policy, tmp_path: Path):
    shipped = ROOT / "models" / "policies" / "grasp"
    line = ("selfplay", "grasp", "--dataset", tmp_path / "demos", "--episodes", "1", *SHORT)
    assert policy(*line, "--bundle", shipped).code == 1  # cut short
    (folder,) = episodes(tmp_path / "demos")
    journal = load_journal(folder)
    assert journal.provenance.driver == "policy"
    assert journal.note.startswith("self-play seed 0 by grasp ")
    for topic in ("policy/action", "safety/action", "camera/front/image_raw", "camera/wrist/image_raw"):
        assert journal.counts[topic].written > 10
    assert "0 of 0 succeeded" in policy(*line, "--bundle", shipped).out
    other = shutil.copytree(shipped, tmp_path / "other")
    assert "0 of 1 succeeded" in policy(*line, "--bundle", other).out  # another policy has not played yet


GRASP = str(ROOT / "config" / "grasp.yaml")
NOWHERE = "nowhere/episode_000007"


@pytest.mark.parametrize(
    "line",
    [
        ("episodes", "list", NOWHERE),
        ("episodes", "show", NOWHERE),
        ("episodes", "label", NOWHERE, "success"),
        ("episodes", "check", NOWHERE, "--deployment", GRASP),
        ("episodes", "recover", NOWHERE),
        ("episodes", "split", NOWHERE),
        ("episodes", "derive", NOWHERE, "--out", "out", "--deployment", GRASP),
        ("episodes", "convert", NOWHERE, "--out", "out", "--deployment", GRASP),
        ("episodes", "export-lerobot", NOWHERE, "--out", "out", "--deployment", GRASP),
        ("episodes", "import-lerobot", NOWHERE, "--out", "out", "--deployment", GRASP),
        ("selfplay", GRASP, "--dataset", "out", "--bundle", NOWHERE),
    ],
    ids=lambda line: line[0] if line[0] == "selfplay" else line[1],
)
@pytest.mark.parametrize("as_what", ["nothing", "a file"])
def test_a_folder_that_is_none_is_refused_in_one_sentence(policy, monkeypatch, tmp_path, line, as_what: str):
    monkeypatch.chdir(tmp_path)
    if as_what == "a file":
        Path(NOWHERE).parent.mkdir()
        Path(NOWHERE).write_text("no folder")
    said = policy(*line)
    assert said.code == 2
    (sentence,) = said.err.splitlines()
    assert sentence.startswith("policy: ")
    assert NOWHERE in sentence
    assert not Path("out").exists()
