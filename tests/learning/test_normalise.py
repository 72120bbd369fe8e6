from dataclasses import replace

import numpy as np
import pytest
import torch

from policy_bringup.core.types import ActionSpec, Column, Space
from policy_bringup.episodes.frames import save_frames
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.normalise import FLOOR, QUIET, Normaliser

X, RX, RY, RZ, WIDTH, FORCE = 0, 3, 4, 5, 6, 7
TOOL_X_MEASURED, TOOL_RX_MEASURED = 8, 11


@pytest.fixture
def batch(dataset):
    return dataset.batch(np.arange(len(dataset)))


@pytest.fixture
def edited(tmp_path, contract, demonstration):
    """A dataset of one episode with some arrays changed: (column of state or action, values)."""

    def made(made_for=contract, **changes):
        frames = demonstration(made_for, 1)
        arrays = {what: change(getattr(frames, what).copy()) for what, change in changes.items()}
        save_frames(tmp_path / "episode", replace(frames, **arrays), made_for)
        return Dataset.open(tmp_path, ["episode"], made_for)

    return made


def column(place, values):
    def change(array):
        array[:, place] = values
        return array

    return change


def test_the_way_back_from_a_normal_action_is_exact(normaliser, batch):
    normal = normaliser.normal_action(batch.action, batch.state)
    assert normal.shape == batch.action.shape
    back = normaliser.action(normal, batch.state)
    error = (back - batch.action).abs() * batch.valid[..., None]
    assert error.max() < 1e-5


def test_the_way_there_from_a_networks_output_is_exact_for_what_varies(normaliser, batch):
    drawn = torch.randn(batch.action.shape, generator=torch.Generator().manual_seed(0))
    again = normaliser.normal_action(normaliser.action(drawn, batch.state), batch.state)
    varies = (normaliser.action_std > 1e-3) & (normaliser.relative > 0.0)
    assert (again - drawn).abs()[:, varies].max() < 1e-2  # a float32 of 0.5 m holds 3e-8 m
    assert varies.sum() > 16 * 2


@pytest.mark.parametrize("wish", [-100.0, 100.0])
def test_no_answer_is_beyond_what_was_commanded_in_training_except_what_counts_from_the_measurement(
    normaliser, batch, wish
):
    answer = normaliser.action(torch.full_like(batch.action, wish), batch.state)
    width = batch.action[:, :, WIDTH]
    extreme = width.max() if wish > 0.0 else width.min()
    assert (answer[:, :, WIDTH] == extreme).all()
    assert (answer - batch.action)[:, :, X].abs().max() > 0.1


def test_normal_actions_have_mean_0_and_spread_1_at_each_step_over_the_valid_ones(normaliser, batch):
    normal = normaliser.normal_action(batch.action, batch.state).double()
    for step in (0, 7, 15):
        rows = normal[batch.valid[:, step], step][:, [X, 1, 2, RZ, WIDTH]]
        assert rows.mean(0).abs().max() < 1e-3
        assert (rows.std(0, correction=0) - 1.0).abs().max() < 1e-3


def test_what_is_beyond_the_end_of_an_episode_has_no_part_in_the_figures(dataset, normaliser):
    _, action, valid = dataset.tables(np.arange(len(dataset)))
    width = action[:, 15, WIDTH]
    assert normaliser.action_mean[15, WIDTH] == pytest.approx(width[valid[:, 15]].mean(), abs=1e-6)
    assert abs(normaliser.action_mean[15, WIDTH] - width.mean()) > 1e-3


def test_a_tool_action_counts_from_the_newest_measurement_and_the_gripper_does_not(normaliser, batch):
    moved = batch.state.clone()
    moved[:, -1, TOOL_X_MEASURED] += 0.1
    normal = torch.zeros_like(batch.action)
    difference = normaliser.action(normal, moved) - normaliser.action(normal, batch.state)
    assert difference[..., X].numpy() == pytest.approx(0.1, abs=1e-6)
    assert not difference[..., X + 1 :].any()
    assert normaliser.relative.tolist() == [1, 1, 1, 0, 0, 1, 0, 0]


