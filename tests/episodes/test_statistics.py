import numpy as np
import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ActionSpec, Column, Contract, ImageSpec, ObservationSpec, Space
from policy_bringup.episodes.frames import Frames, load_frames, save_frames
from policy_bringup.episodes.statistics import FIGURES, load_statistics, save_statistics, statistics

CONTRACT = Contract(
    "panda",
    ObservationSpec((ImageSpec("front", 4, 6),), (Column("a", "m"), Column("b", "rad"))),
    ActionSpec(Space.TASK, (Column("x", "m"),), 4, 0.05, 2),
)


def make(seed: int, count: int) -> Frames:
    rng = np.random.default_rng(seed)
    return Frames(
        np.arange(count, dtype=np.int64),
        {"front": rng.integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)},
        rng.normal((5.0, -2.0), (1.0, 30.0), (count, 2)),
        rng.normal(size=(count, 1)),
        np.full(count, "policy"),
    )


EPISODES = [make(0, 150), make(1, 1), make(2, 90)]


def test_figures_are_those_of_all_frames_together():
    found = statistics(EPISODES, CONTRACT)
    state = np.concatenate([episode.state for episode in EPISODES])
    action = np.concatenate([episode.action for episode in EPISODES])
    for figures, values, names in ((found.state, state, ("a", "b")), (found.action, action, ("x",))):
        assert figures.names == names
        np.testing.assert_allclose(figures.mean, values.mean(0), rtol=1e-12)
        np.testing.assert_allclose(figures.std, values.std(0), rtol=1e-12)
        np.testing.assert_array_equal([figures.min, figures.max], [values.min(0), values.max(0)])
        np.testing.assert_allclose([figures.q01, figures.q99], np.quantile(values, [0.01, 0.99], axis=0))
    pixels = np.concatenate([episode.images["front"] for episode in EPISODES]).reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found.images["front"].mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.images["front"].std, pixels.std(0), rtol=1e-9)
    assert found.count == 241


def test_the_order_of_the_episodes_does_not_matter_to_the_pictures():
    one, other = statistics(EPISODES, CONTRACT), statistics(EPISODES[::-1], CONTRACT)
    np.testing.assert_array_equal(one.images["front"].mean, other.images["front"].mean)
    np.testing.assert_array_equal(one.images["front"].std, other.images["front"].std)


def test_moments_without_an_action_do_not_count():
    spoilt = make(0, 150)
    spoilt.action[10:20] = np.nan
    spoilt.state[10:20] = 1e9
    spoilt.images["front"][10:20] = 255
    rest = np.r_[0:10, 20:150]
    images = {"front": spoilt.images["front"][rest]}
    clean = Frames(spoilt.stamps_ns[rest], images, spoilt.state[rest], spoilt.action[rest], spoilt.driver[rest])
    found, expected = statistics([spoilt], CONTRACT), statistics([clean], CONTRACT)
    assert found.count == 140
    for key in FIGURES:
        np.testing.assert_array_equal(getattr(found.state, key), getattr(expected.state, key))
    np.testing.assert_array_equal(found.images["front"].mean, expected.images["front"].mean)


def test_frames_on_the_disk_give_the_same_figures(tmp_path):
    save_frames(tmp_path / "e", EPISODES[0], CONTRACT)
    found, expected = (statistics([each], CONTRACT) for each in (load_frames(tmp_path / "e"), EPISODES[0]))
    np.testing.assert_array_equal(found.state.std, expected.state.std)
    np.testing.assert_array_equal(found.images["front"].std, expected.images["front"].std)


def test_a_picture_of_one_colour_has_no_spread():
    flat = make(0, 70)
    flat.images["front"][:] = (0, 128, 255)
    found = statistics([flat], CONTRACT).images["front"]
    assert (found.mean.tolist(), found.std.tolist()) == ([0, 128, 255], [0, 0, 0])


def test_no_frames_at_all_are_refused():
    idle = make(0, 5)
    idle.action[:] = np.nan
    for frames in ([], [idle]):
        with pytest.raises(EpisodeError, match="no frame with an action"):
            statistics(frames, CONTRACT)


def test_saved_statistics_are_loaded_to_the_last_bit(tmp_path):
    found = statistics(EPISODES, CONTRACT)
    save_statistics(tmp_path / "statistics.json", found)
    loaded = load_statistics(tmp_path / "statistics.json")
    assert (loaded.count, loaded.state.names) == (found.count, found.state.names)
    for key in FIGURES:
        np.testing.assert_array_equal(getattr(loaded.state, key), getattr(found.state, key))
        np.testing.assert_array_equal(getattr(loaded.action, key), getattr(found.action, key))
    np.testing.assert_array_equal(loaded.images["front"].std, found.images["front"].std)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": {"front": {"mean": [1], "std": [1]}}}'])
def test_damaged_statistics_are_named(tmp_path, content):
    path = tmp_path / "statistics.json"
    path.write_text(content)
    with pytest.raises(EpisodeError, match=r"statistics\.json: is damaged"):
        load_statistics(path)
    with pytest.raises(EpisodeError, match="cannot be read"):
        load_statistics(tmp_path / "other.json")
