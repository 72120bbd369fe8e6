"""The same world, a little different: for training that does not cling to one look, and for perturbation trials.

A variation is an ordinary SimConfig; `World(randomise(config, amounts, seed), robot)` builds it within milliseconds.
Source of the idea: Tobin et al., "Domain Randomization for Transferring Deep Neural Networks", IROS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from policy_bringup.core.config import bounded
from policy_bringup.core.types import Array
from policy_bringup.sim.config import Light, Region, SimCamera, SimConfig

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Randomisation:
    """How far each property may stray from the configuration's, uniformly to both sides; 0 leaves it alone.

    colour, cube_colour: of every channel, 0 to 1; `colour` is the table's and the floor's. cube_size, light (the lamp's
    brightness): shares of the configured value. camera_position, camera_target: every camera on its own. region: how
    far beyond the configured region the object may start: its border is then within what is learned. arm_position,
    arm_rotation: how far the arm strays from what it is told, see sim/wander.py; not a matter of the configuration.
    """

    colour: float = bounded(0.0, 0.5)
    cube_colour: float = bounded(0.0, 0.5)
    cube_size: float = bounded(0.0, 0.3, "share")
    light: float = bounded(0.0, 0.9, "share")
    light_position: float = bounded(0.0, 1.0, "m")
    camera_position: float = bounded(0.0, 0.1, "m")
    camera_target: float = bounded(0.0, 0.1, "m")
    region: float = bounded(0.0, 0.1, "m", default=0.0)
    arm_position: float = bounded(0.0, 0.05, "m", default=0.0)
    arm_rotation: float = bounded(0.0, 0.2, "rad", default=0.0)


def randomise(config: SimConfig, amounts: Randomisation, seed: int) -> SimConfig:
    """A variation of `config`; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    table, floor, cube = config.table, config.floor, config.cube
    first, second = (_colour(rng, colour, amounts.colour) for colour in floor.colours)
    return replace(
        config,
        table=replace(table, colour=_colour(rng, table.colour, amounts.colour)),
        floor=replace(floor, colours=(first, second)),
        cube=replace(
            cube,
            colour=_colour(rng, cube.colour, amounts.cube_colour),
            size=cube.size * float(rng.uniform(1.0 - amounts.cube_size, 1.0 + amounts.cube_size)),
        ),
        light=_light(rng, config.light, amounts),
        cameras=tuple(_camera(rng, camera, amounts) for camera in config.cameras),
        region=_widened(config.region, amounts.region),
    )


def _widened(region: Region, by: float) -> Region:
    (x0, x1), (y0, y1) = region.x, region.y
    return replace(region, x=(x0 - by, x1 + by), y=(y0 - by, y1 + by))


def _colour(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    r, g, b = np.clip(np.array(colour) + rng.uniform(-amount, amount, 3), 0.0, 1.0).tolist()
    return r, g, b


def _light(rng: np.random.Generator, light: Light, amounts: Randomisation) -> Light:
    lamp = float(np.clip(light.lamp * rng.uniform(1.0 - amounts.light, 1.0 + amounts.light), 0.0, 1.0))
    return replace(light, lamp=lamp, position=_shifted(rng, light.position, amounts.light_position))


def _camera(rng: np.random.Generator, camera: SimCamera, amounts: Randomisation) -> SimCamera:
    return replace(
        camera,
        position=_shifted(rng, camera.position, amounts.camera_position),
        target=_shifted(rng, camera.target, amounts.camera_target),
    )


def _shifted(rng: np.random.Generator, point: Colour, amount: float) -> Colour:
    x, y, z = (np.array(point) + _in_ball(rng) * amount).tolist()
    return x, y, z


def _in_ball(rng: np.random.Generator) -> Array:
    direction = rng.normal(size=3)
    result: Array = direction / np.linalg.norm(direction) * rng.uniform() ** (1.0 / 3.0)
    return result
