"""Grasping, on a ROS installation: ros2 launch policy_bringup grasp.launch.py mode:=sim source:=expert."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from policy_bringup.core import graph
from policy_bringup.core.startup import LOG_LEVELS, SOURCES, TRIAL_SEED, Options, processes

SHARE = Path(get_package_share_directory("policy_bringup"))
ARGUMENTS = {
    "mode": ("sim", "what is driven: " + ", ".join(graph.MODES)),
    "deployment": (str(SHARE / "config" / "grasp.yaml"), "file that describes robot, cameras, contract and limits"),
    "source": ("bundle", "who acts: " + ", ".join(SOURCES)),
    "bundle": (
        str(SHARE / "models" / "policies" / "grasp"),
        "folder of the policy bundle; of source replay: of the recorded episode",
    ),
    "episodes": ("0", "episodes to run in simulation; 0 goes on until stopped"),
    "report": ("", "file for the report of the episodes (JSON)"),
    "camera_backend": ("auto", "pictures of the simulated cameras: auto, egl, raycast"),
    "camera_source": ("", "device, video or bag for the camera node"),
    "record": ("", "dataset folder: record every episode there"),
    "teleop_device": ("", "who may take over: joy, leader, gamepad:/dev/input/js0, keyboard:/dev/pts/N"),
    "compliant_controller": ("", "hand guiding: name of the gravity compensating controller, loaded and inactive"),
    "operator": ("", "name or number kept with every recording"),
    "seed": (str(TRIAL_SEED), "seed of the simulated scenes"),
    "console": ("false", "true starts the operator page on this machine"),
    "domain_id": ("0", "ROS domain"),
    "security": ("", "SROS2 keystore with the keys of every process"),
    "log_level": ("info", ", ".join(LOG_LEVELS)),
}


def start(context: LaunchContext) -> list:
    chosen = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    options = Options(
        mode=chosen["mode"],
        deployment=Path(chosen["deployment"]),
        source=chosen["source"],
        bundle=Path(chosen["bundle"]) if chosen["source"] in ("bundle", "replay") else None,
        episodes=int(chosen["episodes"]),
        report=Path(chosen["report"]) if chosen["report"] else None,
        camera_backend=chosen["camera_backend"],
        camera_source=chosen["camera_source"],
        seed=int(chosen["seed"]),
        record=Path(chosen["record"]).absolute() if chosen["record"] else None,
        teleop_device=chosen["teleop_device"],
        compliant_controller=chosen["compliant_controller"],
        operator=chosen["operator"],
        console=chosen["console"] == "true",
        domain_id=int(chosen["domain_id"]),
        security=Path(chosen["security"]).absolute() if chosen["security"] else None,
        log_level=chosen["log_level"],
    )
    return [
        LifecycleNode(
            package="policy_bringup",
            executable=process.executable,
            name=process.name,
            namespace="",
            parameters=[dict(process.parameters)],
            ros_arguments=list(process.ros_arguments),
            additional_env=dict(process.environment),
            output="screen",
            respawn=False,
            # If any node ends, all are asked to end.
            on_exit=Shutdown(reason=f"{process.name} ended"),
        )
        for process in processes(options)
    ]


def generate_launch_description() -> LaunchDescription:
    declared = [DeclareLaunchArgument(n, default_value=d, description=t) for n, (d, t) in ARGUMENTS.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
