from pathlib import Path

import pytest

from policy_bringup.drivers.probe import CameraInfo, list_cameras


@pytest.fixture
def machine(tmp_path):
    """Adds a video device to a machine of the kernel's layout."""
    sysfs, dev = tmp_path / "sys", tmp_path / "dev"
    sysfs.mkdir()
    dev.mkdir()

    def add(number, name=None, index=None, **links):
        entry = sysfs / f"video{number}"
        entry.mkdir()
        (dev / entry.name).touch()
        if name is not None:
            (entry / "name").write_text(f"{name}\n")
        if index is not None:
            (entry / "index").write_text(f"{index}\n")
        for folder, link in links.items():
            place = dev / "v4l" / folder.replace("_", "-")
            place.mkdir(parents=True, exist_ok=True)
            (place / link).symlink_to(Path("../..") / entry.name)

    return sysfs, dev, add


def test_a_machine_without_cameras_has_none(tmp_path):
    assert list_cameras(tmp_path / "absent", tmp_path) == ()


def test_cameras_are_listed_by_number(machine):
    sysfs, dev, add = machine
    for number in (10, 2, 0):
        add(number, f"camera {number}", 0)
    assert [camera.name for camera in list_cameras(sysfs, dev)] == ["camera 0", "camera 2", "camera 10"]


def test_a_camera_is_described_by_what_the_kernel_says(machine):
    sysfs, dev, add = machine
    add(0, "HD Pro Webcam C920", 0, by_id="usb-046d_C920-video-index0", by_path="pci-0:1-video-index0")
    add(1, "HD Pro Webcam C920", 1, by_path="pci-0:1-video-index1")
    assert list_cameras(sysfs, dev) == (
        CameraInfo(dev / "video0", "HD Pro Webcam C920", 0, dev / "v4l/by-id/usb-046d_C920-video-index0"),
        CameraInfo(dev / "video1", "HD Pro Webcam C920", 1, dev / "v4l/by-path/pci-0:1-video-index1"),
    )


def test_a_camera_that_is_being_unplugged_does_no_harm(machine):
    sysfs, dev, add = machine
    add(0)
    assert list_cameras(sysfs, dev) == (CameraInfo(dev / "video0", "unnamed", 0, None),)


def test_this_machine_can_be_asked():
    for camera in list_cameras():
        assert camera.device.name.startswith("video")
