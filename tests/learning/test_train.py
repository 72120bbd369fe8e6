from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policy_bringup.core.errors import EpisodeError, LearningError
from policy_bringup.core.types import Contract
from policy_bringup.learning.bc_spatial import BcSpatial
from policy_bringup.learning.checkpoint import load_checkpoint, save_checkpoint
from policy_bringup.learning.config import TrainConfig, build_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.optimisation import LAST_RATE, Average, learning_rate
from policy_bringup.learning.run import Progress, Run
from policy_bringup.learning.train import Interrupted, load_trained, train
from policy_bringup.learning.validation import evaluate, spread

SMALL: dict[str, Any] = {
    "family": "bc_spatial",
    "model": {"members": 2, "channels": [4], "hidden": 16, "dropout": 0.2, "state_dropout": 0.2},
    "augmentation": {"shift_px": 2, "brightness": 0.2},
    "optimisation": {
        "batch_size": 16,
        "steps": 12,
        "learning_rate": 0.003,
        "warmup_steps": 2,
        "weight_decay": 0.001,
        "gradient_clip": 1.0,
        "ema_decay": 0.9,
        "validate_every": 4,
        "validation_moments": 20,
        "threads": 1,
    },
}


def configured(**optimisation: Any) -> TrainConfig:
    return build_train_config({**SMALL, "optimisation": {**SMALL["optimisation"], **optimisation}}, "test")


@pytest.fixture(scope="module")
def parts(dataset: Dataset) -> tuple[Dataset, Dataset]:
    names = dataset.episodes
    return dataset.subset(names[:3]), dataset.subset(names[3:])


class Clock:
    """Seconds that pass only when a step is made."""

    def __init__(self, step_s: float = 1.0) -> None:
        self.now_s, self._step_s = 0.0, step_s

    def __call__(self) -> float:
        return self.now_s

    def tick(self, _progress: Progress) -> None:
        self.now_s += self._step_s


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def rows(folder: Path) -> list[dict[str, float]]:
    """What history.jsonl says, less the times."""
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if "time/" not in name} for line in lines]


