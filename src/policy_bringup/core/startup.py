"""What is started for a deployment: processes, parameters, environment. Launch file and runner both ask here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policy_bringup.core import graph, security_policies
from policy_bringup.core.errors import ConfigError

SOURCES = ("bundle", "expert", "replay", "latency", "none")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
TRIAL_SEED = 2_000_000
"""Scenes of a deployment by default: beyond those of training, calibration and evaluation (pipeline/seeds.py), so that
a policy shows what it does where it was not trained, and what is recorded of it may be trained on."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chooses when starting.

    source: "bundle" runs the policy bundle in the folder `bundle`; "expert" the scripted one, which only the simulator
    can serve; "replay" makes the motion of the recorded episode in the folder `bundle` again; "latency" sways the arm
    and measures how late it and the cameras are; "none": no policy, a person drives. episodes: 0 goes on until stopped.
    camera_source: a device, a video or a bag for the camera node. record: dataset folder for the recorder.
    teleop_device: see nodes/teleop_node.py. compliant_controller: the one of ros2_control that lets a hand lead the
    arm; "": no hand guiding there. operator: name or number kept with every recording. security: SROS2 keystore; None:
    no DDS security.
    """

    mode: str
    deployment: Path
    source: str = "bundle"
    bundle: Path | None = None
    episodes: int = 10
    report: Path | None = None
    camera_backend: str = "auto"
    camera_source: str = ""
    seed: int = TRIAL_SEED
    record: Path | None = None
    teleop_device: str = ""
    compliant_controller: str = ""
    operator: str = ""
    console: bool = False
    domain_id: int = 0
    security: Path | None = None
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Process:
    """One node to start: its ROS parameters, the variables that it needs, and what else stands behind --ros-args."""

    name: str
    module: str
    executable: str
    parameters: Mapping[str, str | int]
    environment: Mapping[str, str]
    ros_arguments: tuple[str, ...]


def processes(options: Options) -> tuple[Process, ...]:
    """One entry per node of the mode, in start order. Raises ConfigError for a choice that cannot work."""
    _check(options)
    available = _available(options)
    return tuple(
        Process(
            node.name,
            node.module,
            node.executable,
            {
                "deployment": str(options.deployment),
                **_clock(options.mode),
                **{n: available[n] for n in node.parameters},
            },
            environment(options.deployment.parent, options.domain_id, node.pictures) | _keys(options, node.name),
            ("--log-level", options.log_level, *(security_policies.arguments(node.name) if options.security else ())),
        )
        for node in graph.nodes(options.mode)
        if _starts(node.name, options)
    )


def _available(options: Options) -> dict[str, str | int]:
    """What a node may be given as a parameter."""
    return {
        "mode": options.mode,
        "source": options.source,
        "bundle": str(options.bundle or ""),
        "episodes": options.episodes,
        "report": str(options.report or ""),
        "camera_backend": options.camera_backend,
        "camera_source": options.camera_source,
        "seed": options.seed,
        "record": str(options.record or ""),
        "teleop_device": options.teleop_device,
        "compliant_controller": options.compliant_controller,
        "operator": options.operator,
    }


def _clock(mode: str) -> dict[str, str | int]:
    """Gazebo stamps joint states and pictures by its own clock, /clock: a node that goes by another one would find all
    of them too old. Watchdogs stay on real time: the simulation must run about as fast."""
    return {"use_sim_time": True} if mode == "gazebo" else {}


def _starts(name: str, options: Options) -> bool:
    """Whether a node of the mode is started."""
    asked = {
        "console": options.console,
        "recorder": options.record is not None,
        "teleop": options.teleop_device != "",
        "latency": options.source == "latency",
        "compliance": options.compliant_controller != "",
    }
    alone = {"none": ("policy", "trial"), "latency": ("trial",)}.get(options.source, ())
    return asked.get(name, True) and name not in alone


def environment(config_folder: Path, domain_id: int, pictures: bool) -> dict[str, str]:
    """Variables of a process: loopback only, and shared memory if it sends or reads `pictures`, else none.

    Why none: Fast DDS locks a whole process while it first opens the shared memory of a new reader, up to a third of a
    second, and a process that is stopped or killed may leave a lock there. Nothing of that may delay safety or the arm.
    Why not the discovery range LOCALHOST: rmw_fastrtps then adds shared memory of its own to every process; the
    profiles restrict discovery instead, to the loopback interface. They are for Fast DDS, which is therefore named, and
    read under one name on Jazzy and another on Kilted. One thread for linear algebra: matrices are small here, and more
    threads only wait for each other on a busy machine. No graphics library for MuJoCo to look for at its import:
    sim/egl.py loads the one it needs.
    """
    if not 0 <= domain_id <= 101:
        raise ConfigError(f"domain_id: must be from 0 to 101, found {domain_id}")
    profile = str((config_folder / ("fastdds_pictures.xml" if pictures else "fastdds.xml")).resolve())
    return {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "OPENBLAS_NUM_THREADS": "1",
        "MUJOCO_GL": "disable",
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
    }


def _keys(options: Options, name: str) -> dict[str, str]:
    return security_policies.environment(options.security, name) if options.security else {}


def _check(options: Options) -> None:
    graph.nodes(options.mode)
    if options.source not in SOURCES:
        raise ConfigError(f"source: must be one of {', '.join(SOURCES)}, found '{options.source}'")
    if options.log_level not in LOG_LEVELS:
        raise ConfigError(f"log_level: must be one of {', '.join(LOG_LEVELS)}, found '{options.log_level}'")
    if options.source == "expert" and options.mode != "sim":
        raise ConfigError(f"source: the expert reads the simulator's object pose; mode '{options.mode}' has none")
    if options.source == "latency" and options.mode == "shadow":
        raise ConfigError("source: latency moves the arm; mode 'shadow' moves nothing")
    if options.source == "bundle" and options.bundle is None:
        raise ConfigError("bundle: is missing; give the folder of a policy bundle, or --source expert in simulation")
    if options.source == "replay":
        _check_episode(options.bundle)
    if options.source == "none" and not options.teleop_device and options.record is None:
        raise ConfigError("source: none leaves nothing to do; give a teleop device, a dataset to record to, or both")
    if options.compliant_controller and options.mode in ("sim", "shadow"):
        why = "the simulator yields by itself" if options.mode == "sim" else "mode 'shadow' moves no arm"
        raise ConfigError(f"compliant_controller: is one of ros2_control (mode hardware or gazebo); {why}")
    if options.security is not None and options.mode == "gazebo":
        raise ConfigError(
            "security: the keys are for the topics of core/graph.py, and /clock of mode gazebo is not one"
        )
    if options.episodes < 0:
        raise ConfigError(f"episodes: must be 0 (without end) or more, found {options.episodes}")
    if not options.deployment.is_file():
        raise ConfigError(f"deployment: there is no file {options.deployment}")


def _check_episode(folder: Path | None) -> None:
    if folder is None:
        raise ConfigError("bundle: is missing; replay needs the folder of a recorded episode")
    if not folder.is_dir():
        raise ConfigError(f"bundle: there is no episode {folder} to replay")
    if not any(folder.glob("*.mcap")):
        raise ConfigError(f"bundle: {folder} is no episode to replay: it holds no bag (.mcap)")
