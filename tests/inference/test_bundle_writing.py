import resource
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from policy_bringup.core.errors import ContractError
from policy_bringup.inference import exchange
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.manifest import Fingerprint, Uncertainty


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_is_replaced_whole(folder, contract, write):
    (folder / "report.md").write_text("the old policy's report")
    shorter = replace(contract, action=replace(contract.action, steps=3))
    write(folder, shorter, files={"figures/loss.txt": b"0.1"})
    assert load_bundle(folder, shorter).contract == shorter
    assert sorted(map(str, snapshot(folder))) == ["figures/loss.txt", "policy.onnx", "policy.yaml"]
    assert [path.name for path in folder.parent.iterdir()] == ["grasp"]


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path, contract, write):
    (tmp_path / "thesis.txt").write_text("four years of work")
    with pytest.raises(ContractError, match="is no policy bundle"):
        write(tmp_path, contract)
    assert (tmp_path / "thesis.txt").read_text() == "four years of work"


def test_a_disk_that_is_full_leaves_the_old_bundle(folder, contract, write):
    before = snapshot(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(folder, contract, files={"report.md": b"x" * 20_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert snapshot(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["grasp"]


def test_a_write_that_fails_at_its_last_file_leaves_nothing(tmp_path, contract, write):
    with pytest.raises(OSError, match=r"policy\.yaml"):
        write(tmp_path / "grasp", contract, files={"policy.yaml/in_the_way": b""})
    assert list(tmp_path.iterdir()) == []


def test_a_rename_that_fails_brings_the_old_bundle_back(folder, contract, write, monkeypatch):
    before = snapshot(folder)
    rename = Path.rename

    def fail_for_the_new_one(self, target):
        if Path(target) == folder and not self.name.endswith(".old"):
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(exchange, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="no space left"):
        write(folder, contract)
    assert snapshot(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["grasp"]


@pytest.mark.parametrize("name", ["../outside.md", "/outside.md", "sub/../../outside.md", ""])
def test_a_file_outside_the_bundle_is_not_written(tmp_path, folder, contract, write, name):
    before = snapshot(tmp_path)
    with pytest.raises(ContractError, match="must be inside its folder"):
        write(folder, contract, files={name: b""})
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": b"no graph"}, "no usable ONNX graph"),
        ({"uncertainty": Uncertainty("ensemble", float("nan"), 0.05, 40)}, "threshold: must be a number"),
        ({"uncertainty": Uncertainty("ensemble", 0.25, 0.05, -1)}, "calibration_episodes: must be a whole number"),
        ({"parity_max_abs_error": float("nan")}, "parity_max_abs_error: must be a number"),
        ({"fingerprint": Fingerprint({}, (0.0, 0.0, 0.0))}, "cameras must be the contract's cameras"),
    ],
)
def test_what_would_be_refused_is_not_written(tmp_path, contract, write, changes, sentence):
    with pytest.raises(ContractError, match=sentence):
        write(tmp_path / "grasp", contract, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_for_another_contract_is_not_written(tmp_path, contract, write, make_reference):
    other = replace(contract, action=replace(contract.action, steps=5))
    with pytest.raises(ContractError, match="the graph's output 'action'"):
        write(tmp_path / "grasp", contract, model=make_reference(other).model())
    assert list(tmp_path.iterdir()) == []


def test_the_folders_above_are_made(tmp_path, contract, write):
    write(tmp_path / "policies" / "grasp", contract)
    assert load_bundle(tmp_path / "policies" / "grasp", contract).contract == contract


def test_the_manifest_reads_as_a_page(folder):
    text = (folder / "policy.yaml").read_text()
    assert list(yaml.safe_load(text)) == [
        "format",
        "contract",
        "uncertainty",
        "fingerprint",
        "onnx",
        "files",
        "provenance",
    ]
    assert len(text.splitlines()) < 60
