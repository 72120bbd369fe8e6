from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.config import load, read_yaml
from policy_bringup.core.errors import DeviceError
from policy_bringup.core.thumbnail import coarse, thumbnail
from policy_bringup.core.types import Column, ImageSpec, Observation, ObservationSpec, StateSample
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.manifest import Fingerprint
from policy_bringup.inference.start_check import GAP, StartCheck, StartLimits
from policy_bringup.sim.rollout import load_stack
from policy_bringup.sim.tasks import make_task
from policy_bringup.sim.views import open_view
from policy_bringup.sim.world import World

ROOT = Path(__file__).parents[2]
SCENES = range(2_000_000, 2_000_050)
"""Of a deployment: neither training nor calibration nor evaluation has seen them."""


@pytest.fixture(scope="module")
def stack():
    return load_stack(ROOT / "config")


@pytest.fixture(scope="module")
def bundle(stack):
    return load_bundle(ROOT / "models" / "policies" / "grasp", stack.deployment.contract)


@pytest.fixture(scope="module")
def limits():
    """Those of the deployment."""
    return StartLimits(**read_yaml(ROOT / "config" / "policy.yaml")["start"])


@pytest.fixture(scope="module")
def check(bundle, limits):
    pictures = {camera: bundle.samples.pictures(camera) for camera in ("front", "wrist")}
    return StartCheck(bundle.manifest.fingerprint, bundle.contract.observation, limits, pictures)


@pytest.fixture(scope="module", params=["raycast", "egl"])
def starts(request, stack):
    """What the policy sees at the start of 50 scenes: drawn by either backend, from the joints as they are measured."""
    world = World(stack.sim, stack.robot)
    try:
        view = open_view(world.model, stack.deployment.cameras, request.param)
    except DeviceError as error:
        pytest.skip(str(error))
    chain = Chain.from_urdf(stack.urdf, stack.robot.base_frame, stack.robot.tool_frame, stack.robot.joint_names)
    proprioception, task = Proprioception(stack.robot, chain), make_task(stack.deployment.task, stack.sim)
    seen = []
    for seed in SCENES:
        task.reset(world, np.random.default_rng(seed))
        world.step(25)
        measured = world.joint_sample()
        sample = StateSample(1, 1, measured.names, measured.positions)
        tool = proprioception.tool(sample)
        values = dict(zip((*sample.names, *tool.names), (*sample.values, *tool.values), strict=True))
        state = np.array([[values[name] for name in stack.deployment.contract.observation.names]])
        view.update(world.qpos)
        seen.append(Observation(1, {camera: view.render(camera)[None] for camera in ("front", "wrist")}, state))
    view.close()
    return seen


def seeing(observation, **pictures):
    return replace(observation, images={**observation.images, **pictures})


def standing(observation, column, value):
    state = observation.state.copy()
    state[:, column] = value
    return replace(observation, state=state)


def test_fifty_unseen_starts_pass_by_a_wide_margin(check, starts, limits):
    assert [check.judge(start) for start in starts] == [None] * len(SCENES)
    own = [check.likeness(camera, start.images[camera][-1])[camera] for start in starts for camera in start.images]
    assert min(own) > limits.likeness + 0.15


def test_swapped_cameras_are_named_in_every_scene_by_a_wide_margin(check, starts):
    for start in starts:
        swapped = seeing(start, front=start.images["wrist"], wrist=start.images["front"])
        finding = check.judge(swapped)
        assert finding.subject == "front swapped"
        assert finding.sentence.startswith(
            "camera 'front': shows what camera 'wrist' showed in training, the cameras are swapped: its likeness"
        )
        likeness = check.likeness("front", swapped.images["front"][-1])
        assert likeness["wrist"] - likeness["front"] > 1.2


