from pathlib import Path

import cv2
import numpy as np
import pytest

from policy_bringup.core.config import load
from policy_bringup.episodes.cdr import RawPicture
from policy_bringup.episodes.picture_check import PictureCheck
from policy_bringup.episodes.quality_config import QualityConfig

CONFIG = load(Path(__file__).parents[2] / "config" / "quality.yaml", QualityConfig)
PERIOD_NS = 40_000_000


def seen(*pictures: np.ndarray, encoding: str = "rgb8", clock_s=None) -> PictureCheck:
    """The pictures 40 ms apart."""
    check = PictureCheck(CONFIG)
    for index, pixels in enumerate(pictures):
        content = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
        raw = RawPicture(pixels.shape[0], pixels.shape[1], encoding, content)
        check.picture(raw, index * PERIOD_NS, index * 0.04 if clock_s is None else clock_s(index))
    return check


def noise(seed: int, mean: float = 128.0, spread: float = 30.0, shape=(48, 64, 3)) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(mean, spread, shape)
    return np.clip(np.round(drawn), 0, 255).astype(np.uint8)


def test_pictures_that_differ_are_not_frozen():
    assert seen(*(noise(index) for index in range(10))).frozen_s == 0.0


def test_a_repeated_picture_is_frozen_from_its_first_showing_to_its_last():
    still = noise(0)
    assert seen(noise(1), *([still] * 11), noise(2)).frozen_s == pytest.approx(0.4)


def test_the_longest_of_several_frozen_times_counts():
    one, two = noise(0), noise(1)
    assert seen(*([one] * 4), *([two] * 9), *([one] * 3)).frozen_s == pytest.approx(0.32)


@pytest.mark.parametrize("place", [0, 1, 5000, 48 * 64 * 3 - 1])
def test_one_bit_anywhere_tells_two_pictures_apart(place):
    one = noise(0)
    other = one.copy()
    other.reshape(-1)[place] ^= 1
    assert seen(*([one, other] * 5)).frozen_s == 0.0


def test_a_still_picture_is_not_frozen_while_the_clock_stands():
    assert seen(*([noise(0)] * 30), clock_s=lambda index: 1.0).frozen_s == 0.0


@pytest.mark.parametrize(
    ("kind", "dull", "fine"),
    [
        ("black", noise(0, 4, 3), noise(0, 13, 3)),
        ("white", noise(0, 252, 3), noise(0, 240, 3)),
        ("of one colour", np.full((48, 64, 3), 90, np.uint8), noise(0, 90, 3)),
    ],
)
def test_a_dull_picture_is_told_from_a_fine_one_by_its_brightness_and_spread(kind, dull, fine):
    found = seen(*([dull] * 6)).dull_s
    assert found.pop(kind) == pytest.approx(0.2)
    assert set(found.values()) == {0.0}
    assert set(seen(*([fine] * 6)).dull_s.values()) == {0.0}


def test_a_dull_time_ends_with_the_first_fine_picture():
    black, fine = np.zeros((48, 64, 3), np.uint8), noise(0)
    assert seen(*([black] * 3), fine, *([black] * 4)).dull_s["black"] == pytest.approx(0.12)


def test_a_picture_with_something_small_in_it_is_not_of_one_colour():
    pixels = np.full((480, 640, 3), 90, np.uint8)
    pixels[200:280, 300:380] = 150
    assert seen(*([pixels] * 6)).dull_s["of one colour"] == 0.0


def test_the_three_channels_are_all_looked_at():
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[..., 2] = 100
    assert set(seen(*([pixels] * 6)).dull_s.values()) == {0.0}


def test_the_brightness_of_a_depth_picture_is_not_judged_but_its_freezing_is():
    depth = np.full((48, 64), 3, np.uint16)
    check = seen(*([depth] * 6), encoding="16UC1")
    assert set(check.dull_s.values()) == {0.0}
    assert check.frozen_s == pytest.approx(0.2)


def compressed(pixels: np.ndarray) -> np.ndarray:
    return cv2.imencode(".jpg", pixels)[1].reshape(-1)


def test_compressed_pictures_are_judged_like_others():
    fine, black = compressed(noise(0, shape=(480, 640, 3))), compressed(np.zeros((480, 640, 3), np.uint8))
    check = PictureCheck(CONFIG)
    for index in range(60):
        check.compressed(fine if index < 30 else black, index * PERIOD_NS, index * 0.04)
    assert check.dull_s["black"] == pytest.approx(1.0, abs=0.21)
    assert check.frozen_s == pytest.approx(1.16)


def test_compressed_pictures_are_not_all_decoded():
    check, broken = PictureCheck(CONFIG), np.arange(20, dtype=np.uint8)
    check.compressed(compressed(noise(0)), 0, 0.0)
    check.compressed(broken, 199_000_000, 0.2)
    with pytest.raises(ValueError, match="cannot be decoded"):
        check.compressed(broken, 200_000_000, 0.2)
