"""Where rays meet the table and the floor, by formula: for two shapes that fill most of a picture that is fastest."""

from __future__ import annotations

import mujoco
import numpy as np
import numpy.typing as npt

from policy_bringup.core.types import Array
from policy_bringup.sim.scene import FLOOR, TABLE

Floats = npt.NDArray[np.float32]


class Room:
    """Table (a box along the base frame's axes) and floor (a horizontal checkerboard without end) of a model."""

    def __init__(self, model: mujoco.MjModel) -> None:
        table, floor = model.geom(TABLE), model.geom(FLOOR)
        self._lower, self._upper = table.pos - table.size, table.pos + table.size
        self._floor_z = float(floor.pos[2])
        self._table_colour = table.rgba[:3].astype(np.float32)
        self._square = 1.0 / float(model.mat_texrepeat[int(floor.matid[0]), 0])
        start, width = int(model.texture(FLOOR).adr[0]), int(model.texture(FLOOR).width[0])
        corners = [model.tex_data[at : at + 3].astype(np.float32) / 255.0 for at in (start + 3 * (width - 1), start)]
        self._squares = np.stack(corners) * floor.rgba[:3].astype(np.float32)

    def meet(self, start: Array, rays: Array) -> tuple[Array, Array, Floats]:
        """Distance `(n,)` in ray lengths, inf for nothing; normal `(n, 3)`; colour `(n, 3)` (black for nothing)."""
        with np.errstate(divide="ignore"):
            inverse = 1.0 / rays
        on_table, axis = self._table(start, inverse)
        on_floor = (self._floor_z - start[2]) * inverse[:, 2]
        on_floor = np.where(on_floor > 0.0, on_floor, np.inf)
        tabled = on_table <= on_floor
        normal = np.zeros((len(rays), 3))
        normal[:, 2] = 1.0
        side = np.flatnonzero(tabled & ((axis != 2) | (rays[:, 2] > 0.0)) & (on_table < np.inf))
        normal[side] = 0.0
        normal[side, axis[side]] = -np.sign(rays[side, axis[side]])
        colour = np.broadcast_to(self._table_colour, (len(rays), 3)).copy()
        below = np.flatnonzero(~tabled)
        colour[below] = self._checker(start[:2] + rays[below, :2] * on_floor[below, None])
        distance = np.minimum(on_table, on_floor)
        colour[np.isinf(distance)] = 0.0
        return distance, normal, colour

    def shades(self, points: Array, light: Array) -> npt.NDArray[np.bool_]:
        """`(n,)`: the table is between the point and a lamp whose light travels along `light` `(3,)`."""
        dark = np.zeros(len(points), np.bool_)
        below = np.flatnonzero(points[:, 2] < self._lower[2])
        at_top = points[below] + ((self._upper[2] - points[below, 2]) / light[2])[:, None] * light
        at_bottom = points[below] + ((self._lower[2] - points[below, 2]) / light[2])[:, None] * light
        over = (np.maximum(at_top, at_bottom) >= self._lower)[:, :2] & (np.minimum(at_top, at_bottom) <= self._upper)[
            :, :2
        ]
        dark[below] = over.all(1)
        return dark

    def _table(self, start: Array, inverse: Array) -> tuple[Array, npt.NDArray[np.int8]]:
        """Distance at which rays enter the table `(n,)`, inf if never, and the axis of the face (slab method)."""
        enters, leaves = np.full(len(inverse), -np.inf), np.full(len(inverse), np.inf)
        axis = np.zeros(len(inverse), np.int8)
        for i in range(3):
            near, far = (self._lower[i] - start[i]) * inverse[:, i], (self._upper[i] - start[i]) * inverse[:, i]
            enter = np.minimum(near, far)
            axis[enter > enters] = i
            np.maximum(enters, enter, out=enters)
            np.minimum(leaves, np.maximum(near, far), out=leaves)
        return np.where((enters <= leaves) & (enters > 0.0), enters, np.inf), axis

    def _checker(self, points: Array) -> Floats:
        parity = (np.floor(points / self._square) @ np.ones(2)).astype(int) % 2
        result: Floats = self._squares[parity]
        return result
