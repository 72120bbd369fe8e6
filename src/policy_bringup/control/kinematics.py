"""Forward kinematics and Jacobian of one serial chain, read from a URDF.

Source: Siciliano et al., Robotics: Modelling, Planning and Control, sections 2.4 and 3.1 (geometric Jacobian).
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.rotations import exp, from_rpy
from policy_bringup.core.types import Array, Pose

MOVING = ("revolute", "continuous", "prismatic")


class Chain:
    """Moving joints in order from the base; each turns about (or slides along) the z axis of its own frame.

    offsets `(n, 4, 4)`: from the frame of the joint before (the base for the first), after its motion, to this joint's
    frame; tip `(4, 4)`: from the last joint's frame to the tool; sliding `(n,)`: whether a joint is prismatic.
    """

    def __init__(self, names: tuple[str, ...], offsets: Array, tip: Array, sliding: tuple[bool, ...]) -> None:
        self.names = names
        self.offsets = offsets
        self.tip = tip
        self.sliding = sliding
        # Plain floats: at this size the loop in `evaluate` is twice as fast as numpy's calls on 4 x 4 matrices.
        self._rows = [(slides, *offset[:3].ravel().tolist()) for slides, offset in zip(sliding, offsets, strict=True)]
        self._tip_row: list[float] = tip[:3].ravel().tolist()

    @classmethod
    def from_urdf(
        cls, path: Path | str, base_frame: str, tool_frame: str, joint_names: Sequence[str] | None = None
    ) -> Chain:
        """The chain from `base_frame` to `tool_frame`; its joints must be `joint_names`, where given.

        Raises ConfigError for an unreadable or broken file, missing frames, unknown joint types or another order.
        """
        elements = _path(_joints(path), base_frame, tool_frame, path)
        names, offsets, sliding = [], [], []
        reach = np.eye(4)
        for element in elements:
            reach = reach @ _origin(element, path)
            kind = element.get("type")
            if kind == "fixed":
                continue
            if kind not in MOVING:
                raise ConfigError(
                    f"{path}: joint '{element.get('name')}' is of type '{kind}'; allowed are fixed, {', '.join(MOVING)}"
                )
            align = _align(_axis(element, path))
            names.append(element.get("name", ""))
            offsets.append(reach @ align)
            sliding.append(kind == "prismatic")
            reach = align.T
        if not names:
            raise ConfigError(f"{path}: no joint moves between '{base_frame}' and '{tool_frame}'")
        if joint_names is not None and tuple(names) != tuple(joint_names):
            raise ConfigError(
                f"{path}: the joints from '{base_frame}' to '{tool_frame}' are {', '.join(names)}; "
                f"the robot's configuration says {', '.join(joint_names)}"
            )
        return cls(tuple(names), np.array(offsets), reach, tuple(sliding))

    def forward(self, q: Array) -> Pose:
        """Joint position `(n,)` rad (or m) -> T_base_tool."""
        position, rotation, _ = self.evaluate(q)
        return Pose(np.array(position), np.array(rotation).reshape(3, 3))

    def jacobian(self, q: Array) -> Array:
        """Geometric Jacobian `(6, n)` of the tool in the base frame: linear rows first (m), then angular (rad)."""
        return self.evaluate(q)[2]

    def evaluate(self, q: Array) -> tuple[tuple[float, ...], tuple[float, ...], Array]:
        """Tool position (3 floats), rotation (9 floats, row by row) and Jacobian `(6, n)`, at the cost of one pass."""
        a, b, c, d, e, f, g, h, i = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
        x = y = z = 0.0
        axes = []
        for (slides, r00, r01, r02, tx, r10, r11, r12, ty, r20, r21, r22, tz), angle in zip(
            self._rows, q.tolist(), strict=True
        ):
            x, y, z = x + a * tx + b * ty + c * tz, y + d * tx + e * ty + f * tz, z + g * tx + h * ty + i * tz
            a, b, c = a * r00 + b * r10 + c * r20, a * r01 + b * r11 + c * r21, a * r02 + b * r12 + c * r22
            d, e, f = d * r00 + e * r10 + f * r20, d * r01 + e * r11 + f * r21, d * r02 + e * r12 + f * r22
            g, h, i = g * r00 + h * r10 + i * r20, g * r01 + h * r11 + i * r21, g * r02 + h * r12 + i * r22
            if slides:
                x, y, z = x + c * angle, y + f * angle, z + i * angle
            else:
                cosine, sine = math.cos(angle), math.sin(angle)
                a, b = a * cosine + b * sine, b * cosine - a * sine
                d, e = d * cosine + e * sine, e * cosine - d * sine
                g, h = g * cosine + h * sine, h * cosine - g * sine
            axes.append((slides, c, f, i, x, y, z))
        r00, r01, r02, tx, r10, r11, r12, ty, r20, r21, r22, tz = self._tip_row
        x, y, z = x + a * tx + b * ty + c * tz, y + d * tx + e * ty + f * tz, z + g * tx + h * ty + i * tz
        rotation = (
            a * r00 + b * r10 + c * r20, a * r01 + b * r11 + c * r21, a * r02 + b * r12 + c * r22,
            d * r00 + e * r10 + f * r20, d * r01 + e * r11 + f * r21, d * r02 + e * r12 + f * r22,
            g * r00 + h * r10 + i * r20, g * r01 + h * r11 + i * r21, g * r02 + h * r12 + i * r22,
        )  # fmt: skip
        columns = [
            (u, v, w, 0.0, 0.0, 0.0)
            if slides
            else (v * (z - pz) - w * (y - py), w * (x - px) - u * (z - pz), u * (y - py) - v * (x - px), u, v, w)
            for slides, u, v, w, px, py, pz in axes
        ]
        return (x, y, z), rotation, np.array(columns).T

    def forward_batch(self, q: Array) -> Array:
        """Joint positions `(m, n)` -> T_base_tool as homogeneous matrices `(m, 4, 4)`."""
        T = np.tile(np.eye(4), (len(q), 1, 1))
        for index, slides in enumerate(self.sliding):
            motion = np.tile(np.eye(4), (len(q), 1, 1))
            if slides:
                motion[:, 2, 3] = q[:, index]
            else:
                cosine, sine = np.cos(q[:, index]), np.sin(q[:, index])
                motion[:, 0, 0], motion[:, 0, 1], motion[:, 1, 0], motion[:, 1, 1] = cosine, -sine, sine, cosine
            T = T @ self.offsets[index] @ motion
        result: Array = T @ self.tip
        return result


def _joints(path: Path | str) -> dict[str, ET.Element]:
    """Child link -> the joint that carries it. Only the robot's own joints: `ros2_control` lists names once more."""
    try:
        root = ET.parse(path).getroot()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ET.ParseError as error:
        raise ConfigError(f"{path}: is not valid XML ({error})") from error
    joints = {}
    for element in root.findall("joint"):
        child, parent = element.find("child"), element.find("parent")
        if child is None or parent is None or not child.get("link") or not parent.get("link"):
            raise ConfigError(f"{path}: joint '{element.get('name')}' needs a parent link and a child link")
        joints[child.get("link", "")] = element
    return joints


