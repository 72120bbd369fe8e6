import numpy as np
import pytest

from policy_bringup.core.types import ImageSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.cdr import compressed_content, header_stamp, raw_picture

STAMP = 1_700_000_000_123_456_789
COMPRESSED = "sensor_msgs/msg/CompressedImage"


def pixels(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def picture(frame: str, image: np.ndarray) -> bytes:
    return encoding.image(ImageSample(STAMP, 0, "front", image), frame)


def message(type_name: str, little: bool = True, **fields) -> bytes:
    types = encoding.typestore().types
    stamp = types["builtin_interfaces/msg/Time"](STAMP // 10**9, STAMP % 10**9)
    header = types["std_msgs/msg/Header"](stamp, "front")
    made = types[type_name](header=header, **fields)
    return bytes(encoding.typestore().serialize_cdr(made, type_name, little_endian=little))


@pytest.mark.parametrize("little", [True, False])
def test_the_stamp_is_that_of_the_header_in_either_byte_order(little):
    data = message("sensor_msgs/msg/CompressedImage", little, format="jpeg", data=np.zeros(3, np.uint8))
    assert header_stamp(data) == STAMP


@pytest.mark.parametrize("frame", ["", "a", "ab", "abc", "abcd", "front_optical_frame"])
def test_a_picture_is_found_behind_a_frame_name_of_any_length(frame):
    image = pixels()
    found = raw_picture(picture(frame, image))
    assert (found.height, found.width, found.encoding) == (5, 7, "rgb8")
    np.testing.assert_array_equal(found.content.reshape(5, 7, 3), image)


@pytest.mark.parametrize("encoding_name", ["8UC1", "mono8", "bayer_rggb8", "16UC1"])
@pytest.mark.parametrize("little", [True, False])
def test_a_picture_of_another_encoding_and_with_padded_rows_is_found(encoding_name, little):
    data = np.arange(4 * 9, dtype=np.uint8)
    fields = {"height": 4, "width": 3, "encoding": encoding_name, "is_bigendian": 0, "step": 9, "data": data}
    found = raw_picture(message(encoding.IMAGE, little, **fields))
    assert (found.height, found.width, found.encoding) == (4, 3, encoding_name)
    np.testing.assert_array_equal(found.content, data)


@pytest.mark.parametrize("kind", ["jpeg", "png", "rgb8; jpeg compressed bgr8"])
@pytest.mark.parametrize("little", [True, False])
def test_a_compressed_picture_is_found_behind_a_format_of_any_length(kind, little):
    data = np.arange(11, dtype=np.uint8)
    np.testing.assert_array_equal(compressed_content(message(COMPRESSED, little, format=kind, data=data)), data)


def test_pixels_are_not_copied():
    data = picture("front", pixels())
    assert np.shares_memory(raw_picture(data).content, np.frombuffer(data, np.uint8))


def test_a_picture_cut_short_anywhere_is_refused():
    data = picture("front", pixels())
    for size in range(len(data)):
        with pytest.raises(ValueError, match="bytes"):
            raw_picture(data[:size])


def test_a_compressed_picture_cut_short_anywhere_is_refused():
    data = message(COMPRESSED, format="jpeg", data=np.arange(11, dtype=np.uint8))
    for size in range(len(data)):
        with pytest.raises(ValueError, match="bytes"):
            compressed_content(data[:size])


def test_a_header_cut_short_is_refused():
    with pytest.raises(ValueError, match="too few"):
        header_stamp(picture("front", pixels())[:11])


@pytest.mark.parametrize("fields", [{"height": 6}, {"step": 20}, {"height": 0}, {"width": 0}])
def test_a_picture_whose_size_is_not_that_of_its_bytes_is_refused(fields):
    right = {
        "height": 5,
        "width": 7,
        "encoding": "rgb8",
        "is_bigendian": 0,
        "step": 21,
        "data": np.zeros(105, np.uint8),
    }
    raw_picture(message(encoding.IMAGE, **right))
    with pytest.raises(ValueError, match="bytes are not"):
        raw_picture(message(encoding.IMAGE, **{**right, **fields}))
