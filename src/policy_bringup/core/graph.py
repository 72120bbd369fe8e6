"""The robot on one page: which nodes run in which mode, which topics and services join them, how fast, how reliably.

Launch file, runner, endpoints, recorder, staleness limits, the README's picture and the architecture test read this
page. A topic that is not here does not exist: a node that asks for one, or that is not listed at it, stops at start-up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policy_bringup.core.errors import ConfigError

MODES = ("sim", "hardware", "gazebo", "shadow")
"""sim: simulated arm. hardware: ros2_control. gazebo: the same on simulated time. shadow: the policy runs beside an
operator and commands nothing."""


@dataclass(frozen=True, slots=True)
class Qos:
    """A DDS quality of service, in rclpy's words."""

    reliability: str
    durability: str
    depth: int


SENSOR = Qos("best_effort", "volatile", 1)
STATE = Qos("best_effort", "volatile", 5)
COMMAND = Qos("reliable", "volatile", 1)
EVENT = Qos("reliable", "volatile", 10)
LATCHED = Qos("reliable", "transient_local", 1)


@dataclass(frozen=True, slots=True)
class Node:
    """One process: `module` under policy_bringup.nodes has a `main`; `config` is its file under config/.

    parameters: start-up choices (core/startup.py) that are handed to it. optional: started only when asked for.
    pictures: it sends or reads pictures, for which it shares memory with its peers (core/startup.py).
    """

    name: str
    config: str
    modes: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    optional: bool = False
    pictures: bool = False

    @property
    def module(self) -> str:
        """Python module that runs it."""
        return f"policy_bringup.nodes.{self.name}_node"

    @property
    def executable(self) -> str:
        """Console script that runs it (setup.cfg)."""
        return f"{self.name}_node"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `{camera}` in a name stands for every camera of the deployment.

    rate_hz: nominal, 0 for "when something changes". stale_s: age at which a reader must stop relying on it.
    publishers other than the nodes below: "robot" is a driver outside this package, "operator" a console or a box.
    recorded: the recorder reads it too.
    """

    name: str
    type: str
    rate_hz: float
    publishers: tuple[str, ...]
    readers: tuple[str, ...]
    qos: Qos
    recorded: bool
    stale_s: float

    def read_by(self, node: str) -> bool:
        """Whether a node may subscribe to it."""
        return node in self.readers or (self.recorded and node == "recorder")


@dataclass(frozen=True, slots=True)
class Service:
    """One service. otherwise: who serves it in the modes in which `server` does not run; "": nobody.

    "robot" is ros2_control, outside this package.
    """

    name: str
    type: str
    server: str
    clients: tuple[str, ...]
    otherwise: str = ""

    @property
    def servers(self) -> tuple[str, ...]:
        """Who may serve it; in no mode more than one of them runs."""
        return (self.server, self.otherwise) if self.otherwise else (self.server,)


RUN = ("sim", "hardware", "gazebo")
ALL = (*RUN, "shadow")

NODES = (
    Node("sim", "sim.yaml", ("sim",), ("seed", "source", "bundle")),
    Node("compliance", "compliance.yaml", ("hardware", "gazebo"), ("compliant_controller",), optional=True),
    Node("sim_camera", "sim.yaml", ("sim",), ("camera_backend",), pictures=True),
    Node("camera", "camera.yaml", ("hardware", "shadow"), ("camera_source",), pictures=True),
    Node("policy", "policy.yaml", ALL, ("source", "bundle", "mode"), pictures=True),
    Node("safety", "safety.yaml", ALL, ("source", "bundle")),
    Node("arm", "arm.yaml", RUN, ("compliant_controller",)),
    Node("trial", "trial.yaml", ("sim",), ("episodes", "report", "record")),
    Node("latency", "latency.yaml", RUN, ("report",), optional=True, pictures=True),
    Node("teleop", "teleop.yaml", ALL, ("teleop_device",), optional=True),
    Node(
        "recorder",
        "recorder.yaml",
        ALL,
        ("record", "mode", "source", "teleop_device", "operator"),
        optional=True,
        pictures=True,
    ),
    Node("console", "console.yaml", ALL, ("mode",), optional=True, pictures=True),
)

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
JPEG = "sensor_msgs/msg/CompressedImage"
TABLE, STATUS = "trajectory_msgs/msg/JointTrajectory", "diagnostic_msgs/msg/DiagnosticArray"

TOPICS = (
    #     name                              type                            Hz   publishers         readers                      QoS    recorded  stale s
    Topic("camera/{camera}/image_raw",      IMAGE,                          30,  ("sim_camera", "camera", "robot"), ("policy", "console", "latency"), SENSOR,  True,  0.15),
    Topic("camera/{camera}/image_raw/compressed", JPEG,                     30,  ("sim_camera", "camera", "robot"), (),              SENSOR,  True,  0.15),
    Topic("camera/{camera}/camera_info",    INFO,                           30,  ("sim_camera", "camera", "robot"), ("trial",),      SENSOR,  True,  0.15),
    Topic("joint_states",                   "sensor_msgs/msg/JointState",  100,  ("sim", "robot"),  ("sim_camera", "policy", "safety", "arm", "teleop", "trial", "console", "latency"), STATE, True, 0.1),
    Topic("sim/object_pose",                "geometry_msgs/msg/PoseStamped", 100, ("sim",),         ("sim_camera", "policy", "console"), STATE,   True,  0.1),
    Topic("sim/state",                      STATUS,                         10,  ("sim",),          ("trial", "console"),       EVENT,   True,  0.5),
    Topic("policy/action",                  TABLE,                          20,  ("policy",),       ("safety", "trial", "latency"), COMMAND, True,  0.25),
    Topic("teleop/action",                  TABLE,                          20,  ("teleop",),       ("safety",),                 COMMAND, True,  0.25),
    Topic("joy",                            "sensor_msgs/msg/Joy",           0,  ("operator",),     ("teleop",),                 EVENT,   True, 0.5),
    Topic("leader/joint_states",            "sensor_msgs/msg/JointState",  100,  ("operator",),     ("teleop",),                 STATE,   True, 0.1),
    Topic("home/action",                    TABLE,                          20,  ("arm",),          ("safety",),                 COMMAND, True,  0.25),
    Topic("safety/action",                  TABLE,                         100,  ("safety",),       ("arm", "teleop", "trial"),           COMMAND, True,  0.1),
    Topic("safety/verdict",                 STATUS,                         20,  ("safety",),       ("trial", "console"),       EVENT,   True,  0.25),
    Topic("safety/state",                   STATUS,                         10,  ("safety",),       ("policy", "arm", "teleop", "trial", "console", "latency"), LATCHED, True,  0.5),
    Topic("safety/estop",                   "std_msgs/msg/Bool",            20,  ("operator",),     ("safety",),                 EVENT,   True,  0.25),
    Topic("arm_controller/joint_trajectory", TABLE,                        100,  ("arm",),          ("sim", "robot", "trial"),   COMMAND, True,  0.1),
    Topic("arm/state",                      STATUS,                         10,  ("arm",),          ("safety", "teleop", "trial"), LATCHED, True, 0.5),
    Topic("recorder/state",                 STATUS,                          2,  ("recorder",),     ("trial", "teleop", "console"), LATCHED, False, 1.5),
    Topic("/diagnostics",                   STATUS,                          1,  tuple(node.name for node in NODES), ("trial", "console"), EVENT,   True,  3.0),
)  # fmt: skip

TRIGGER, SET_BOOL = "std_srvs/srv/Trigger", "std_srvs/srv/SetBool"
CONTROLLERS = "controller_manager_msgs/srv"

SERVICES = (
    Service("safety/arm", SET_BOOL, "safety", ("trial", "teleop", "console", "operator")),
    Service("safety/stop", SET_BOOL, "safety", ("teleop", "console", "operator")),
    Service("safety/reset", TRIGGER, "safety", ("console", "operator")),
    Service("arm/home", TRIGGER, "arm", ("trial", "console", "operator")),
    Service("arm/hand_guide", SET_BOOL, "arm", ("teleop", "console", "operator")),
    Service("arm/grip", SET_BOOL, "arm", ("teleop", "operator")),
    Service("robot/compliant", SET_BOOL, "sim", ("arm",), otherwise="compliance"),
    Service("controller_manager/list_controllers", f"{CONTROLLERS}/ListControllers", "robot", ("compliance",)),
    Service("controller_manager/switch_controller", f"{CONTROLLERS}/SwitchController", "robot", ("compliance",)),
    Service("arm_controller/get_parameters", "rcl_interfaces/srv/GetParameters", "robot", ("compliance",)),
    Service("sim/reset", TRIGGER, "sim", ("trial",)),
    Service("sim/cover", SET_BOOL, "sim_camera", ("console", "operator")),
    Service("recorder/start", TRIGGER, "recorder", ("trial", "teleop", "console", "operator")),
    Service("recorder/stop", TRIGGER, "recorder", ("trial", "teleop", "console", "operator")),
    Service("recorder/discard", TRIGGER, "recorder", ("teleop", "console", "operator")),
    Service("recorder/success", SET_BOOL, "recorder", ("trial", "teleop", "console", "operator")),
)


def nodes(mode: str) -> tuple[Node, ...]:
    """The nodes of one mode, in start order. Raises ConfigError for an unknown mode."""
    if mode not in MODES:
        raise ConfigError(f"mode: must be one of {', '.join(MODES)}, found '{mode}'")
    return tuple(node for node in NODES if mode in node.modes)


def topics(cameras: tuple[str, ...]) -> tuple[Topic, ...]:
    """Every topic, with `{camera}` filled in."""
    filled: list[Topic] = []
    for topic in TOPICS:
        names = cameras if "{camera}" in topic.name else ("",)
        filled.extend(replace(topic, name=topic.name.replace("{camera}", camera)) for camera in names)
    return tuple(filled)


def topic(name: str) -> Topic:
    """One entry by name; an actual camera name matches the `{camera}` entry. Raises ConfigError for a name not here."""
    for entry in TOPICS:
        before, placeholder, after = entry.name.partition("{camera}")
        if not placeholder and entry.name == name:
            return entry
        camera = name[len(before) : len(name) - len(after)]
        if placeholder and camera and "/" not in camera and name == before + camera + after:
            return replace(entry, name=name)
    raise ConfigError(f"topic '{name}' is not in core/graph.py")


def service(name: str) -> Service:
    """One entry by name. Raises ConfigError for a name not here."""
    for entry in SERVICES:
        if entry.name == name:
            return entry
    raise ConfigError(f"service '{name}' is not in core/graph.py")
