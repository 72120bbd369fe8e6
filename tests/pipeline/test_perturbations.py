"""Every perturbation changes what it is named after, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from policy_bringup.pipeline.perturbations import DISTRACTOR_APART_M, PERTURBATIONS, Scene, perturbed
from policy_bringup.sim.raycast import RaycastView
from policy_bringup.sim.scene import DISTRACTOR, OBJECT
from policy_bringup.sim.tasks import make_task
from policy_bringup.sim.world import World

SEEDS = (1_000_000, 1_000_001, 1_000_002)
CHANGED_FIELDS = {
    "colour": {"cube"},
    "size": {"cube"},
    "shape": {"cube"},
    "light": {"light"},
    "camera": {"cameras"},
    "distractor": {"distractor"},
}
"""Of the simulator's configuration; the others leave it alone."""


@pytest.fixture(scope="module")
def scene(stack) -> Scene:
    return Scene(stack.sim, "raycast")


def laid_out(scene: Scene, stack, seed: int) -> World:
    """The world at the start of an episode."""
    world = World(scene.sim, stack.robot)
    make_task(stack.deployment.task, scene.sim).reset(world, np.random.default_rng(seed))
    return world


def pictures_of(scene: Scene, stack, seed: int) -> dict[str, np.ndarray]:
    world = laid_out(scene, stack, seed)
    view = RaycastView(world.model, stack.deployment.cameras)
    view.update(world.qpos)
    return {camera: view.render(camera).astype(int) for camera in stack.deployment.camera_names}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_only_what_it_names_is_changed(name, scene):
    for seed in SEEDS:
        changed = perturbed(name, scene, seed)
        before, after = asdict(scene.sim), asdict(changed.sim)
        assert {key for key in before if before[key] != after[key]} == CHANGED_FIELDS.get(name, set())
        assert (changed.backend != scene.backend) is (name == "backend")
        assert (changed.disturbance is not None) is (name in ("noise", "occlusion", "latency", "dropped"))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_same_seed_gives_the_same_scene(name, scene):
    one, again = (perturbed(name, scene, SEEDS[0]) for _ in range(2))
    assert (one.sim, one.backend) == (again.sim, again.backend)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_object_lies_where_it_lay_undisturbed(name, scene, stack):
    for seed in SEEDS:
        plain = laid_out(scene, stack, seed).object_pose()
        moved = laid_out(perturbed(name, scene, seed), stack, seed).object_pose()
        np.testing.assert_array_equal(moved.position[:2], plain.position[:2])
        np.testing.assert_array_equal(moved.rotation, plain.rotation)


@pytest.mark.parametrize("name", ["colour", "size", "shape", "light", "camera", "distractor"])
def test_a_changed_world_is_seen(name, scene, stack):
    plain = pictures_of(scene, stack, SEEDS[0])
    for camera, picture in pictures_of(perturbed(name, scene, SEEDS[0]), stack, SEEDS[0]).items():
        if camera == "front" or name in ("light", "camera"):  # the object may be out of the wrist camera's sight
            assert (np.abs(picture - plain[camera]) > 20).any(), camera


def test_the_colour_keeps_its_brightness_and_turns_both_ways(scene):
    cubes = {perturbed("colour", scene, seed).sim.cube.colour for seed in range(1_000_000, 1_000_020)}
    assert len(cubes) == 2
    for colour in cubes:
        assert sorted(colour) == pytest.approx(sorted(scene.sim.cube.colour))
        assert colour[0] < 0.2  # no longer red


def test_sizes_and_shape(scene):
    sizes = {round(perturbed("size", scene, seed).sim.cube.size, 6) for seed in range(1_000_000, 1_000_020)}
    assert sizes == {0.03, 0.05}
    assert perturbed("shape", scene, 1_000_000).sim.cube.stretch == 1.5


def test_the_lamp_is_dimmer_and_moves_sideways_by_its_amount(scene):
    light, was = perturbed("light", scene, 1_000_003).sim.light, scene.sim.light
    assert light.lamp == was.lamp / 2
    assert np.hypot(*np.subtract(light.position, was.position)[:2]) == pytest.approx(0.6)
    assert replace(light, lamp=was.lamp, position=was.position) == was


def test_every_camera_moves_by_its_amount_in_its_own_direction(scene):
    moved = perturbed("camera", scene, 1_000_003).sim.cameras
    shifts = [np.subtract(a.position, b.position) for a, b in zip(moved, scene.sim.cameras, strict=True)]
    np.testing.assert_allclose(np.linalg.norm(shifts, axis=1), 0.015)
    assert not np.allclose(shifts[0], shifts[1])
    aims = [np.subtract(a.target, b.target) for a, b in zip(moved, scene.sim.cameras, strict=True)]
    np.testing.assert_allclose(np.linalg.norm(aims, axis=1), 0.015)


def test_the_distractor_stands_beside_the_object_on_the_table(scene, stack):
    region = scene.sim.region
    for seed in range(1_000_000, 1_000_030):
        changed = perturbed("distractor", scene, seed)
        x, y = changed.sim.distractor.position
        assert region.x[0] <= x <= region.x[1]
        assert region.y[0] <= y <= region.y[1]
    world = laid_out(changed, stack, seed)
    apart = world.model.body(DISTRACTOR).pos - world.object_pose().position
    assert np.hypot(*apart[:2]) == pytest.approx(DISTRACTOR_APART_M)


def test_a_distractor_stays_put_and_is_another_body_than_the_object(scene, stack):
    changed = perturbed("distractor", scene, SEEDS[0])
    world = laid_out(changed, stack, SEEDS[0])
    before = world.qpos
    world.step(500)
    np.testing.assert_allclose(world.qpos[-14:], before[-14:], atol=1e-3)  # two free bodies
    assert world.model.body(DISTRACTOR).id > world.model.body(OBJECT).id


def test_the_other_backend_of_either_is_the_other(scene):
    assert perturbed("backend", scene, 1).backend == "egl"
    assert perturbed("backend", replace(scene, backend="egl"), 1).backend == "raycast"


def test_every_perturbation_is_described():
    assert all(perturbation.words for perturbation in PERTURBATIONS.values())
    assert len({perturbation.words for perturbation in PERTURBATIONS.values()}) == len(PERTURBATIONS)
