from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.pipeline.disturbances import Late, Lossy, Noise, Patch


def test_noise_has_its_size_and_is_fresh_every_time():
    grey = {"front": np.full((64, 64, 3), 128, np.uint8)}
    noise = Noise(12.0, np.random.default_rng(1))
    first, second = (noise.pictures(grey, 0.0)["front"].astype(float) for _ in range(2))
    assert first.std() == pytest.approx(12.0, abs=0.5)
    assert abs(first.mean() - 128.0) < 0.5
    assert (first != second).mean() > 0.9
    assert (grey["front"] == 128).all()


def test_noise_stays_within_a_pixels_range():
    ends = {"a": np.zeros((32, 32, 3), np.uint8), "b": np.full((32, 32, 3), 255, np.uint8)}
    noisy = Noise(40.0, np.random.default_rng(1)).pictures(ends, 0.0)
    assert noisy["a"].max() < 200  # nothing wrapped around
    assert noisy["b"].min() > 55


def test_a_patch_stays_where_it_is_and_leaves_the_rest_alone(pictures):
    patch = Patch(0.5, np.random.default_rng(2))
    first, later = patch.pictures(pictures, 0.0), patch.pictures(dict(reversed(pictures.items())), 3.0)
    for camera, pixels in pictures.items():
        changed = (first[camera] != pixels).any(2)
        rows, columns = changed.any(1), changed.any(0)
        assert (rows.sum(), columns.sum()) == (8, 8)  # half of the shorter side
        assert (first[camera][np.ix_(rows, columns)] == 128).all()
        np.testing.assert_array_equal(first[camera], later[camera])


def test_every_camera_loses_its_share(pictures):
    lossy = Lossy(0.3, np.random.default_rng(5))
    delivered = [lossy.pictures(pictures, 0.0) for _ in range(2000)]
    for camera, pixels in pictures.items():
        got = [pair[camera] for pair in delivered if camera in pair]
        assert len(got) / 2000 == pytest.approx(0.7, abs=0.03)
        assert all(picture is pixels for picture in got)
    both = sum(len(pair) == 2 for pair in delivered) / 2000
    assert both == pytest.approx(0.49, abs=0.04)  # independent


def test_late_says_how_late_and_touches_nothing(pictures):
    late = Late(0.1)
    assert late.delay_s == 0.1
    assert late.pictures(pictures, 1.0) is pictures
    assert Noise(1.0, np.random.default_rng(0)).delay_s == 0.0
