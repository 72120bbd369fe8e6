"""Publishes the deployment's cameras: USB devices, or a video or bag played back in their place."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_bringup.core import graph
from policy_bringup.core.config import bounded, required
from policy_bringup.core.deployment import Camera
from policy_bringup.core.errors import ConfigError, DeviceError
from policy_bringup.core.interfaces import CameraDevice
from policy_bringup.drivers.bag_playback import BagPlayback
from policy_bringup.drivers.clocks import Clocks
from policy_bringup.drivers.usb_camera import UsbCamera
from policy_bringup.drivers.video_playback import VideoPlayback
from policy_bringup.nodes.camera_output import CameraOutput
from policy_bringup.nodes.parameters import load_parameters, text_parameter
from policy_bringup.nodes.runtime import PROMPT, BringupNode, received_now, run

VIDEO_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4")
SETTLE_S = 0.5
"""A publisher knows its reader a little before the reader knows it."""


@dataclass(frozen=True, slots=True)
class Device:
    """One camera's device."""

    name: str = required()
    device: str = required()
    latency_s: float = bounded(0.0, 1.0, "s")
    fourcc: str | None = None


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """config/camera.yaml."""

    cameras: tuple[Device, ...] = required()


class CameraNode(BringupNode):
    """One thread per camera reads and publishes. A camera that fails, or a recording that ends, ends the node."""

    niceness = PROMPT

    def __init__(self) -> None:
        super().__init__("camera")

    def open(self) -> None:
        """Opens every camera of the deployment; one that cannot be had refuses the start."""
        config = load_parameters(self, self.config_path, CameraConfig)
        source = text_parameter(self, "camera_source", "")
        self._recorded = bool(source)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._published: dict[str, int] = {camera.name: 0 for camera in self.deployment.cameras}
        self._devices: dict[str, CameraDevice] = {}
        self._outputs = {name: CameraOutput(self, name) for name in self._published}
        try:
            for camera in self.deployment.cameras:
                self._devices[camera.name] = self._open_one(camera, config, source)
        except DeviceError:
            self.close()
            raise

    def start(self) -> None:
        """Starts one thread per camera."""
        self._stopping.clear()
        self._threads = [
            threading.Thread(target=self._stream, args=item, daemon=True) for item in self._devices.items()
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads after their present picture."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=1.0)

    def close(self) -> None:
        """Gives the devices back."""
        for device in self._devices.values():
            device.close()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and pictures published per camera."""
        return "ok", "streaming", dict(self._published)

    def _open_one(self, camera: Camera, config: CameraConfig, source: str) -> CameraDevice:
        clocks = Clocks(self.stamp_now, received_now)
        rate_hz = graph.topic(f"camera/{camera.name}/image_raw").rate_hz
        if source and Path(source).suffix.lower() in VIDEO_SUFFIXES:
            return VideoPlayback(source, rate_hz, False, camera=camera.name, clocks=clocks, sleep=time.sleep)
        if source:
            topic = f"/camera/{camera.name}/image_raw"
            return BagPlayback(source, topic, camera=camera.name, clocks=clocks, sleep=time.sleep)
        device = next((entry for entry in config.cameras if entry.name == camera.name), None)
        if device is None:
            raise ConfigError(f"{self.config_path}: cameras: has no entry for camera '{camera.name}' of the deployment")
        return UsbCamera(
            device.device,
            camera.width,
            camera.height,
            rate_hz,
            camera=camera.name,
            clocks=clocks,
            latency_s=device.latency_s,
            fourcc=device.fourcc,
        )

    def _stream(self, name: str, device: CameraDevice) -> None:
        output = self._outputs[name]
        try:
            if self._recorded:
                self._await_reader(output)
            while not self._stopping.is_set():
                sample = device.read()
                if sample is None:
                    self.finish()
                    return
                output.publish(sample.pixels, sample.stamp_ns)
                self._published[name] += 1
        except DeviceError as error:
            self.fail(str(error))

    def _await_reader(self, output: CameraOutput) -> None:
        """A recording waits for its first reader, so that none of its pictures is lost; a camera waits for nobody."""
        while not output.watched and not self._stopping.wait(0.01):
            pass
        self._stopping.wait(SETTLE_S)


def main() -> None:
    """Entry point."""
    run(CameraNode)


if __name__ == "__main__":
    main()
