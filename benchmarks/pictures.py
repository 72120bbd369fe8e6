"""Time per simulated picture, per camera and backend. Run: python benchmarks/pictures.py [raycast|egl]"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import PolicyBringupError
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.views import open_view
from policy_bringup.sim.world import World

CONFIG = Path(__file__).resolve().parent.parent / "config"
PICTURES = 100


def main(backends: list[str]) -> int:
    """One line per camera and backend."""
    deployment, robot = load_deployment(CONFIG / "grasp.yaml")
    world = World(load(CONFIG / "sim.yaml", SimConfig), robot)
    for backend in backends or ["raycast", "egl"]:
        try:
            view = open_view(world.model, deployment.cameras, backend)  # type: ignore[arg-type]
        except PolicyBringupError as error:
            print(f"{backend}: {error}")
            continue
        for camera in deployment.cameras:
            times = []
            for _ in range(PICTURES):
                began = time.perf_counter()
                view.update(world.qpos)
                view.render(camera.name)
                times.append((time.perf_counter() - began) * 1e3)
            p50, p99 = np.percentile(times, [50, 99])
            print(f"{backend} {camera.name} {camera.width}x{camera.height}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        view.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
