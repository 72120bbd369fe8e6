import cv2
import numpy as np
import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ImageSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.pictures import picture

STORE = encoding.typestore()
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def image(pixels, kind: str, step: int | None = None, data=None):
    message = STORE.deserialize_cdr(encoding.image(ImageSample(5, 0, "front", RGB), "f"), encoding.IMAGE)
    message.height, message.width = pixels.shape[:2]
    message.encoding = kind
    message.step = step or pixels.strides[0]
    message.data = np.ascontiguousarray(pixels).reshape(-1) if data is None else data
    return message


def compressed(content: bytes, kind: str = "png"):
    header = image(RGB, "rgb8").header
    data = np.frombuffer(content, np.uint8)
    return STORE.types["sensor_msgs/msg/CompressedImage"](header=header, format=kind, data=data)


def test_the_order_of_the_colours_follows_the_encoding():
    np.testing.assert_array_equal(picture(image(RGB, "rgb8"), 0, "front").pixels, RGB)
    np.testing.assert_array_equal(picture(image(RGB[..., ::-1], "bgr8"), 0, "front").pixels, RGB)


def test_a_grey_picture_gets_three_equal_channels():
    found = picture(image(RGB[..., 0], "mono8"), 0, "front").pixels
    np.testing.assert_array_equal(found, np.repeat(RGB[..., :1], 3, axis=2))


def test_the_pixels_lie_in_memory_row_by_row():
    for message in (image(RGB, "rgb8"), image(RGB[..., ::-1], "bgr8")):
        found = picture(message, 0, "front").pixels
        assert found.flags.c_contiguous
        assert found.dtype == np.uint8


def test_a_lossless_compressed_picture_is_read_bit_for_bit():
    content = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(picture(compressed(content), 0, "front").pixels, RGB)


@pytest.mark.parametrize(
    "message",
    [
        image(RGB, "rgb8", step=32, data=np.zeros(6 * 32, np.uint8)),  # padded rows
        image(RGB, "rgb8", data=np.zeros(10, np.uint8)),
        image(RGB, "sideways"),
        image(RGB[:0], "rgb8"),
        compressed(b"no picture"),
        compressed(b""),
    ],
    ids=["padded", "too short", "unknown encoding", "empty", "damaged", "nothing"],
)
def test_a_picture_that_cannot_be_read_is_refused(message):
    with pytest.raises(EpisodeError, match="picture cannot be read"):
        picture(message, 0, "front")
