from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_bringup.learning.config import TrainConfig, build_train_config
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.diagnose import GAP, MEMORISED, diagnose, judge, memorise
from policy_bringup.learning.train import train

FIGURES = {
    "loss": 0.1,
    "position_mm": 4.25,
    "position_mm_first": 1.5,
    "rotation_rad": 0.02,
    "rotation_rad_first": 0.01,
    "force_n": 0.3,
    "force_n_first": 0.2,
    "left_of_mean": 0.2,
    "left_of_staying": 0.5,
}


def configured(**optimisation: Any) -> TrainConfig:
    how = {"batch_size": 64, "steps": 2, "learning_rate": 0.01, "validation_moments": 64, "threads": 1}
    model = {"members": 1, "channels": [8], "hidden": 32, "pretrain_steps": 5, "pose_weight": 0.1}
    data = {"family": "bc_spatial", "model": model, "augmentation": {"erase": 1.0}}
    return build_train_config({**data, "optimisation": {**how, **optimisation}}, "test")


def answers(**unseen: float) -> dict[str, Any]:
    findings = judge({"train": FIGURES, "validation": {**FIGURES, **unseen}})
    return {finding.question: finding for finding in findings}


def test_what_can_learn_knows_two_episodes_by_heart(dataset: Dataset) -> None:
    seen: list[int] = []
    finding = memorise(dataset, configured(), 100, lambda at: seen.append(at.step))
    assert finding.good, finding.figure
    assert "on 2 episodes it knows them by heart" in finding.sentence
    assert seen[-1] == 105


def test_what_cannot_learn_is_found_out(dataset: Dataset) -> None:
    finding = memorise(dataset, configured(learning_rate=1e-7), 10)
    assert not finding.good
    assert f"more than {MEMORISED:.0%} is left; look at learning_rate" in finding.sentence


def test_a_diagnosis_is_kept_with_the_metrics(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy_bringup.learning.diagnose.STEPS", 3)
    config = configured()
    trained = train(dataset, dataset, config, tmp_path)
    findings = diagnose(trained, dataset, config)
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert [each["question"] for each in kept["diagnosis"]] == [finding.question for finding in findings]
    assert len(findings) == 5
    assert kept["validation"] == trained.metrics["validation"]


def test_a_gap_between_seen_and_unseen_episodes_is_judged_on_each_side_of_its_limit() -> None:
    question = "does it hold on episodes it has not seen?"
    assert answers(loss=0.1 * GAP)[question].good
    wide = answers(loss=0.1 * GAP * 1.01)[question]
    assert not wide.good
    assert wide.figure == f"{GAP * 1.01:.2f} times the loss"
    assert "record more episodes" in wide.sentence


def test_errors_are_told_in_millimetres_and_radians() -> None:
    finding = answers()["how far off is it?"]
    assert finding.figure == "position 4.25 mm, rotation 0.02 rad"
    assert "in their first step: position 1.5, rotation 0.01." in finding.sentence


@pytest.mark.parametrize(
    ("key", "question"),
    [
        ("left_of_mean", "is it better than always doing the mean action?"),
        ("left_of_staying", "is it better than staying where it is?"),
    ],
)
def test_being_no_better_than_nothing_is_bad(key: str, question: str) -> None:
    better, as_bad = answers(**{key: 0.99})[question], answers(**{key: 1.0})[question]
    assert better.good
    assert better.figure == "99% of its error left"
    assert not as_bad.good
    assert "learnt nothing" in as_bad.sentence


def test_what_cannot_be_compared_is_not_asked() -> None:
    unseen = {name: value for name, value in FIGURES.items() if name != "left_of_staying"}
    assert len(judge({"train": FIGURES, "validation": unseen})) == 3
