"""Who may publish, read, serve and call what: core/graph.py as a policy of SROS2, one enclave per process.

DDS then refuses everything else. `python -m policy_bringup.core.security_policies OUT CAMERA...` writes it; SROS2 makes
keys and signed permissions from it: `ros2 security generate_artifacts -k KEYSTORE -p OUT`. Where DDS security is not
compiled in, a process that is told to use it does not start (docs/security.md).
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, fields
from pathlib import Path

from policy_bringup.core import graph
from policy_bringup.core.errors import ConfigError

ENCLAVES = "/policy_bringup"
"""Every enclave lies under this path; its last part is the name of the node."""
OUTSIDE = ("operator", "robot")
"""Who takes part without being a node of this package: a console or box of its own, and the robot's driver."""
VERSION = "0.2.0"
"""Of the policy format."""

EVERY_NODE_PUBLISHES = ("/rosout", "/parameter_events")
EVERY_NODE_SERVES = (
    "~/describe_parameters",
    "~/get_parameter_types",
    "~/get_parameters",
    "~/get_type_description",
    "~/list_parameters",
    "~/set_parameters",
    "~/set_parameters_atomically",
)
LIFECYCLE_PUBLISHES = ("~/transition_event",)
LIFECYCLE_SERVES = (
    "~/change_state",
    "~/get_available_states",
    "~/get_available_transitions",
    "~/get_state",
    "~/get_transition_graph",
)
"""What rclpy opens in every node, and in every lifecycle node. Nobody may call these services: a deployment starts its
nodes by parameters of the command line."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What one process may do, and nothing else; names as ROS resolves them in the root namespace."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    reply: tuple[str, ...]
    request: tuple[str, ...]


def participants() -> tuple[str, ...]:
    """Everyone who takes part: the nodes, in the graph's order, and who is outside."""
    return (*(node.name for node in graph.NODES), *OUTSIDE)


def grants(name: str, cameras: tuple[str, ...]) -> Grants:
    """The rights of one participant in a deployment with these cameras. Raises ConfigError for an unknown name."""
    if name not in participants():
        raise ConfigError(f"'{name}' takes no part in core/graph.py; these do: {', '.join(participants())}")
    topics = graph.topics(cameras)
    lifecycle = name not in OUTSIDE
    return Grants(
        publish=(
            *(_absolute(topic.name) for topic in topics if name in topic.publishers),
            *EVERY_NODE_PUBLISHES,
            *(LIFECYCLE_PUBLISHES if lifecycle else ()),
        ),
        subscribe=tuple(_absolute(topic.name) for topic in topics if topic.read_by(name)),
        reply=(
            *(_absolute(service.name) for service in graph.SERVICES if name in service.servers),
            *EVERY_NODE_SERVES,
            *(LIFECYCLE_SERVES if lifecycle else ()),
        ),
        request=tuple(_absolute(service.name) for service in graph.SERVICES if name in service.clients),
    )


def enclave(name: str) -> str:
    """The enclave of one participant: the value of `--ros-args --enclave`."""
    return f"{ENCLAVES}/{name}"


def policy(cameras: tuple[str, ...]) -> str:
    """The whole policy as XML. Raises ConfigError for a camera whose name no topic can have: it might be a pattern."""
    for camera in cameras:
        if not (camera.isascii() and camera.isidentifier()):
            raise ConfigError(f"camera '{camera}': must be a word of letters, digits and '_'")
    root = ET.Element("policy", version=VERSION)
    root.append(ET.Comment(" Made from core/graph.py by policy_bringup.core.security_policies; not to be edited. "))
    enclaves = ET.SubElement(root, "enclaves")
    for name in participants():
        profiles = ET.SubElement(ET.SubElement(enclaves, "enclave", path=enclave(name)), "profiles")
        profile = ET.SubElement(profiles, "profile", ns="/", node=name)
        granted = grants(name, cameras)
        for right in fields(Grants):
            _add(profile, right.name, getattr(granted, right.name))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def arguments(name: str) -> tuple[str, ...]:
    """ROS arguments with which a process takes up its enclave."""
    return ("--enclave", enclave(name))


def environment(keystore: Path, name: str) -> dict[str, str]:
    """Variables that make DDS security a condition of starting. Raises ConfigError if the keystore has no such enclave.

    Enforce: without it, a process whose keys are missing would start without security.
    """
    permissions = keystore / "enclaves" / enclave(name).lstrip("/") / "permissions.p7s"
    if not permissions.is_file():
        raise ConfigError(
            f"security: {permissions} is missing; "
            f"make it with `ros2 security generate_artifacts -k {keystore} -p sros2_policy.xml`"
        )
    return {
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(keystore.resolve()),
    }


def _add(profile: ET.Element, right: str, names: tuple[str, ...]) -> None:
    """One list of the profile; the format has no empty ones."""
    kind = "topic" if right in ("publish", "subscribe") else "service"
    if names:
        listed = ET.SubElement(profile, f"{kind}s", {right: "ALLOW"})
        for name in names:
            ET.SubElement(listed, kind).text = name


def _absolute(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m policy_bringup.core.security_policies OUT CAMERA...")
    Path(sys.argv[1]).write_text(policy(tuple(sys.argv[2:])), encoding="utf-8")
