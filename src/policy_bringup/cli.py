"""The `policy` command. Every subcommand is a dataclass and calls one function."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import Progress

from policy_bringup import doctor, learning_cli, runner, tables
from policy_bringup.bundle_cli import Calibrate, Compress, Export
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.startup import TRIAL_SEED, Options
from policy_bringup.core.trials import load_report
from policy_bringup.episodes_cli import Episodes
from policy_bringup.evaluate_cli import Advise, Evaluate
from policy_bringup.latency_cli import CalibrateLatency
from policy_bringup.learn_cli import Learn
from policy_bringup.why_cli import Why


@dataclass(frozen=True)
class Run:
    """Start a deployment: all its nodes, until the episodes are done or Ctrl+C."""

    deployment: tyro.conf.Positional[str]
    """Name of a file under config/ (e.g. grasp), or a path to one."""
    mode: Literal["sim", "hardware", "gazebo", "shadow"] = "sim"
    """What is driven."""
    source: Literal["bundle", "expert", "replay"] = "bundle"
    """Who acts: a policy bundle, the scripted expert (simulation only), or a recorded episode, made again."""
    bundle: Path | None = None
    """Folder of the policy bundle, by default models/policies/<deployment>; with source replay, of the episode."""
    episodes: int = 10
    """Episodes in simulation; 0 goes on until Ctrl+C."""
    headless: bool = False
    """Without the operator page."""
    json: Path | None = None
    """Also write the report here."""
    seed: int = TRIAL_SEED
    """Seed of the simulated scenes."""
    camera_backend: Literal["auto", "egl", "raycast"] = "auto"
    """How the simulated cameras draw."""
    camera_source: str = ""
    """Device number, video file or bag for the camera node."""
    record: Path | None = None
    """Record every episode into this dataset folder."""
    teleop: str = ""
    """Who may take over: keyboard, gamepad:/dev/input/js0, joy (topic), leader (topic)."""
    compliant_controller: str = ""
    """ros2_control's controller that lets a hand lead the arm: loaded, inactive. Empty: no hand guiding there."""
    operator: str = ""
    """Name or number kept with every recording."""
    domain_id: int = 0
    """ROS domain, 0 to 101."""
    security: Path | None = None
    """SROS2 keystore with the keys of every process (docs/security.md); by default without DDS security."""
    log_level: Literal["debug", "info", "warn", "error", "fatal"] = "info"
    """Least severe message to show."""

    def __call__(self) -> int:
        """Runs it; the exit code is 0 when all went as asked, 1 after a fault, 2 when it was refused."""
        with tempfile.TemporaryDirectory(prefix="policy_run_") as scratch:
            report = self.json or Path(scratch) / "report.json"
            report.unlink(missing_ok=True)
            if self.security:
                _require_security()
            ending = runner.run(self._options(report.absolute()))
            if report.is_file():
                tables.print_report(load_report(report))
        if ending.node is not None and ending.code != 0:
            print(f"policy run: stopped because '{ending.node}' ended (exit code {ending.code})", file=sys.stderr)
        return ending.code

    def _options(self, report: Path) -> Options:
        deployment = runner.deployment_path(self.deployment)
        bundle = self.bundle
        if self.source == "bundle" and bundle is None:
            bundle = deployment.parent.parent / "models" / "policies" / deployment.stem
        return Options(
            mode=self.mode,
            deployment=deployment,
            source=self.source,
            bundle=bundle.absolute() if bundle and self.source != "expert" else None,
            episodes=self.episodes,
            report=report,
            camera_backend=self.camera_backend,
            camera_source=self.camera_source,
            seed=self.seed,
            record=self.record.absolute() if self.record else None,
            teleop_device=_teleop_device(self.teleop),
            compliant_controller=self.compliant_controller,
            operator=self.operator,
            console=not self.headless,
            domain_id=self.domain_id,
            security=self.security.absolute() if self.security else None,
            log_level=self.log_level,
        )


def _require_security() -> None:
    from policy_bringup.nodes.ros_probe import probe

    if not probe().security:
        raise ConfigError("--security: this ROS was built without DDS security (see `policy doctor`)")


