from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.observation import ObservationBuilder, resize
from policy_bringup.core.types import Column, ImageSample, ImageSpec, ObservationSpec, StateSample

MS = 1_000_000
START = 1_700_000_000 * 1_000_000_000
JOINTS = ("j1", "j2")
SPEC = ObservationSpec(
    images=(ImageSpec("front", 4, 6), ImageSpec("wrist", 4, 4)),
    state=(Column("tool.x", "m"), Column("j2", "rad"), Column("j1", "rad")),
)
STATE_ONLY = replace(SPEC, images=())


def builder(spec=SPEC, image_age_s=0.15, state_age_s=0.1):
    return ObservationBuilder(spec, image_age_s, state_age_s)


def picture(camera, ms, value=0, shape=(4, 6, 3)):
    return ImageSample(START + ms * MS, 0, camera, np.full(shape, value, np.uint8))


def state(ms, values, names=JOINTS):
    return StateSample(START + ms * MS, 0, names, np.array(values, dtype=float))


def refusal(action, *arguments):
    with pytest.raises(ObservationError) as error:
        action(*arguments)
    return str(error.value)


def filled(spec=SPEC, until_ms=200):
    """Pictures every 50 ms, joints and tool every 10 ms; every value tells the time it was measured at, in ms."""
    streams = builder(spec)
    for ms in range(0, until_ms + 1, 10):
        if ms % 50 == 0:
            streams.add_image(picture("front", ms, ms % 256))
            streams.add_image(picture("wrist", ms, ms % 256))
        streams.add_state("joint_states", state(ms, [ms, 1000 + ms]))
        streams.add_state("tool", state(ms, [2000 + ms], ("tool.x",)))
    return streams


def test_an_observation_has_the_newest_sample_of_every_stream_at_its_moment():
    found = filled().build(START + 117 * MS)
    assert found.stamp_ns == START + 117 * MS
    assert found.images["front"].shape == (1, 4, 6, 3)
    assert found.images["wrist"].shape == (1, 4, 4, 3)
    assert found.images["front"].dtype == np.uint8
    assert np.all(found.images["front"] == 100)
    np.testing.assert_array_equal(found.state, [[2110.0, 1110.0, 110.0]])


def test_a_sample_of_the_very_moment_belongs_to_it():
    found = filled().build(START + 100 * MS)
    assert np.all(found.images["front"] == 100)
    np.testing.assert_array_equal(found.state, [[2100.0, 1100.0, 100.0]])
    before = filled().build(START + 100 * MS - 1)
    assert np.all(before.images["front"] == 50)
    np.testing.assert_array_equal(before.state, [[2090.0, 1090.0, 90.0]])


def test_history_goes_back_in_equal_steps_the_newest_last():
    spec = replace(SPEC, history=3, spacing_s=0.05)
    found = filled(spec).build(START + 160 * MS)
    assert found.images["front"][:, 0, 0, 0].tolist() == [50, 100, 150]
    np.testing.assert_array_equal(found.state[:, 2], [60.0, 110.0, 160.0])
    assert found.state.shape == (3, 3)


def test_history_before_the_first_sample_is_refused():
    spec = replace(STATE_ONLY, history=3, spacing_s=0.05)
    assert filled(spec).build(START + 100 * MS).state.shape == (3, 3)
    assert refusal(filled(spec).build, START + 100 * MS - 1) == (
        "tool: no sample at or before the moment asked for; its oldest is 0.0 ms later"
    )


def test_a_whole_history_is_kept_while_streams_go_on():
    spec = replace(STATE_ONLY, history=40, spacing_s=0.05)
    assert filled(spec, until_ms=4000).build(START + 3900 * MS).state[0, 2] == 3900.0 - 39 * 50.0


