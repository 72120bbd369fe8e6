"""The robot's MJCF, written from the table in `panda.py`: what the simulator builds its world around.

Position servos with gravity compensation move every joint; the second finger is tied to the first. Robot parts do not
touch each other (`contype` 1, `conaffinity` 0), but touch everything whose `conaffinity` has bit 1.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from policy_bringup.core.rotations import from_rpy, to_quaternion
from policy_bringup.sim.panda import JOINTS, LINKS, MOVING, NAME, Inertial, Joint, Link, Shape, Triple
from policy_bringup.sim.urdf import numbers

PHYSICS_STEP_S = 0.002
PAD = {"friction": "1.5 0.02 0.0001", "condim": "4", "priority": "1", "solref": "0.004 1", "solimp": "0.95 0.99 0.001"}


def mjcf() -> str:
    """The whole file: one robot standing in an empty world."""
    root = ET.Element("mujoco", model=NAME)
    ET.SubElement(root, "compiler", angle="radian", autolimits="true")
    ET.SubElement(
        root, "option", timestep=numbers(PHYSICS_STEP_S), integrator="implicitfast", cone="elliptic", impratio="10"
    )
    _body(ET.SubElement(root, "worldbody"), LINKS[0], None)
    actuator, equality = ET.SubElement(root, "actuator"), ET.SubElement(root, "equality")
    for joint in MOVING:
        _servo(actuator, joint)
        if joint.mimic:
            ET.SubElement(equality, "joint", joint1=joint.name, joint2=joint.mimic, solref="0.004 1")
    ET.indent(root)
    note = "<!-- Written by policy_bringup.sim.model from the table in sim/panda.py: change that, not this. -->\n"
    return note + ET.tostring(root, encoding="unicode") + "\n"


def _body(parent: ET.Element, link: Link, joint: Joint | None) -> None:
    pose: dict[str, str] = {}
    if joint is not None:
        pose = {"pos": numbers(*joint.xyz), "quat": _quaternion(joint.rpy)}
    children = [child for child in JOINTS if child.parent == link.name]
    if link.inertial is None and not link.shapes and not children:
        ET.SubElement(parent, "site", {"name": link.name, **pose, "size": "0.005", "group": "4"})
        return
    body = ET.SubElement(parent, "body", {"name": link.name, **pose, "gravcomp": "1"})
    if link.inertial is not None:
        _inertial(body, link.inertial)
    if joint is not None and joint.kind != "fixed":
        _joint(body, joint)
    for index, shape in enumerate(link.shapes):
        _shape(body, f"{link.name}_{index}", shape)
    for child in children:
        _body(body, next(part for part in LINKS if part.name == child.child), child)


def _quaternion(rpy: Triple) -> str:
    x, y, z, w = to_quaternion(from_rpy(*rpy))
    return numbers(w, x, y, z)


def _inertial(body: ET.Element, inertial: Inertial) -> None:
    ET.SubElement(
        body, "inertial", pos=numbers(*inertial.center), mass=numbers(inertial.mass),
        fullinertia=numbers(*inertial.inertia),
    )  # fmt: skip


def _joint(body: ET.Element, joint: Joint) -> None:
    ET.SubElement(
        body, "joint", name=joint.name, type="hinge" if joint.kind == "revolute" else "slide",
        axis=numbers(*joint.axis), range=numbers(joint.lower, joint.upper), damping=numbers(joint.damping),
        armature=numbers(joint.armature), actuatorgravcomp="true",
    )  # fmt: skip


def _shape(body: ET.Element, name: str, shape: Shape) -> None:
    if shape.kind == "box":
        size = numbers(*(length / 2 for length in shape.size))
    else:
        size = numbers(shape.size[0], shape.size[1] / 2)
    geom = ET.SubElement(
        body, "geom", name=name, type=shape.kind, size=size, pos=numbers(*shape.xyz), quat=_quaternion(shape.rpy),
        rgba=numbers(*shape.colour, 1.0), contype="1", conaffinity="0", group="1",
    )  # fmt: skip
    if shape.pad:
        geom.attrib.update(PAD)


def _servo(actuator: ET.Element, joint: Joint) -> None:
    # No ctrlrange: the velocity feed-forward rides on the position target, which may then lie beyond the joint's range.
    stiffness, damping = joint.gains
    ET.SubElement(
        actuator, "position", name=joint.name, joint=joint.name, kp=numbers(stiffness), kv=numbers(damping),
        forcerange=numbers(-joint.effort, joint.effort),
    )  # fmt: skip
