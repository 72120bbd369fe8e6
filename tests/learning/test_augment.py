from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from policy_bringup.core.config import build
from policy_bringup.core.errors import ConfigError
from policy_bringup.learning.augment import LUMA, MOST, Augmentation, augment
from policy_bringup.learning.batch import Batch

ALL = Augmentation(4, 5.0, 0.2, 0.2, 0.2, 0.5, 0.5, 4.0, 0.1)
ONE_EACH = [replace(Augmentation(), **{field.name: getattr(ALL, field.name)}) for field in fields(ALL)]
ON_PICTURES = [config for config in ONE_EACH if not config.state_noise]
NAMES = [field.name for field in fields(ALL)]


@pytest.fixture
def batch(dataset) -> Batch:
    return dataset.batch(np.arange(0, 120, 5))


def of_pictures(pixels: torch.Tensor) -> Batch:
    """The same pictures `(H, W, 3)`, twenty times over."""
    images = {"front": pixels.expand(20, 1, *pixels.shape).clone()}
    return Batch(images, torch.zeros(20, 1, 2), torch.zeros(20, 4, 2), torch.ones(20, 4, dtype=torch.bool))


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed(pixels: torch.Tensor, config: Augmentation, seed: int = 0) -> torch.Tensor:
    """`(20, H, W, 3)`."""
    return augment(of_pictures(pixels), config, drawn(seed)).images["front"][:, 0]


@pytest.fixture
def picture() -> torch.Tensor:
    """`(24, 32, 3)` uint8 of levels that no brightness below 1.2 saturates."""
    return torch.randint(20, 201, (24, 32, 3), generator=drawn(7), dtype=torch.uint8)


def test_nothing_on_changes_nothing(batch):
    same = augment(batch, Augmentation(), drawn())
    assert all(torch.equal(same.images[camera], pixels) for camera, pixels in batch.images.items())
    assert torch.equal(same.state, batch.state)
    assert torch.equal(same.action, batch.action)
    assert torch.equal(same.valid, batch.valid)


@pytest.mark.parametrize("config", [*ONE_EACH, ALL], ids=[*NAMES, "all"])
def test_shapes_types_actions_and_the_batch_itself_stay(batch, config):
    before = {camera: pixels.clone() for camera, pixels in batch.images.items()}
    state = batch.state.clone()
    after = augment(batch, config, drawn())
    for camera, pixels in after.images.items():
        assert (pixels.shape, pixels.dtype) == (before[camera].shape, torch.uint8)
        assert torch.equal(batch.images[camera], before[camera])
    assert (after.state.shape, after.state.dtype) == (state.shape, torch.float32)
    assert torch.equal(batch.state, state)
    assert torch.equal(after.action, batch.action)
    assert torch.equal(after.valid, batch.valid)


@pytest.mark.parametrize("config", ON_PICTURES, ids=NAMES[:-1])
def test_each_window_is_changed_in_its_own_way(picture, config):
    found = changed(picture, config)
    assert len({window.numpy().tobytes() for window in found}) >= (2 if config.blur else 8)


@pytest.mark.parametrize("config", [*ONE_EACH, ALL], ids=[*NAMES, "all"])
def test_a_seed_brings_the_same_changes_back(batch, config):
    one, again, other = (augment(batch, config, drawn(seed)) for seed in (1, 1, 2))
    for camera in batch.images:
        assert torch.equal(one.images[camera], again.images[camera])
    assert torch.equal(one.state, again.state)
    same = [torch.equal(one.images[camera], other.images[camera]) for camera in batch.images]
    assert not all([*same, torch.equal(one.state, other.state)])


@pytest.mark.parametrize("config", ON_PICTURES, ids=NAMES[:-1])
def test_the_pictures_of_a_history_are_changed_alike_but_for_noise(picture, config):
    images = {"front": picture.expand(20, 3, *picture.shape).clone()}
    found = augment(replace(of_pictures(picture), images=images), config, drawn()).images["front"]
    assert torch.equal(found[:, 0], found[:, 1]) == torch.equal(found[:, 1], found[:, 2]) == (config.noise == 0.0)


