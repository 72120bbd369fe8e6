from itertools import pairwise

import cv2
import numpy as np
import pytest

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.interfaces import CameraDevice
from policy_bringup.drivers.video_playback import VideoPlayback


@pytest.fixture
def play(time):
    def open_video(path, rate_hz=25.0, loop=False):
        return VideoPlayback(path, rate_hz, loop, camera="wrist", clocks=time.clocks, sleep=time.sleep)

    return open_video


def test_every_picture_is_given_once_and_in_rgb(play, video, pictures, drain):
    samples = drain(play(video))
    assert len(samples) == len(pictures)
    for sample, picture in zip(samples, pictures, strict=True):
        assert np.array_equal(sample.pixels, picture)
        assert sample.pixels.dtype == np.uint8
        assert sample.camera == "wrist"


def test_pictures_come_at_the_rate_asked_for_not_the_files(play, video, time, drain):
    start_ns, arrived_ns = time.clocks.ros_ns(), time.clocks.monotonic_ns()
    samples = drain(play(video, rate_hz=25.0))
    assert [sample.stamp_ns - start_ns for sample in samples] == [n * 40_000_000 for n in range(5)]
    assert [sample.received_ns - arrived_ns for sample in samples] == [n * 40_000_000 for n in range(5)]
    assert time.slept == [0.04] * 4


def test_a_rate_that_is_no_whole_number_of_nanoseconds_does_not_drift(play, video, time):
    camera = play(video, rate_hz=30.0, loop=True)
    stamps = [camera.read().stamp_ns for _ in range(31)]
    assert stamps[30] - stamps[0] == 1_000_000_000


def test_the_end_stays_the_end(play, video, drain):
    camera = play(video)
    drain(camera)
    assert camera.read() is None


def test_a_loop_begins_again_and_time_goes_on(play, video, pictures, time):
    camera = play(video, loop=True)
    samples = [camera.read() for _ in range(12)]
    for index, sample in enumerate(samples):
        assert np.array_equal(sample.pixels, pictures[index % 5])
    assert [b.stamp_ns - a.stamp_ns for a, b in pairwise(samples)] == [40_000_000] * 11
    camera.close()


def test_a_closed_playback_gives_nothing(play, video):
    camera: CameraDevice = play(video, loop=True)
    camera.close()
    assert camera.read() is None
    camera.close()


def test_a_missing_file_is_refused(play, tmp_path):
    with pytest.raises(DeviceError, match=r"camera 'wrist': .*absent\.mp4: there is no such video file"):
        play(tmp_path / "absent.mp4")


def test_a_folder_is_refused(play, tmp_path):
    with pytest.raises(DeviceError, match="there is no such video file"):
        play(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_a_file_that_is_no_video_is_refused(play, tmp_path, content):
    (tmp_path / "broken.avi").write_bytes(content)
    with pytest.raises(DeviceError, match=r"broken\.avi: is no video that can be read"):
        play(tmp_path / "broken.avi")


def test_a_video_without_pictures_is_refused(play, tmp_path):
    path = tmp_path / "empty.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (48, 32)).release()
    with pytest.raises(DeviceError, match=r"empty\.avi: (holds no picture|is no video)"):
        play(path)


def test_a_looped_file_that_disappears_is_an_error_and_not_the_end(play, video):
    camera = play(video, loop=True)
    for _ in range(5):
        camera.read()
    video.unlink()
    with pytest.raises(DeviceError, match="there is no such video file"):
        camera.read()
