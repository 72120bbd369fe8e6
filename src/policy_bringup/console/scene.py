"""The 3D view: arm, table and object, drawn from primitives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import viser

from policy_bringup.console.config import Table
from policy_bringup.console.drawing import Link, Shape
from policy_bringup.core.rotations import to_quaternion
from policy_bringup.core.types import Pose

TABLE_COLOUR = (158, 133, 107)
OBJECT_COLOUR = (217, 38, 31)


class Scene:
    """The browser chains the link frames: only the joints that moved are sent, and no kinematics is needed here."""

    def __init__(self, scene: viser.SceneApi, links: Sequence[Link], table: Table, object_size: float) -> None:
        self._scene = scene
        self._links = [link for link in links if link.kind != "fixed"]
        self._frames: dict[str, viser.FrameHandle] = {}
        paths = {"": "/robot"}
        for link in links:
            paths[link.name] = f"{paths[link.parent]}/{link.name}"
            self._frames[link.name] = scene.add_frame(paths[link.name], show_axes=False)
            _place(self._frames[link.name], link.pose(0.0))
            for index, shape in enumerate(link.shapes):
                self._add_shape(f"{paths[link.name]}/shape{index}", shape)
        (x, y), height = table.centre, table.size[2]
        scene.add_box("/table", TABLE_COLOUR, table.size, position=(x, y, -height / 2))
        scene.add_grid("/floor", infinite_grid=True, fade_distance=8.0, position=(0.0, 0.0, -1.01 * height))
        self._object = scene.add_box("/object", OBJECT_COLOUR, (object_size,) * 3, visible=False)

    def show_joints(self, positions: Mapping[str, float]) -> None:
        """Moves the links: joint name -> rad or m. Joints without a finite position stay as they are drawn."""
        for link in self._links:
            position = positions.get(link.moved_by, math.nan)
            if math.isfinite(position):
                _place(self._frames[link.name], link.pose(position))

    def show_object(self, T_base_object: Pose | None) -> None:
        """Moves the object; None, or a position that is not finite, hides it."""
        seen = T_base_object is not None and all(map(math.isfinite, T_base_object.position))
        self._object.visible = seen
        if T_base_object is not None and seen:
            _place(self._object, T_base_object)

    def _add_shape(self, path: str, shape: Shape) -> None:
        red, green, blue = (round(255 * part) for part in shape.colour)
        handle: viser.BoxHandle | viser.CylinderHandle
        if shape.kind == "box":
            handle = self._scene.add_box(path, (red, green, blue), (shape.size[0], shape.size[1], shape.size[2]))
        else:
            handle = self._scene.add_cylinder(path, shape.size[0], shape.size[1], (red, green, blue))
        _place(handle, shape.T_link_shape)


def _place(handle: viser.SceneNodeHandle, pose: Pose) -> None:
    x, y, z, w = to_quaternion(pose.rotation)
    handle.wxyz = (w, x, y, z)
    handle.position = pose.position