@pytest.fixture(scope="module")
def whole(parts: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(*parts, configured(), folder)
    return folder


def test_the_loss_falls_and_the_result_beats_the_mean_action(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    config = configured(steps=60, validate_every=20, learning_rate=0.01)
    trained = train(*parts, config, tmp_path)
    history = rows(tmp_path)
    assert [row["step"] for row in history] == [20.0, 40.0, 60.0]
    assert history[-1]["train/loss"] < 0.9 * history[0]["train/loss"]
    assert trained.metrics["validation"]["left_of_mean"] < 1.0
    assert trained.ending == "steps"


@pytest.mark.parametrize("family", ["bc_cnn", "bc_spatial", "bc_resnet"])
def test_every_family_learns_joint_actions_and_tells_their_error_in_rad(
    joint_dataset: Dataset, tmp_path: Path, family: str
) -> None:
    names = joint_dataset.episodes
    how = {**SMALL["optimisation"], "steps": 60, "validate_every": 20, "learning_rate": 0.01}
    model = {"members": 2, "hidden": 32}
    config = build_train_config({**SMALL, "family": family, "model": model, "optimisation": how}, "test")
    trained = train(joint_dataset.subset(names[:3]), joint_dataset.subset(names[3:]), config, tmp_path)
    found = trained.metrics["validation"]
    assert found["left_of_mean"] < 1.0
    assert 0.0 < found["joints_rad"] < 1.0
    assert "position_mm" not in found


def test_what_is_written_says_what_was_done(parts: tuple[Dataset, Dataset], whole: Path) -> None:
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["family"] == "bc_spatial"
    assert metrics["moments"] == {"train": len(parts[0]), "validation": len(parts[1])}
    assert metrics["data_sha256"]["train"] == parts[0].sha256
    assert metrics["validation"]["loss"] == pytest.approx(min(row["validation/loss"] for row in rows(whole)))
    assert metrics["validation"]["position_mm"] > 0.0
    assert 0.0 <= metrics["waiting"] <= 1.0
    assert load_checkpoint(whole).config == json.loads(json.dumps(load_checkpoint(whole).config))
    assert not list(whole.glob("*.partial"))


@pytest.mark.parametrize("stopped", [4, 7])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    parts: tuple[Dataset, Dataset], whole: Path, tmp_path: Path, stopped: int
) -> None:
    asked = iter(range(100))
    with pytest.raises(Interrupted, match=f"stopped at step {stopped}; the same command goes on"):
        train(*parts, configured(), tmp_path, stop=lambda: next(asked) == stopped)
    train(*parts, configured(), tmp_path)
    first, second = load_checkpoint(whole), load_checkpoint(tmp_path)
    assert same(first.weights, second.weights)
    assert same(first.average, second.average)
    assert same(first.best, second.best)
    assert rows(whole) == rows(tmp_path)


@pytest.mark.parametrize("family", ["bc_cnn", "bc_resnet"])
def test_every_family_goes_on_where_it_was_stopped(parts: tuple[Dataset, Dataset], tmp_path: Path, family: str) -> None:
    model = {"members": 2, "hidden": 8}
    how = {**SMALL["optimisation"], "steps": 4, "validate_every": 2, "channels_last": True}
    config = build_train_config({**SMALL, "family": family, "model": model, "optimisation": how}, "test")
    train(*parts, config, tmp_path / "whole")
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        train(*parts, config, tmp_path / "parted", stop=lambda: next(asked) == 3)
    train(*parts, config, tmp_path / "parted")
    assert same(load_checkpoint(tmp_path / "whole").weights, load_checkpoint(tmp_path / "parted").weights)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from policy_bringup.core.deployment import load_deployment
from policy_bringup.learning import run
from policy_bringup.learning.config import load_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.train import train

config_file, frames, out, grasp, where, when = sys.argv[1:]
contract = load_deployment(Path(grasp))[0].contract
images = tuple(type(i)(i.camera, 32, 32, i.encoding, i.resize) for i in contract.observation.images)
observation = type(contract.observation)(images, contract.observation.state)
contract = type(contract)(contract.robot, observation, contract.action)
names = [f"episode_{number:06d}" for number in range(4)]
parts = [Dataset.open(Path(frames), part, contract) for part in (names[:3], names[3:])]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
if where == "writing":
    # Dies with half of the second checkpoint on the disk.
    replaced, real = [], Path.replace
    def replace(self, target):
        replaced.append(self)
        if Path(target).name == "checkpoint.pt" and sum(p.name.startswith("checkpoint") for p in replaced) == 2:
            self.write_bytes(self.read_bytes()[: self.stat().st_size // 2])
            die()
        return real(self, target)
    Path.replace = replace
seen = lambda at: die() if where == "step" and at.step == int(when) else None
train(*parts, load_train_config(config_file), Path(out), seen)
"""


@pytest.mark.parametrize(("where", "when"), [("step", 6), ("writing", 0)])
def test_a_killed_run_ends_with_the_same_bits(
    parts: tuple[Dataset, Dataset],
    whole: Path,
    frames_root: Path,
    config_folder: Path,
    tmp_path: Path,
    where: str,
    when: int,
) -> None:
    out = tmp_path / "killed"
    arguments = [whole / "config.yaml", frames_root, out, config_folder / "grasp.yaml", where, when]
    command = [sys.executable, "-c", textwrap.dedent(KILLED), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert load_checkpoint(out).course.step == 4
    train(*parts, configured(), out)
    assert same(load_checkpoint(whole).weights, load_checkpoint(out).weights)
    assert same(load_checkpoint(whole).best, load_checkpoint(out).best)
    assert rows(whole) == rows(out)


def test_two_runs_with_one_seed_are_the_same_and_with_another_are_not(
    parts: tuple[Dataset, Dataset], whole: Path, tmp_path: Path
) -> None:
    train(*parts, configured(), tmp_path / "same")
    train(*parts, configured(seed=1), tmp_path / "other")
    assert same(load_checkpoint(whole).weights, load_checkpoint(tmp_path / "same").weights)
    assert not same(load_checkpoint(whole).weights, load_checkpoint(tmp_path / "other").weights)


def test_training_leaves_the_generator_and_the_threads_as_they_were(
    parts: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(*parts, configured(steps=1), tmp_path)
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == 1


def test_a_finished_run_is_returned_without_another_step(
    parts: tuple[Dataset, Dataset], whole: Path, contract: Contract
) -> None:
    steps: list[int] = []
    again = train(*parts, configured(), whole, lambda at: steps.append(at.step))
    assert steps == []
    assert same(again.policy.state_dict(), load_trained(whole, contract).state_dict())


def test_a_run_that_was_begun_before_a_key_was_added_goes_on_with_its_default(
    parts: tuple[Dataset, Dataset], whole: Path, contract: Contract, tmp_path: Path
) -> None:
    kept = load_checkpoint(whole)
    assert kept.config["model"].pop("action_weight") == 1.0
    save_checkpoint(tmp_path, kept)
    again = train(*parts, configured(), tmp_path)
    assert same(again.policy.state_dict(), load_trained(whole, contract).state_dict())
    other = {**SMALL, "model": {**SMALL["model"], "action_weight": 0.5}}
    with pytest.raises(LearningError, match=r"begun with model.action_weight 1.0, and now it is 0\.5"):
        train(*parts, build_train_config(other, "test"), tmp_path)


def test_a_run_that_was_begun_with_a_key_that_is_gone_names_it(
    parts: tuple[Dataset, Dataset], whole: Path, tmp_path: Path
) -> None:
    kept = load_checkpoint(whole)
    kept.config["model"]["depth"] = 3
    save_checkpoint(tmp_path, kept)
    with pytest.raises(LearningError, match=r"begun with model.depth 3, and now it is absent"):
        train(*parts, configured(), tmp_path)


def test_a_loaded_policy_predicts_what_the_trained_one_did(
    parts: tuple[Dataset, Dataset], whole: Path, contract: Contract
) -> None:
    batch = parts[1].batch(np.arange(4))
    trained = train(*parts, configured(), whole).policy.predict(batch.images, batch.state)
    loaded = load_trained(whole, contract).predict(batch.images, batch.state)
    assert torch.equal(trained[0], loaded[0])
    assert torch.equal(trained[1], loaded[1])


def test_the_best_average_is_kept_and_patience_ends_a_run_that_gets_no_better(
    parts: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    config = configured(steps=400, learning_rate=1.0, warmup_steps=0, gradient_clip=0.0, patience=3, validate_every=2)
    trained = train(*parts, config, tmp_path)
    scores = [row["validation/loss"] for row in rows(tmp_path)]
    assert trained.ending == "patience"
    assert len(scores) == int(np.argmin(scores)) + 1 + 3
    assert trained.metrics["best_step"] == 2 * (int(np.argmin(scores)) + 1)
    assert trained.metrics["validation"]["loss"] == pytest.approx(min(scores), rel=1e-6)


def test_pretraining_neither_ends_a_run_nor_is_it_kept_as_the_best(
    parts: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    """While the pose alone is learned the action gets no better: patience would end it at the second validation."""
    model = {**SMALL["model"], "pose_weight": 0.01, "pretrain_steps": 8}
    how = {"steps": 12, "validate_every": 1, "patience": 1, "learning_rate": 1e-6, "warmup_steps": 0}
    config = build_train_config({**SMALL, "model": model, "optimisation": {**SMALL["optimisation"], **how}}, "test")
    trained = train(*parts, config, tmp_path)
    assert trained.metrics["best_step"] > 8
    assert len(rows(tmp_path)) > 9
    policy = trained.policy
    assert isinstance(policy, BcSpatial)
    assert not policy.pretraining


def test_the_time_budget_ends_a_run_and_holds_over_its_starts(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    config = configured(steps=1000, budget_min=0.5)
    first = Clock()
    with pytest.raises(Interrupted):
        train(*parts, config, tmp_path, first.tick, lambda: first.now_s >= 20.0, first)
    second = Clock()
    trained = train(*parts, config, tmp_path, second.tick, clock=second)
    assert trained.ending == "budget"
    assert second.now_s == pytest.approx(11.0)
    assert trained.metrics["spent_min"] == pytest.approx(0.5)
    assert trained.metrics["steps"] == rows(tmp_path)[-1]["step"] == 31
    assert rows(tmp_path)[-1]["train/learning_rate"] < 0.1 * config.optimisation.learning_rate


def test_a_larger_budget_goes_on_with_a_run_that_the_smaller_one_ended(
    parts: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    clock = Clock()
    train(*parts, configured(budget_min=0.05), tmp_path, clock.tick, clock=clock)
    trained = train(*parts, configured(budget_min=100.0), tmp_path, clock.tick, clock=clock)
    assert trained.ending == "steps"
    assert trained.metrics["steps"] == 12


def test_progress_tells_pace_waiting_and_what_is_left(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    clock, seen = Clock(0.5), []

    def tell(at: Progress) -> None:
        seen.append(at)
        clock.tick(at)

    train(*parts, configured(), tmp_path, tell, clock=clock)
    assert [at.step for at in seen] == list(range(1, 13))
    assert seen[0].validation is None
    assert seen[-1].validation == rows(tmp_path)[-1]["validation/loss"]
    assert seen[7].samples_per_s == pytest.approx(8 * 16 / 3.5)
    assert seen[7].left_s == pytest.approx(4 * 3.5 / 8)
    assert seen[-1].left_s == 0.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"learning_rate": 0.001}, "optimisation.learning_rate 0.003, and now it is 0.001"),
        ({"steps": 13}, "optimisation.steps 12, and now it is 13"),
        ({"seed": 7}, "optimisation.seed 0, and now it is 7"),
    ],
)
def test_a_run_is_not_continued_with_another_configuration(
    parts: tuple[Dataset, Dataset], whole: Path, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LearningError, match=sentence):
        train(*parts, configured(**change), whole)


def test_a_run_is_not_continued_with_another_model_or_augmentation(parts: tuple[Dataset, Dataset], whole: Path) -> None:
    for group, key, value, was in (("model", "hidden", 8, 16), ("augmentation", "shift_px", 3, 2)):
        config = build_train_config({**SMALL, group: {**SMALL[group], key: value}}, "test")
        with pytest.raises(LearningError, match=f"{group}.{key} {was}, and now it is {value}"):
            train(*parts, config, whole)


def test_a_run_is_not_continued_with_other_episodes(
    dataset: Dataset, parts: tuple[Dataset, Dataset], whole: Path
) -> None:
    with pytest.raises(LearningError, match=r"data\.train"):
        train(dataset.subset(dataset.episodes[:2]), parts[1], configured(), whole)
    with pytest.raises(LearningError, match=r"data\.validation"):
        train(parts[0], dataset.subset(dataset.episodes[2:3]), configured(), whole)


def test_the_number_of_threads_may_change(parts: tuple[Dataset, Dataset], whole: Path) -> None:
    assert train(*parts, configured(threads=2), whole).ending == "steps"


def test_two_runs_do_not_share_a_folder(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    def second(_progress: Progress) -> None:
        with pytest.raises(EpisodeError, match="is being written by somebody else"):
            train(*parts, configured(), tmp_path)

    train(*parts, configured(steps=1), tmp_path, second)


def poisoned(when: int, name: str) -> Callable[..., Any]:
    """A make_policy whose policy's parameter `name` becomes NaN in its forward pass number `when`."""
    from policy_bringup.learning.families import make_policy

    def make(*arguments: Any) -> Any:
        policy = make_policy(*arguments)
        passes = iter(range(1, 10_000))

        def spoil(module: torch.nn.Module, _inputs: Any) -> None:
            if module.training and next(passes) == when:
                with torch.no_grad():
                    dict(module.named_parameters())[name].view(-1)[0] = torch.nan

        policy.register_forward_pre_hook(spoil)
        return policy

    return make


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_checkpoint(
    parts: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "heads.1.0.bias"
    monkeypatch.setattr("policy_bringup.learning.run.make_policy", poisoned(7, name))
    with pytest.raises(LearningError, match=f"step 7: the loss is nan: .*first parameter .* is {name}"):
        train(*parts, configured(), tmp_path)
    kept = load_checkpoint(tmp_path)
    assert kept.course.step == 4
    assert all(bool(tensor.isfinite().all()) for tensor in kept.weights.values())
    assert not list(tmp_path.glob("*.partial"))
    monkeypatch.undo()
    assert train(*parts, configured(), tmp_path).ending == "steps"


def test_any_figure_of_the_validation_that_is_not_finite_ends_the_run(parts, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Run, "_judge", lambda *_: {"loss": 1.0, "position_mm": math.nan})
    with pytest.raises(LearningError, match="validation saw it first"):
        train(*parts, configured(), tmp_path)


def test_numbers_too_large_for_a_gradient_are_told_apart_from_a_bad_loss(
    parts: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    config = build_train_config(
        {
            **SMALL,
            "model": {**SMALL["model"], "loss": "mse"},
            "optimisation": {**SMALL["optimisation"], "learning_rate": 1.0, "warmup_steps": 0, "gradient_clip": 0.0},
        },
        "test",
    )
    huge = replace(config, optimisation=replace(config.optimisation, steps=3))

    def spoiled(*arguments: Any) -> Any:
        from policy_bringup.learning.families import make_policy

        policy = make_policy(*arguments)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.mul_(1e13)
        return policy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("policy_bringup.learning.run.make_policy", spoiled)
        with pytest.raises(LearningError, match=r"step 1: the loss is (inf|nan): all parameters are finite.*'loss'"):
            train(*parts, huge, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_too_few_moments_for_a_batch_are_one_sentence(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="do not fill one batch of 4096"):
        train(*parts, configured(batch_size=4096), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a graphics card")
def test_a_graphics_card_that_is_not_there_is_one_sentence(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="cuda is not to be had here"):
        train(*parts, configured(device="cuda"), tmp_path)


@pytest.mark.parametrize("change", [{"bf16": True}, {"channels_last": True}])
def test_the_switches_for_speed_train_much_the_same_policy(
    parts: tuple[Dataset, Dataset], whole: Path, tmp_path: Path, change: dict[str, bool]
) -> None:
    trained = train(*parts, configured(**change), tmp_path)
    plainly = json.loads((whole / "metrics.json").read_text())
    assert trained.metrics["validation"]["loss"] == pytest.approx(plainly["validation"]["loss"], rel=0.1)
    assert all(parameter.is_contiguous() for parameter in trained.policy.parameters())
    assert all(parameter.dtype is torch.float32 for parameter in trained.policy.parameters())


def test_a_policy_of_another_contract_is_not_loaded(whole: Path, contract: Contract, tmp_path: Path) -> None:
    other = replace(contract, action=replace(contract.action, execute=4))
    with pytest.raises(LearningError, match="was trained for another contract"):
        load_trained(whole, other)
    with pytest.raises(LearningError, match="holds no trained policy"):
        load_trained(tmp_path, contract)


def test_the_learning_rate_rises_then_falls_to_the_end_of_steps_or_budget() -> None:
    how = configured(steps=102, warmup_steps=2, learning_rate=0.9, budget_min=1.0).optimisation
    rates = [learning_rate(how, step, 0.0) for step in range(102)]
    assert rates[:3] == pytest.approx([0.3, 0.6, 0.9])
    assert np.all(np.diff(rates[2:]) < 0.0)
    assert rates[52] == pytest.approx(0.9 * (LAST_RATE + (1.0 - LAST_RATE) / 2.0))
    assert learning_rate(how, 10, 60.0) == pytest.approx(0.9 * LAST_RATE)
    assert learning_rate(how, 10, 30.0) == pytest.approx(rates[52])


def test_the_average_follows_slowly_and_forgets_the_first_weights(parts: tuple[Dataset, Dataset]) -> None:
    from policy_bringup.learning.families import make_policy

    policy = make_policy("bc_spatial", parts[0].contract, configured().model, Normaliser(parts[0].contract))
    average = Average(policy, 0.9)
    name, before = next((name, p.clone()) for name, p in policy.named_parameters())
    with torch.no_grad():
        policy.get_parameter(name).add_(1.0)
    average.follow(policy, 10_000)
    assert torch.allclose(average.policy.get_parameter(name), before + 0.1)
    average.follow(policy, 1)
    assert torch.allclose(average.policy.get_parameter(name), before + 1.0 - 0.9 * 2.0 / 11.0)


def test_validation_is_the_same_twice_and_over_evenly_spread_moments(
    parts: tuple[Dataset, Dataset], whole: Path, contract: Contract
) -> None:
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 10).tolist() == [0, 1, 2]
    assert spread(5, 1).tolist() == [0]
    policy, normaliser = load_trained(whole, contract), Normaliser.of(parts[0])
    one, other = (evaluate(policy, parts[1], normaliser, 20, size) for size in (20, 7))
    assert one == pytest.approx(other, rel=1e-5)
    assert one["loss"] == pytest.approx(rows(whole)[-1]["validation/loss"], rel=1e-5)


@pytest.mark.parametrize("missing", [False, True])
def test_tensorboard_is_told_where_it_is_installed(
    parts: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    else:
        pytest.importorskip("tensorboard")
    train(*parts, configured(steps=1), tmp_path)
    assert len(rows(tmp_path)) == 1
    assert bool(list(tmp_path.glob("tensorboard/events*"))) != missing


def test_a_full_disk_is_one_sentence_and_leaves_the_older_checkpoint(
    parts: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        train(*parts, configured(), tmp_path, stop=lambda: next(asked) == 2)
    monkeypatch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(LearningError, match=r"checkpoint\.pt: cannot be written \(No space left on device\)"):
        train(*parts, configured(), tmp_path)
    assert load_checkpoint(tmp_path).course.step == 2
    assert not list(tmp_path.glob("*.partial"))
