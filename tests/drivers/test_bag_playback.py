import sqlite3
from contextlib import closing

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.interfaces import CameraDevice
from policy_bringup.drivers.bag_playback import MAX_GAP_S, BagPlayback

TOPIC = "/camera/wrist/image_raw"
RECORDED_NS = 1_650_000_000_000_000_000
UNEVEN_MS = (0, 33, 66, 120, 133)


@pytest.fixture
def play(time):
    opened = []

    def open_bag(path, topic=TOPIC):
        opened.append(BagPlayback(path, topic, camera="wrist", clocks=time.clocks, sleep=time.sleep))
        return opened[-1]

    yield open_bag
    for camera in opened:
        camera.close()


def frames(bags, pictures, offsets_ms=UNEVEN_MS, jitter_ms=(9, 1, 14, 3, 8)):
    """Entries whose recorder's times scatter behind their header stamps."""
    stamps = [RECORDED_NS + offset * 1_000_000 for offset in offsets_ms]
    return [
        (stamp + late * 1_000_000, bags.image(picture, stamp))
        for stamp, late, picture in zip(stamps, jitter_ms, pictures, strict=True)
    ]


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_every_picture_is_given_at_its_recorded_distance(play, bags, pictures, time, drain, storage):
    start_ns, arrived_ns = time.clocks.ros_ns(), time.clocks.monotonic_ns()
    samples = drain(play(bags.write({TOPIC: frames(bags, pictures)}, storage)))
    for sample, picture in zip(samples, pictures, strict=True):
        assert np.array_equal(sample.pixels, picture)
        assert (sample.camera, sample.pixels.dtype) == ("wrist", np.uint8)
    assert [(sample.stamp_ns - start_ns) / 1e6 for sample in samples] == list(UNEVEN_MS)
    assert [(sample.received_ns - arrived_ns) / 1e6 for sample in samples] == list(UNEVEN_MS)


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_a_bags_file_may_be_named_instead_of_its_folder(play, bags, pictures, drain, suffix):
    storage = StoragePlugin.MCAP if suffix == ".mcap" else StoragePlugin.SQLITE3
    (file,) = bags.write({TOPIC: frames(bags, pictures)}, storage).glob(f"*{suffix}")
    assert len(drain(play(str(file)))) == 5


def test_an_older_bag_that_does_not_describe_its_messages_is_read(play, bags, pictures, drain):
    path = bags.write({TOPIC: frames(bags, pictures)}, StoragePlugin.SQLITE3)
    (file,) = path.glob("*.db3")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM message_definitions")
    assert len(drain(play(path))) == 5


def test_pictures_without_a_stamp_keep_the_recorders_distances(play, bags, pictures, time, drain):
    entries = [(RECORDED_NS + n * 50_000_000, bags.image(picture, 0)) for n, picture in enumerate(pictures)]
    start_ns = time.clocks.ros_ns()
    samples = drain(play(bags.write({TOPIC: entries})))
    assert [(sample.stamp_ns - start_ns) / 1e6 for sample in samples] == [0, 50, 100, 150, 200]


def test_bgr_is_given_as_rgb(play, bags, pictures):
    message = bags.image(pictures[0][:, :, ::-1], RECORDED_NS, "bgr8")
    assert np.array_equal(play(bags.write({TOPIC: [(RECORDED_NS, message)]})).read().pixels, pictures[0])


def test_grey_is_given_as_rgb(play, bags, pictures):
    grey = pictures[0][:, :, 0]
    pixels = play(bags.write({TOPIC: [(RECORDED_NS, bags.image(grey, RECORDED_NS, "mono8"))]})).read().pixels
    assert np.array_equal(pixels, np.repeat(grey[:, :, np.newaxis], 3, axis=2))


def test_compressed_pictures_are_decoded(play, bags, pictures):
    encoded = cv2.imencode(".png", cv2.cvtColor(pictures[0], cv2.COLOR_RGB2BGR))[1].tobytes()
    topic = f"{TOPIC}/compressed"
    path = bags.write({topic: [(RECORDED_NS, bags.compressed(encoded, RECORDED_NS))]})
    assert np.array_equal(play(path, topic).read().pixels, pictures[0])


def test_other_topics_do_not_disturb(play, bags, pictures, drain):
    other = [(RECORDED_NS + 1, bags.image(pictures[4], RECORDED_NS + 1))]
    path = bags.write({"/camera/front/image_raw": other, TOPIC: frames(bags, pictures), "/note": [(1, bags.text("a"))]})
    samples = drain(play(path))
    assert [sample.pixels[0, 0, 0] for sample in samples] == [picture[0, 0, 0] for picture in pictures]