def test_columns_are_read_by_name_whatever_their_order():
    streams = builder(STATE_ONLY)
    streams.add_state("tool", state(0, [3.0], ("tool.x",)))
    streams.add_state("joint_states", state(0, [1.0, 2.0], ("j1", "j2")))
    streams.add_state("joint_states", state(10, [20.0, 9.0, 10.0], ("j2", "finger", "j1")))
    np.testing.assert_array_equal(streams.build(START).state, [[3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(streams.build(START + 10 * MS).state, [[3.0, 20.0, 10.0]])


def test_a_column_that_no_stream_has_is_refused_with_the_streams_heard():
    streams = builder(STATE_ONLY)
    assert refusal(streams.build, START) == "state column 'tool.x' is in no stream heard so far (none)"
    streams.add_state("joint_states", state(0, [1.0, 2.0]))
    assert refusal(streams.build, START) == "state column 'tool.x' is in no stream heard so far (joint_states)"


def test_a_sample_that_lacks_its_column_is_refused_and_not_replaced_by_an_older_one():
    streams = filled(STATE_ONLY)
    streams.add_state("joint_states", state(205, [5.0], ("j2",)))
    assert refusal(streams.build, START + 205 * MS) == (
        "joint_states: column 'j1' is missing from the sample of that moment"
    )
    np.testing.assert_array_equal(streams.build(START + 204 * MS).state, [[2200.0, 1200.0, 200.0]])


def test_a_column_in_two_streams_is_refused_because_their_order_of_arrival_would_decide():
    for order in (("a", "b"), ("b", "a")):
        streams = builder(STATE_ONLY)
        streams.add_state("tool", state(0, [3.0], ("tool.x",)))
        for stream in order:
            streams.add_state(stream, state(0, [1.0, 2.0]))
        assert refusal(streams.build, START) == "state column 'j2' is in more than one stream (a, b)"


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_names_and_values_that_do_not_pair_up_are_refused(values):
    streams = builder(STATE_ONLY)
    assert refusal(streams.add_state, "joint_states", state(0, values)).startswith(
        "joint_states: 2 names for values of shape ("
    )


def test_pictures_and_states_have_age_limits_of_their_own():
    pictures = builder(replace(SPEC, images=SPEC.images[:1], state=()))
    pictures.add_image(picture("front", 0))
    states = builder(replace(STATE_ONLY, state=SPEC.state[1:]))
    states.add_state("joint_states", state(0, [0.0, 0.0]))
    for streams, stream, limit_ms in ((pictures, "camera/front", 150), (states, "joint_states", 100)):
        streams.build(START + limit_ms * MS)
        assert refusal(streams.build, START + limit_ms * MS + 1) == (
            f"{stream}: the newest sample is {limit_ms}.0 ms old, allowed are {limit_ms}.0 ms"
        )


def test_a_camera_that_the_policy_does_not_read_is_ignored():
    streams = filled()
    streams.add_image(picture("ceiling", 200))
    assert set(streams.build(START + 200 * MS).images) == {"front", "wrist"}
    assert streams.complete_until() == START + 200 * MS


def test_after_a_reset_nothing_of_before_is_left():
    streams = filled()
    streams.reset()
    assert streams.complete_until() is None
    assert "nothing arrived yet" in refusal(streams.build, START + 200 * MS)
    assert "in no stream heard so far (none)" in refusal(builder(STATE_ONLY).build, START)
    streams.add_image(picture("front", 0, 7))
    streams.add_image(picture("wrist", 0))
    streams.add_state("both", state(0, [1.0, 2.0, 3.0], ("j1", "j2", "tool.x")))
    assert np.all(streams.build(START).images["front"] == 7)


def test_age_limits_survive_a_reset():
    streams = builder(replace(SPEC, images=SPEC.images[:1], state=()))
    streams.reset()
    streams.add_image(picture("front", 0))
    streams.build(START + 150 * MS)
    assert "allowed are 150.0 ms" in refusal(streams.build, START + 150 * MS + 1)


def test_a_moment_is_complete_once_every_stream_has_been_heard_up_to_it():
    streams = builder()
    assert streams.complete_until() is None
    streams.add_image(picture("front", 0))
    streams.add_image(picture("front", 50))
    streams.add_image(picture("wrist", 49))
    assert streams.complete_until() is None  # no joint states yet
    streams.add_state("joint_states", state(60, [0.0, 0.0]))
    assert streams.complete_until() is None  # no tool yet
    streams.add_state("tool", state(60, [0.0], ("tool.x",)))
    assert streams.complete_until() == START
    streams.add_image(picture("wrist", 50))
    assert streams.complete_until() == START + 50 * MS


def test_a_camera_that_is_silent_completes_nothing():
    streams = builder()
    streams.add_image(picture("front", 0))
    streams.add_state("both", state(0, [1.0, 2.0, 3.0], ("j1", "j2", "tool.x")))
    assert streams.complete_until() is None


def test_no_picture_is_complete_while_a_state_stream_lags_behind_the_first():
    streams = builder(replace(SPEC, images=SPEC.images[:1], state=SPEC.state[1:]))
    streams.add_image(picture("front", 10))
    streams.add_state("joint_states", state(9, [0.0, 0.0]))
    assert streams.complete_until() is None


def test_without_pictures_the_first_state_stream_sets_the_moments():
    streams = builder(STATE_ONLY)
    assert streams.complete_until() is None
    streams.add_state("joint_states", state(10, [0.0, 0.0]))
    streams.add_state("joint_states", state(20, [0.0, 0.0]))
    assert streams.complete_until() is None
    streams.add_state("tool", state(15, [0.0], ("tool.x",)))
    assert streams.complete_until() == START + 10 * MS


def recording(rng):
    """Samples of four streams with jitter and drop-outs, each stream in order, as (kind, stream, sample)."""
    samples = []
    for stream, period, names in (("joint_states", 10, JOINTS), ("tool", 10, ("tool.x",))):
        for ms in range(0, 1000, period):
            if rng.random() > 0.1:
                order = rng.permutation(len(names))
                sample = state(ms, rng.normal(size=len(names)), tuple(names[i] for i in order))
                samples.append(("state", stream, sample))
    for camera in ("front", "wrist"):
        for ms in range(0, 1000, 33):
            if rng.random() > 0.1:
                pixels = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
                stamp = START + ms * MS + int(rng.integers(0, 5 * MS))
                samples.append(("image", camera, ImageSample(stamp, 0, camera, pixels)))
    return samples


def feed(streams, kind, stream, sample):
    if kind == "image":
        streams.add_image(sample)
    else:
        streams.add_state(stream, sample)


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_an_observation_built_live_equals_the_one_built_from_the_recording(seed, history):
    rng = np.random.default_rng(seed)
    spec = replace(SPEC, history=history, spacing_s=0.06)
    samples = recording(rng)
    delays = {"joint_states": 0, "tool": 1, "front": 25, "wrist": 45}
    arrivals = sorted(samples, key=lambda entry: entry[2].stamp_ns + delays[entry[1]] * MS)
    live, seen = builder(spec), {}
    for entry in arrivals:
        feed(live, *entry)
        moment = live.complete_until()
        if moment is not None and moment not in seen:
            try:
                seen[moment] = live.build(moment)
            except ObservationError as error:
                seen[moment] = str(error)
    assert sum(not isinstance(found, str) for found in seen.values()) >= 3
    # The recording is read stream by stream: everything later has already arrived.
    recorded = builder(spec)
    for entry in sorted(samples, key=lambda entry: entry[1], reverse=True):
        feed(recorded, *entry)
    for moment, found in seen.items():
        if isinstance(found, str):
            assert refusal(recorded.build, moment) == found
        else:
            again = recorded.build(moment)
            assert again.stamp_ns == moment
            np.testing.assert_array_equal(again.state, found.state)
            for camera, pixels in found.images.items():
                np.testing.assert_array_equal(again.images[camera], pixels)


def test_later_samples_with_other_columns_do_not_change_an_earlier_observation():
    streams = filled(STATE_ONLY)
    before = streams.build(START + 100 * MS)
    streams.add_state("joint_states", state(210, [1.0], ("finger",)))
    np.testing.assert_array_equal(streams.build(START + 100 * MS).state, before.state)


def exact_area(pixels, height, width):
    """Mean over the covered area in rational numbers: the definition, slowly."""
    h, w = pixels.shape[:2]
    result = np.empty((height, width, 3))
    for i in range(height):
        for j in range(width):
            total = [Fraction(0)] * 3
            top, bottom = Fraction(i * h, height), Fraction((i + 1) * h, height)
            left, right = Fraction(j * w, width), Fraction((j + 1) * w, width)
            for y in range(int(top), min(h, int(bottom) + 1)):
                for x in range(int(left), min(w, int(right) + 1)):
                    covered = max(min(bottom, y + 1) - max(top, y), 0) * max(min(right, x + 1) - max(left, x), 0)
                    total = [t + covered * int(value) for t, value in zip(total, pixels[y, x], strict=True)]
            result[i, j] = [float(t / ((bottom - top) * (right - left))) for t in total]
    return result


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=60)
@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_every_pixel_is_the_mean_of_the_area_it_covers(source, target, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*source, 3), dtype=np.uint8)
    found = resize(pixels, *target)
    assert found.shape == (*target, 3)
    assert found.dtype == np.uint8
    assert np.abs(found - exact_area(pixels, *target)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 5), (4, 1), (1, 7)])
