import numpy as np
import pytest

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.thumbnail import COARSE, FINE, coarse, thumbnail


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_a_value_is_the_mean_grey_of_its_block():
    pixels = noise(128, 96)
    grey = pixels.astype(float) @ (0.299, 0.587, 0.114)
    small = thumbnail(pixels)
    assert small.shape == (FINE, FINE)
    assert small[0, 0] == pytest.approx(grey[:4, :3].mean(), abs=1e-3)
    assert small[31, 7] == pytest.approx(grey[124:, 21:24].mean(), abs=1e-3)


def test_a_fingerprints_value_is_the_mean_of_sixteen():
    small = thumbnail(noise(128, 128))
    assert coarse(small).shape == (COARSE, COARSE)
    assert coarse(small)[3, 5] == pytest.approx(small[12:16, 20:24].mean(), abs=1e-3)


@pytest.mark.parametrize("size", [(480, 640), (100, 130), (33, 31), (6, 8), (1, 1)])
def test_any_size_has_a_thumbnail_of_the_same_mean(size):
    pixels = noise(*size)
    expected = (pixels.astype(float) @ (0.299, 0.587, 0.114)).mean()
    assert thumbnail(pixels).mean() == pytest.approx(expected, abs=0.3)


def test_the_largest_picture_does_not_overflow():
    assert thumbnail(np.full((2048, 2048, 3), 255, np.uint8)).max() == pytest.approx(255.0, abs=1e-2)


@pytest.mark.parametrize(
    "pixels", [np.zeros((64, 64, 3)), np.zeros((64, 64), np.uint8), np.zeros((0, 64, 3), np.uint8)]
)
def test_what_is_no_picture_is_rejected(pixels):
    with pytest.raises(ObservationError, match="must be uint8"):
        thumbnail(pixels)
