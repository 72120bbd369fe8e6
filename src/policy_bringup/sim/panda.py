"""The Franka Emika Panda with its hand, as one table: `urdf.py` and `mjcf.py` write both robot files from it.

Joint origins: franka_description (the arm's modified Denavit-Hartenberg parameters, Franka Control Interface
documentation). Masses and inertias: identified by Gaz et al., "Dynamic Identification of the Franka Emika Panda Robot
with Retrieval of Feasible Parameters Using Penalty-Based Optimization", IEEE RA-L 4(4), 2019. Shapes are our own
primitives: they draw fast and need no mesh files. Angles are radian, lengths metre, masses kilogram.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Literal

Triple = tuple[float, float, float]

WHITE: Triple = (0.90, 0.90, 0.88)
DARK: Triple = (0.20, 0.21, 0.24)
GREEN: Triple = (0.35, 0.62, 0.52)


@dataclass(frozen=True, slots=True)
class Inertial:
    """Mass, centre of mass and inertia about it `(xx, yy, zz, xy, xz, yz)` kg m^2, all along the link's axes."""

    mass: float
    center: Triple
    inertia: tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """A primitive seen and touched. size: cylinder (radius, length, 0) along its z; box (x, y, z), full lengths.

    pad: the rubber of a finger tip, which grips.
    """

    kind: Literal["cylinder", "box"]
    size: Triple
    xyz: Triple
    rpy: Triple = (0.0, 0.0, 0.0)
    colour: Triple = WHITE
    pad: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A rigid part; one without mass and shapes is only a frame."""

    name: str
    inertial: Inertial | None = None
    shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class Joint:
    """`xyz`, `rpy`: pose of the child in the parent at position 0. Moves about (or along) `axis`, in the child's frame.

    velocity rad/s or m/s; effort N m or N; damping and armature (rotor inertia seen at the joint) in SI units; gains:
    stiffness and damping of the position servo that moves it in simulation; mimic: the joint it copies.
    """

    name: str
    kind: Literal["revolute", "prismatic", "fixed"]
    parent: str
    child: str
    xyz: Triple
    rpy: Triple = (0.0, 0.0, 0.0)
    axis: Triple = (0.0, 0.0, 1.0)
    lower: float = 0.0
    upper: float = 0.0
    velocity: float = 0.0
    effort: float = 0.0
    damping: float = 0.0
    armature: float = 0.0
    gains: tuple[float, float] = (0.0, 0.0)
    mimic: str = ""


NAME = "panda"
TOOL = "panda_tool"
HAND = "panda_hand"


def _cylinder(
    radius: float, length: float, xyz: Triple, rpy: Triple = (0.0, 0.0, 0.0), colour: Triple = WHITE
) -> Shape:
    return Shape("cylinder", (radius, length, 0.0), xyz, rpy, colour)


_ALONG_Y: Triple = (pi / 2, 0.0, 0.0)

_FINGER_MASS = Inertial(0.015, (0.0, 0.0, 0.0), (2.375e-6, 2.375e-6, 7.5e-7, 0.0, 0.0, 0.0))
_FINGER_SHAPES = (
    Shape("box", (0.020, 0.013, 0.046), (0.0, 0.0125, 0.022), colour=DARK),
    Shape("box", (0.020, 0.012, 0.020), (0.0, 0.0060, 0.0445), colour=GREEN, pad=True),
)

LINKS: tuple[Link, ...] = (
    Link(
        "panda_link0",
        Inertial(
            0.629769, (-0.041018, -0.00014, 0.049974), (0.00315, 0.00388, 0.004285, 8.2904e-7, 0.00015, 8.2299e-6)
        ),
        (
            Shape("box", (0.21, 0.19, 0.06), (-0.045, 0.0, 0.03)),
            _cylinder(0.065, 0.09, (0.0, 0.0, 0.095)),
        ),
    ),
    Link(
        "panda_link1",
        Inertial(4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
        (_cylinder(0.06, 0.19, (0.0, 0.0, -0.098)),),
    ),
    Link(
        "panda_link2",
        Inertial(
            0.646926, (-0.003141, -0.02872, 0.003495), (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)
        ),
        (
            _cylinder(0.06, 0.16, (0.0, 0.0, 0.0), colour=DARK),
            _cylinder(0.055, 0.13, (0.0, -0.115, 0.0), _ALONG_Y),
        ),
    ),
    Link(
        "panda_link3",
        Inertial(
            3.228604, (0.027518, 0.039252, -0.066502), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)
        ),
        (
            _cylinder(0.055, 0.13, (0.0, 0.0, -0.07)),
            _cylinder(0.055, 0.11, (0.0625, 0.0, 0.0), _ALONG_Y),
        ),
    ),
    Link(
        "panda_link4",
        Inertial(
            3.587895, (-0.05317, 0.104419, 0.027454), (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)
        ),
        (
            _cylinder(0.055, 0.15, (0.0, 0.0, 0.0), colour=DARK),
            _cylinder(0.055, 0.12, (-0.0825, 0.075, 0.0), _ALONG_Y),
        ),
    ),
    Link(
        "panda_link5",
        Inertial(
            1.225946, (-0.011953, 0.041065, -0.038437), (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)
        ),
        (
            _cylinder(0.055, 0.13, (0.0, 0.0, -0.19)),
            _cylinder(0.045, 0.14, (0.0, 0.045, -0.075)),
        ),
    ),
    Link(
        "panda_link6",
        Inertial(
            1.666555, (0.060149, -0.014117, -0.010517), (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)
        ),
        (
            _cylinder(0.05, 0.13, (0.0, 0.0, -0.01), colour=DARK),
            _cylinder(0.048, 0.09, (0.088, 0.0, 0.0), _ALONG_Y),
        ),
    ),
    Link(
        "panda_link7",
        Inertial(
            0.735522, (0.010517, -0.004252, 0.061597), (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)
        ),
        (_cylinder(0.044, 0.06, (0.0, 0.0, 0.077), colour=DARK),),
    ),
    Link("panda_link8"),
    Link(
        HAND,
        Inertial(0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017, 0.0, 0.0, 0.0)),
        (Shape("box", (0.05, 0.204, 0.062), (0.0, 0.0, 0.031)),),
    ),
    Link("panda_leftfinger", _FINGER_MASS, _FINGER_SHAPES),
    Link("panda_rightfinger", _FINGER_MASS, _FINGER_SHAPES),
    Link(TOOL),
)


def _arm(number: int, xyz: Triple, roll: float, limits: tuple[float, float, float, float]) -> Joint:
    lower, upper, velocity, effort = limits
    strong = effort > 50.0
    return Joint(
        f"panda_joint{number}", "revolute", f"panda_link{number - 1}", f"panda_link{number}", xyz, (roll, 0.0, 0.0),
        lower=lower, upper=upper, velocity=velocity, effort=effort, damping=1.0 if strong else 0.5,
        armature=0.1 if strong else 0.05, gains=(4500.0, 300.0) if strong else (1500.0, 60.0),
    )  # fmt: skip


def _finger(number: int, side: str, yaw: float, mimic: str = "") -> Joint:
    return Joint(
        f"panda_finger_joint{number}", "prismatic", HAND, f"panda_{side}finger", (0.0, 0.0, 0.0584), (0.0, 0.0, yaw),
        (0.0, 1.0, 0.0), lower=0.0, upper=0.04, velocity=0.05, effort=60.0, damping=1.0, armature=0.1,
        gains=(3000.0, 60.0), mimic=mimic,
    )  # fmt: skip


JOINTS: tuple[Joint, ...] = (
    _arm(1, (0.0, 0.0, 0.333), 0.0, (-2.8973, 2.8973, 2.175, 87.0)),
    _arm(2, (0.0, 0.0, 0.0), -pi / 2, (-1.7628, 1.7628, 2.175, 87.0)),
    _arm(3, (0.0, -0.316, 0.0), pi / 2, (-2.8973, 2.8973, 2.175, 87.0)),
    _arm(4, (0.0825, 0.0, 0.0), pi / 2, (-3.0718, -0.0698, 2.175, 87.0)),
    _arm(5, (-0.0825, 0.384, 0.0), -pi / 2, (-2.8973, 2.8973, 2.61, 12.0)),
    _arm(6, (0.0, 0.0, 0.0), pi / 2, (-0.0175, 3.7525, 2.61, 12.0)),
    _arm(7, (0.088, 0.0, 0.0), pi / 2, (-2.8973, 2.8973, 2.61, 12.0)),
    Joint("panda_joint8", "fixed", "panda_link7", "panda_link8", (0.0, 0.0, 0.107)),
    Joint("panda_hand_joint", "fixed", "panda_link8", HAND, (0.0, 0.0, 0.0), (0.0, 0.0, -pi / 4)),
    _finger(1, "left", 0.0),
    _finger(2, "right", pi, mimic="panda_finger_joint1"),
    Joint("panda_tool_joint", "fixed", HAND, TOOL, (0.0, 0.0, 0.1034)),
)
MOVING: tuple[Joint, ...] = tuple(joint for joint in JOINTS if joint.kind != "fixed")