def test_for_whole_ratios_the_mean_of_each_block_is_exact(rows, columns):
    pixels = np.random.default_rng(5).integers(0, 256, (6 * rows, 8 * columns, 3), dtype=np.uint8)
    blocks = pixels.reshape(6, rows, 8, columns, 3).astype(np.int64).sum((1, 3))
    mean = blocks / (rows * columns)
    tie = np.isclose(mean % 1.0, 0.5)
    found = resize(pixels, 6, 8)
    np.testing.assert_array_equal(found[~tie], np.rint(mean)[~tie])
    assert np.all(np.abs(found - mean)[tie] == 0.5)


@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (127, 129), (64, 64)])
def test_shrinking_a_picture_keeps_its_mean(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = resize(pixels, 128, 128)
    np.testing.assert_allclose(found.mean((0, 1)), pixels.mean((0, 1)), atol=0.05)


@given(SIZES, SIZES, st.integers(0, 255), st.sampled_from(["area", "crop_area"]))
def test_a_constant_picture_stays_constant(source, target, value, rule):
    assert np.all(resize(np.full((*source, 3), value, np.uint8), *target, rule) == value)


def test_a_picture_of_the_right_size_is_passed_on_as_it_is():
    pixels = np.random.default_rng(2).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert resize(pixels, 5, 7) is pixels


def test_a_doubled_picture_repeats_every_pixel():
    pixels = np.random.default_rng(3).integers(0, 256, (3, 2, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(pixels, 6, 4), pixels.repeat(2, 0).repeat(2, 1))


def test_channels_do_not_mix():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0], pixels[:2, :, 1] = 255, 100
    found = resize(pixels, 2, 2)
    assert np.all(found[..., 0] == 255)
    assert found[..., 1].tolist() == [[100, 100], [0, 0]]
    assert np.all(found[..., 2] == 0)


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ((480, 640), (48, 48), (slice(0, 480), slice(80, 560))),
        ((640, 480), (48, 48), (slice(80, 560), slice(0, 480))),
        ((480, 640), (36, 64), (slice(60, 420), slice(0, 640))),
        ((480, 640), (48, 64), (slice(0, 480), slice(0, 640))),
    ],
)
def test_cropping_cuts_the_centre_out_in_the_aspect_ratio_of_the_target(source, target, kept):
    pixels = np.random.default_rng(4).integers(0, 256, (*source, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(pixels, *target, "crop_area"), resize(pixels[kept], *target))


def test_a_square_in_the_middle_stays_square_when_cropped_and_is_squashed_when_not():
    pixels = np.zeros((120, 240, 3), np.uint8)
    pixels[40:80, 100:140] = 255
    for rule, width in (("crop_area", 20), ("area", 10)):
        bright = resize(pixels, 60, 60, rule)[..., 0] > 127
        assert (bright.any(1).sum(), bright.any(0).sum()) == (20, width)


@pytest.mark.parametrize(("source", "target"), [((1, 1), (1, 100)), ((1, 1), (100, 1)), ((2, 3), (1, 50))])
def test_a_crop_never_cuts_everything_away(source, target):
    assert np.all(resize(np.full((*source, 3), 9, np.uint8), *target, "crop_area") == 9)


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((4, 4), np.uint8), "uint8 (4, 4)"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 (4, 4, 4)"),
        (np.zeros((4, 4, 3)), "float64 (4, 4, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 (0, 4, 3)"),
        (np.zeros((4, 0, 3), np.uint8), "uint8 (4, 0, 3)"),
    ],
)
def test_what_is_no_picture_is_refused(pixels, found):
    assert refusal(resize, pixels, 2, 2) == f"a picture must be uint8 (height, width, 3) and not empty, got {found}"


def test_an_unknown_resize_rule_is_refused():
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert refusal(resize, pixels, 4, 4, "nearest") == "unknown resize rule 'nearest'; allowed are area, crop_area"


def test_the_resize_rule_of_the_contract_is_used():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 200
    for rule, expected in (("area", 100.0), ("crop_area", 200.0)):
        streams = builder(ObservationSpec((ImageSpec("front", 2, 2, resize=rule),), ()))
        streams.add_image(ImageSample(START, 0, "front", pixels))
        assert streams.build(START).images["front"].mean() == expected
