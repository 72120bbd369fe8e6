"""What a person who mistypes is told, before anything is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy_bringup.bundle_cli import Calibrate, Compress
from policy_bringup.core.errors import ConfigError, ContractError
from policy_bringup.learn_cli import Learn

ROOT = Path(__file__).resolve().parents[2]


def test_calibrating_a_bundle_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(ContractError, match="there is no such policy folder"):
        Calibrate(tmp_path / "nowhere")()


def test_compressing_a_bundle_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(ContractError, match="there is no such policy folder"):
        Compress(tmp_path / "nowhere", tmp_path / "out")()


def test_frames_without_the_training_episodes_are_refused(tmp_path: Path):
    (tmp_path / "split.yaml").write_text("train: [episode_000000]\nvalidation: []\ntest: []\n")
    with pytest.raises(ConfigError, match="holds no frames of the training episodes"):
        Compress(tmp_path, tmp_path / "out", frames=tmp_path)._episodes()


def test_a_course_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        Learn("nowhere", tmp_path / "work", tmp_path / "out")()
    assert not (tmp_path / "work").exists()


def test_the_course_of_the_shipped_policy_names_files_that_are_there(tmp_path: Path):
    from policy_bringup.pipeline.course import Course

    Course(ROOT / "config" / "train" / "grasp.yaml", tmp_path / "work", tmp_path / "out", 1)
