from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.frames import load_frames, save_frames
from policy_bringup.learning.dataset import Dataset

STEPS = 16
START_NS, MS = 1_700_000_000_000_000_000, 1_000_000
OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture
def save(tmp_path, contract, demonstration):
    """Saves episode 0 with some arrays replaced -> the folder's parent."""

    def saved(name="episode_000000", made_for=contract, moments=30, **changes):
        frames = demonstration(made_for, 0, moments)
        made = {what: change(getattr(frames, what)) for what, change in changes.items()}
        save_frames(tmp_path / name, replace(frames, **made), made_for)
        return tmp_path

    return saved


def opened(root, contract, *names):
    return Dataset.open(root, names or ("episode_000000",), contract)


def refusal(root, contract, *names) -> str:
    with pytest.raises(EpisodeError) as error:
        opened(root, contract, *names)
    assert "\n" not in str(error.value)
    return str(error.value)


def put(place, value):
    """A change of an array at one place."""

    def change(array):
        array = array.copy()
        array[place] = value
        return array

    return change


def later_from(moment, ms):
    return lambda stamps: stamps + np.where(np.arange(len(stamps)) >= moment, round(ms * MS), 0)


def test_a_window_holds_what_the_frames_hold_at_every_one_of_its_steps(dataset, frames_root, contract):
    batch = dataset.batch(np.arange(len(dataset)))
    at = 0
    for name in dataset.episodes:
        frames = load_frames(frames_root / name, contract)
        for moment in range(len(frames.stamps_ns)):
            for camera, pixels in frames.images.items():
                assert np.array_equal(batch.images[camera][at, 0], pixels[moment])
            assert np.array_equal(batch.state[at, 0], frames.state[moment].astype(np.float32))
            for step in range(STEPS):
                last = min(moment + step, len(frames.action) - 1)
                assert np.array_equal(batch.action[at, step], frames.action[last].astype(np.float32))
                assert batch.valid[at, step] == (moment + step < len(frames.action))
            at += 1
    assert at == len(dataset)


def test_a_batch_has_the_contracts_shapes_and_types(dataset):
    batch = dataset.batch(np.array([5, 0, 119]))
    assert list(batch.images) == ["front", "wrist"]
    for pixels in batch.images.values():
        assert (tuple(pixels.shape), pixels.dtype) == ((3, 1, 32, 32, 3), torch.uint8)
    assert (tuple(batch.state.shape), batch.state.dtype) == ((3, 1, 14), torch.float32)
    assert (tuple(batch.action.shape), batch.action.dtype) == ((3, STEPS, 8), torch.float32)
    assert (tuple(batch.valid.shape), batch.valid.dtype) == ((3, STEPS), torch.bool)


def test_the_order_of_the_indices_is_the_order_of_the_batch(dataset):
    mixed, first, second = dataset.batch(np.array([77, 3])), dataset.batch(np.array([77])), dataset.batch(np.array([3]))
    assert torch.equal(mixed.images["wrist"], torch.cat([first.images["wrist"], second.images["wrist"]]))
    assert torch.equal(mixed.state, torch.cat([first.state, second.state]))
    assert torch.equal(mixed.action, torch.cat([first.action, second.action]))


def test_steps_after_the_end_of_an_episode_are_not_valid_and_repeat_its_last_action(dataset):
    last = dataset.windows("episode_000001")[-1]
    batch = dataset.batch(np.array([last - STEPS + 1, last]))
    assert batch.valid[0].all()
    assert batch.valid[1].tolist() == [True] + [False] * (STEPS - 1)
    assert (batch.action[1] == batch.action[0, -1]).all()


def test_no_window_crosses_a_gap(save, contract):
    data = opened(save(stamps_ns=later_from(12, 26)), contract)
    _, action, valid = data.tables(np.arange(30))
    assert valid.sum(1).tolist() == [min(STEPS, 12 - i) for i in range(12)] + [
        min(STEPS, 30 - i) for i in range(12, 30)
    ]
    assert np.array_equal(action[11], np.repeat(action[11, :1], STEPS, 0))
    assert np.array_equal(action[8, 3:], np.repeat(action[11, :1], STEPS - 3, 0))


def test_moments_one_and_a_half_steps_apart_are_still_one_run(save, contract):
    data = opened(save(stamps_ns=later_from(12, 25)), contract)
    assert data.tables(np.array([11]))[2].all()


def test_moments_without_an_action_are_left_out_and_break_a_run(save, contract, frames_root):
    data = opened(save(action=put(np.r_[0:3, 12, 28:30], np.nan)), contract)
    whole = opened(frames_root, contract)
    kept = [*range(3, 12), *range(13, 28)]
    assert len(data) == len(kept)
    state, action, valid = data.tables(np.arange(len(data)))
    assert np.array_equal(state, whole.tables(np.array(kept))[0])
    assert np.array_equal(data.pictures("front", np.arange(len(data))), whole.pictures("front", np.array(kept)))
    assert valid[0].sum() == 9
    assert valid[9].sum() == 15
    assert np.isfinite(action).all()


def test_a_moment_without_an_action_breaks_a_run_however_close_its_neighbours_are(save, contract):
    closer = later_from(12, -20), later_from(13, -20)
    root = save(action=put(12, np.nan), stamps_ns=lambda stamps: closer[1](closer[0](stamps)))
    assert opened(root, contract).tables(np.array([11]))[2].sum() == 1


