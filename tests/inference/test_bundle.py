import hashlib
import os
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from policy_bringup.core.errors import ContractError
from policy_bringup.core.types import Column
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.manifest import Uncertainty


def refusal(folder, expected):
    with pytest.raises(ContractError) as caught:
        load_bundle(folder, expected)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(folder) in sentence
    return sentence


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_what_was_written_is_what_is_read(tmp_path, contract, write, make_reference):
    written = write(tmp_path / "grasp", contract)
    read = load_bundle(tmp_path / "grasp", contract)
    assert read.manifest == written.manifest
    assert read.contract == contract
    assert read.model == written.model == make_reference(contract).model()
    assert (read.folder, read.name) == (tmp_path / "grasp", "grasp")


def test_the_manifest_keeps_what_the_writer_gave(folder, contract):
    manifest = load_bundle(folder, contract).manifest
    assert manifest.uncertainty == Uncertainty("ensemble", 0.25, 0.05, 40)
    assert manifest.onnx.opset == 17
    assert manifest.onnx.parity_max_abs_error == 3e-7
    assert manifest.onnx.sha256 == sha256((folder / "policy.onnx").read_bytes())
    assert manifest.fingerprint.cameras["wrist"] == tuple(range(64))
    assert manifest.provenance.code == "a" * 40


def test_a_bundle_is_frozen(folder, contract):
    bundle = load_bundle(folder, contract)
    with pytest.raises(FrozenInstanceError):
        bundle.manifest.uncertainty.threshold = 1e9


def test_a_folder_may_be_named_by_a_text(folder, contract):
    assert load_bundle(str(folder), contract).name == "grasp"


def test_numpy_numbers_are_written_as_plain_numbers(tmp_path, contract, write):
    doubt = Uncertainty("ensemble", np.float64(0.25), np.float32(0.5), np.int64(40))
    write(tmp_path / "grasp", contract, uncertainty=doubt)
    assert load_bundle(tmp_path / "grasp", contract).manifest.uncertainty == Uncertainty("ensemble", 0.25, 0.5, 40)


def test_a_missing_folder_is_refused(tmp_path, contract):
    assert "no such policy folder" in refusal(tmp_path / "absent", contract)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, contract):
    (tmp_path / "grasp").write_text("")
    assert "no such policy folder" in refusal(tmp_path / "grasp", contract)


@pytest.mark.parametrize("name", ["policy.yaml", "policy.onnx"])
def test_a_missing_file_is_refused(folder, contract, name):
    (folder / name).unlink()
    assert f"{name}: cannot be read (No such file or directory)" in refusal(folder, contract)


def test_a_manifest_that_is_no_yaml_is_refused(folder, contract):
    (folder / "policy.yaml").write_bytes(b"format: [1")
    assert "not valid YAML" in refusal(folder, contract)


def test_a_manifest_that_would_build_a_python_object_is_refused(folder, contract, tmp_path):
    marker = tmp_path / "built"
    (folder / "policy.yaml").write_text(f"format: !!python/object/apply:os.mkdir ['{marker}']\n")
    assert "not valid YAML" in refusal(folder, contract)
    assert not marker.exists()


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_format_version_is_refused(folder, contract, edit, version):
    edit(folder, lambda data: data.update(format=version, new_key="of another version"))
    assert f"has format {version}; this software reads format 1" in refusal(folder, contract)


def test_a_missing_format_version_is_refused(folder, contract, edit):
    edit(folder, lambda data: data.pop("format"))
    assert "has format None" in refusal(folder, contract)


def test_an_unknown_key_is_refused(folder, contract, edit):
    edit(folder, lambda data: data["uncertainty"].update(treshold=1.0))
    assert "unknown key 'treshold'" in refusal(folder, contract)


def test_a_changed_graph_is_refused(folder, contract):
    content = bytearray((folder / "policy.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "policy.onnx").write_bytes(content)
    assert "sha256 is not the one" in refusal(folder, contract)


def test_another_policys_graph_is_refused(folder, contract, tmp_path, write):
    other = write(tmp_path / "other", replace(contract, action=replace(contract.action, steps=5)))
    (folder / "policy.onnx").write_bytes(other.model)
    assert "sha256 is not the one" in refusal(folder, contract)


@pytest.mark.parametrize("content", [b"", b"no graph at all", pickle.dumps({"weights": [1.0]})])
def test_bytes_that_are_no_graph_are_refused_even_under_the_right_hash(folder, contract, edit, content):
    (folder / "policy.onnx").write_bytes(content)
    edit(folder, lambda data: data["onnx"].update(sha256=sha256(content)))
    assert "no usable ONNX graph" in refusal(folder, contract)


def test_half_a_graph_is_refused_even_under_the_right_hash(folder, contract, edit):
    content = (folder / "policy.onnx").read_bytes()[:-200]
    (folder / "policy.onnx").write_bytes(content)
    edit(folder, lambda data: data["onnx"].update(sha256=sha256(content)))
    refusal(folder, contract)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1e-9, None, "0.25", True])
