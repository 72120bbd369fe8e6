"""The `policy` command. Every subcommand is a dataclass and calls one function."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from policy_bringup import doctor, runner, tables
from policy_bringup.core.errors import ConfigError, PolicyBringupError
from policy_bringup.core.startup import Options
from policy_bringup.core.trials import load_report


@dataclass(frozen=True)
class Run:
    """Start a deployment: all its nodes, until the episodes are done or Ctrl+C."""

    deployment: tyro.conf.Positional[str]
    """Name of a file under config/ (e.g. grasp), or a path to one."""
    mode: Literal["sim", "hardware", "gazebo", "shadow"] = "sim"
    """What is driven."""
    source: Literal["bundle", "expert"] = "bundle"
    """Who acts: a policy bundle, or the scripted expert (simulation only)."""
    bundle: Path | None = None
    """Folder of the policy bundle; by default models/policies/<deployment>."""
    episodes: int = 10
    """Episodes in simulation; 0 goes on until Ctrl+C."""
    headless: bool = False
    """Without the operator page."""
    json: Path | None = None
    """Also write the report here."""
    seed: int = 0
    """Seed of the simulated scenes."""
    camera_backend: Literal["auto", "egl", "raycast"] = "auto"
    """How the simulated cameras draw."""
    camera_source: str = ""
    """Device number, video file or bag for the camera node."""
    domain_id: int = 0
    """ROS domain, 0 to 101."""
    log_level: Literal["debug", "info", "warn", "error", "fatal"] = "info"
    """Least severe message to show."""

    def __call__(self) -> int:
        """Runs it; the exit code is 0 when all went as asked, 1 after a fault, 2 when it was refused."""
        with tempfile.TemporaryDirectory(prefix="policy_run_") as scratch:
            report = self.json or Path(scratch) / "report.json"
            report.unlink(missing_ok=True)
            ending = runner.run(self._options(report.absolute()))
            if report.is_file():
                tables.print_report(load_report(report))
        if ending.node is not None and ending.code != 0:
            print(f"policy run: stopped because '{ending.node}' ended (exit code {ending.code})", file=sys.stderr)
        return ending.code

    def _options(self, report: Path) -> Options:
        deployment = _deployment_path(self.deployment)
        default_bundle = deployment.parent.parent / "models" / "policies" / deployment.stem
        return Options(
            mode=self.mode,
            deployment=deployment,
            source=self.source,
            bundle=(self.bundle or default_bundle).absolute() if self.source == "bundle" else None,
            episodes=self.episodes,
            report=report,
            camera_backend=self.camera_backend,
            camera_source=self.camera_source,
            seed=self.seed,
            console=not self.headless,
            domain_id=self.domain_id,
            log_level=self.log_level,
        )


@dataclass(frozen=True)
class Doctor:
    """Say what is installed here, what is missing, and how to get it."""

    def __call__(self) -> int:
        """Prints the findings; 0 when a simulated deployment can run here, else 1."""
        findings = doctor.examine()
        tables.print_findings(findings)
        return 0 if all(finding.ok or not finding.needed for finding in findings) else 1


Command = (
    Annotated[Run, tyro.conf.subcommand("run")] | Annotated[Doctor, tyro.conf.subcommand("doctor")]  # one a line
)


def _deployment_path(name: str) -> Path:
    path = Path(name)
    if path.suffix != ".yaml":
        path = runner.share_folder() / "config" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"deployment: there is no file {path}")
    return path.absolute()


def main() -> int:
    """Entry point."""
    command = tyro.cli(Command, prog="policy", description="Visuomotor policies on a robot arm.")
    try:
        return int(command())
    except PolicyBringupError as error:
        print(f"policy: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