@dataclass(frozen=True)
class Selfplay:
    """Record episodes that the scripted expert or a policy plays in simulation, in parallel, faster than real time."""

    deployment: tyro.conf.Positional[str]
    """Name of a file under config/ (e.g. grasp), or a path to one."""
    dataset: Path
    """Folder that takes one folder per episode; what is there already is not made again."""
    episodes: int = 200
    """How many."""
    seed: int = 0
    """Of the first episode; each next one has the next."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    camera_backend: Literal["auto", "egl", "raycast"] = "auto"
    """How the simulated cameras draw."""
    bundle: Path | None = None
    """Folder of the policy bundle that plays; by default the expert does."""
    patience_s: float = 20.0
    """An episode that has not succeeded by then is a failure."""

    def __call__(self) -> int:
        """Prints how many succeeded; 1 if any did not."""
        from policy_bringup.pipeline.play import played_by
        from policy_bringup.sim.selfplay import SelfPlay, run_selfplay

        path = runner.deployment_path(self.deployment)
        play = SelfPlay(
            path.parent, self.dataset, self.episodes, path.name, self.seed, self.workers, backend=self.camera_backend,
            patience_s=self.patience_s,
        )  # fmt: skip
        if self.bundle is not None:
            play = played_by(play, self.bundle.absolute())
        with Progress() as progress:
            bar = progress.add_task("episodes", total=self.episodes)
            summary = run_selfplay(play, lambda _played: progress.advance(bar))
            progress.advance(bar, summary.skipped)
        print(f"{summary.successes} of {summary.episodes} succeeded in {summary.seconds:.0f} s")
        return 0 if summary.successes == summary.episodes else 1


@dataclass(frozen=True)
class Doctor:
    """Say what is installed here, what is missing, and how to get it."""

    def __call__(self) -> int:
        """Prints the findings; 0 when a simulated deployment can run here, else 1."""
        findings = doctor.examine()
        tables.print_findings(findings)
        return 0 if all(finding.ok or not finding.needed for finding in findings) else 1


@dataclass(frozen=True)
class Record:
    """Record demonstrations that a person drives: no policy runs. `policy run --record` records a policy's episodes."""

    deployment: tyro.conf.Positional[str]
    """Name of a file under config/ (e.g. grasp), or a path to one."""
    dataset: Path
    """Folder that takes one folder per episode."""
    mode: Literal["sim", "hardware", "gazebo"] = "sim"
    """What is driven."""
    teleop: str = "keyboard"
    """How: keyboard, gamepad:/dev/input/js0, joy (topic), leader (topic); empty for hand guiding alone."""
    compliant_controller: str = ""
    """ros2_control's controller that lets a hand lead the arm: loaded, inactive. Empty: no hand guiding there."""
    operator: str = ""
    """Name or number kept with every recording."""
    headless: bool = False
    """Without the operator page."""
    camera_backend: Literal["auto", "egl", "raycast"] = "auto"
    """How the simulated cameras draw."""
    camera_source: str = ""
    """Device number, video file or bag for the camera node."""
    seed: int = TRIAL_SEED
    """Seed of the simulated scenes."""
    domain_id: int = 0
    """ROS domain, 0 to 101."""
    log_level: Literal["debug", "info", "warn", "error", "fatal"] = "info"
    """Least severe message to show."""

    def __call__(self) -> int:
        """Runs until Ctrl+C; an episode under way is closed and kept."""
        options = Options(
            mode=self.mode,
            deployment=runner.deployment_path(self.deployment),
            source="none",
            record=self.dataset.absolute(),
            teleop_device=_teleop_device(self.teleop),
            compliant_controller=self.compliant_controller,
            operator=self.operator,
            console=not self.headless,
            camera_backend=self.camera_backend,
            camera_source=self.camera_source,
            seed=self.seed,
            domain_id=self.domain_id,
            log_level=self.log_level,
        )
        ending = runner.run(options)
        if ending.node is not None and ending.code != 0:
            print(f"policy record: stopped because '{ending.node}' ended (exit code {ending.code})", file=sys.stderr)
        return ending.code


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Record, tyro.conf.subcommand("record")]
    | Annotated[Selfplay, tyro.conf.subcommand("selfplay")]
    | Annotated[Episodes, tyro.conf.subcommand("episodes")]
    | Annotated[Learn, tyro.conf.subcommand("learn")]
    | Annotated[learning_cli.Train, tyro.conf.subcommand("train")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[CalibrateLatency, tyro.conf.subcommand("calibrate-latency")]
    | Annotated[Compress, tyro.conf.subcommand("compress")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Advise, tyro.conf.subcommand("advise")]
    | Annotated[Why, tyro.conf.subcommand("why")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def _teleop_device(name: str) -> str:
    """The keyboard is this terminal's: the node runs as another process and has to be told which."""
    if name != "keyboard":
        return name
    if not sys.stdin.isatty():
        raise ConfigError("teleop: the keyboard needs a terminal, and this command's input is none")
    return f"keyboard:{os.ttyname(sys.stdin.fileno())}"


def _run() -> int:
    if sys.argv[1:2] == ["train"]:  # its options are those of the configuration that it is given
        return learning_cli.typed(sys.argv[2:])()
    command = tyro.cli(Command, prog="policy", description="Visuomotor policies on a robot arm.")
    return int(command())


def main() -> int:
    """Entry point."""
    return tables.exit_code(_run, "policy")


if __name__ == "__main__":
    sys.exit(main())
