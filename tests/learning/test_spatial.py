import pytest
import torch

from policy_bringup.learning.spatial import SpatialSoftmax

BRIGHT = 100.0


def points(maps, temperature=1.0):
    net = SpatialSoftmax(*maps.shape[2:], temperature=temperature)
    return net(maps).detach().unflatten(1, (-1, 2))


@pytest.mark.parametrize(
    ("row", "column", "x", "y"),
    [(0, 0, -1.0, -1.0), (4, 0, -1.0, 1.0), (0, 8, 1.0, -1.0), (2, 4, 0.0, 0.0), (1, 6, 0.5, -0.5)],
)
def test_a_single_bright_point_is_where_it_is(row, column, x, y):
    maps = torch.zeros(1, 1, 5, 9)
    maps[0, 0, row, column] = BRIGHT
    assert points(maps)[0, 0].tolist() == pytest.approx([x, y], abs=1e-5)


def test_every_channel_of_every_picture_has_its_own_point():
    maps = torch.zeros(2, 3, 5, 5)
    places = torch.tensor([[[0, 0], [1, 2], [4, 4]], [[3, 1], [2, 2], [0, 4]]])
    for picture in range(2):
        for channel in range(3):
            row, column = places[picture, channel]
            maps[picture, channel, row, column] = BRIGHT
    assert torch.allclose(points(maps), (places.flip(-1) - 2) / 2.0, atol=1e-5)


def test_a_point_between_two_cells_is_told_finer_than_the_cells():
    maps = torch.full((1, 1, 3, 5), -BRIGHT)
    maps[0, 0, 1, 2], maps[0, 0, 1, 3] = 1.0, 1.0
    assert points(maps)[0, 0].tolist() == pytest.approx([0.25, 0.0], abs=1e-5)


def test_an_empty_map_has_its_point_in_the_middle():
    assert points(torch.zeros(1, 2, 4, 6)).abs().max() < 1e-6


def test_a_lower_temperature_attends_more_to_the_brightest():
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 2, 4] = 1.0
    mild, sharp = (points(maps, temperature)[0, 0, 0].item() for temperature in (1.0, 0.1))
    assert 0.0 < mild < 0.2 < 0.9 < sharp < 1.0


def test_a_map_of_one_cell_says_the_middle():
    assert points(torch.randn(1, 2, 1, 1)).abs().max() == 0.0


def test_places_keep_their_digits_where_training_computes_in_16_bits():
    maps = torch.randn(4, 8, 32, 32).bfloat16()
    exact = points(maps.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(points(maps), exact, atol=1e-5)
