import hashlib
import io
import os
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from policy_bringup.core.errors import ContractError
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.graph import Graph
from policy_bringup.inference.onnx_policy import OnnxPolicy, load_policy
from policy_bringup.inference.parity import (
    PARITY_FILE,
    Difference,
    check_difference,
    largest_difference,
    load_samples,
    make_samples,
    save_samples,
    tolerance,
)
from policy_bringup.inference.providers import CPU_PROVIDER


@pytest.fixture
def pack(contract):
    return lambda arrays: save_samples(make_samples(arrays, contract, "here"))


@pytest.fixture
def checked(tmp_path, contract, write, answers, pack):
    """A bundle with the reference's own answers."""
    return write(tmp_path / "checked", contract, files={PARITY_FILE: pack(answers(contract))})


def raw(arrays, **more):
    """A parity.npz that nobody has checked."""
    stream = io.BytesIO()
    np.savez(stream, **arrays, **more)
    return stream.getvalue()


def shifted(arrays, name, place, by):
    """With one answer off by a share of its column's largest number, or of 1 if that is smaller."""
    moved = {**arrays, name: arrays[name].copy()}
    size = np.abs(arrays[name][..., place[-1]] if name == "output.action" else arrays[name]).max()
    moved[name][place] += by * max(1.0, size)
    return moved


