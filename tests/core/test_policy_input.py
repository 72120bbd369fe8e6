from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.latency import UNMEASURED, Latency
from policy_bringup.core.policy_input import PolicyInput
from policy_bringup.core.types import Column, ImageSample, ImageSpec, ObservationSpec, StateSample

MS = 1_000_000
START = 1_700_000_000 * 1_000_000_000
SPEC = ObservationSpec(
    images=(ImageSpec("front", 2, 2), ImageSpec("wrist", 2, 2)), state=(Column("j1", "rad"), Column("tool.x", "m"))
)


def tool_of(sample: StateSample) -> StateSample:
    if "j1" not in sample.names:
        raise ObservationError("joint_states: j1 missing")
    return replace(sample, names=("tool.x",), values=10.0 * sample.values)


def make(rate_hz=20.0, spec=SPEC) -> PolicyInput:
    return PolicyInput(spec, rate_hz, tool_of)


def picture(camera: str, us: int) -> ImageSample:
    return ImageSample(START + us * 1000, 0, camera, np.full((2, 2, 3), us // 1000 % 251, np.uint8))


def joints(us: int, name: str = "j1") -> StateSample:
    return StateSample(START + us * 1000, 0, (name,), np.array([us / 1e6]))


def hand_over(inputs: PolicyInput, kind: str, us: int) -> None:
    if kind == "joints":
        inputs.add_joints(joints(us))
    else:
        inputs.add_picture(picture(kind, us))


def streams(seconds: int = 1) -> dict[str, list[int]]:
    """Stamps in microseconds: two cameras at 30 Hz, a little apart, and joint states at 100 Hz."""
    front = [round(i * 1e6 / 30) for i in range(30 * seconds)]
    return {"front": front, "wrist": [us + 4000 for us in front], "joints": list(range(0, seconds * 1_000_000, 10_000))}


def in_order() -> list[tuple[str, int]]:
    return sorted(((kind, us) for kind, stamps in streams().items() for us in stamps), key=lambda entry: entry[1])


def moments_one_by_one() -> list[int]:
    inputs, found = make(), []
    for kind, us in in_order():
        hand_over(inputs, kind, us)
        found += inputs.due()
    return found


def test_the_moments_are_pictures_of_the_first_camera_thinned_to_the_rate():
    found = moments_one_by_one()
    assert set(found) <= {START + us * 1000 for us in streams()["front"]}
    assert 18 <= len(found) <= 20
    assert found == sorted(found)


def test_an_observation_has_pictures_joints_and_what_follows_from_them():
    inputs = make()
    for kind, us in in_order()[:40]:
        hand_over(inputs, kind, us)
    found = inputs.build(inputs.due()[-1])
    assert set(found.images) == {"front", "wrist"}
    np.testing.assert_allclose(found.state[0, 1], 10.0 * found.state[0, 0])


@settings(max_examples=40)
@given(data=st.data())
def test_the_moments_and_what_is_seen_do_not_depend_on_how_samples_interleave_or_bunch(data):
    """Each stream arrives in its own order, but any stream may be ahead of another one by up to 100 ms."""
    expected = moments_one_by_one()
    delays = {kind: data.draw(st.integers(0, 100_000), label=kind) for kind in streams()}
    arrivals = sorted(in_order(), key=lambda entry: entry[1] + delays[entry[0]])
    straight, bunched, found = make(), make(), []
    for kind, us in in_order():
        hand_over(straight, kind, us)
    position = 0
    while position < len(arrivals):
        size = data.draw(st.integers(1, 12))
        for kind, us in arrivals[position : position + size]:
            hand_over(bunched, kind, us)
        position += size
        found += bunched.due()
    assert found == expected
    # What is still kept at the end is seen alike as well.
    one, other = straight.build(expected[-1]), bunched.build(expected[-1])
    np.testing.assert_array_equal(one.state, other.state)
    assert all(np.array_equal(one.images[camera], other.images[camera]) for camera in one.images)


def test_no_moment_lies_before_the_first_sample_of_a_stream():
    inputs = make(rate_hz=1000.0)
    for us in (0, 33_000, 66_000):
        inputs.add_picture(picture("front", us))
        inputs.add_picture(picture("wrist", us))
    inputs.add_joints(joints(40_000))
    inputs.add_joints(joints(70_000))
    assert inputs.due() == (START + 66_000 * 1000,)


def test_a_joint_state_that_cannot_be_used_leaves_no_trace():
    inputs = make()
    inputs.add_picture(picture("front", 0))
    inputs.add_picture(picture("wrist", 0))
    with pytest.raises(ObservationError, match="j1 missing"):
        inputs.add_joints(joints(0, "other"))
    assert inputs.due() == ()


def test_a_clock_that_is_set_back_does_not_end_the_moments():
    inputs = make(rate_hz=1000.0)
    for base in (100_000_000, 0):
        for us in range(base, base + 500_000, 50_000):
            for camera in ("front", "wrist"):
                inputs.add_picture(picture(camera, us))
            inputs.add_joints(joints(us))
            found = inputs.due()
    assert found == (START + 450_000 * 1000,)


def test_a_moment_is_told_only_once():
    inputs = make()
    for camera in ("front", "wrist"):
        inputs.add_picture(picture(camera, 0))
    inputs.add_joints(joints(0))
    assert inputs.due() == (START,)
    assert inputs.due() == ()


def test_the_object_is_read_only_by_a_policy_that_has_its_columns():
    spec = replace(SPEC, images=(), state=(Column("j1", "rad"), Column("object.x", "m")))
    assert not make().reads_object
    inputs = make(spec=spec)
    assert inputs.reads_object
    inputs.add_joints(joints(0))
    assert inputs.due() == ()
    inputs.add_object(joints(0, "object.x"))
    assert inputs.due() == (START,)


def test_a_late_camera_is_aligned_with_what_its_pictures_show():
    """The front camera's stamps are 80 ms too late: its picture stamped 300 ms shows the robot at 220 ms."""
    inputs = PolicyInput(SPEC, 20.0, tool_of, Latency({"front": 0.08}))
    for kind, us in in_order():
        hand_over(inputs, kind, us)
    found = {round((moment - START) / MS, 3): inputs.build(moment) for moment in inputs.due()}
    moment_ms = round(300.0 - 80.0, 3)
    assert moment_ms in found
    observation = found[moment_ms]
    assert observation.images["front"][-1, 0, 0, 0] == 300 % 251
    assert observation.images["wrist"][-1, 0, 0, 0] == 204  # the newest at that moment, itself on time
    assert observation.state[-1, 0] == pytest.approx(0.22)


def test_a_camera_that_is_on_time_is_left_as_it_is():
    late, punctual = (
        PolicyInput(SPEC, 20.0, tool_of, latency) for latency in (Latency({"front": 0.0}, 0.1), UNMEASURED)
    )
    for kind, us in in_order():
        hand_over(late, kind, us)
        hand_over(punctual, kind, us)
    assert late.due() == punctual.due()
