import errno
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from policy_bringup.core.errors import DeviceError
from policy_bringup.core.interfaces import CameraDevice
from policy_bringup.drivers.usb_camera import UsbCamera, device_path

LISTING = "list the cameras with: ls /dev/video*"


@pytest.fixture
def connect(time):
    def open_camera(device, width=48, height=32, **changes):
        settings = {"camera": "wrist", "clocks": time.clocks, "latency_s": 0.02, **changes}
        return UsbCamera(device, width, height, 30.0, **settings)

    return open_camera


def refusal(connect, device):
    with pytest.raises(DeviceError) as caught:
        connect(device)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"camera 'wrist': {device_path(device)} ")
    assert LISTING in sentence
    return sentence


@pytest.fixture
def orphan():
    """A real video device node behind which there is no camera, in a folder that everybody may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    node = folder / "video255"
    try:
        os.mknod(node, 0o20666, os.makedev(81, 255))
    except PermissionError:
        shutil.rmtree(folder)
        pytest.skip("making a device node needs root")
    yield node
    shutil.rmtree(folder)


@pytest.mark.parametrize("device", [3, "3", "/dev/video3"])
def test_a_number_is_short_for_its_node(device):
    assert device_path(device) == Path("/dev/video3")


def test_a_stable_name_is_kept():
    assert device_path("/dev/v4l/by-id/usb-046d-video-index0") == Path("/dev/v4l/by-id/usb-046d-video-index0")


def test_an_absent_device_is_refused_with_those_that_are_there(connect):
    assert "does not exist; cameras on this machine: " in refusal(connect, 250)


def test_a_stable_name_whose_camera_is_unplugged_is_refused(connect, tmp_path):
    (tmp_path / "usb-camera").symlink_to("/dev/video250")
    assert "does not exist" in refusal(connect, str(tmp_path / "usb-camera"))


def test_a_regular_file_is_refused(connect, video):
    assert "is no video device" in refusal(connect, str(video))


def test_another_device_is_refused(connect):
    assert "is no video device" in refusal(connect, "/dev/null")


def test_a_pipe_is_refused_without_waiting_for_its_other_end(connect, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no video device" in refusal(connect, str(tmp_path / "pipe"))


def test_a_node_without_a_camera_is_refused(connect, orphan):
    assert "has no camera behind it any more; unplugged?" in refusal(connect, str(orphan))


def test_a_device_that_this_user_may_not_open_is_refused(connect, orphan):
    orphan.chmod(0o600)
    os.seteuid(65534)
    try:
        sentence = refusal(connect, str(orphan))
    finally:
        os.seteuid(0)
    assert "may not be opened by this user; add the user to the group 'video'" in sentence


def test_a_busy_device_is_refused(connect, orphan, monkeypatch):
    """The kernel's answer for a device that somebody holds is given in its place: no camera is here to be held."""

    def busy(path, flags):
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    monkeypatch.setattr(os, "open", busy)
    assert "is held by another process" in refusal(connect, str(orphan))


def test_pictures_arrive_in_rgb_with_the_latency_taken_off_their_stamp(connect, video, pictures, time):
    camera: CameraDevice = connect(7, open_device=lambda path, label: cv2.VideoCapture(str(video)), fourcc="MJPG")
    sample = camera.read()
    camera.close()
    assert any(np.array_equal(sample.pixels, picture) for picture in pictures)
    assert sample.camera == "wrist"
    assert sample.stamp_ns == time.clocks.ros_ns() - 20_000_000
    assert camera.latency_s == 0.02


def test_the_device_is_named_when_it_gives_another_size(connect, video):
    with pytest.raises(DeviceError, match="camera 'wrist': /dev/video7: gives 48x32, asked for 640x480"):
        connect(7, 640, 480, open_device=lambda path, label: cv2.VideoCapture(str(video)))


def test_the_device_is_opened_by_its_path_and_named_in_errors(connect, video):
    asked = []

    def open_device(path, label):
        asked.append((path, label))
        return cv2.VideoCapture(str(video))

    connect(7, open_device=open_device).close()
    assert asked == [(Path("/dev/video7"), "camera 'wrist': /dev/video7")]