def test_cameras_are_changed_each_in_its_own_way(picture):
    one = of_pictures(picture)
    both = augment(replace(one, images={"front": one.images["front"], "wrist": one.images["front"]}), ALL, drawn())
    assert not torch.equal(both.images["front"], both.images["wrist"])


def test_brightness_multiplies_every_level_alike_and_leaves_black_black(picture):
    picture[0, 0] = 0
    found = changed(picture, Augmentation(brightness=0.2))
    for window in found:
        factor = window.sum() / picture.sum()
        assert 0.8 - 1e-3 <= factor <= 1.2 + 1e-3
        assert (window - factor * picture).abs().max() <= 0.75  # half a level of rounding, and the factor's own
        assert not window[0, 0].any()
    factors = found.sum((1, 2, 3)) / picture.sum()
    assert factors.max() - factors.min() > 0.25


def test_what_is_too_bright_is_white_and_does_not_wrap_round():
    white = torch.full((8, 8, 3), 250, dtype=torch.uint8)
    found = changed(white, Augmentation(brightness=0.5))
    assert found.max() == 255
    assert found.min() >= 124


def test_contrast_keeps_the_mean_and_scales_the_distance_from_it(picture):
    grey = picture[..., :1].expand(-1, -1, 3)
    mean = grey[::4, ::4].float().mean()
    for window in changed(grey, Augmentation(contrast=0.2)).float():
        factor = (window - mean).abs().sum() / (grey - mean).abs().sum()
        assert 0.79 <= factor <= 1.21
        assert (window - (mean + factor * (grey - mean))).abs().max() <= 1.0


def test_contrast_does_not_undo_brightness():
    plain = torch.full((8, 8, 3), 100, dtype=torch.uint8)
    both = changed(plain, Augmentation(brightness=0.2, contrast=0.5))
    assert torch.equal(both, changed(plain, Augmentation(brightness=0.2)))


def test_saturation_keeps_how_bright_a_pixel_is_and_leaves_grey_grey():
    picture = torch.randint(90, 160, (24, 32, 3), generator=drawn(3), dtype=torch.uint8)
    picture[5, 5] = 77
    bright, colour = picture.float() @ LUMA, (picture.float() - (picture.float() @ LUMA)[..., None])
    for window in changed(picture, Augmentation(saturation=0.5)).float():
        assert (window @ LUMA - bright).abs().max() <= 0.51
        assert (window[5, 5] == 77.0).all()
        factor = (window - bright[..., None]).abs().sum() / colour.abs().sum()
        assert 0.49 <= factor <= 1.51
        assert (window - (bright[..., None] + factor * colour)).abs().max() <= 1.0


@pytest.mark.parametrize("count", [1, 20])
def test_saturation_mixes_no_pixel_with_its_neighbour(count):
    picture = torch.full((5, 7, 3), 100, dtype=torch.uint8)
    picture[2, 3] = torch.tensor([200, 50, 50], dtype=torch.uint8)
    many = of_pictures(picture)
    some = replace(many, images={"front": many.images["front"][:count]})
    found = augment(some, Augmentation(saturation=1.0), drawn()).images["front"][:, 0]
    untouched = torch.ones(5, 7, dtype=torch.bool)
    untouched[2, 3] = False
    assert (found[:, untouched] == 100).all()
    assert (found[:, 2, 3] != picture[2, 3]).any(-1).all()


@pytest.mark.parametrize("rotation", [0.0, 1e-6])
def test_a_shift_moves_the_picture_by_whole_pixels_and_repeats_its_edge(rotation):
    row, column = torch.meshgrid(torch.arange(24), torch.arange(32), indexing="ij")
    picture = torch.stack([row, column, row * 0 + 9], -1).to(torch.uint8)
    shifts = set()
    for window in changed(picture, Augmentation(shift_px=3, rotation_deg=rotation)).int():
        down, right = 12 - int(window[12, 16, 0]), 16 - int(window[12, 16, 1])
        assert torch.equal(window[..., 0], (row - down).clamp(0, 23).int())
        assert torch.equal(window[..., 1], (column - right).clamp(0, 31).int())
        assert (window[..., 2] == 9).all()
        shifts.add((down, right))
    reached = {abs(shift) for both in shifts for shift in both}
    assert reached == {0, 1, 2, 3}
    assert len(shifts) > 10