def test_the_end_stays_the_end_and_a_closed_bag_gives_nothing(play, bags, pictures, drain):
    path = bags.write({TOPIC: frames(bags, pictures)})
    camera: CameraDevice = play(path)
    drain(camera)
    assert camera.read() is None
    closed = play(path)
    closed.close()
    assert closed.read() is None
    closed.close()


def test_a_missing_bag_is_refused(play, tmp_path):
    with pytest.raises(DeviceError, match=r"camera 'wrist': .*absent: there is no such bag"):
        play(tmp_path / "absent")


def test_a_folder_that_is_no_bag_is_refused(play, tmp_path):
    with pytest.raises(DeviceError, match="cannot be read as a bag"):
        play(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_cut_short_is_refused_in_one_sentence(play, bags, pictures, storage, keep):
    path = bags.write({TOPIC: frames(bags, pictures)}, storage)
    (file,) = (f for f in path.iterdir() if f.suffix != ".yaml")
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DeviceError, match="cannot be read as a bag") as caught:
        play(path)
    assert "\n" not in str(caught.value)


def test_a_bag_damaged_behind_its_index_is_an_error_and_not_the_end(play, bags, pictures, drain):
    path = bags.write({TOPIC: frames(bags, pictures)}, StoragePlugin.SQLITE3)
    (file,) = path.glob("*.db3")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DeviceError, match="cannot be read as a bag"):
        drain(play(path))


def test_an_absent_topic_is_refused_with_those_that_exist(play, bags, pictures):
    path = bags.write({"/camera/front/image_raw": frames(bags, pictures), "/note": [(1, bags.text("a"))]})
    with pytest.raises(DeviceError) as caught:
        play(path)
    assert str(caught.value).endswith(f"has no pictures on topic '{TOPIC}'; its image topics: /camera/front/image_raw")


def test_a_topic_of_another_type_is_refused(play, bags):
    path = bags.write({TOPIC: [(1, bags.text("a"))]})
    with pytest.raises(DeviceError, match=r"its image topics: none$"):
        play(path)


def test_a_topic_without_pictures_is_refused(play, bags):
    path = bags.write({TOPIC: [], "/note": [(1, bags.text("a"))]}, types={TOPIC: "sensor_msgs/msg/Image"})
    with pytest.raises(DeviceError, match=f"topic '{TOPIC}' holds no picture"):
        play(path)


def test_rows_with_padding_are_refused_rather_than_sheared(play, bags, pictures):
    path = bags.write({TOPIC: [(RECORDED_NS, bags.image(pictures[0], RECORDED_NS, padding=16))]})
    with pytest.raises(DeviceError, match=r"a 'rgb8' picture .* \(5120 bytes in 32 rows are more than its pixels\)"):
        play(path).read()


def test_a_picture_cut_short_is_an_error(play, bags, pictures):
    message = bags.image(pictures[0][:30], RECORDED_NS)
    message.height = 32
    with pytest.raises(DeviceError, match="a 'rgb8' picture"):
        play(bags.write({TOPIC: [(RECORDED_NS, message)]})).read()


def test_an_unknown_encoding_is_an_error(play, bags, pictures):
    path = bags.write({TOPIC: [(RECORDED_NS, bags.image(pictures[0], RECORDED_NS, "hsv8"))]})
    with pytest.raises(DeviceError, match=f"a 'hsv8' picture on '{TOPIC}' cannot be read"):
        play(path).read()


def test_a_damaged_compressed_picture_is_an_error(play, bags):
    path = bags.write({TOPIC: [(RECORDED_NS, bags.compressed(b"no picture", RECORDED_NS, "jpeg"))]})
    with pytest.raises(DeviceError, match=f"a 'jpeg' picture on '{TOPIC}' cannot be read"):
        play(path).read()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gap_that_nobody_waits_for_is_an_error(play, bags, pictures, sign):
    gap_ns = round(MAX_GAP_S * 1e9)
    stamps = [RECORDED_NS, RECORDED_NS + sign * gap_ns, RECORDED_NS + sign * (2 * gap_ns + 1)]
    entries = [
        (RECORDED_NS + n, bags.image(picture, stamp))
        for n, (picture, stamp) in enumerate(zip(pictures[:3], stamps, strict=True))
    ]
    camera = play(bags.write({TOPIC: entries}))
    assert camera.read() is not None
    assert camera.read() is not None
    with pytest.raises(DeviceError, match=rf"are {sign * 60} s apart; allowed are 60 s"):
        camera.read()
