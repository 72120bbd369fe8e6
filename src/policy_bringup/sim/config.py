"""config/sim.yaml as frozen values. Lengths in metre, in the robot's base frame; the table's top is at z = 0."""

from __future__ import annotations

from dataclasses import dataclass

from policy_bringup.core.config import bounded, required


@dataclass(frozen=True, slots=True)
class Servo:
    """Factors on the gains of the robot's position servos (sim/panda.py): 1 is the nominal arm, below 1 a soft one."""

    stiffness: float = bounded(0.05, 5.0)
    damping: float = bounded(0.05, 5.0)


@dataclass(frozen=True, slots=True)
class Table:
    """A slab that the robot stands on. `size`: full lengths; `centre`: (x, y) of its middle."""

    size: tuple[float, float, float] = bounded(0.01, 5.0, "m")
    centre: tuple[float, float] = bounded(-2.0, 2.0, "m")
    colour: tuple[float, float, float] = bounded(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Floor:
    """The ground below the table: a checkerboard of two colours with squares of side `square`, at height `z`."""

    z: float = bounded(-2.0, -0.1, "m")
    square: float = bounded(0.05, 2.0, "m")
    colours: tuple[tuple[float, float, float], tuple[float, float, float]] = bounded(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Cube:
    """The object to grasp. size: edge. friction: against the table; against the finger pads, theirs counts.

    stretch: the box is so many times as long as wide; 1 is a cube.
    """

    size: float = bounded(0.015, 0.07, "m")
    mass: float = bounded(0.005, 1.0, "kg")
    friction: float = bounded(0.1, 2.0)
    colour: tuple[float, float, float] = bounded(0.0, 1.0)
    stretch: float = bounded(1.0, 2.0, default=1.0)


@dataclass(frozen=True, slots=True)
class Distractor:
    """Something else on the table, which nobody asked for: a loose upright cylinder, as high as it is wide (`size`).

    position: (x, y) of its middle at the start; mass and friction are the cube's.
    """

    position: tuple[float, float] = bounded(-2.0, 2.0, "m")
    size: float = bounded(0.01, 0.1, "m")
    colour: tuple[float, float, float] = bounded(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Region:
    """Where the object starts: its middle's x and y, and its yaw, each `(lower, upper)`."""

    x: tuple[float, float] = bounded(0.2, 0.8, "m")
    y: tuple[float, float] = bounded(-0.5, 0.5, "m")
    yaw: tuple[float, float] = bounded(-3.1416, 3.1416, "rad")


@dataclass(frozen=True, slots=True)
class Light:
    """A distant lamp (parallel rays from `position` to the table's middle), light from everywhere, one at the camera.

    The three brightnesses add up; 1 in all shows a surface in its own colour.
    """

    position: tuple[float, float, float] = bounded(-5.0, 5.0, "m")
    lamp: float = bounded(0.0, 1.0)
    ambient: float = bounded(0.0, 1.0)
    headlight: float = bounded(0.0, 1.0)
    shadows: bool = required()


@dataclass(frozen=True, slots=True)
class SimCamera:
    """One camera: at `position`, looking at `target`, with `up` upwards in the picture, all in the frame of `mount`.

    mount: "world" (the base frame) or a link of the robot. fovy: vertical field of view.
    """

    name: str = required()
    mount: str = required()
    position: tuple[float, float, float] = bounded(-5.0, 5.0, "m")
    target: tuple[float, float, float] = bounded(-5.0, 5.0, "m")
    up: tuple[float, float, float] = bounded(-1.0, 1.0)
    fovy: float = bounded(10.0, 120.0, "degree")


@dataclass(frozen=True, slots=True)
class SimConfig:
    """The simulated robot's surroundings. Camera sizes are the deployment's (core/deployment.py)."""

    physics_hz: int = bounded(200, 2000, "Hz")
    servo: Servo = required()
    table: Table = required()
    floor: Floor = required()
    cube: Cube = required()
    region: Region = required()
    light: Light = required()
    cameras: tuple[SimCamera, ...] = required()
    distractor: Distractor | None = None