@pytest.mark.parametrize("camera", ["front", "wrist"])
@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda pixels: pixels[:, :, ::-1], 0.65),  # mirrored
        (lambda pixels: pixels[:, ::-1, ::-1], 0.0),  # hung upside down
        (lambda pixels: np.rot90(pixels, axes=(1, 2)), 0.2),
        (lambda pixels: np.concatenate([np.zeros_like(pixels[:, :, :64]), pixels[:, :, 64:]], axis=2), 0.3),
        (lambda pixels: 255 - pixels, -0.9),
    ],
)
def test_what_was_never_seen_in_training_is_refused_in_every_scene(check, starts, camera, change, most):
    for start in starts[:10]:
        changed = seeing(start, **{camera: np.ascontiguousarray(change(start.images[camera]))})
        finding = check.judge(changed)
        assert finding.sentence.startswith(f"camera '{camera}': shows")
        assert check.likeness(camera, changed.images[camera][-1])[camera] < most


@pytest.mark.parametrize(("level", "kind"), [(0, "black"), (255, "white")])
def test_a_picture_without_content_is_called_what_it_is(check, starts, level, kind):
    finding = check.judge(seeing(starts[0], wrist=np.full_like(starts[0].images["wrist"], level)))
    assert finding.subject == "wrist dull"
    assert f"camera 'wrist': the picture is {kind}" in finding.sentence


def test_another_exposure_is_no_other_place(check, starts):
    darker = {camera: (pixels * 0.7).astype(np.uint8) for camera, pixels in starts[0].images.items()}
    assert check.judge(seeing(starts[0], **darker)) is None


@pytest.mark.parametrize(("factor", "passes"), [(0.98, True), (-0.98, True), (1.02, False), (-1.02, False)])
@pytest.mark.parametrize(("column", "name", "unit"), [(3, "panda_joint4", "rad"), (7, "panda_finger_joint1", "m")])
def test_a_joint_on_each_side_of_what_is_allowed(check, starts, bundle, limits, factor, passes, column, name, unit):
    start = bundle.manifest.fingerprint.start_pose[column]
    allowed = limits.rad if unit == "rad" else limits.m
    finding = check.judge(standing(starts[0], column, start + factor * allowed))
    assert (finding is None) is passes
    if finding:
        assert finding.subject == f"{name} pose"
        assert finding.sentence == (
            f"start pose: '{name}' is at {start + factor * allowed:.3f} {unit}, {factor * allowed:+.3f} from where the "
            f"demonstrations began ({start:.3f}); allowed is {allowed:g} {unit}: bring the arm there"
        )


def test_of_two_joints_the_worse_is_named(check, starts, limits):
    both = standing(standing(starts[0], 0, 1.5 * limits.rad), 2, 4.0 * limits.rad)
    assert check.judge(both).subject == "panda_joint3 pose"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_joint_that_is_no_number_does_not_pass(check, starts, value):
    assert check.judge(standing(starts[0], 1, value)).subject == "panda_joint2 pose"


def test_the_sheet_shows_what_is_seen_beside_a_real_picture_of_the_training_data(check, starts, bundle):
    black = np.zeros_like(starts[0].images["wrist"])
    sheet = check.judge(seeing(starts[0], wrist=black)).sheet
    side, step = 128, 128 + 2 * GAP
    assert sheet.shape == (2 * step, 2 * side + 3 * GAP, 3)
    for row, camera in enumerate(("front", "wrist")):
        left = sheet[row * step + GAP :, GAP:][:side, :side]
        right = sheet[row * step + GAP :, 2 * GAP + side :][:side, :side]
        np.testing.assert_array_equal(left, black[-1] if camera == "wrist" else starts[0].images["front"][-1])
        assert any((right == picture).all() for picture in bundle.samples.pictures(camera))
        assert check.likeness(camera, right)[camera] > 0.95
        assert ((sheet[row * step, 0] == (255, 255, 255)).all()) == (camera == "front")  # the other has a red edge


# Below, made-up fingerprints.


@pytest.fixture
def small():
    """One camera; a joint, the tool and an object are measured."""
    state = (Column("joint1", "rad"), Column("tool.x", "m"), Column("object.x", "m"))
    return ObservationSpec((ImageSpec("front", 64, 64),), state)


