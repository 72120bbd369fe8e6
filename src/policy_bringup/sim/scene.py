"""Builds the MuJoCo model of everything: robot, table, floor, cube, lamp and cameras."""

from __future__ import annotations

import mujoco
import numpy as np

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.rotations import to_quaternion
from policy_bringup.core.types import Array
from policy_bringup.sim.config import Distractor, Floor, SimCamera, SimConfig
from policy_bringup.sim.mjcf import mjcf

OBJECT, TABLE, FLOOR, LAMP, DISTRACTOR = "object", "table", "floor", "lamp", "distractor"
ROOM_GROUP, LIMB_GROUPS = 0, (1, 2, 3, 4)  # table and floor; upper arm, forearm, hand, object and distractor
_ROBOT_BIT, _OBJECT_BIT = 1, 2  # contype bits: see mjcf.py


def build_model(config: SimConfig) -> mujoco.MjModel:
    """The compiled model. Raises ConfigError for a camera mounted on a link that is not there."""
    spec = mujoco.MjSpec.from_string(mjcf())
    spec.option.timestep = 1.0 / config.physics_hz
    spec.stat.extent, spec.stat.center = 1.0, [0.4, 0.0, 0.2]
    _add_table(spec, config)
    _add_floor(spec, config.floor)
    _add_cube(spec, config)
    if config.distractor is not None:
        _add_distractor(spec, config, config.distractor)
    _add_light(spec, config)
    for camera in config.cameras:
        _add_camera(spec, camera)
    model = spec.compile()
    _group_geoms(model)
    _scale_servos(model, config)
    return model


def camera_rotation(camera: SimCamera) -> Array:
    """R_mount_camera `(3, 3)`: MuJoCo's camera looks along its -z, with x to the right and y up in the picture.

    Raises ConfigError if it looks along its own `up`.
    """
    back = np.array(camera.position) - np.array(camera.target)
    right = np.cross(np.array(camera.up), back)
    if not np.linalg.norm(right) > 1e-6:
        raise ConfigError(f"cameras: {camera.name}: must look in a direction that differs from its 'up'")
    back, right = back / np.linalg.norm(back), right / np.linalg.norm(right)
    return np.column_stack([right, np.cross(back, right), back])


def _add_table(spec: mujoco.MjSpec, config: SimConfig) -> None:
    table = config.table
    spec.worldbody.add_geom(
        name=TABLE, type=mujoco.mjtGeom.mjGEOM_BOX, size=[length / 2 for length in table.size],
        pos=[*table.centre, -table.size[2] / 2], rgba=[*table.colour, 1.0],
        contype=0, conaffinity=_ROBOT_BIT | _OBJECT_BIT, friction=[config.cube.friction, 0.005, 0.0001],
    )  # fmt: skip


def _add_floor(spec: mujoco.MjSpec, floor: Floor) -> None:
    spec.add_texture(
        name=FLOOR, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=floor.colours[0], rgb2=floor.colours[1], width=256, height=256,
    )  # fmt: skip
    textures = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = FLOOR
    repeat = 1.0 / floor.square
    spec.add_material(name=FLOOR, textures=textures, texrepeat=[repeat, repeat], texuniform=True, specular=0.0)
    spec.worldbody.add_geom(
        name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 0.1], pos=[0.0, 0.0, floor.z],
        rgba=[1.0, 1.0, 1.0, 1.0], material=FLOOR, contype=0, conaffinity=_ROBOT_BIT | _OBJECT_BIT,
    )  # fmt: skip


def _add_cube(spec: mujoco.MjSpec, config: SimConfig) -> None:
    cube = config.cube
    body = spec.worldbody.add_body(name=OBJECT, pos=[0.5, 0.0, cube.size / 2])
    body.add_freejoint(name=OBJECT)
    body.add_geom(
        name=OBJECT, type=mujoco.mjtGeom.mjGEOM_BOX, mass=cube.mass,
        size=[cube.size / 2 * cube.stretch, cube.size / 2, cube.size / 2],
        rgba=[*cube.colour, 1.0], contype=_OBJECT_BIT, conaffinity=_ROBOT_BIT, condim=4,
        friction=[cube.friction, 0.005, 0.0001],
    )  # fmt: skip


def _add_distractor(spec: mujoco.MjSpec, config: SimConfig, distractor: Distractor) -> None:
    # After the object: its body then falls into the object's group of geoms, which the ray caster draws.
    half = distractor.size / 2
    body = spec.worldbody.add_body(name=DISTRACTOR, pos=[*distractor.position, half])
    body.add_freejoint(name=DISTRACTOR)
    body.add_geom(
        name=DISTRACTOR, type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[half, half, 0.0], mass=config.cube.mass,
        rgba=[*distractor.colour, 1.0], contype=_OBJECT_BIT, conaffinity=_ROBOT_BIT | _OBJECT_BIT, condim=4,
        friction=[config.cube.friction, 0.005, 0.0001],
    )  # fmt: skip


def _add_light(spec: mujoco.MjSpec, config: SimConfig) -> None:
    light = config.light
    spec.visual.headlight.ambient = [light.ambient] * 3
    spec.visual.headlight.diffuse = [light.headlight] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.quality.shadowsize = 512
    spec.worldbody.add_light(
        name=LAMP, type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=light.position, dir=lamp_direction(config),
        ambient=[0.0] * 3, diffuse=[light.lamp] * 3, specular=[0.0] * 3, castshadow=light.shadows,
    )  # fmt: skip


def lamp_direction(config: SimConfig) -> Array:
    """Unit vector `(3,)` along which the lamp's light travels, base frame."""
    towards = np.array([*config.table.centre, 0.0]) - np.array(config.light.position)
    result: Array = towards / np.linalg.norm(towards)
    return result


def _add_camera(spec: mujoco.MjSpec, camera: SimCamera) -> None:
    mount = spec.body(camera.mount)
    if mount is None:
        links = ", ".join(body.name for body in spec.bodies if body.name != OBJECT)
        raise ConfigError(f"cameras: {camera.name}: mount '{camera.mount}' is not there; there are {links}")
    x, y, z, w = to_quaternion(camera_rotation(camera))
    mount.add_camera(name=camera.name, pos=camera.position, quat=[w, x, y, z], fovy=camera.fovy)


def _group_geoms(model: mujoco.MjModel) -> None:
    # Geoms that stay together share a group: the ray caster looks for each group only where it is in the picture.
    body = model.geom_bodyid
    limbs = [model.body(name).id for name in ("panda_link0", "panda_link4", "panda_link7", OBJECT)]
    model.geom_group[:] = np.digitize(body, limbs)


def _scale_servos(model: mujoco.MjModel, config: SimConfig) -> None:
    model.actuator_gainprm[:, 0] *= config.servo.stiffness
    model.actuator_biasprm[:, 1] *= config.servo.stiffness
    model.actuator_biasprm[:, 2] *= config.servo.damping