def test_a_threshold_that_is_no_number_from_zero_up_is_refused(folder, contract, edit, threshold):
    edit(folder, lambda data: data["uncertainty"].update(threshold=threshold))
    assert "uncertainty: threshold: must be a number from 0" in refusal(folder, contract)


def test_a_threshold_of_zero_is_accepted(folder, contract, edit):
    edit(folder, lambda data: data["uncertainty"].update(threshold=0.0))
    assert load_bundle(folder, contract).manifest.uncertainty.threshold == 0.0


def test_a_missing_threshold_is_refused(folder, contract, edit):
    edit(folder, lambda data: data["uncertainty"].pop("threshold"))
    assert "key 'threshold' is missing" in refusal(folder, contract)


def test_a_policy_without_uncertainty_is_refused(folder, contract, edit):
    edit(folder, lambda data: data.pop("uncertainty"))
    assert "key 'uncertainty' is missing" in refusal(folder, contract)


def test_a_policy_for_another_robot_is_refused(folder, contract):
    assert "the robot is panda, the robot's configuration has ur5e" in refusal(folder, replace(contract, robot="ur5e"))


def test_permuted_columns_are_refused(folder, contract, edit):
    edit(folder, lambda data: data["contract"]["action"]["columns"].reverse())
    assert "action column 1 is 'gripper.width' in m" in refusal(folder, contract)


def test_columns_permuted_on_the_robots_side_are_refused(folder, contract):
    reverse = replace(contract, action=replace(contract.action, columns=contract.action.columns[::-1]))
    assert "action column 1 is 'tool.x' in m" in refusal(folder, reverse)


def test_another_unit_is_refused(folder, contract):
    columns = (Column("tool.x", "mm"), *contract.observation.state[1:])
    other = replace(contract, observation=replace(contract.observation, state=columns))
    assert "state column 1 is 'tool.x' in m, the robot's configuration has 'tool.x' in mm" in refusal(folder, other)


def test_a_contract_that_the_graph_does_not_keep_is_refused(folder, contract, edit):
    edit(folder, lambda data: data["contract"]["action"].update(steps=5))
    longer = replace(contract, action=replace(contract.action, steps=5))
    sentence = refusal(folder, longer)
    assert "the graph's output 'action' is float32 (1, 4, 3); the contract needs float32 (1, 5, 3)" in sentence


@pytest.mark.parametrize("name", ["../policy.onnx", "/policy.onnx", "sub/../../policy.onnx", "..", "."])
def test_a_path_out_of_the_folder_is_refused(folder, contract, edit, name):
    (folder.parent / "policy.onnx").write_bytes((folder / "policy.onnx").read_bytes())
    edit(folder, lambda data: data["onnx"].update(file=name))
    assert "must be inside the policy's folder" in refusal(folder, contract)


def test_a_link_out_of_the_folder_is_refused(folder, contract):
    (folder / "policy.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "policy.onnx").symlink_to(folder.parent / "elsewhere.onnx")
    assert "must be inside the policy's folder" in refusal(folder, contract)


def test_a_folder_that_is_itself_a_link_is_read(folder, contract):
    link = folder.parent / "current"
    link.symlink_to(folder)
    assert load_bundle(link, contract).name == "current"


def test_a_graph_in_a_subfolder_is_read(folder, contract, edit):
    (folder / "v2").mkdir()
    (folder / "policy.onnx").rename(folder / "v2" / "policy.onnx")
    edit(folder, lambda data: data["onnx"].update(file="v2/policy.onnx"))
    assert load_bundle(folder, contract).contract == contract


def test_a_file_name_with_a_zero_byte_is_refused(folder, contract, edit):
    edit(folder, lambda data: data["onnx"].update(file="policy\0.onnx"))
    refusal(folder, contract)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_beside_the_graph_is_not_opened(folder, contract, tmp_path):
    marker = tmp_path / "unpickled"
    for name in ("policy.pkl", "policy.pt", "policy.onnx.data"):
        (folder / name).write_bytes(pickle.dumps(Trap(marker)))
    assert load_bundle(folder, contract).contract == contract
    assert not marker.exists()


def test_a_pickle_named_as_the_graph_is_refused_unopened(folder, contract, tmp_path, edit):
    marker = tmp_path / "unpickled"
    content = pickle.dumps(Trap(marker))
    (folder / "policy.pkl").write_bytes(content)
    edit(folder, lambda data: data["onnx"].update(file="policy.pkl", sha256=sha256(content)))
    assert "must be an .onnx file" in refusal(folder, contract)
    assert not marker.exists()


def test_weights_outside_the_hashed_file_are_refused(folder, contract, edit, monkeypatch):
    model = onnx.load_from_string((folder / "policy.onnx").read_bytes())
    (folder / "policy.onnx").unlink()
    onnx.save_model(
        model, str(folder / "policy.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=100
    )
    edit(folder, lambda data: data["onnx"].update(sha256=sha256((folder / "policy.onnx").read_bytes())))
    monkeypatch.chdir(folder)  # where onnxruntime would look for them
    sentence = refusal(folder, contract)
    assert "no usable ONNX graph" in sentence
    assert "weights.bin" in sentence
