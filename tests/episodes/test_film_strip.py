import cv2
import numpy as np
import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.film_strip import FilmStrip, Thumbnail, thumbnail


def strip_of(count: int, limit: int = 12) -> tuple[list[int], list[int]]:
    """The numbers of the chosen pictures, and of those that were made."""
    strip, made = FilmStrip(limit), []

    def make(number: int) -> Thumbnail:
        made.append(number)
        return Thumbnail(number, b"", 1, 1)

    for number in range(count):
        strip.offer(lambda number=number: make(number))
    strip.finish()
    return [picture.time_ns for picture in strip.pictures()], made


def fail() -> Thumbnail:
    raise EpisodeError("broken")


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 24, 25, 100, 3000])
def test_pictures_are_evenly_chosen_with_the_first_and_the_last(count):
    chosen, _ = strip_of(count)
    assert len(chosen) == min(count, 12)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert np.diff(chosen).max(initial=0) <= 2.5 * max(1.0, count / 11)
    assert sorted(set(chosen)) == chosen


def test_only_few_of_many_pictures_are_decoded():
    _, made = strip_of(18_000)
    assert len(made) < 150


def test_a_strip_of_nothing_is_empty():
    assert strip_of(0) == ([], [])


def test_a_picture_that_cannot_be_made_says_so_and_the_others_stay():
    strip = FilmStrip(4)
    strip.offer(lambda: Thumbnail(0, b"", 1, 1))
    with pytest.raises(EpisodeError):
        strip.offer(fail)
    strip.offer(lambda: Thumbnail(2, b"", 1, 1))
    strip.finish()
    assert [picture.time_ns for picture in strip.pictures()] == [0, 2]


def test_a_last_picture_that_cannot_be_made_leaves_the_others():
    strip = FilmStrip(1)
    strip.offer(lambda: Thumbnail(0, b"", 1, 1))
    strip.offer(lambda: Thumbnail(1, b"", 1, 1))
    strip.offer(lambda: Thumbnail(2, b"", 1, 1))
    strip.offer(fail)
    with pytest.raises(EpisodeError):
        strip.finish()
    assert [picture.time_ns for picture in strip.pictures()] == [0]


@pytest.mark.parametrize(("shape", "size"), [((480, 640), (192, 144)), ((128, 128), (128, 128)), ((2, 900), (192, 1))])
def test_a_thumbnail_is_a_small_jpeg_in_the_right_colours(shape, size):
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[..., 0] = 200
    small = thumbnail(7, pixels)
    decoded = cv2.imdecode(np.frombuffer(small.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert (small.width, small.height) == size == decoded.shape[1::-1]
    assert decoded[0, 0, 2] > 180
    assert decoded[0, 0, 0] < 40