@pytest.mark.parametrize("history", [1, 3])
def test_pictures_and_states_of_a_history_are_those_of_the_frames(save, contract, history):
    longer = replace(contract, observation=replace(contract.observation, history=history))
    root = save(made_for=longer)
    batch = opened(root, longer).batch(np.array([0, 17]))
    frames = load_frames(root / "episode_000000")
    assert batch.state.shape == (2, history, 14)
    assert batch.images["front"].shape == (2, history, 32, 32, 3)
    assert np.array_equal(batch.images["front"][1].squeeze(), frames.images["front"][17])
    assert np.array_equal(batch.state[1].squeeze(), frames.state[17].astype(np.float32))


def test_a_state_that_is_no_number_is_named(save, contract):
    root = save(state=put((7, 9), np.nan))
    assert refusal(root, contract) == f"{root}/episode_000000: state of moment 7, column 'tool.y' is nan"


def test_a_state_that_is_no_number_is_refused_even_where_nobody_drove(save, contract):
    root = save(state=put((0, 0), np.inf), action=put(0, np.nan))
    assert "state of moment 0, column 'panda_joint1' is inf" in refusal(root, contract)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_an_action_that_is_no_number_in_part_is_named(save, contract, value, word):
    root = save(action=put((29, 6), value))
    assert refusal(root, contract) == f"{root}/episode_000000: action of moment 29, column 'gripper.width' is {word}"


def test_an_episode_in_which_nobody_drove_is_refused(save, contract):
    root = save(action=lambda action: np.full_like(action, np.nan))
    assert refusal(root, contract) == f"{root}/episode_000000: holds no moment with an action"


def test_an_episode_of_one_moment_is_one_window(save, contract):
    assert opened(save(moments=1), contract).tables(np.array([0]))[2].sum() == 1


@pytest.mark.parametrize(("pace", "found"), [(2.0, "0.100"), (0.5, "0.025")])
def test_frames_at_another_rate_than_the_contracts_steps_are_refused(save, contract, pace, found):
    root = save(stamps_ns=lambda stamps: stamps[0] + ((stamps - stamps[0]) * pace).astype(np.int64))
    assert f"its moments are {found} s apart, and a step of the contract is 0.05 s" in refusal(root, contract)


def test_moments_that_come_at_40_and_60_ms_in_turn_are_fine(save, contract):
    data = opened(save(stamps_ns=lambda stamps: stamps + np.arange(30) % 2 * 10 * MS), contract)
    assert data.tables(np.array([0]))[2].all()


def test_a_wrong_number_of_pictures_is_named(save, contract):
    root = save(images=lambda images: {**images, "wrist": images["wrist"][:-1]})
    message = refusal(root, contract)
    assert message.startswith(f"{root}/episode_000000: pictures of 'wrist': must be (30, 32, 32, 3) for its 30 moments")


def test_a_camera_without_pictures_is_named(save, contract):
    root = save(images=lambda images: {"front": images["front"]})
    assert "holds no pictures of camera 'wrist'" in refusal(root, contract)


def test_frames_of_another_contract_are_refused(frames_root, contract):
    foreign = replace(contract, action=replace(contract.action, steps=8))
    assert "made for another contract (action.steps differs)" in refusal(frames_root, foreign)


def test_an_absent_episode_is_named(frames_root, contract):
    assert "episode_000009: holds no frames" in refusal(frames_root, contract, "episode_000009")


def test_an_episode_named_twice_is_refused(frames_root, contract):
    assert refusal(frames_root, contract, "episode_000002", "episode_000002") == "dataset: episode_000002 stands twice"


def test_an_empty_part_of_a_split_is_refused(frames_root, contract, dataset):
    with pytest.raises(EpisodeError, match="no episodes to learn from"):
        Dataset.open(frames_root, (), contract)
    with pytest.raises(EpisodeError, match="no episodes to learn from"):
        dataset.subset(())


def test_a_subset_holds_the_windows_of_its_episodes_in_the_order_asked_for(dataset):
    some = dataset.subset(("episode_000003", "episode_000001"))
    assert some.episodes == ("episode_000003", "episode_000001")
    old = np.concatenate([dataset.windows(name) for name in some.episodes])
    assert np.array_equal(some.pictures("front", np.arange(len(some))), dataset.pictures("front", old))
    for one, other in zip(some.tables(np.arange(len(some))), dataset.tables(old), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(EpisodeError, match="episode_000000: is not one of the dataset's 2 episodes"):
        some.windows("episode_000000")


CHANGES = {
    "action": {"action": put((3, 0), 0.5)},
    "state": {"state": put((3, 0), 0.5)},
    "stamps": {"stamps_ns": put(29, START_NS + 1451 * MS)},
    "last picture": {"images": lambda images: {**images, "wrist": put(29, 0)(images["wrist"])}},
    "name": {"name": "episode_000007"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_hash_is_of_names_and_contents_wherever_they_lie(save, contract, frames_root, change):
    plain = opened(frames_root, contract).sha256
    assert opened(save(), contract).sha256 == plain
    assert opened(save(**change), contract, change.get("name", "episode_000000")).sha256 != plain


def test_the_hash_depends_on_which_episodes_there_are(dataset):
    assert dataset.subset(dataset.episodes).sha256 == dataset.sha256
    assert dataset.subset(dataset.episodes[:3]).sha256 != dataset.sha256


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="needs Linux to count open files")
def test_no_file_stays_open(frames_root, contract, dataset):
    before = len(list(OPEN_FILES.iterdir()))
    data = Dataset.open(frames_root, dataset.episodes, contract)
    data.batch(np.arange(len(data)))
    assert len(list(OPEN_FILES.iterdir())) <= before  # what an earlier test left is closed at any time


def test_frames_made_anew_do_not_change_an_open_dataset(save, contract):
    data = opened(save(), contract)
    before = data.pictures("front", np.arange(30))
    save(images=lambda images: {camera: 255 - pixels for camera, pixels in images.items()})
    assert np.array_equal(data.pictures("front", np.arange(30)), before)
