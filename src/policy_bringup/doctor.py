"""What is installed here, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path

RECEIVE_BUFFER = 4_194_304
"""Bytes; as config/fastdds.xml asks for."""
MOST_RECEIVE_BUFFER = Path("/proc/sys/net/core/rmem_max")
EXTRAS = "pip install 'policy_bringup[ros-jazzy,robot,sim]'"
ONE_BUILD = (
    "pip uninstall onnxruntime onnxruntime-gpu; then pip install 'policy_bringup[robot]', or with an NVIDIA card "
    "'policy_bringup[robot-gpu]' in its place"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked for. needed: without it, not even a simulated deployment runs."""

    what: str
    found: str
    ok: bool
    needed: bool = False
    remedy: str = ""


def examine() -> tuple[Finding, ...]:
    """Looks at everything; opens no device and starts no node."""
    return (
        Finding("Python", platform.python_version(), True, True),
        *_ros(),
        *_simulator(),
        *_inference(),
        *_cameras(),
        _package("cv_bridge", "image conversion of the ROS installation", "rosbags-image does its work"),
        _package(
            "controller_manager_msgs", "hand guiding on ros2_control", "apt: ros-<distro>-controller-manager-msgs"
        ),
        _package("viser", "operator page", "pip install 'policy_bringup[console]'"),
        _package("launch_ros", "ros2 launch", "a ROS installation; `policy run` does its work"),
    )


def _ros() -> list[Finding]:
    if not _has("rclpy"):
        return [Finding("ROS 2", "no rclpy", False, True, f"source a ROS installation, or {EXTRAS}")]
    from policy_bringup.nodes.ros_probe import probe

    facts = probe()
    words = f"{facts.distribution} from {facts.origin}, rclpy {facts.rclpy}, {facts.rmw}"
    missing = [name for name in _messages() if not _has(name)]
    return [
        Finding("ROS 2", words, True, True),
        Finding("message packages", "missing: " + ", ".join(missing) if missing else "all", not missing, True, EXTRAS),
        Finding(
            "DDS security (SROS2)",
            "compiled in" if facts.security else "not compiled in",
            facts.security,
            remedy="" if facts.security else "needs a ROS installation; the wheels are built without it",
        ),
        _receive_buffer(),
    ]


def _receive_buffer() -> Finding:
    most = int(MOST_RECEIVE_BUFFER.read_text()) if MOST_RECEIVE_BUFFER.is_file() else 0
    remedy = f"or new nodes may be heard a second late: sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"
    enough = most >= RECEIVE_BUFFER
    return Finding("DDS receive buffer", f"at most {most} bytes", enough, remedy="" if enough else remedy)


def _messages() -> tuple[str, ...]:
    return ("sensor_msgs", "geometry_msgs", "std_msgs", "std_srvs", "trajectory_msgs", "diagnostic_msgs")


def _simulator() -> list[Finding]:
    if not _has("mujoco"):
        return [Finding("simulator", "no mujoco", False, True, "pip install 'policy_bringup[sim]'")]
    from policy_bringup.sim.egl import REMEDY, missing

    lacking = missing()
    return [
        Finding("simulator", f"MuJoCo {importlib.metadata.version('mujoco-core')}", True, True),
        Finding(
            "OpenGL for simulated cameras",
            f"no {lacking}; pictures are drawn by rays" if lacking else "EGL",
            not lacking,
            remedy=f"with a graphics card: {REMEDY}" if lacking else "",
        ),
    ]


def _inference() -> list[Finding]:
    if not _has("onnxruntime"):
        return [Finding("inference", "no onnxruntime", False, False, "pip install 'policy_bringup[robot]'")]
    builds = sorted(set(importlib.metadata.packages_distributions().get("onnxruntime", ())))
    if len(builds) > 1:
        return [Finding("inference", f"{' and '.join(builds)} overwrite each other's files", False, False, ONE_BUILD)]
    from policy_bringup.inference.providers import available_providers

    return [Finding("execution providers", ", ".join(available_providers()), True)]


def _cameras() -> list[Finding]:
    from policy_bringup.drivers.probe import list_cameras

    cameras = list_cameras()
    names = ", ".join(f"{camera.device} ({camera.name})" for camera in cameras) or "none"
    return [
        Finding("cameras", names, bool(cameras), remedy="" if cameras else "connect a UVC camera for hardware mode")
    ]


def _package(name: str, purpose: str, remedy: str) -> Finding:
    return Finding(f"{name} ({purpose})", "installed" if _has(name) else "not installed", _has(name), False, remedy)


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
