"""The robot's shape, read from its URDF: a tree of links with boxes and cylinders. Meshes and spheres are left out."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.rotations import exp, from_rpy
from policy_bringup.core.types import Array, Pose

GREY = "0.6 0.6 0.6 1"


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One primitive. size: full lengths x, y, z of a box; radius and length (along z) of a cylinder; m.

    T_link_shape: where it sits; colour: red, green, blue, 0 to 1.
    """

    kind: str
    size: tuple[float, ...]
    T_link_shape: Pose
    colour: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One link and the joint that carries it (parent "" and kind "fixed" for the root).

    T_parent_joint: the joint's frame at position 0; axis `(3,)`: unit axis in that frame. moved_by: the joint whose
    position counts (another one for a mimic joint), times `multiplier`, plus `offset`.
    """

    name: str
    parent: str
    kind: str
    T_parent_joint: Pose
    axis: Array
    moved_by: str
    multiplier: float
    offset: float
    shapes: tuple[Shape, ...]

    def pose(self, position: float) -> Pose:
        """T_parent_link with the moving joint at `position` (rad or m)."""
        at, origin = self.multiplier * position + self.offset, self.T_parent_joint
        if self.kind == "prismatic":
            return Pose(origin.position + origin.rotation @ (self.axis * at), origin.rotation)
        if self.kind in ("revolute", "continuous"):
            return Pose(origin.position, origin.rotation @ exp(self.axis * at))
        return origin


def load_drawing(path: Path | str) -> tuple[Link, ...]:
    """All links, each after its parent. Raises ConfigError for an unreadable, broken or unconnected description."""
    try:
        root = ET.parse(path).getroot()
        joints = {_named(element, "child", "link"): element for element in root.findall("joint")}
        links = {element.attrib["name"]: _link(element, joints) for element in root.findall("link")}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ET.ParseError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: is not a URDF that can be drawn ({error})") from error
    return _parents_first(links, path)


def _parents_first(links: dict[str, Link], path: Path | str) -> tuple[Link, ...]:
    ordered: dict[str, Link] = {}
    waiting = list(links.values())
    while waiting:
        ready = [link for link in waiting if not link.parent or link.parent in ordered]
        if not ready:
            raise ConfigError(f"{path}: link '{waiting[0].name}' hangs on no root (its parent: '{waiting[0].parent}')")
        ordered.update((link.name, link) for link in ready)
        waiting = [link for link in waiting if link.name not in ordered]
    return tuple(ordered.values())


def _link(element: ET.Element, joints: dict[str, ET.Element]) -> Link:
    name = element.attrib["name"]
    shapes = tuple(shape for visual in element.findall("visual") for shape in _shapes(visual))
    joint = joints.get(name)
    if joint is None:
        return Link(name, "", "fixed", Pose(np.zeros(3), np.eye(3)), np.zeros(3), "", 1.0, 0.0, shapes)
    mimic = joint.find("mimic")
    axis = np.array(_numbers(joint.find("axis"), "xyz", "1 0 0", 3))  # URDF's default axis is x
    return Link(
        name,
        _named(joint, "parent", "link"),
        joint.attrib["type"],
        _origin(joint),
        axis / max(float(np.linalg.norm(axis)), 1e-9),
        joint.attrib["name"] if mimic is None else mimic.attrib["joint"],
        _numbers(mimic, "multiplier", "1", 1)[0],
        _numbers(mimic, "offset", "0", 1)[0],
        shapes,
    )


def _shapes(visual: ET.Element) -> list[Shape]:
    colour = _numbers(visual.find("material/color"), "rgba", GREY, 4)[:3]
    found = []
    for kind, attributes, count in (("box", ("size",), 3), ("cylinder", ("radius", "length"), 2)):
        geometry = visual.find(f"geometry/{kind}")
        if geometry is not None:
            size = _numbers_of(" ".join(geometry.attrib[key] for key in attributes), count)
            found.append(Shape(kind, size, _origin(visual), colour))
    return found


def _origin(element: ET.Element) -> Pose:
    origin = element.find("origin")
    xyz, rpy = _numbers(origin, "xyz", "0 0 0", 3), _numbers(origin, "rpy", "0 0 0", 3)
    return Pose(np.array(xyz), from_rpy(rpy[0], rpy[1], rpy[2]))


def _named(element: ET.Element, tag: str, key: str) -> str:
    found = element.find(tag)
    if found is None:
        raise ValueError(f"joint '{element.get('name')}' has no {tag}")
    return found.attrib[key]


def _numbers(element: ET.Element | None, key: str, default: str, count: int) -> tuple[float, ...]:
    return _numbers_of(default if element is None else element.get(key, default), count)


def _numbers_of(text: str, count: int) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split())
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(f"'{text}' must be {count} finite numbers")
    return values
