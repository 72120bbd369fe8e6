"""Which cameras are there? Reads what the kernel says about them and opens none, so it disturbs nobody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys/class/video4linux")
DEV = Path("/dev")


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """One video device of the kernel's.

    device: its node, e.g. /dev/video0, whose number may change at every start. stable: a name under /dev/v4l that stays
    with the camera (by-id) or with its socket (by-path), if there is one. index: number within one camera; a USB
    camera's pictures come from 0, and 1 usually carries metadata only.
    """

    device: Path
    name: str
    index: int
    stable: Path | None


def list_cameras(sysfs: Path = SYSFS, dev: Path = DEV) -> tuple[CameraInfo, ...]:
    """Every video device, by number. Empty where there is none."""
    stable = _stable_names(dev)
    found = sorted(sysfs.glob("video*"), key=lambda entry: (len(entry.name), entry.name))
    return tuple(
        CameraInfo(
            device=dev / entry.name,
            name=_read(entry / "name") or "unnamed",
            index=int(_read(entry / "index") or 0),
            stable=stable.get(entry.name),
        )
        for entry in found
    )


def _stable_names(dev: Path) -> dict[str, Path]:
    names: dict[str, Path] = {}
    for folder in ("by-path", "by-id"):  # the later one wins
        for link in sorted((dev / "v4l" / folder).glob("*")):
            names[link.resolve().name] = link
    return names


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # the camera was unplugged this moment
        return ""
