"""Camera pictures by casting one ray per pixel: no OpenGL, no graphics card, no extra library.

Lambert shading of plain colours, with the lights of the model. Table and floor are met by formula, and drawn once for a
camera that never moves; robot and object are traced, and their shadows looked for, only where they can be.
`mj_multiRay` runs without Python's lock, so a view in a thread of its own leaves the physics alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from policy_bringup.core.deployment import Camera
from policy_bringup.core.types import Array, Pixels
from policy_bringup.sim.room import Room
from policy_bringup.sim.scene import LAMP, LIMB_GROUPS

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
_FAR_M = 1000.0  # the lamp's rays are parallel: cast from here they are, to 1 mm across the table
_SHADOW_BIAS_M = 1e-3
_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


@dataclass(frozen=True, slots=True, eq=False)
class _Eye:
    """A camera now: position `(3,)` m, rotation `(3, 3)`, and a unit ray per pixel `(n, 3)`, all in the base frame."""

    name: str
    position: Array
    rotation: Array
    rays: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """What each of `n` rays met.

    distance `(n,)` m, inf for nothing; points `(n, 3)`; base, lamp `(n, 3)`: colour without the lamp, and what the lamp
    adds; lit `(n,)`: the lamp is on that side, and the room is not in its way.
    """

    distance: Array
    points: Array
    base: Floats
    lamp: Floats
    lit: Mask


class RaycastView:
    """Draws the cameras of `cameras` (name, width, height) with rays. Use it from one thread at a time."""

    backend = "raycast"

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[Camera], note: str = "") -> None:
        self.note = note
        self._model, self._data = model, mujoco.MjData(model)
        self._cameras = {camera.name: camera for camera in cameras}
        self._half = {
            camera.name: float(np.tan(np.radians(model.camera(camera.name).fovy[0]) / 2)) for camera in cameras
        }
        self._rays = {camera.name: _pixel_rays(camera, self._half[camera.name]) for camera in cameras}
        self._groups = {group: np.flatnonzero(model.geom_group == group) for group in LIMB_GROUPS}
        self._rooms: dict[str, _Surface] = {}
        self._room = Room(model)
        self._read_lights()
        self.update(model.qpos0)

    def update(self, qpos: Array) -> None:
        """Takes in where everything is: `(nq,)`, e.g. `World.qpos`."""
        m, d = self._model, self._data
        d.qpos[:] = qpos
        mujoco.mj_kinematics(m, d)
        mujoco.mj_camlight(m, d)
        boxes = m.geom_aabb[:, None, :3] + _CORNERS * m.geom_aabb[:, None, 3:]
        self._corners = d.geom_xpos[:, None] + boxes @ d.geom_xmat.reshape(-1, 3, 3).transpose(0, 2, 1)

    def render(self, camera: str) -> Pixels:
        """uint8 RGB `(height, width, 3)` of the world as of the last `update`."""
        view, ident = self._cameras[camera], self._model.camera(camera).id
        rotation = self._data.cam_xmat[ident].reshape(3, 3).copy()
        eye = _Eye(camera, self._data.cam_xpos[ident].copy(), rotation, self._rays[camera] @ rotation.T)
        room = self._rooms.get(camera) or self._draw_room(eye)
        if self._model.cam_bodyid[ident] == 0:
            self._rooms[camera] = room
        colours = self._draw_limbs(eye, room)
        picture: Pixels = (np.minimum(colours, 1.0) * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)
        return picture.reshape(view.height, view.width, 3)

    def close(self) -> None:
        """Nothing to free."""

    def _read_lights(self) -> None:
        m, lamp = self._model, self._model.light(LAMP).id
        self._albedo = m.geom_rgba[:, :3].astype(np.float32)
        self._ambient = np.asarray(m.vis.headlight.ambient, np.float32)
        self._headlight = np.asarray(m.vis.headlight.diffuse, np.float32)
        self._lamp_colour = m.light_diffuse[lamp].astype(np.float32)
        self._shadows = bool(m.light_castshadow[lamp])
        self._lamp = m.light_dir[lamp] / np.linalg.norm(m.light_dir[lamp])
        across = np.cross(self._lamp, [1.0, 0.0, 0.0] if abs(self._lamp[0]) < 0.9 else [0.0, 1.0, 0.0])
        across /= np.linalg.norm(across)
        self._across = np.column_stack([across, np.cross(self._lamp, across)])

    def _draw_room(self, eye: _Eye) -> _Surface:
        distance, normal, albedo = self._room.meet(eye.position, eye.rays)
        points = eye.position + eye.rays * np.where(np.isfinite(distance), distance, 0.0)[:, None]
        return self._surface(eye, distance, points, normal, albedo)

    def _draw_limbs(self, eye: _Eye, room: _Surface) -> Floats:
        """The room's colours with robot, object and their shadows drawn over it, `(n, 3)`."""
        view = self._cameras[eye.name]
        pixels = np.arange(len(eye.rays)).reshape(view.height, view.width)
        nearest = room.distance.copy()
        geom, normal = np.full(len(nearest), -1, np.int32), np.empty((len(nearest), 3))
        for group in LIMB_GROUPS:
            index = pixels[self._window(group, eye)].ravel()
            met, distance, facing = self._trace(eye.position, eye.rays[index], group)
            front = np.flatnonzero((met >= 0) & (distance < nearest[index]))
            index = index[front]
            geom[index], nearest[index], normal[index] = met[front], distance[front], facing[front]
        on = np.flatnonzero(geom >= 0)
        points = eye.position + eye.rays[on] * nearest[on, None]
        limbs = self._surface(eye, nearest[on], points, normal[on], self._albedo[geom[on]])
        colours = self._lit_colours(room, geom < 0)
        colours[on] = self._lit_colours(limbs, np.ones(len(on), np.bool_))
        return colours

    def _surface(self, eye: _Eye, distance: Array, points: Array, normal: Array, albedo: Floats) -> _Surface:
        facing = normal @ np.column_stack([eye.rotation[:, 2], -self._lamp])
        share = np.maximum(facing, 0.0).astype(np.float32)
        lit = facing[:, 1] > 0.0
        if self._shadows:
            lit &= ~self._room.shades(points, self._lamp)
        base = albedo * (self._ambient + self._headlight * share[:, :1])
        return _Surface(distance, points, base, albedo * (self._lamp_colour * share[:, 1:]), lit)

    def _lit_colours(self, surface: _Surface, wanted: Mask) -> Floats:
        lit = surface.lit & wanted
        if self._shadows:
            plane = surface.points @ self._across
            for group in LIMB_GROUPS:
                self._darken(lit, surface.points, plane, group)
        return surface.base + surface.lamp * lit[:, None]

    def _darken(self, lit: Mask, points: Array, plane: Array, group: int) -> None:
        """Clears `lit` `(n,)` where the group is in the lamp's way. plane `(n, 2)`: their place across its rays."""
        corners = self._corners[self._groups[group]].reshape(-1, 3) @ self._across
        lower, upper = corners.min(0), corners.max(0)
        near = lit & (plane[:, 0] >= lower[0]) & (plane[:, 0] <= upper[0])
        near &= (plane[:, 1] >= lower[1]) & (plane[:, 1] <= upper[1])
        index = np.flatnonzero(near)
        source = -self._lamp * _FAR_M
        _, first, _ = self._trace(source, points[index] - source, group)  # in ray lengths: 1 is the point itself
        lit[index] = (first < 0.0) | (first > 1.0 - _SHADOW_BIAS_M / _FAR_M)

    def _window(self, group: int, eye: _Eye) -> tuple[slice, slice]:
        """Rows and columns outside of which the group cannot be seen."""
        view = self._cameras[eye.name]
        corners = (self._corners[self._groups[group]] - eye.position) @ eye.rotation
        x, y, depth = corners[..., 0], corners[..., 1], -corners[..., 2]
        tall = self._half[eye.name]
        wide = tall * view.width / view.height
        # A part is out of the picture if all its corners lie beyond one of the five planes that bound the view.
        beyond = [depth <= 0.0, x > depth * wide, x < -depth * wide, y > depth * tall, y < -depth * tall]
        inside = ~np.any(np.all(beyond, axis=2), axis=0)
        x, y, depth = x[inside], y[inside], depth[inside]
        if not len(depth):
            return slice(0, 0), slice(0, 0)
        if depth.min() <= 1e-3:  # a part reaches past the camera: its corners do not bound it in the picture
            return slice(0, view.height), slice(0, view.width)
        x, y = (edge / depth * (view.height / (2.0 * tall)) for edge in (x, y))
        rows = np.clip([view.height / 2 - y.max(), view.height / 2 - y.min() + 1.0], 0, view.height).astype(int)
        columns = np.clip([view.width / 2 + x.min(), view.width / 2 + x.max() + 1.0], 0, view.width).astype(int)
        return slice(*rows), slice(*columns)

    def _trace(self, start: Array, rays: Array, group: int) -> tuple[npt.NDArray[np.int32], Array, Array]:
        """Geom `(n,)`, -1 for none; distance `(n,)` in ray lengths; outward normal `(n, 3)`."""
        n = len(rays)
        geom, distance, normal = np.full(n, -1, np.int32), np.full(n, -1.0), np.zeros((n, 3))
        if n:
            groups = np.zeros(mujoco.mjNGROUP, np.uint8)
            groups[group] = 1
            mujoco.mj_multiRay(
                self._model,
                self._data,
                start,
                rays.ravel(),
                groups,
                True,
                -1,
                geom,
                distance,
                normal.reshape(-1),
                n,
                1e9,
            )
        return geom, distance, normal


def _pixel_rays(camera: Camera, half: float) -> Array:
    """Unit vectors `(height * width, 3)` through pixel centres, in the camera's frame. half: tangent of fovy / 2."""
    y, x = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    across, up = (2.0 * x - camera.width) * half / camera.height, (camera.height - 2.0 * y) * half / camera.height
    rays = np.stack([across, up, np.full(x.shape, -1.0)], axis=-1).reshape(-1, 3)
    result: Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return result
