"""`policy calibrate-latency`: sways the arm, measures how late cameras and arm are, and keeps it for the deployment."""

from __future__ import annotations

import json as json_format
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from policy_bringup import runner, tables
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.latency import (
    ACTUATOR,
    CAMERA,
    UNMEASURED,
    Latency,
    check_latency,
    load_latency,
    save_latency,
)
from policy_bringup.core.startup import TRIAL_SEED, Options


@dataclass(frozen=True)
class CalibrateLatency:
    """Measure how late cameras and arm are. Armed by the operator, the arm sways by centimetres where it stands."""

    deployment: tyro.conf.Positional[str]
    """Name of a file under config/ (e.g. grasp), or a path to one."""
    mode: Literal["sim", "hardware", "gazebo"] = "sim"
    """What is driven, and what the measurement holds for."""
    headless: bool = False
    """Without the operator page: arm it with the service safety/arm."""
    dry_run: bool = False
    """Print only; do not write the deployment's latency file."""
    json: Path | None = None
    """Also write the figures here."""
    camera_backend: Literal["auto", "egl", "raycast"] = "auto"
    """How the simulated cameras draw."""
    domain_id: int = 0
    """ROS domain, 0 to 101."""
    log_level: Literal["debug", "info", "warn", "error", "fatal"] = "info"
    """Least severe message to show."""

    def __call__(self) -> int:
        """Prints the table; 0 if everything was measured, 1 if something was not or a fault ended it, 2 if refused."""
        path = runner.deployment_path(self.deployment)
        deployment = load_deployment(path)[0]
        before = load_latency(path.parent, deployment)
        if not deployment.latency and not self.dry_run:
            raise ConfigError(
                f"{path}: latency: names no file to write to; add `latency: measured_latency.yaml`, or give --dry-run"
            )
        with tempfile.TemporaryDirectory(prefix="policy_latency_") as scratch:
            report = (self.json or Path(scratch) / "latency.json").absolute()
            report.unlink(missing_ok=True)
            ending = runner.run(self._options(path, report))
            if not report.is_file():
                if ending.node is not None and ending.code == 0:
                    ending = replace(ending, code=1)
                print("policy calibrate-latency: nothing was measured", file=sys.stderr)
                return ending.code
            rows = json_format.loads(report.read_text(encoding="utf-8"))
        tables.print_latencies(rows)
        if not self.dry_run:
            after = replace(before, **{self.mode: merged(before.modes.get(self.mode, UNMEASURED), rows)})
            check_latency(after, deployment, path.parent / deployment.latency)
            save_latency(path.parent / deployment.latency, after)
            print(f"written to {path.parent / deployment.latency}, {self.mode}; what was not measured stays as it was")
        return 1 if any("failed" in row for row in rows.values()) else 0

    def _options(self, deployment: Path, report: Path) -> Options:
        return Options(
            mode=self.mode,
            deployment=deployment,
            source="latency",
            report=report,
            camera_backend=self.camera_backend,
            seed=TRIAL_SEED,
            console=not self.headless,
            domain_id=self.domain_id,
            log_level=self.log_level,
        )


def merged(before: Latency, rows: Mapping[str, Mapping[str, Any]]) -> Latency:
    """What was measured in the place of what was known, to the tenth of a millisecond. What seems early, by at most
    core.delays.EARLIEST_S, is on time."""
    found = {name: max(0.0, round(float(row["s"]), 4)) for name, row in rows.items() if "s" in row}
    cameras = {name.removeprefix(CAMERA): s for name, s in found.items() if name.startswith(CAMERA)}
    return Latency({**before.cameras, **cameras}, found.get(ACTUATOR, before.actuator_s))
