from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from policy_bringup.core.errors import ConfigError, ContractError, ObservationError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.types import Column, ImageSpec, Observation
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.onnx_policy import OnnxPolicy, load_policy
from policy_bringup.inference.providers import CPU_PROVIDER


@pytest.fixture
def policy(tmp_path, contract, write):
    return OnnxPolicy(write(tmp_path / "first", contract))


def test_a_chunk_is_what_the_graph_says(policy, contract, observation, make_reference):
    chunk = policy.predict(observation)
    values, uncertainty = make_reference(contract).predict(observation)
    np.testing.assert_allclose(chunk.values, values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(chunk.uncertainty, uncertainty, rtol=1e-5, atol=1e-5)


def test_every_picture_and_every_step_of_history_reaches_the_graph(policy, contract, observation, make_reference):
    before = policy.predict(observation).values
    reference = make_reference(contract)
    for camera in observation.images:
        changed = {name: 255 - pixels if name == camera else pixels for name, pixels in observation.images.items()}
        other = replace(observation, images=changed)
        assert not np.allclose(policy.predict(other).values, before)
        np.testing.assert_allclose(policy.predict(other).values, reference.predict(other)[0], rtol=1e-5, atol=1e-5)
    for row in range(2):
        state = observation.state.copy()
        state[row] += 1.0
        assert not np.allclose(policy.predict(replace(observation, state=state)).values, before)


def test_a_chunk_is_stamped_with_its_observation(policy, contract, observation):
    chunk = policy.predict(observation)
    assert chunk.stamp_ns == observation.stamp_ns
    assert chunk.received_ns == 0
    assert chunk.names == contract.action.names
    np.testing.assert_allclose(chunk.times_s, [0.05, 0.10, 0.15, 0.20])


def test_arrays_are_double_precision_and_of_the_contracts_shape(policy, observation):
    chunk = policy.predict(observation)
    assert (chunk.values.shape, chunk.uncertainty.shape, chunk.times_s.shape) == ((4, 3), (4,), (4,))
    assert {chunk.values.dtype, chunk.uncertainty.dtype, chunk.times_s.dtype} == {np.dtype(np.float64)}


def test_the_source_is_the_callers(folder, contract, observation, policy):
    assert policy.predict(observation).source == "policy"
    assert load_policy(folder, contract, source="shadow").predict(observation).source == "shadow"


def test_a_policy_is_loaded_from_a_folder_that_fits_the_robot(folder, contract, observation, make_reference):
    policy = load_policy(folder, contract, (CPU_PROVIDER,), threads=1)
    values, _ = make_reference(contract).predict(observation)
    np.testing.assert_allclose(policy.predict(observation).values, values, rtol=1e-5, atol=1e-5)


def test_a_folder_that_does_not_fit_the_robot_is_refused(folder, contract):
    with pytest.raises(ContractError, match="the robot is panda"):
        load_policy(folder, replace(contract, robot="ur5e"))


def test_what_runs_is_what_was_checked(folder, contract, observation, policy):
    bundle = load_bundle(folder, contract)
    (folder / "policy.onnx").write_bytes(b"changed after the check")
    assert np.array_equal(OnnxPolicy(bundle).predict(observation).values, policy.predict(observation).values)


def test_it_is_a_policy(policy, contract):
    checked: Policy = policy
    assert checked.contract == contract


def test_predictions_do_not_depend_on_what_came_before(policy, observation):
    first = policy.predict(observation)
    policy.predict(replace(observation, state=observation.state + 1.0))
    policy.reset()
    again = policy.predict(observation)
    assert np.array_equal(first.values, again.values)
    assert np.array_equal(first.uncertainty, again.uncertainty)


def test_two_chunks_share_no_memory(policy, observation):
    first, second = policy.predict(observation), policy.predict(observation)
    for name in ("values", "uncertainty", "times_s"):
        assert not np.shares_memory(getattr(first, name), getattr(second, name))


def test_more_threads_give_the_same_chunk(tmp_path, contract, write, observation, policy):
    other = OnnxPolicy(write(tmp_path / "other", contract), threads=2)
    np.testing.assert_allclose(other.predict(observation).values, policy.predict(observation).values, rtol=1e-5)


def test_the_provider_in_use_is_reported(tmp_path, contract, write):
    policy = OnnxPolicy(write(tmp_path / "grasp", contract), providers=(CPU_PROVIDER,))
    assert policy.provider == CPU_PROVIDER


def test_an_unknown_provider_is_rejected(tmp_path, contract, write):
    bundle = write(tmp_path / "grasp", contract)
    with pytest.raises(ConfigError, match="unknown 'GPU'"):
        OnnxPolicy(bundle, providers=("GPU",))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_passed_on(policy, observation, poison):
    state = observation.state.copy()
    state[1, 0] = poison
    chunk = policy.predict(replace(observation, state=state))
    assert not np.isfinite(chunk.values).all()
    assert not np.isfinite(chunk.uncertainty).all()


def test_a_picture_more_than_needed_is_left_alone(policy, observation):
    more = {**observation.images, "rear": np.zeros((1, 2, 2, 3), np.uint8)}
    assert np.array_equal(policy.predict(replace(observation, images=more)).values, policy.predict(observation).values)


def test_a_missing_picture_is_rejected(policy, observation):
    fewer = {"wrist": observation.images["wrist"]}
    with pytest.raises(ObservationError, match=r"needs 'image.front', the observation has none"):
        policy.predict(replace(observation, images=fewer))


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((2, 8, 6, 3), np.uint8), r"uint8 \(1, 2, 8, 6, 3\)"),
        (np.zeros((1, 6, 8, 3), np.uint8), r"uint8 \(1, 1, 6, 8, 3\)"),
        (np.zeros((2, 6, 8, 3), np.float32), r"float32 \(1, 2, 6, 8, 3\)"),
    ],
)
def test_a_picture_of_another_size_or_type_is_rejected(policy, observation, pixels, found):
    images = {**observation.images, "wrist": pixels}
    with pytest.raises(ObservationError, match=f"needs 'image.wrist' as .*, the observation has {found}"):
        policy.predict(replace(observation, images=images))


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (1, 3), (3,)])
def test_a_state_of_another_shape_is_rejected(policy, observation, shape):
    with pytest.raises(ObservationError, match="needs 'state' as float32"):
        policy.predict(replace(observation, state=np.zeros(shape)))


