"""Writes the robot files: `python -m policy_bringup.sim.model models/robot`."""

from __future__ import annotations

import sys
from pathlib import Path

from policy_bringup.sim.mjcf import mjcf
from policy_bringup.sim.urdf import urdf


def write_models(folder: Path | str) -> tuple[Path, Path]:
    """Writes `panda.urdf` and `panda.xml` (MJCF) into `folder`, from the table in `panda.py`; returns their paths."""
    paths = Path(folder) / "panda.urdf", Path(folder) / "panda.xml"
    for path, text in zip(paths, (urdf(), mjcf()), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m policy_bringup.sim.model FOLDER")
    write_models(sys.argv[1])
