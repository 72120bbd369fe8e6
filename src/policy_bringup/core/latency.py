"""How late a robot's cameras and its arm are, in seconds: measured once (`policy calibrate-latency`), used ever after.

A camera that is late by L shows at its stamp what was true L earlier: its pictures are aligned by the earlier stamp,
live and when recordings are made into frames. An arm that is late by A is, at any moment, where it was asked to be A
earlier: a chunk's steps are asked for A before they are due, and what is due sooner than that is trimmed.

Zero, the default, changes nothing. Whether actions are asked for ahead also depends on what a policy learned
(`ask_ahead` in config/policy.yaml): one whose training actions are *commands* given through the same arm has learned
its lateness already; one whose actions are measured motion (led by hand, or another robot's) has not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from policy_bringup.core.config import bounded, load
from policy_bringup.core.deployment import Deployment
from policy_bringup.core.errors import ConfigError

LONGEST_CAMERA_S, LONGEST_ACTUATOR_S = 0.5, 0.5
_HEAD = """\
# How late this robot's cameras and its arm are, s. Measured by `policy calibrate-latency`; 0 changes nothing.
# A picture is aligned as if its stamp were so much earlier. A policy's actions are asked for so much before they are
# due where policy.yaml says ask_ahead.
"""


@dataclass(frozen=True, slots=True)
class Latency:
    """cameras: camera -> s by which its stamps are later than what its pictures show; one not named: 0. actuator_s:
    from the moment at which a pose is asked for until the arm is there."""

    cameras: dict[str, float] = field(default_factory=dict, metadata={"bounds": (0.0, LONGEST_CAMERA_S), "unit": "s"})
    actuator_s: float = bounded(0.0, LONGEST_ACTUATOR_S, "s", default=0.0)

    def camera_ns(self, camera: str) -> int:
        """Of one camera, ns."""
        return round(self.cameras.get(camera, 0.0) * 1e9)


PUNCTUAL = Latency()
"""Nothing is late."""


def load_latency(config_folder: Path, deployment: Deployment) -> Latency:
    """What the deployment's file says; zeros if it names none.

    Raises ConfigError, also for a camera that the deployment does not have, and for an arm so late that less than the
    steps to be executed would be left of a chunk.
    """
    if not deployment.latency:
        return PUNCTUAL
    path = config_folder / deployment.latency
    latency = load(path, Latency)
    for camera in latency.cameras:
        if camera not in deployment.camera_names:
            names = ", ".join(deployment.camera_names)
            raise ConfigError(f"{path}: cameras: the deployment has no camera '{camera}'; it has {names}")
    action = deployment.contract.action
    most_s = (action.steps - action.execute) * action.dt_s
    if latency.actuator_s > most_s:
        raise ConfigError(
            f"{path}: actuator_s: of a chunk of {action.steps} steps {action.execute} must be left, so it must be at "
            f"most {most_s:g} s, found {latency.actuator_s:g}"
        )
    return latency


def save_latency(path: Path, latency: Latency) -> None:
    """Writes the file, whole or not at all. Raises ConfigError."""
    values = {"cameras": dict(latency.cameras), "actuator_s": latency.actuator_s}
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(_HEAD + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