def test_pictures_that_are_views_into_a_larger_one_are_read_right(policy, contract, observation, make_reference):
    large = np.random.default_rng(1).integers(0, 256, (2, 12, 16, 3)).astype(np.uint8)
    view = replace(observation, images={**observation.images, "wrist": large[:, ::2, ::2]})
    np.testing.assert_allclose(
        policy.predict(view).values, make_reference(contract).predict(view)[0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("history", "steps", "cameras", "columns"), [(1, 1, 0, 1), (1, 16, 1, 8), (3, 2, 3, 7)])
def test_contracts_of_other_sizes_work_alike(
    tmp_path, contract, write, make_reference, history, steps, cameras, columns
):
    images = tuple(ImageSpec(f"camera{n}", 3 + n, 4 + n) for n in range(cameras))
    names = tuple(Column(f"column{n}", "m") for n in range(columns))
    other = replace(
        contract,
        observation=replace(contract.observation, images=images, state=names, history=history),
        action=replace(contract.action, columns=names, steps=steps, execute=1),
    )
    pictures = {i.camera: np.full((history, i.height, i.width, 3), 100, np.uint8) for i in images}
    seen = Observation(5, pictures, np.linspace(-1.0, 1.0, history * columns).reshape(history, columns))
    chunk = OnnxPolicy(write(tmp_path / "grasp", other)).predict(seen)
    np.testing.assert_allclose(chunk.values, make_reference(other).predict(seen)[0], rtol=1e-4, atol=1e-5)


def test_a_policy_that_reads_no_state_ignores_it(tmp_path, contract, write, serialise_graph):
    spec = replace(contract.observation, images=(ImageSpec("wrist", 6, 8),), state=())
    pictures_only = replace(contract, observation=spec)
    nodes = [
        helper.make_node("Cast", ["image.wrist"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["grey"], keepdims=0),
        helper.make_node("Add", ["zeros", "grey"], ["action"]),
        helper.make_node("ReduceMean", ["action"], ["uncertainty"], axes=[2], keepdims=0),
    ]
    model = serialise_graph(
        nodes,
        {"zeros": np.zeros((1, 4, 3), np.float32)},
        {"image.wrist": ("uint8", (1, 2, 6, 8, 3))},
        {"action": ("float32", (1, 4, 3)), "uncertainty": ("float32", (1, 4))},
    )
    policy = OnnxPolicy(write(tmp_path / "grasp", pictures_only, model=model))
    seen = Observation(5, {"wrist": np.full((2, 6, 8, 3), 9, np.uint8)}, np.zeros((2, 0)))
    assert np.array_equal(policy.predict(seen).values, np.full((4, 3), 9.0))


@pytest.fixture
def write_shifty(tmp_path, state_contract, write, serialise_graph):
    """A bundle whose graph declares the contract's shapes, but puts out `steps - |state[1, 0]| - shorter` steps."""

    def write_it(shorter):
        nodes = [
            helper.make_node("Gather", ["state", "newest"], ["row"], axis=1),
            helper.make_node("Gather", ["row", "newest_column"], ["value"], axis=1),
            helper.make_node("Abs", ["value"], ["size"]),
            helper.make_node("Cast", ["size"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Sub", ["steps", "whole"], ["count"]),
            helper.make_node("Slice", ["actions", "zero", "count", "steps_axis"], ["action"]),
            helper.make_node("Slice", ["doubts", "zero", "count", "steps_axis"], ["uncertainty"]),
        ]
        constants = {
            "newest": np.int64(1),
            "newest_column": np.array([0], np.int64),
            "steps": np.array([[4 - shorter]], np.int64),
            "zero": np.array([0], np.int64),
            "steps_axis": np.array([1], np.int64),
            "flat": np.array([1], np.int64),
            "actions": np.zeros((1, 4, 3), np.float32),
            "doubts": np.zeros((1, 4), np.float32),
        }
        nodes[5:5] = [helper.make_node("Reshape", ["count", "flat"], ["ends"])]
        nodes[6].input[2] = nodes[7].input[2] = "ends"
        model = serialise_graph(
            nodes,
            constants,
            {"state": ("float32", (1, 2, 3))},
            {"action": ("float32", (1, 4, 3)), "uncertainty": ("float32", (1, 4))},
        )
        return write(tmp_path / "shifty", state_contract, model=model)

    return write_it


def test_a_graph_that_breaks_its_declaration_is_refused_at_load(write_shifty):
    bundle = write_shifty(shorter=1)
    with pytest.raises(
        ContractError, match=r"put out 'action' as float32 \(1, 3, 3\); it declared float32 \(1, 4, 3\)"
    ):
        OnnxPolicy(bundle)


def test_a_graph_that_breaks_its_declaration_in_motion_is_refused(write_shifty):
    policy = OnnxPolicy(write_shifty(shorter=0))
    state = np.zeros((2, 3))
    assert policy.predict(Observation(1, {}, state)).values.shape == (4, 3)
    state[1, 0] = 1.0
    with pytest.raises(ContractError, match=r"put out 'action' as float32 \(1, 3, 3\)"):
        policy.predict(Observation(2, {}, state))


def test_a_graph_that_fails_says_so_in_one_sentence(tmp_path, state_contract, write, serialise_graph):
    nodes = [
        helper.make_node("Cast", ["state"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["rows"], axis=0),
        helper.make_node("ReduceSum", ["rows"], ["sum"], keepdims=0),
        helper.make_node("Add", ["actions", "sum"], ["action"]),
        helper.make_node("Add", ["doubts", "sum"], ["uncertainty"]),
    ]
    constants = {
        "table": np.zeros((2, 2), np.float32),
        "actions": np.zeros((1, 4, 3), np.float32),
        "doubts": np.zeros((1, 4), np.float32),
    }
    model = serialise_graph(
        nodes,
        constants,
        {"state": ("float32", (1, 2, 3))},
        {"action": ("float32", (1, 4, 3)), "uncertainty": ("float32", (1, 4))},
    )
    policy = OnnxPolicy(write(tmp_path / "grasp", state_contract, model=model))
    with pytest.raises(ContractError, match=r"policy\.onnx: the graph failed") as caught:
        policy.predict(Observation(1, {}, np.full((2, 3), 100.0)))
    assert "\n" not in str(caught.value)