def _path(joints: dict[str, ET.Element], base: str, tool: str, path: Path | str) -> list[ET.Element]:
    """Joints from `base` to `tool`, found by walking from the tool to its parents."""
    elements: list[ET.Element] = []
    link = tool
    while link != base:
        element = joints.get(link)
        if element is None or len(elements) > len(joints):
            raise ConfigError(f"{path}: no chain of joints leads from frame '{base}' to frame '{tool}'")
        elements.append(element)
        parent = element.find("parent")
        link = "" if parent is None else parent.get("link", "")
    return elements[::-1]


def _origin(element: ET.Element, path: Path | str) -> Array:
    """The joint's origin in its parent link, `(4, 4)`."""
    origin = element.find("origin")
    T = np.eye(4)
    if origin is not None:
        T[:3, :3] = from_rpy(*_triple(origin.get("rpy", "0 0 0"), element, path))
        T[:3, 3] = _triple(origin.get("xyz", "0 0 0"), element, path)
    return T


def _axis(element: ET.Element, path: Path | str) -> Array:
    """The joint's unit axis in its own frame; URDF's default is x."""
    entry = element.find("axis")
    axis = np.array(_triple("1 0 0" if entry is None else entry.get("xyz", "1 0 0"), element, path))
    length = float(np.linalg.norm(axis))
    if not length > 1e-6:
        raise ConfigError(f"{path}: joint '{element.get('name')}' has an axis of length zero")
    return axis / length


def _align(axis: Array) -> Array:
    """A rotation `(4, 4)` that takes z to `axis`."""
    T = np.eye(4)
    across = np.cross([0.0, 0.0, 1.0], axis)
    sine = float(np.linalg.norm(across))
    angle = math.atan2(sine, float(axis[2]))
    T[:3, :3] = exp(across * (angle / sine) if sine > 1e-12 else np.array([angle, 0.0, 0.0]))
    return T


def _triple(text: str, element: ET.Element, path: Path | str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split())
    except ValueError:
        x = y = z = math.nan
    if not all(map(math.isfinite, (x, y, z))):
        raise ConfigError(f"{path}: joint '{element.get('name')}' needs three finite numbers, found '{text}'")
    return x, y, z
