import threading

import cv2
import numpy as np
import pytest

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.interfaces import CameraDevice
from policy_bringup.drivers.clocks import Clocks
from policy_bringup.drivers.frame_reader import FrameReader

LATENCY_NS = 25_000_000


class SteppedCapture:
    """A real capture that, like a camera, gives its next picture when the world has moved on, and not before.

    first: how many pictures it gives from the start; damaged: numbers of pictures that cannot be decoded;
    decode: called while a picture is being decoded.
    """

    def __init__(self, path, first=1, damaged=(), decode=lambda: None):
        self.capture = cv2.VideoCapture(str(path))
        self.released = threading.Event()
        self.asked = 0
        self._allowed = first
        self._damaged = damaged
        self._decode = decode
        self._changed = threading.Condition()

    def let_through(self, count):
        with self._changed:
            self._allowed += count
            self._changed.notify_all()

    def step(self, count=1):
        """Lets `count` more pictures through; returns when they have been taken in and the next one is asked for."""
        self.let_through(count)
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked > self._allowed or self.released.is_set(), 10.0)

    def isOpened(self):
        return self.capture.isOpened()

    def grab(self):
        with self._changed:
            self.asked += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._allowed >= self.asked, 10.0)
        return self.capture.grab()

    def retrieve(self):
        self._decode()
        decoded, frame = self.capture.retrieve()
        return (False, None) if self.asked in self._damaged else (decoded, frame)

    def release(self):
        self.capture.release()
        self.released.set()
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def start(time):
    started = []

    def start_reader(capture, size=(48, 32), patience_s=5.0, clocks=None):
        reader = FrameReader(
            capture,
            size,
            camera="wrist",
            label="camera 'wrist': /dev/video7",
            clocks=clocks or time.clocks,
            latency_s=LATENCY_NS / 1e9,
            patience_s=patience_s,
        )
        started.append((capture, reader))
        return reader

    yield start_reader
    for capture, reader in started:
        if isinstance(capture, SteppedCapture):
            capture.let_through(1_000)
        reader.close()


def test_a_picture_is_rgb_and_stamped_before_its_arrival_by_the_latency(start, video, pictures, time):
    sample = start(SteppedCapture(video)).read()
    assert np.array_equal(sample.pixels, pictures[0])
    assert sample.camera == "wrist"
    assert sample.stamp_ns == time.clocks.ros_ns() - LATENCY_NS
    assert sample.received_ns == time.clocks.monotonic_ns()


def test_only_the_newest_picture_is_kept(start, video, pictures):
    capture = SteppedCapture(video)
    camera: CameraDevice = start(capture)
    capture.step(3)
    assert np.array_equal(camera.read().pixels, pictures[3])


def test_a_picture_is_given_once(start, video, pictures):
    capture = SteppedCapture(video)
    camera = start(capture, patience_s=0.01)
    camera.read()
    with pytest.raises(DeviceError, match=r"camera 'wrist': /dev/video7: gave no picture for 0\.01 s"):
        camera.read()
    capture.step()
    assert np.array_equal(camera.read().pixels, pictures[1])


def test_a_picture_is_stamped_when_it_comes_and_not_when_it_is_read(start, video, time):
    capture = SteppedCapture(video)
    camera = start(capture)
    time.elapsed_ns = 40_000_000
    capture.step()
    time.elapsed_ns = 900_000_000
    sample = camera.read()
    assert sample.stamp_ns == time.clocks.ros_ns() - 860_000_000 - LATENCY_NS
    assert sample.received_ns == time.clocks.monotonic_ns() - 860_000_000


def test_the_time_for_decoding_is_not_in_the_stamp(start, video, time):
    start_ns, arrived_ns = time.clocks.ros_ns(), time.clocks.monotonic_ns()

    def decode():
        time.elapsed_ns += 7_000_000

    sample = start(SteppedCapture(video, decode=decode)).read()
    assert sample.stamp_ns == start_ns - LATENCY_NS
    assert sample.received_ns == arrived_ns


def test_a_reader_waits_for_the_next_picture(start, video, pictures):
    capture = SteppedCapture(video)
    camera = start(capture)
    camera.read()
    got = []
    waiting = threading.Thread(target=lambda: got.append(camera.read()))
    waiting.start()
    capture.step()
    waiting.join(10.0)
    assert np.array_equal(got[0].pixels, pictures[1])


def test_a_camera_that_stops_is_an_error_from_then_on(start, video, pictures):
    capture = SteppedCapture(video)
    camera = start(capture)
    capture.step(4)
    capture.step()  # there is no sixth picture
    assert np.array_equal(camera.read().pixels, pictures[4])
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"/dev/video7: gives no more pictures; unplugged"):
            camera.read()
    assert capture.released.wait(10.0)


def test_a_damaged_picture_is_left_out(start, video, pictures):
    capture = SteppedCapture(video, damaged={2})
    camera = start(capture, patience_s=0.01)
    camera.read()
    capture.step()
    with pytest.raises(DeviceError, match="gave no picture"):
        camera.read()
    capture.step()
    assert np.array_equal(camera.read().pixels, pictures[2])


def test_damaged_pictures_at_the_start_are_left_out(start, video, pictures):
    camera = start(SteppedCapture(video, first=5, damaged={1, 2, 3, 4}))
    assert np.array_equal(camera.read().pixels, pictures[4])


def test_a_camera_with_nothing_but_damaged_pictures_is_refused(start, video):
    capture = SteppedCapture(video, first=100, damaged=range(100))
    with pytest.raises(DeviceError, match="its first 5 pictures cannot be decoded"):
        start(capture)
    assert capture.released.is_set()


@pytest.mark.parametrize("size", [(32, 48), (47, 32), (48, 33)])
def test_another_size_than_asked_is_refused_and_named(start, video, size):
    capture = SteppedCapture(video)
    with pytest.raises(DeviceError, match=f"gives 48x32, asked for {size[0]}x{size[1]}"):
        start(capture, size)
    assert capture.released.is_set()


def test_a_capture_that_is_not_open_is_refused(start, tmp_path):
    with pytest.raises(DeviceError, match="cannot be opened as a camera; another process may hold it"):
        start(cv2.VideoCapture(str(tmp_path / "absent.avi")))


def test_a_camera_that_opens_and_gives_nothing_is_refused(start, video):
    capture = cv2.VideoCapture(str(video))
    while capture.grab():
        pass
    with pytest.raises(DeviceError, match="gives no more pictures"):
        start(capture)
    assert not capture.isOpened()


def test_an_error_in_the_thread_reaches_the_reader(start, video, time):
    capture = SteppedCapture(video)

    def shut_down():
        if capture.asked > 1:
            raise RuntimeError("the clock's context is shut down")
        return 0

    camera = start(capture, clocks=Clocks(shut_down, time.clocks.monotonic_ns))
    camera.read()
    capture.step()
    with pytest.raises(DeviceError, match="the clock's context is shut down"):
        camera.read()


def test_a_closed_reader_gives_its_device_back_and_refuses_to_read(start, video):
    capture = cv2.VideoCapture(str(video))
    camera = start(capture)
    camera.close()
    assert not capture.isOpened()
    with pytest.raises(DeviceError, match="is closed"):
        camera.read()
    camera.close()
