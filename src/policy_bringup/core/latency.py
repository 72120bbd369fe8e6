"""How late a robot's cameras and its arm are, in seconds: measured once (`policy calibrate-latency`), used ever after.

A camera that is late by L shows at its stamp what was true L earlier: its pictures are aligned by the earlier stamp,
live and when recordings are made into frames. An arm that is late by A is, at any moment, where it was asked to be A
earlier: a chunk's steps are asked for A before they are due, and what is due sooner than that is trimmed.

Every robot is late in its own way: what was measured in one mode holds in that mode, live and for what was recorded in
it, and in no other. Mode shadow looks at the real robot, as hardware does. Once anything was found late in one mode,
every other mode that runs, or was recorded in, must be measured as well, or be named with nothing late (`sim: {}`).

A camera that was not measured is aligned by its stamps as they are. Whether actions are asked for ahead also depends on
what a policy learned (`ask_ahead` in config/policy.yaml): one whose training actions are *commands* given through the
same arm has learned its lateness already; one whose actions are measured motion (led by hand, or another robot's) has
not, and is refused an arm that was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from policy_bringup.core import graph
from policy_bringup.core.config import bounded, load
from policy_bringup.core.deployment import Deployment
from policy_bringup.core.errors import ConfigError

LONGEST_CAMERA_S, LONGEST_ACTUATOR_S = 0.5, 0.5
ACTUATOR, CAMERA = "actuator", "camera "
"""What a report of measurements calls the arm, and with its name each camera."""
_HEAD = """\
# How late cameras and arm are, s, in each mode as far as measured by `policy calibrate-latency` in that mode (sim,
# hardware, gazebo; shadow uses hardware's). `sim: {}`: nothing is late there.
# A picture is aligned as if its stamp were so much earlier; one of a camera that is not named, by its stamp as it is.
# A policy's actions are asked for actuator_s before they are due where policy.yaml says ask_ahead.
"""


@dataclass(frozen=True, slots=True)
class Latency:
    """cameras: camera -> s by which its stamps are later than what its pictures show; one not named: 0. actuator_s:
    from the moment at which a pose is asked for until the arm is there; None where that was not measured."""

    cameras: dict[str, float] = field(default_factory=dict, metadata={"bounds": (0.0, LONGEST_CAMERA_S), "unit": "s"})
    actuator_s: float | None = bounded(0.0, LONGEST_ACTUATOR_S, "s", default=None)

    def camera_ns(self, camera: str) -> int:
        """Of one camera, ns."""
        return round(self.cameras.get(camera, 0.0) * 1e9)

    def lead_s(self, ask_ahead: bool) -> float:
        """How long before they are due actions are asked for. Raises ConfigError where that was not measured."""
        if not ask_ahead:
            return 0.0
        if self.actuator_s is None:
            raise ConfigError(
                "ask_ahead: how late the arm is has not been measured (actuator_s in the deployment's latency file); "
                "run `policy calibrate-latency`, or set ask_ahead to false"
            )
        return self.actuator_s

    @property
    def finding(self) -> str:
        """The first thing that is late, in the file's words; "" if nothing is."""
        late = {f"cameras.{camera}": late_s for camera, late_s in self.cameras.items()}
        found = {**late, "actuator_s": self.actuator_s}
        return next((f"{key} {late_s:g} s" for key, late_s in found.items() if late_s), "")


UNMEASURED = Latency()
"""Every picture is taken by its stamp, and no action is asked for ahead."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the deployment's file says of each mode; None: that mode was not measured."""

    sim: Latency | None = None
    hardware: Latency | None = None
    gazebo: Latency | None = None

    @property
    def modes(self) -> dict[str, Latency]:
        """Those that the file names."""
        named = {mode: getattr(self, mode) for mode in MODES}
        return {mode: latency for mode, latency in named.items() if latency is not None}

    def of(self, mode: str, where: str) -> Latency:
        """What holds in a mode; UNMEASURED where nothing is late in any.

        Raises ConfigError, beginning with `where`, for a mode that is not named while something is late in another.
        """
        named, mode = self.modes, measured_mode(mode)
        late = [f"{other}.{latency.finding}" for other, latency in named.items() if latency.finding]
        if mode not in named and late:
            needed = f"the mode must be one of {', '.join(graph.MODES)}"
            if mode in MODES:
                measure = f"run `policy calibrate-latency` with --mode {mode}"
                needed = f"{measure}, or write `{mode}: {{}}` if nothing is late there"
            found = f"{late[0]} was measured in another mode than '{mode}', which is missing"
            raise ConfigError(f"{where}: {found}; {needed}")
        return named.get(mode, UNMEASURED)


NOTHING_MEASURED = Measured()
MODES = tuple(spec.name for spec in fields(Measured))
"""In each of them lateness is measured, and recordings of different ones may be aligned by different lateness."""


def measured_mode(mode: str) -> str:
    """The mode whose measurement holds in `mode`."""
    return "hardware" if mode == "shadow" else mode


def load_latency(config_folder: Path, deployment: Deployment) -> Measured:
    """What the deployment's file says; NOTHING_MEASURED if it names none.

    Raises ConfigError, also for what check_latency refuses.
    """
    if not deployment.latency:
        return NOTHING_MEASURED
    path = config_folder / deployment.latency
    measured = load(path, Measured)
    check_latency(measured, deployment, path)
    return measured


def check_latency(measured: Measured, deployment: Deployment, path: Path) -> None:
    """Raises ConfigError, naming the file `path`, for what the deployment cannot work with: a camera that it does not
    have; one so late that every action would be too old; an arm so late that less than the steps to be executed would
    be left of a chunk."""
    for mode, latency in measured.modes.items():
        _check(latency, deployment, f"{path}: {mode}")


def _check(latency: Latency, deployment: Deployment, where: str) -> None:
    too_old_s = graph.topic("policy/action").stale_s
    for camera, late_s in latency.cameras.items():
        if camera not in deployment.camera_names:
            names = ", ".join(deployment.camera_names)
            raise ConfigError(f"{where}: cameras: the deployment has no camera '{camera}'; it has {names}")
        if not late_s < too_old_s:
            raise ConfigError(
                f"{where}: cameras.{camera}: actions are too old {too_old_s:g} s after what was seen, so it must be "
                f"less than {too_old_s:g} s, found {late_s:g}"
            )
    action = deployment.contract.action
    most_s = (action.steps - action.execute) * action.dt_s
    if latency.actuator_s is not None and not latency.actuator_s <= most_s:
        raise ConfigError(
            f"{where}: actuator_s: of a chunk of {action.steps} steps {action.execute} must be left, so it must be at "
            f"most {most_s:g} s, found {latency.actuator_s:g}"
        )


def save_latency(path: Path, measured: Measured) -> None:
    """Writes the file, whole or not at all. Raises ConfigError."""
    values: dict[str, Any] = {}
    for mode, latency in measured.modes.items():
        arm = {} if latency.actuator_s is None else {"actuator_s": latency.actuator_s}
        values[mode] = ({"cameras": dict(latency.cameras)} if latency.cameras else {}) | arm
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(_HEAD + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
