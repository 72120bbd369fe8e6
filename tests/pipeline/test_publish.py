"""The end of a course: the evaluation's report goes into the calibrated bundle, and the bundle into its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from policy_bringup.core.errors import ContractError, LearningError
from policy_bringup.core.types import Contract
from policy_bringup.inference.bundle import MODEL_FILE, load_bundle
from policy_bringup.inference.manifest import MANIFEST_FILE, PROVISIONAL_THRESHOLD, Uncertainty
from policy_bringup.inference.parity import PARITY_FILE
from policy_bringup.pipeline.course import Course, Ears, publish
from policy_bringup.pipeline.faults import FAULTS
from policy_bringup.pipeline.perturbations import PERTURBATIONS
from policy_bringup.pipeline.summary import JSON_FILE, TABLE_FILE
from policy_bringup.sim.rollout import load_stack

OLD = Uncertainty("ensemble", 0.9, 0.1, 19)


@pytest.fixture(scope="session")
def contract(small_config: Path) -> Contract:
    return load_stack(small_config).deployment.contract


@pytest.fixture
def shipped(hovering, contract, tmp_path) -> Path:
    """An older bundle in the place of the new one, with a report, and with a file that the new one has not."""
    files = {TABLE_FILE: b"the old report", "notes.txt": b"of the old bundle"}
    return hovering(tmp_path / "shipped", contract, uncertainty=OLD, files=files).folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_calibrated_bundle_and_its_report_replace_an_older_bundle_whole(hovering, contract, shipped, tmp_path):
    draft = hovering(tmp_path / "draft", contract)
    before = content(draft.folder)
    written = publish(draft, shipped, {TABLE_FILE: b"the new report", JSON_FILE: b"{}"})
    assert content(shipped).keys() == {MODEL_FILE, MANIFEST_FILE, PARITY_FILE, TABLE_FILE, JSON_FILE}
    assert (shipped / TABLE_FILE).read_bytes() == b"the new report"
    assert (shipped / JSON_FILE).read_bytes() == b"{}"
    found = load_bundle(shipped, contract)
    assert found.manifest == written.manifest == draft.manifest
    assert found.manifest.uncertainty.calibration_episodes == 40
    assert found.samples is not None
    assert content(draft.folder) == before
    assert {path.name for path in tmp_path.iterdir()} == {"draft", "shipped"}  # nothing of the exchange is left


def test_what_is_not_calibrated_leaves_the_older_bundle_as_it_was(hovering, contract, shipped, tmp_path):
    before = content(shipped)
    draft = hovering(tmp_path / "draft", contract, uncertainty=Uncertainty("ensemble", PROVISIONAL_THRESHOLD, 0.0, 0))
    with pytest.raises(LearningError, match="is not calibrated, so it may not be deployed"):
        publish(draft, shipped, {TABLE_FILE: b"the new report"})
    assert content(shipped) == before


def test_a_folder_that_is_no_bundle_is_not_replaced(hovering, contract, tmp_path):
    draft = hovering(tmp_path / "draft", contract)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(ContractError, match="is no policy bundle, so it is not replaced"):
        publish(draft, tmp_path / "home", {})
    assert content(tmp_path / "home") == {"thesis.txt": b"years of work"}


@pytest.fixture
def course_file(small_config: Path, tmp_path: Path) -> Path:
    """A course whose evaluation is one short episode of each kind."""
    shutil.copytree(small_config, tmp_path / "site" / "config")
    (tmp_path / "site" / "models").symlink_to(small_config.parent / "models")
    path = tmp_path / "site" / "config" / "train" / "grasp.yaml"
    short = {"evaluation_episodes": 1, "other_episodes": 1, "fault_episodes": 1, "patience_s": 0.5}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **short}))
    return path


def test_the_last_stage_evaluates_the_draft_and_puts_it_with_its_report_in_its_place(
    course_file, hovering, contract, shipped, tmp_path
):
    """The draft hovers: not one success, and the report that is shipped says so."""
    hovering(tmp_path / "work" / "bundle", contract)
    stages: list[str] = []
    told: list[tuple[int, int]] = []
    ears = Ears(stages.append, lambda done, total: told.append((done, total)))
    course = Course(course_file, tmp_path / "work", shipped, 1, "policy learn grasp", ears)
    evaluation = course._evaluate()
    course._ship(evaluation)
    assert stages == ["evaluation"]
    assert told[-1][0] == told[-1][1] >= 1 + len(PERTURBATIONS) - len(evaluation.skipped)
    assert set(evaluation.skipped) >= set(FAULTS)  # whoever hovers never moves, so no fault begins in motion
    assert load_bundle(shipped, contract).manifest.uncertainty == Uncertainty("ensemble", 0.123, 0.05, 40)
    table, data = (shipped / TABLE_FILE).read_text(), json.loads((shipped / JSON_FILE).read_text())
    assert table.startswith("# Evaluation of shipped\n")
    assert "| success | 0 of 1: 0.0 % (0.0 to 79.3 %) |" in table
    assert "| command | policy learn grasp |" in table
    assert data["figures"]["success"]["count"] == 0
    assert not (shipped / "notes.txt").exists()
    assert (tmp_path / "work" / "report" / "report.html").is_file()
