from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from policy_bringup.core.errors import ConfigError, EpisodeError, PolicyBringupError
from policy_bringup.learning.checkpoint import load_checkpoint, save_checkpoint
from policy_bringup.learning.config import load_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.train import train
from policy_bringup.learning_cli import INTERRUPTED, Train, typed

# Squared errors, nothing drawn per process: at the kink of the absolute error a rounding decides a step's direction.
RUN: dict[str, Any] = {
    "family": "bc_cnn",
    "model": {"members": 2, "channels": [4, 4, 4, 4], "hidden": 16, "dropout": 0.0, "loss": "mse"},
    "augmentation": {},
    "optimisation": {
        "batch_size": 16,
        "steps": 10,
        "learning_rate": 0.003,
        "gradient_clip": 0.1,
        "ema_decay": 0.9,
        "validate_every": 5,
        "threads": 1,
    },
}


@pytest.fixture
def command(frames_root: Path, dataset: Dataset, config_folder: Path, tmp_path: Path) -> Train:
    """Trains on three episodes with pictures of 32 x 32, and validates with the fourth."""
    for name, change in (("robot.yaml", ("", "")), ("grasp.yaml", ("128", "32"))):
        (tmp_path / name).write_text((config_folder / name).read_text().replace(*change))
    names = dataset.episodes
    parts = {"train": list(names[:3]), "validation": list(names[3:]), "test": []}
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(parts))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    return Train(tmp_path / "run.yaml", frames_root, tmp_path / "out", tmp_path, str(tmp_path / "grasp.yaml"))


def words(command: Train) -> list[str]:
    """The same as `command`, as it is typed."""
    named = {name: getattr(command, name) for name in ("config", "frames", "out", "split", "deployment")}
    return [word for name, value in named.items() for word in (f"--{name}", str(value))]


def ran_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Waits for a condition, but no longer than the process lives; whether it came true."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def test_a_run_says_how_it_ended(command: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 0
    said = capsys.readouterr()
    assert f"{command.out}: all steps are made after 10 steps and 0.0 min; best at step 10" in said.out
    assert said.err == ""
    assert json.loads((command.out / "metrics.json").read_text())["episodes"] == {"train": 3, "validation": 1}


def test_at_its_end_a_run_says_what_share_of_its_steps_went_into_waiting_and_into_augmentation(
    command: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 0
    shares = json.loads((command.out / "metrics.json").read_text())["step_shares"]
    assert 0.0 < shares["augmentation"] < 1.0
    assert 0.0 <= shares["waiting"] < 1.0 - shares["augmentation"]
    assert (
        f"of its steps' time: {shares['waiting']:.1%} waiting for data, {shares['augmentation']:.1%} augmentation"
        in capsys.readouterr().out
    )


def test_a_run_that_ended_before_they_were_counted_says_nothing_of_shares(
    command: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 0
    kept = load_checkpoint(command.out)
    kept.course.stepped_s = kept.course.augmented_s = 0.0
    save_checkpoint(command.out, kept)
    capsys.readouterr()
    assert command() == 0
    assert "of its steps' time" not in capsys.readouterr().out


def test_every_key_of_the_configuration_is_an_option_and_reaches_the_run(command: Train) -> None:
    options = ["--optimisation.steps", "3", "--model.hidden", "8", "--model.channels", "4", "4", "2", "2"]
    assert typed([*words(command), *options, "--augmentation.blur", "0.5"])() == 0
    kept = load_checkpoint(command.out)
    assert kept.course.step == 3
    assert kept.config["model"] == {**kept.config["model"], "hidden": 8, "channels": [4, 4, 2, 2], "members": 2}
    assert kept.config["augmentation"]["blur"] == 0.5


def test_options_that_are_not_typed_are_as_the_file_says(command: Train) -> None:
    named = typed(words(command))
    assert named.training == load_train_config(command.config)
    assert replace(named, training=None) == command


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--optimisation.steps", "0"), "optimisation: steps: must be a whole number from 1 to 1e+07, found 0"),
        (("--model.members", "-1"), "model: members: must be a whole number from 1 to "),
        (("--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
    ],
)
def test_an_option_out_of_its_range_is_one_sentence(command: Train, option: tuple[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        typed([*words(command), *option])


@pytest.mark.parametrize("option", ["--optimisation.stesp", "--model.width", "--family"])
def test_an_option_that_the_configuration_does_not_have_is_refused(
    command: Train, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        typed([*words(command), option, "3"])
    assert option in capsys.readouterr().err


def test_help_lists_the_keys_of_the_configuration_it_is_given(
    command: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, named in (((), False), (("--config", str(command.config)), True)):
        with pytest.raises(SystemExit, match="0"):
            typed([*arguments, "--help"])
        assert ("--model.dropout FLOAT" in capsys.readouterr().out) is named


def test_episodes_without_frames_are_counted(command: Train, capsys: pytest.CaptureFixture[str]) -> None:
    path = command.split / "split.yaml"
    parts = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**parts, "train": [*parts["train"], "episode_000077"]}))
    assert replace(command, training=load_train_config(command.config, ["optimisation.steps=1"]))() == 0
    assert "1 of 5 episodes have no frames, e.g. episode_000077" in capsys.readouterr().err


def test_without_a_split_the_sentence_says_how_to_make_one(command: Train) -> None:
    with pytest.raises(EpisodeError, match="make it with `policy episodes split`"):
        replace(command, split=None)()


def test_a_diagnosis_is_a_table_and_a_bad_one_an_exit_code(
    command: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("policy_bringup.learning.diagnose.STEPS", 2)
    assert replace(command, diagnose=True, training=load_train_config(command.config, ["optimisation.steps=1"]))() == 1
    said = capsys.readouterr().out
    assert "can it learn at all?" in said
    assert "No: after 2 steps on 2 episodes" in said
    assert "is it better than staying where it is?" in said


def test_a_diagnosis_by_several_processes_is_refused(command: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PolicyBringupError, match="--diagnose: works with one process"):
        replace(command, diagnose=True)()


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(command: Train) -> None:
    line = [sys.executable, "-m", "policy_bringup.learning_cli", *words(command), "--optimisation.steps", "1000000"]
    line += ["--optimisation.patience", "1000000", "--optimisation.validate-every", "3"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        began = ran_until((command.out / "checkpoint.pt").exists, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert began, err
    assert process.returncode == INTERRUPTED
    at = load_checkpoint(command.out).course.step
    assert f"{command.out}: stopped at step {at}; the same command goes on from there" in out.replace("\n", " ")
    assert "Traceback" not in err


def test_two_processes_train_what_one_does(command: Train, dataset: Dataset, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    line += ["-m", "policy_bringup.learning_cli", *words(command)]
    ended = subprocess.run(
        line, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("all steps are made after 10 steps") == 1
    names, config = dataset.episodes, load_train_config(command.config)
    train(dataset.subset(names[:3]), dataset.subset(names[3:]), config, tmp_path / "one")
    one, two = load_checkpoint(tmp_path / "one"), load_checkpoint(command.out)
    for mine, theirs in ((one.weights, two.weights), (one.best, two.best)):
        for name, tensor in mine.items():
            assert torch.allclose(tensor.float(), theirs[name].float(), atol=1e-5), name
    for row, other in zip(one.course.history, two.course.history, strict=True):
        for name in ("train/loss", "validation/loss", "validation/position_mm"):
            assert row[name] == pytest.approx(other[name], abs=1e-5, rel=1e-5)


def test_the_command_line_loads_no_torch_before_it_trains() -> None:
    code = "import sys, policy_bringup.learning_cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
