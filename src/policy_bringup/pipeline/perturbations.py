"""The perturbation suite: the same task in a world that differs in one respect.

Every perturbed episode has the seed of an undisturbed one, and so the object in the same place: the difference between
the two is what the perturbation does. Amounts are fixed, directions and places are drawn with the seed.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from policy_bringup.pipeline.disturbances import Late, Lossy, Noise, Patch
from policy_bringup.sim.config import Distractor, SimCamera, SimConfig
from policy_bringup.sim.disturbance import Disturbance
from policy_bringup.sim.randomise import Colour
from policy_bringup.sim.tasks import draw_start

HUE = 1.0 / 3.0
SIZES = (0.75, 1.25)
STRETCH = 1.5
LAMP_SHARE, LAMP_MOVED_M = 0.5, 0.6
CAMERA_MOVED_M = 0.015
NOISE_LEVELS = 12.0
PATCH_SIDE = 0.25
DISTRACTOR_APART_M = 0.09
DISTRACTOR_COLOUR = (0.12, 0.3, 0.8)
LATE_S = 0.1
LOST_SHARE = 0.1
"""Of each camera's pictures, which are taken at the policy's own rate here: no spare one steps in."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What one episode is played in. backend: "egl" or "raycast"."""

    sim: SimConfig
    backend: Literal["egl", "raycast"]
    disturbance: Disturbance | None = None


Perturb = Callable[[Scene, int, np.random.Generator], Scene]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """What it does, in words, and to a scene: (scene, the episode's seed, a generator of its own) -> another scene."""

    words: str
    apply: Perturb


def perturbed(name: str, scene: Scene, seed: int) -> Scene:
    """The scene of the episode with this seed under one of PERTURBATIONS. The same arguments give the same scene."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return PERTURBATIONS[name].apply(scene, seed, rng)


def _colour(scene: Scene, _seed: int, rng: np.random.Generator) -> Scene:
    cube = scene.sim.cube
    hue, saturation, value = colorsys.rgb_to_hsv(*cube.colour)
    turned = colorsys.hsv_to_rgb((hue + float(rng.choice([-HUE, HUE]))) % 1.0, saturation, value)
    return replace(scene, sim=replace(scene.sim, cube=replace(cube, colour=turned)))


def _size(scene: Scene, _seed: int, rng: np.random.Generator) -> Scene:
    cube = scene.sim.cube
    return replace(scene, sim=replace(scene.sim, cube=replace(cube, size=cube.size * float(rng.choice(SIZES)))))


def _shape(scene: Scene, _seed: int, _rng: np.random.Generator) -> Scene:
    return replace(scene, sim=replace(scene.sim, cube=replace(scene.sim.cube, stretch=STRETCH)))


def _light(scene: Scene, _seed: int, rng: np.random.Generator) -> Scene:
    light = scene.sim.light
    angle = rng.uniform(0.0, 2.0 * np.pi)
    x, y, z = light.position
    position = (x + LAMP_MOVED_M * float(np.cos(angle)), y + LAMP_MOVED_M * float(np.sin(angle)), z)
    return replace(scene, sim=replace(scene.sim, light=replace(light, position=position, lamp=light.lamp * LAMP_SHARE)))


def _camera(scene: Scene, _seed: int, rng: np.random.Generator) -> Scene:
    return replace(scene, sim=replace(scene.sim, cameras=tuple(_moved(camera, rng) for camera in scene.sim.cameras)))


def _moved(camera: SimCamera, rng: np.random.Generator) -> SimCamera:
    return replace(camera, position=_beside(camera.position, rng), target=_beside(camera.target, rng))


def _beside(point: Colour, rng: np.random.Generator) -> Colour:
    direction = rng.normal(size=3)
    x, y, z = (np.array(point) + CAMERA_MOVED_M * direction / np.linalg.norm(direction)).tolist()
    return x, y, z


def _backend(scene: Scene, _seed: int, _rng: np.random.Generator) -> Scene:
    return replace(scene, backend="egl" if scene.backend == "raycast" else "raycast")


def _noise(scene: Scene, _seed: int, rng: np.random.Generator) -> Scene:
    return replace(scene, disturbance=Noise(NOISE_LEVELS, rng))


def _occlusion(scene: Scene, _seed: int, rng: np.random.Generator) -> Scene:
    return replace(scene, disturbance=Patch(PATCH_SIDE, rng))


def _distractor(scene: Scene, seed: int, rng: np.random.Generator) -> Scene:
    """On a circle around where the task will put the object, within the region if that is possible."""
    region = scene.sim.region
    x, y, _ = draw_start(region, np.random.default_rng(seed))
    angles = rng.uniform(0.0, 2.0 * np.pi, 32)
    places = np.column_stack([x + DISTRACTOR_APART_M * np.cos(angles), y + DISTRACTOR_APART_M * np.sin(angles)])
    inside = (places >= [region.x[0], region.y[0]]).all(1) & (places <= [region.x[1], region.y[1]]).all(1)
    px, py = places[int(np.argmax(inside))].tolist()  # the first inside, or the first
    distractor = Distractor((px, py), scene.sim.cube.size, DISTRACTOR_COLOUR)
    return replace(scene, sim=replace(scene.sim, distractor=distractor))


def _latency(scene: Scene, _seed: int, _rng: np.random.Generator) -> Scene:
    return replace(scene, disturbance=Late(LATE_S))


def _dropped(scene: Scene, _seed: int, rng: np.random.Generator) -> Scene:
    return replace(scene, disturbance=Lossy(LOST_SHARE, rng))


PERTURBATIONS: Mapping[str, Perturbation] = {
    "colour": Perturbation("object: hue turned by a third", _colour),
    "size": Perturbation(f"object: {' or '.join(f'{size:g}' for size in SIZES)} times as large", _size),
    "shape": Perturbation(f"object: {STRETCH:g} times as long in one direction", _shape),
    "light": Perturbation(f"lamp: {LAMP_SHARE:.0%} of its brightness, {LAMP_MOVED_M * 100:.0f} cm to one side", _light),
    "camera": Perturbation(f"every camera and its aim moved by {CAMERA_MOVED_M * 1e3:.0f} mm", _camera),
    "backend": Perturbation("pictures drawn by the other camera backend", _backend),
    "noise": Perturbation(f"sensor noise of {NOISE_LEVELS:g} grey levels (standard deviation)", _noise),
    "occlusion": Perturbation(f"a grey square of {PATCH_SIDE:.0%} of the side in every picture", _occlusion),
    "distractor": Perturbation(
        f"a blue cylinder of the object's size, {DISTRACTOR_APART_M * 100:.0f} cm from it", _distractor
    ),
    "latency": Perturbation(f"chunks arrive {LATE_S * 1e3:.0f} ms later", _latency),
    "dropped": Perturbation(f"{LOST_SHARE:.0%} of the pictures are lost", _dropped),
}
"""Name -> perturbation, in the order of the report."""