def refusal(load):
    with pytest.raises(ContractError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_graph_that_says_what_the_network_said_is_loaded(checked, contract):
    bundle = load_bundle(checked.folder, contract)
    assert bundle.samples.count == 3
    assert OnnxPolicy(bundle).provider == CPU_PROVIDER


def test_samples_are_read_as_they_were_written(contract, answers, pack):
    arrays = answers(contract)
    samples = load_samples(pack(arrays), contract, "here")
    for name, array in {**samples.inputs, **samples.outputs}.items():
        side = "input" if name in samples.inputs else "output"
        np.testing.assert_array_equal(array, arrays[f"{side}.{name}"])


def test_another_policys_graph_is_refused_although_it_keeps_the_contract(
    tmp_path, contract, write, answers, pack, make_reference
):
    reference = make_reference(contract)
    other = replace(reference, weights=reference.weights * np.float32(1.01))
    files = {PARITY_FILE: pack(answers(contract))}
    folder = write(tmp_path / "mixed", contract, model=other.model(), files=files).folder
    sentence = refusal(lambda: load_policy(folder, contract))
    assert sentence.startswith(f"{folder / PARITY_FILE}: run by {CPU_PROVIDER}, the graph's output 'action' is off by")
    assert sentence.endswith("from what the trained network said; allowed is 0.0001")


@pytest.mark.parametrize(
    ("name", "place", "column"),
    [("output.action", (2, 3, 1), "tool.y"), ("output.uncertainty", (0, 2), "uncertainty")],
)
def test_the_allowed_error_is_the_boundary_in_every_sample_and_output(
    tmp_path, contract, write, answers, pack, name, place, column
):
    arrays = answers(contract)
    for by, fits in ((0.9e-4, True), (1.1e-4, False)):
        folder = tmp_path / f"by{by}"
        write(folder, contract, files={PARITY_FILE: pack(shifted(arrays, name, place, by))})
        if fits:
            load_policy(folder, contract)
        else:
            sentence = refusal(lambda folder=folder: load_policy(folder, contract))
            assert f"output '{name.partition('.')[2]}' is off by 0.00011" in sentence
            assert f"in column '{column}'" in sentence


@pytest.mark.parametrize(
    ("measured", "limit", "allowed"),
    [
        (0.0, 0.02, 1e-4),
        (1e-5, 0.02, 1e-4),
        (2e-5, 0.02, 2e-4),
        (1e-3, 0.02, 1e-2),
        (2e-3, 0.02, 2e-2),
        (3e-3, 0.02, 2e-2),
        (0.02, 0.02, 2e-2),
        (2e-5, 1e-4, 1e-4),
        (0.0, 1e-6, 1e-6),
    ],
)
def test_ten_times_the_error_at_export_is_allowed_at_least_a_tenth_of_a_millimetre_and_at_most_the_limit(
    measured, limit, allowed
):
    assert tolerance(measured, limit) == pytest.approx(allowed)
    check_difference(Difference("action", "tool.x", 0.999 * allowed), tolerance(measured, limit), "here")
    with pytest.raises(ContractError, match=f"allowed is {allowed:.3g}"):
        check_difference(Difference("action", "tool.x", 1.001 * allowed), tolerance(measured, limit), "here")


def test_the_error_at_export_comes_from_the_manifest(tmp_path, contract, write, answers, pack):
    arrays = shifted(answers(contract), "output.action", (1, 1, 0), 1.1e-3)
    for measured, fits in ((2e-4, True), (1e-4, False)):
        folder = tmp_path / f"measured{measured}"
        write(folder, contract, files={PARITY_FILE: pack(arrays)}, parity_max_abs_error=measured, parity_limit=0.02)
        if fits:
            load_policy(folder, contract)
        else:
            assert "allowed is 0.001" in refusal(lambda folder=folder: load_policy(folder, contract))


def test_where_ten_times_the_error_at_export_would_be_more_than_the_limit_the_limit_holds(
    tmp_path, contract, write, answers, pack
):
    arrays = answers(contract)
    for by, fits in ((0.019, True), (0.021, False)):
        folder = tmp_path / f"by{by}"
        files = {PARITY_FILE: pack(shifted(arrays, "output.action", (1, 1, 0), by))}
        write(folder, contract, files=files, parity_max_abs_error=0.018, parity_limit=0.02)
        if fits:
            load_policy(folder, contract)
        else:
            assert "allowed is 0.02" in refusal(lambda folder=folder: load_policy(folder, contract))


def test_a_manifest_without_a_limit_is_of_single_precision(checked, contract, edit):
    edit(checked.folder, lambda data: data["onnx"].pop("parity_limit"))
    assert load_bundle(checked.folder, contract).manifest.onnx.parity_limit == 1e-4
    edit(checked.folder, lambda data: data["onnx"].update(parity_max_abs_error=2e-4))
    sentence = refusal(lambda: load_bundle(checked.folder, contract))
    assert sentence.endswith("parity_max_abs_error is 0.0002, above the parity_limit of 0.0001")


def test_a_graph_that_puts_out_nan_is_infinitely_far_off(state_contract, serialise_graph):
    nodes = [
        helper.make_node("Sqrt", ["negative"], ["action"]),
        helper.make_node("Identity", ["doubts"], ["uncertainty"]),
    ]
    constants = {"negative": np.full((1, 4, 3), -1.0, np.float32), "doubts": np.zeros((1, 4), np.float32)}
    outputs = {"action": ("float32", (1, 4, 3)), "uncertainty": ("float32", (1, 4))}
    graph = Graph(
        serialise_graph(nodes, constants, {"state": ("float32", (1, 2, 3))}, outputs),
        state_contract, (CPU_PROVIDER,), 1, "here",
    )  # fmt: skip
    arrays = {
        "input.state": np.zeros((2, 2, 3), np.float32),
        "output.action": np.zeros((2, 4, 3), np.float32),
        "output.uncertainty": np.zeros((2, 4), np.float32),
    }
    found = largest_difference(graph.run, make_samples(arrays, state_contract, "here"), state_contract)
    assert found == Difference("action", "tool.x", np.inf)
    with pytest.raises(ContractError, match="off by inf"):
        check_difference(found, 1e9, "here")


def test_a_bundle_without_answers_is_accepted_as_it_is(folder, contract):
    assert load_bundle(folder, contract).samples is None
    load_policy(folder, contract)


def test_a_changed_file_of_answers_is_noticed(checked, contract, answers):
    arrays = answers(contract)
    arrays["output.action"][0, 0, 0] += 1e-6
    (checked.folder / PARITY_FILE).write_bytes(raw(arrays))
    assert "parity.npz: its sha256 is not the one in policy.yaml" in refusal(
        lambda: load_bundle(checked.folder, contract)
    )


def test_a_missing_file_of_answers_is_noticed(checked, contract):
    (checked.folder / PARITY_FILE).unlink()
    assert "parity.npz: cannot be read (No such file" in refusal(lambda: load_bundle(checked.folder, contract))


def test_answers_of_which_the_manifest_knows_nothing_are_refused(folder, contract, answers):
    (folder / PARITY_FILE).write_bytes(raw(answers(contract)))
    assert "policy.yaml has no sha256 of it" in refusal(lambda: load_bundle(folder, contract))


def test_a_file_outside_the_folder_is_not_read(checked, contract, edit):
    (checked.folder / PARITY_FILE).rename(checked.folder.parent / "elsewhere.npz")
    (checked.folder / PARITY_FILE).symlink_to(checked.folder.parent / "elsewhere.npz")
    assert "files: parity.npz: must be inside the policy's folder" in refusal(
        lambda: load_bundle(checked.folder, contract)
    )


@pytest.mark.parametrize("keep", [0, 10, 200, -1, -60])
def test_half_a_file_is_one_sentence_even_under_the_right_hash(checked, contract, edit, keep):
    content = (checked.folder / PARITY_FILE).read_bytes()[:keep]
    (checked.folder / PARITY_FILE).write_bytes(content)
    edit(checked.folder, lambda data: data["files"].update({PARITY_FILE: hashlib.sha256(content).hexdigest()}))
    assert "parity.npz: is damaged (" in refusal(lambda: load_bundle(checked.folder, contract))


def test_flipped_bits_anywhere_are_one_sentence_or_nothing(contract, answers, pack):
    content = pack(answers(contract))
    sentences = []
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 0x41
        try:
            load_samples(bytes(flipped), contract, "here")
        except ContractError as error:
            sentences.append(str(error))
    assert len(sentences) > len(content) / 7 / 2
    assert not any("\n" in sentence for sentence in sentences)


class Trap:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_among_the_answers_is_refused_unopened(tmp_path, contract, answers):
    marker = tmp_path / "unpickled"
    arrays = {**answers(contract), "output.action": np.array([Trap(marker)], dtype=object)}
    assert "is damaged (Object arrays cannot be loaded" in refusal(lambda: load_samples(raw(arrays), contract, "here"))
    assert not marker.exists()


def test_one_plain_array_is_no_file_of_answers(contract):
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    assert "here: is damaged (" in refusal(lambda: load_samples(stream.getvalue(), contract, "here"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a.pop("output.uncertainty"), "it must hold input.image.front, input.image"),
        (lambda a: a.update({"output.more": np.zeros(3)}), "here: holds input.image.front"),
        (lambda a: a.update({"input.state": a["input.state"].astype(float)}), r"'input.state' is float64 \(3, 2, 3\)"),
        (lambda a: a.update({"output.action": a["output.action"][:2]}), r"must be float32 \(3, 4, 3\)"),
        (lambda a: a.update({"output.action": np.float32(1.0)}), r"'output.action' is float32 \(\)"),
        (lambda a: a.update({"input.image.wrist": a["input.image.wrist"][:, :1]}), r"must be uint8 \(3, 2, 6, 8, 3\)"),
        (lambda a: a["output.action"].__setitem__((1, 2, 0), np.nan), "'output.action' has a number that is not fin"),
        (lambda a: a["input.state"].__setitem__((0, 0, 0), np.inf), "'input.state' has a number that is not finite"),
    ],
)  # fmt: skip
def test_foreign_or_broken_answers_are_refused_and_not_written(tmp_path, contract, write, answers, change, sentence):
    arrays = answers(contract)
    change(arrays)
    with pytest.raises(ContractError, match=sentence):
        make_samples(arrays, contract, "here")
    with pytest.raises(ContractError):
        write(tmp_path / "grasp", contract, files={PARITY_FILE: raw(arrays)})
    assert list(tmp_path.iterdir()) == []


def test_no_answers_at_all_are_refused(contract, answers):
    none = {name: array[:0] for name, array in answers(contract).items()}
    assert "must be" in refusal(lambda: make_samples(none, contract, "here"))