def test_only_the_newest_of_a_history_is_counted_from(contract, edited):
    longer = replace(contract, observation=replace(contract.observation, history=3))
    data = edited(longer)
    batch, normaliser = data.batch(np.arange(len(data))), Normaliser.of(data)
    older = batch.state.clone()
    older[:, :-1] += 1.0
    normal = normaliser.normal_action(batch.action, batch.state)
    assert torch.equal(normal, normaliser.normal_action(batch.action, older))
    assert normaliser.state(batch.state).shape == (len(data), 3 * 14)
    assert torch.equal(normaliser.state(older)[:, -14:], normaliser.state(batch.state)[:, -14:])
    assert normaliser.pictures("wrist", batch.images["wrist"]).shape == (3 * len(data), 3, 32, 32)


def test_in_joint_space_the_joints_count_from_where_they_are(contract, edited):
    columns = (*contract.observation.state[:7], Column("gripper.width", "m"))
    spec = replace(contract, action=ActionSpec(Space.JOINT, columns, 16, 0.05, 8))
    data = edited(spec, action=lambda action: action)
    normaliser = Normaliser.of(data)
    assert normaliser.is_measured.tolist() == [True] * 7 + [False]
    assert normaliser.relative[7] == 0.0
    batch = data.batch(np.arange(len(data)))
    moved = batch.state.clone()
    moved[..., 2] += 0.2
    difference = normaliser.action(torch.zeros_like(batch.action), moved) - normaliser.action(
        torch.zeros_like(batch.action), batch.state
    )
    assert difference[..., 2].numpy() == pytest.approx(0.2 * float(normaliser.relative[2]), abs=1e-6)
    assert not difference[..., [0, 1, 3, 4, 5, 6, 7]].any()


def test_a_constant_action_comes_out_as_exactly_its_mean_whatever_is_predicted_or_measured(normaliser, batch):
    wild = 100.0 * torch.randn(batch.action.shape, generator=torch.Generator().manual_seed(0))
    strayed = batch.state + 0.5
    action = normaliser.action(wild, strayed)
    assert (action[..., FORCE] == 20.0).all()
    assert (action[..., RX] == 0.0).all()
    assert (action[..., RY] == 0.0).all()
    normal = normaliser.normal_action(batch.action + 1.0, strayed)
    assert not normal[..., [RX, RY, FORCE]].any()


@pytest.mark.parametrize(("spread", "constant"), [(0.9 * FLOOR, True), (1.1 * FLOOR, False)])
def test_a_column_is_constant_below_the_floor(edited, spread, constant):
    values = 25.0 + spread * np.where(np.arange(30) % 2, 1.0, -1.0)
    normaliser = Normaliser.of(edited(action=column(FORCE, values)))
    assert (normaliser.action_std[:, FORCE] == 0.0).all() == constant


def test_a_step_of_the_chunk_at_which_a_column_is_constant_comes_out_as_that_steps_mean(edited):
    force = np.where(np.arange(30) < 5, 5.0, 30.0)
    data = edited(action=column(FORCE, force))
    normaliser, batch = Normaliser.of(data), data.batch(np.arange(30))
    action = normaliser.action(torch.full_like(batch.action, -1.0), batch.state)
    assert (action[:, 5:, FORCE] == 30.0).all()
    assert (action[:, 0, FORCE] < 29.0).all()


def test_a_state_that_is_constant_is_0_whatever_is_measured(normaliser, batch):
    assert normaliser.state_std[TOOL_RX_MEASURED] == 0.0
    assert not normaliser.state(batch.state + 0.3)[:, TOOL_RX_MEASURED].any()


def test_a_state_that_hardly_moves_is_not_blown_up(edited):
    small = 5.0 * FLOOR * np.where(np.arange(30) % 2, 1.0, -1.0)
    data = edited(state=column(TOOL_RX_MEASURED, small))
    state = Normaliser.of(data).state(data.batch(np.arange(30)).state)[:, TOOL_RX_MEASURED]
    assert state.numpy() == pytest.approx(small / QUIET, rel=1e-3)


def test_states_have_mean_0_and_spread_1(normaliser, batch):
    state = normaliser.state(batch.state).double()
    wide = normaliser.state_std > QUIET
    assert wide.sum() > 8
    assert state.mean(0).abs().max() < 1e-3
    assert (state.std(0, correction=0)[wide] - 1.0).abs().max() < 1e-3


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_pictures_have_mean_0_and_spread_1_in_each_channel(normaliser, batch, camera):
    pictures = normaliser.pictures(camera, batch.images[camera])
    assert (pictures.shape, pictures.dtype) == ((120, 3, 32, 32), torch.float32)
    assert pictures.mean((0, 2, 3)).abs().max() < 1e-4
    assert (pictures.std((0, 2, 3), correction=0) - 1.0).abs().max() < 1e-3