def test_a_rotation_turns_about_the_centre_and_by_no_more_than_asked():
    picture = torch.zeros(65, 65, 3, dtype=torch.uint8)
    picture[31:34, 31:34] = 200  # stays
    picture[31:34, 60:63] = 100  # 29 pixels to the right of the centre
    angles = []
    for window in changed(picture, Augmentation(rotation_deg=20.0)):
        assert (window[32, 32] == 200).all()
        at = torch.nonzero(window[..., 0] == 100).float().mean(0) - 32.0
        assert at.norm() == pytest.approx(29.0, abs=0.7)
        angles.append(float(torch.rad2deg(torch.atan2(at[0], at[1]))))
    assert max(map(abs, angles)) <= 21.0
    assert min(angles) < -8.0
    assert max(angles) > 8.0


def test_a_blur_spreads_a_point_over_its_neighbours_and_keeps_its_light():
    picture = torch.zeros(9, 9, 3, dtype=torch.uint8)
    picture[4, 4] = 167
    found = changed(picture, Augmentation(blur=1.0))
    expected = torch.tensor([[10, 21, 10], [21, 42, 21], [10, 21, 10]])  # sixteenths: 1, 2 and 4
    assert (found[:, 3:6, 3:6] == expected[None, :, :, None]).all()
    assert (found.sum((1, 2, 3)) == 3 * expected.sum()).all()


def test_a_blur_keeps_a_plain_picture_to_its_edges():
    assert (changed(torch.full((9, 9, 3), 77, dtype=torch.uint8), Augmentation(blur=1.0)) == 77).all()


@pytest.mark.parametrize("what", ["blur", "erase"])
def test_about_the_share_asked_for_is_changed(picture, what):
    found = torch.cat([changed(picture, replace(Augmentation(), **{what: 0.3}), seed) for seed in range(15)])
    count = (found != picture).flatten(1).any(1).sum()
    assert 60 <= count <= 120  # of 300: 90 and four standard deviations


def test_erasing_hides_one_rectangle_behind_one_colour(picture):
    picture = torch.randint(0, 256, (40, 60, 3), generator=drawn(7), dtype=torch.uint8)
    for window in changed(picture, Augmentation(erase=1.0)):
        rows, columns = torch.nonzero((window != picture).any(-1)).unbind(1)
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert 3 <= bottom - top <= MOST * 40 + 1
        assert 5 <= right - left <= MOST * 60 + 1
        assert len(window[top:bottom, left:right].reshape(-1, 3).unique(dim=0)) == 1


def test_noise_has_the_spread_asked_for_and_no_mean():
    found = changed(torch.full((32, 32, 3), 128, dtype=torch.uint8), Augmentation(noise=6.0)).double() - 128.0
    assert abs(found.mean()) < 0.2
    assert found.std() == pytest.approx(6.0, abs=0.3)


def test_state_noise_is_in_proportion_to_the_spread_of_each_column(batch):
    wide = replace(batch, state=batch.state.repeat(40, 1, 1))
    added = augment(wide, Augmentation(state_noise=0.1), drawn()).state - wide.state
    spread = wide.state.std((0, 1), correction=0)
    assert added.std((0, 1)).numpy() == pytest.approx(0.1 * spread.numpy(), rel=0.15, abs=1e-7)
    assert not added[..., spread == 0.0].any()


def test_the_number_of_threads_is_as_before(batch):
    torch.set_num_threads(2)
    try:
        augment(batch, ALL, drawn())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_an_amount_out_of_bounds_is_refused():
    assert build(Augmentation, {"shift_px": 4}, "train.yaml") == Augmentation(shift_px=4)
    with pytest.raises(ConfigError, match=r"train.yaml: blur: must be a number from 0 to 1, found 1.5"):
        build(Augmentation, {"blur": 1.5}, "train.yaml")
