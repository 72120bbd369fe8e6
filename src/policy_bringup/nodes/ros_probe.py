"""What kind of ROS this is."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

import rclpy


@dataclass(frozen=True, slots=True)
class RosFacts:
    """distribution: e.g. "jazzy". origin: "installation" or "wheels". security: DDS security is compiled in."""

    distribution: str
    origin: str
    rclpy: str
    rmw: str
    security: bool


def probe() -> RosFacts:
    """Looks without starting a node."""
    distribution = os.environ.get("ROS_DISTRO", "")
    wheels = [name for name in ("jazzy", "kilted", "lyrical") if _installed(f"ros-{name}-rclpy")]
    return RosFacts(
        distribution=distribution or (wheels[0] if wheels else "unknown"),
        origin="wheels" if wheels else "installation",
        rclpy=_installed("rclpy") or "unknown",
        rmw=rclpy.get_rmw_implementation_identifier(),
        security=_has_dds_security(),
    )


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _has_dds_security() -> bool:
    """Fast DDS carries the name of its authentication plug-in only when security was compiled in."""
    libraries = [path for folder in _library_folders() for path in folder.glob("libfast*.so") if "cdr" not in path.name]
    return any(b"builtin.PKI-DH" in library.read_bytes() for library in libraries)


def _library_folders() -> list[Path]:
    return [Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry and Path(entry).is_dir()]