def test_every_pixel_stays_in_its_place_and_channel(normaliser, batch):
    pixels = batch.images["front"][:5]
    pictures = normaliser.pictures("front", pixels)
    expected = (pixels[:, 0].double() - normaliser.picture_mean[0]) / normaliser.picture_std[0]
    assert (pictures.permute(0, 2, 3, 1) - expected).abs().max() < 1e-5


def test_a_black_camera_does_not_divide_by_0(edited):
    data = edited(images=lambda images: {**images, "wrist": np.zeros_like(images["wrist"])})
    normaliser = Normaliser.of(data)
    pictures = normaliser.pictures("wrist", torch.full((1, 1, 32, 32, 3), 2, dtype=torch.uint8))
    assert (pictures == 2.0).all()


def test_the_state_dict_brings_everything_back_to_the_last_bit(contract, normaliser, batch):
    other = Normaliser(contract)
    other.load_state_dict(normaliser.state_dict())
    for camera, pixels in batch.images.items():
        assert torch.equal(other.pictures(camera, pixels), normaliser.pictures(camera, pixels))
    assert torch.equal(other.state(batch.state), normaliser.state(batch.state))
    normal = normaliser.normal_action(batch.action, batch.state)
    assert torch.equal(other.normal_action(batch.action, batch.state), normal)
    assert torch.equal(other.action(normal, batch.state), normaliser.action(normal, batch.state))
    assert torch.equal(other.action_bound, normaliser.action_bound)
    assert torch.equal(other.mean_action, normaliser.mean_action)


def test_made_from_a_contract_alone_it_changes_only_the_scale_of_pictures(contract, batch):
    plain = Normaliser(contract)
    assert torch.equal(plain.state(batch.state), batch.state[:, 0])
    assert torch.equal(plain.normal_action(batch.action, batch.state), batch.action)
    assert torch.equal(plain.action(batch.action, batch.state), batch.action)
    pictures = plain.pictures("front", batch.images["front"])
    assert (pictures - batch.images["front"][:, 0].permute(0, 3, 1, 2) / 255.0).abs().max() < 1e-6


def test_the_bound_holds_every_normal_action_of_the_training_part_and_is_reached(normaliser, batch):
    normal = normaliser.normal_action(batch.action, batch.state).abs()[batch.valid].amax(0)
    assert (normal <= normaliser.action_bound).all()
    assert (normaliser.action_bound[[X, 1, 2, RZ, WIDTH]] == normal[[X, 1, 2, RZ, WIDTH]].clamp_min(1.0)).all()
    assert normaliser.action_bound[FORCE] == 1.0


def test_the_mean_action_is_in_the_contracts_units(dataset, normaliser):
    _, action, _ = dataset.tables(np.arange(len(dataset)))
    assert normaliser.mean_action.numpy() == pytest.approx(action[:, 0].mean(0), abs=1e-6)


def test_a_step_that_no_window_reaches_repeats_the_last_action(edited, contract):
    data = edited(stamps_ns=lambda stamps: stamps + np.arange(30) // 10 * 1_000_000_000)
    normaliser, batch = Normaliser.of(data), data.batch(np.arange(30))
    assert not batch.valid[:, 10:].any()
    action = normaliser.action(torch.zeros_like(batch.action), batch.state)
    assert (action[:, 15, WIDTH] - batch.action[:, 15, WIDTH].mean()).abs().max() < 1e-6


def test_a_contract_without_state_counts_from_nothing(contract, edited):
    blind = replace(contract, observation=replace(contract.observation, state=()))
    data = edited(blind, state=lambda state: state[:, :0])
    normaliser, batch = Normaliser.of(data), data.batch(np.arange(30))
    assert not normaliser.relative.any()
    assert normaliser.state(batch.state).shape == (30, 0)
    back = normaliser.action(normaliser.normal_action(batch.action, batch.state), batch.state)
    assert (back - batch.action).abs()[batch.valid].max() < 1e-5
