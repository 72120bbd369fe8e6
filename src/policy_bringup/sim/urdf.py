"""The robot's URDF, written from the table in `panda.py`: what kinematics, ros2_control and RViz read."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from policy_bringup.sim.panda import JOINTS, LINKS, MOVING, NAME, Inertial, Joint, Link, Shape


def numbers(*values: float) -> str:
    """The numbers as XML text, exactly (Python's shortest text that reads back as the same float)."""
    return " ".join(repr(float(value)) if value != int(value) else str(int(value)) for value in values)


def urdf() -> str:
    """The whole file, with a `<ros2_control>` block of position interfaces on mock hardware."""
    robot = ET.Element("robot", name=NAME)
    for link in LINKS:
        _link(robot, link)
    for joint in JOINTS:
        _joint(robot, joint)
    _ros2_control(robot)
    ET.indent(robot)
    note = "<!-- Written by policy_bringup.sim.model from the table in sim/panda.py: change that, not this. -->\n"
    return '<?xml version="1.0"?>\n' + note + ET.tostring(robot, encoding="unicode") + "\n"


def _link(robot: ET.Element, link: Link) -> None:
    element = ET.SubElement(robot, "link", name=link.name)
    if link.inertial is not None:
        _inertial(element, link.inertial)
    for role in ("visual", "collision"):
        for index, shape in enumerate(link.shapes):
            _shape(ET.SubElement(element, role, name=f"{link.name}_{role}{index}"), shape, role == "visual")


def _inertial(link: ET.Element, inertial: Inertial) -> None:
    element = ET.SubElement(link, "inertial")
    ET.SubElement(element, "origin", xyz=numbers(*inertial.center), rpy="0 0 0")
    ET.SubElement(element, "mass", value=numbers(inertial.mass))
    names = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
    ET.SubElement(element, "inertia", dict(zip(names, map(numbers, inertial.inertia), strict=True)))


def _shape(element: ET.Element, shape: Shape, visible: bool) -> None:
    ET.SubElement(element, "origin", xyz=numbers(*shape.xyz), rpy=numbers(*shape.rpy))
    geometry = ET.SubElement(element, "geometry")
    if shape.kind == "box":
        ET.SubElement(geometry, "box", size=numbers(*shape.size))
    else:
        ET.SubElement(geometry, "cylinder", radius=numbers(shape.size[0]), length=numbers(shape.size[1]))
    if visible:
        material = ET.SubElement(
            element, "material", name="rgb_" + "_".join(f"{round(c * 255):02x}" for c in shape.colour)
        )
        ET.SubElement(material, "color", rgba=numbers(*shape.colour, 1.0))


def _joint(robot: ET.Element, joint: Joint) -> None:
    element = ET.SubElement(robot, "joint", name=joint.name, type=joint.kind)
    ET.SubElement(element, "origin", xyz=numbers(*joint.xyz), rpy=numbers(*joint.rpy))
    ET.SubElement(element, "parent", link=joint.parent)
    ET.SubElement(element, "child", link=joint.child)
    if joint.kind == "fixed":
        return
    ET.SubElement(element, "axis", xyz=numbers(*joint.axis))
    ET.SubElement(
        element, "limit", lower=numbers(joint.lower), upper=numbers(joint.upper), velocity=numbers(joint.velocity),
        effort=numbers(joint.effort),
    )  # fmt: skip
    ET.SubElement(element, "dynamics", damping=numbers(joint.damping), friction="0")
    if joint.mimic:
        ET.SubElement(element, "mimic", joint=joint.mimic, multiplier="1", offset="0")


def _ros2_control(robot: ET.Element) -> None:
    system = ET.SubElement(robot, "ros2_control", name=NAME, type="system")
    ET.SubElement(ET.SubElement(system, "hardware"), "plugin").text = "mock_components/GenericSystem"
    for joint in MOVING:
        element = ET.SubElement(system, "joint", name=joint.name)
        if not joint.mimic:
            ET.SubElement(element, "command_interface", name="position")
        for state in ("position", "velocity", "effort"):
            ET.SubElement(element, "state_interface", name=state)