PICTURE = np.random.default_rng(5).integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
GREY = tuple(coarse(thumbnail(PICTURE)).ravel().tolist())
LIMITS = StartLimits(0.8, 0.05, 0.01)


def moment(pixels, *state):
    return Observation(1, {"front": pixels[None]}, np.array([state]))


def test_the_range_of_the_demonstrations_widens_what_is_allowed(small):
    check = StartCheck(Fingerprint({"front": GREY}, (1.0, 0.0, 0.0), (0.2, 0.0, 0.0)), small, LIMITS)
    assert check.judge(moment(PICTURE, 1.249, 0.0, 0.0)) is None
    assert "'joint1' is at 0.749 rad, -0.251 from where the demonstrations began (1.000); allowed is 0.25 rad" in (
        check.judge(moment(PICTURE, 0.749, 0.0, 0.0)).sentence
    )


def test_what_follows_from_the_joints_and_where_things_lie_is_not_judged(small):
    check = StartCheck(Fingerprint({"front": GREY}, (1.0, 0.0, 0.0)), small, LIMITS)
    assert check.judge(moment(PICTURE, 1.0, 0.5, 0.5)) is None


def test_without_joints_the_tool_is_judged(small):
    check = StartCheck(Fingerprint({"front": GREY}, (0.0, 0.0)), replace(small, state=small.state[1:]), LIMITS)
    assert check.judge(moment(PICTURE, 0.009, 0.5)) is None
    assert check.judge(moment(PICTURE, 0.011, 0.5)).subject == "tool.x pose"


def test_a_camera_that_nothing_is_known_about_is_not_compared_unless_it_sees_nothing(small):
    check = StartCheck(Fingerprint({"front": (90.0,) * 64}, (1.0, 0.0, 0.0)), small, LIMITS)
    assert check.judge(moment(PICTURE[::-1], 1.0, 0.0, 0.0)) is None
    assert check.judge(moment(np.zeros_like(PICTURE), 1.0, 0.0, 0.0)).subject == "front dull"


def test_a_likeness_of_minus_one_compares_no_picture(small):
    check = StartCheck(Fingerprint({"front": GREY}, (1.0, 0.0, 0.0)), small, replace(LIMITS, likeness=-1.0))
    assert check.judge(moment(255 - PICTURE, 1.0, 0.0, 0.0)) is None


def test_without_real_pictures_the_fingerprint_is_shown(small):
    check = StartCheck(Fingerprint({"front": GREY}, (1.0, 0.0, 0.0)), small, LIMITS)
    right = check.judge(moment(255 - PICTURE, 1.0, 0.0, 0.0)).sheet[GAP : GAP + 64, 2 * GAP + 64 : 2 * GAP + 128]
    np.testing.assert_allclose(coarse(thumbnail(right)).ravel(), GREY, atol=1.0)


def test_pictures_that_do_not_show_the_start_are_not_shown_as_if_they_did(small):
    check = StartCheck(Fingerprint({"front": GREY}, (1.0, 0.0, 0.0)), small, LIMITS, {"front": 255 - PICTURE[None]})
    np.testing.assert_allclose(coarse(thumbnail(check.expected("front"))).ravel(), GREY, atol=1.0)


def test_a_policy_without_pictures_is_judged_by_its_pose_alone(small):
    check = StartCheck(Fingerprint({}, (1.0, 0.0, 0.0)), replace(small, images=()), LIMITS)
    assert check.judge(Observation(1, {}, np.array([[1.0, 0.0, 0.0]]))) is None
    finding = check.judge(Observation(1, {}, np.array([[1.1, 0.0, 0.0]])))
    assert (finding.subject, finding.sheet) == ("joint1 pose", None)


def test_limits_out_of_bounds_are_refused_with_their_range(tmp_path):
    path = tmp_path / "start.yaml"
    path.write_text("{likeness: 1.2, rad: 0.1, m: 0.02}")
    with pytest.raises(Exception, match=r"start.yaml: likeness: must be a number from -1 to 1, found 1.2"):
        load(path, StartLimits)
