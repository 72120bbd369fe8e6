from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policy_bringup.core.chunks import ChunkStream, delayed, remaining, value_at
from policy_bringup.core.errors import ChunkRefused
from policy_bringup.core.robot import ColumnLimits
from policy_bringup.core.types import ActionChunk

MS = 1_000_000
START = 1_700_000_000 * 1_000_000_000
NAMES = ("tool.x", "tool.z", "gripper.width")
MAX_STEP = np.array([0.03, 0.03, 0.08])
WIDEST = 0.08
LIMITS = tuple(ColumnLimits(n, -9.0, 9.0, s, 1.0, 10.0, 1.0, 0.01) for n, s in zip(NAMES, MAX_STEP, strict=True))
WITHIN = (*LIMITS[:2], replace(LIMITS[2], lower=0.0, upper=WIDEST))
STEPS, DT = 16, 0.05
BLEND_S = 0.2
REST = np.array([0.4, 0.3, 0.08])


def chunk_of(values, stamp_ms=0.0, dt=DT):
    values = np.asarray(values, dtype=float)
    times_s = dt * np.arange(1, len(values) + 1)
    stamp_ns = START + round(stamp_ms * MS)
    return ActionChunk("policy", stamp_ns, 7, NAMES, times_s, values, np.linspace(0.0, 0.3, len(values)))


def moving(start, velocity, stamp_ms=0.0, steps=STEPS):
    """A chunk at constant `velocity` `(columns,)` that was at `start` at its stamp."""
    return chunk_of(np.asarray(start) + DT * np.arange(1, steps + 1)[:, None] * np.asarray(velocity), stamp_ms)


def faded_in(chunk, measured=REST):
    """The values of a first chunk: slowly away from where the robot stands."""
    share = np.clip(chunk.times_s / BLEND_S, 0.0, 1.0)[:, None]
    return measured + (3.0 * share**2 - 2.0 * share**3) * (chunk.values - measured)


CATCHING_UP = 1.7
"""How much faster than the chunk a chunk at constant velocity is while it fades in: at most 27/16 times."""


def beside(*offset):
    return REST + np.array(offset)


def at(ms):
    return START + round(ms * MS)


def stream():
    return ChunkStream(LIMITS, BLEND_S)


def refusal(joiner, chunk, measured, now_ms):
    with pytest.raises(ChunkRefused) as error:
        joiner.join(chunk, measured, at(now_ms))
    return str(error.value)


class Follower:
    """What executes the joined chunks: at each arrival it goes straight from where it is to the next step."""

    def __init__(self, measured):
        self.ms, self.rows = [0.0], [np.asarray(measured)]

    def take(self, joined, now_ms):
        here = self.value(now_ms)
        past = sum(t < now_ms for t in self.ms)
        ahead = (joined.stamp_ns - START) / MS + 1e3 * joined.times_s
        assert np.all(ahead > now_ms - 1e-6)
        self.ms = [*self.ms[:past], now_ms, *ahead]
        self.rows = [*self.rows[:past], here, *joined.values]

    def value(self, ms):
        return np.array([np.interp(ms, self.ms, column) for column in np.array(self.rows).T])

    def sampled(self, end_ms):
        """At 100 Hz."""
        return np.array([self.value(ms) for ms in np.arange(0.0, end_ms, 10.0)])


# --- one chunk


def test_between_its_steps_a_chunk_is_a_straight_line_and_beyond_them_it_stands():
    chunk = chunk_of([[1.0, 10.0, 0.0], [3.0, 30.0, 0.0]])
    for ms, expected in ((-100, 1.0), (0, 1.0), (50, 1.0), (62.5, 1.5), (75, 2.0), (100, 3.0), (101, 3.0), (9e6, 3.0)):
        np.testing.assert_allclose(value_at(chunk, at(ms)), [expected, 10 * expected, 0.0], rtol=1e-12)


@given(st.floats(0.0, 900.0), st.floats(-1.0, 1.0))
def test_a_chunk_that_stands_at_a_limit_does_not_leave_it_by_a_rounding_error(ms, limit):
    assert np.all(value_at(chunk_of(np.full((STEPS, 3), limit)), at(ms)) == limit)


@pytest.mark.parametrize(("ms", "left"), [(-10, 16), (0, 16), (49.999999, 16), (50, 15), (799.999999, 1)])
def test_the_steps_that_remain_are_those_still_to_come(ms, left):
    chunk = moving(REST, [0.1, 0.0, 0.0])
    rest = remaining(chunk, at(ms))
    assert (rest.stamp_ns, rest.source, rest.names, rest.received_ns) == (START, "policy", NAMES, 7)
    for name in ("times_s", "values", "uncertainty"):
        np.testing.assert_array_equal(getattr(rest, name), getattr(chunk, name)[16 - left :])


@pytest.mark.parametrize("ms", [800, 800.000001, 5000])
def test_nothing_remains_of_a_chunk_at_and_after_its_last_step(ms):
    assert remaining(moving(REST, [0.1, 0.0, 0.0]), at(ms)) is None


def test_a_delayed_chunk_asks_the_same_of_a_later_moment_and_keeps_its_stamp():
    chunk = moving(REST, [0.1, -0.1, 0.0])
    later = delayed(chunk, at(130))
    assert later.stamp_ns == chunk.stamp_ns
    for ms in (0, 60, 333, 900):
        np.testing.assert_allclose(value_at(later, at(ms + 130)), value_at(chunk, at(ms)), atol=1e-12)


# --- the first chunk


@pytest.mark.parametrize("latency_ms", [0, 50, 200, 400, 5000])
def test_the_first_chunk_from_standstill_loses_no_step_however_late_it_comes(latency_ms):
    chunk = moving(REST, [0.3, 0.0, 0.0])
    joined = stream().join(chunk, REST, at(latency_ms))
    np.testing.assert_allclose(joined.values, faded_in(chunk), atol=1e-12)
    np.testing.assert_array_equal(joined.uncertainty, chunk.uncertainty)
    np.testing.assert_allclose(joined.times_s, chunk.times_s + latency_ms / 1e3, atol=1e-12)
    assert joined.stamp_ns == chunk.stamp_ns


@pytest.mark.parametrize("latency_ms", [0, 50, 200, 400])
def test_from_standstill_the_arm_begins_slowly_and_catches_up(latency_ms):
    speed = 0.3
    follower = Follower(REST)
    follower.take(stream().join(moving(REST, [speed, 0.0, 0.0]), REST, at(latency_ms)), float(latency_ms))
    steps = np.diff(follower.sampled(1500.0)[:, 0])
    assert steps[: (latency_ms + 50) // 10].max() <= 0.16 * 0.01 * speed
    assert steps.max() <= CATCHING_UP * 0.01 * speed
    assert follower.value(2000.0)[0] == pytest.approx(REST[0] + 0.8 * speed)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_first_step_as_far_away_as_allowed_passes_and_one_further_is_refused(sign):
    for factor, passes in ((1.0 - 1e-9, True), (1.0 + 1e-6, False)):
        start = beside(0.0, sign * factor * 0.03, 0.0)
        if passes:
            stream().join(moving(start, np.zeros(3)), REST, at(0))
        else:
            refusal(stream(), moving(start, np.zeros(3)), REST, 0)


def test_a_first_jump_is_refused_with_column_and_numbers():
    found = refusal(stream(), moving(beside(0.0, -0.05, 0.0), np.zeros(3)), REST, 200)
    assert found == "tool.z would jump by -0.0500 from the measured position; allowed is 0.0300"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_first_step_that_is_no_number_is_refused(bad):
    assert "gripper.width would jump by" in refusal(stream(), moving(beside(0.0, 0.0, bad), np.zeros(3)), REST, 0)
    assert "tool.x would jump by" in refusal(stream(), moving(REST, np.zeros(3)), REST * [np.nan, 1.0, 1.0], 0)


def test_a_refused_first_chunk_leaves_the_next_one_the_first():
    joiner = stream()
    refusal(joiner, moving(REST + 1.0, np.zeros(3)), REST, 10)
    assert len(joiner.join(moving(REST, [0.1, 0.0, 0.0], 100), REST, at(900)).values) == STEPS


# --- later chunks


@given(st.lists(st.tuples(st.floats(1.0, 300.0), st.floats(0.0, 300.0)), min_size=1, max_size=6))
def test_chunks_that_agree_with_the_path_change_nothing(arrivals):
    """A constant velocity is kept exactly, whatever the latency: joining must not brake."""
    velocity = np.array([0.4, -0.2, 0.0])
    joiner, follower, now = stream(), Follower(REST), 300.0  # the first one has faded in
    follower.take(joiner.join(moving(REST, velocity), REST, at(0)), 0.0)
    for gap, latency in arrivals:
        now = float(round(now + gap))
        seen = max(0.0, now - round(latency))
        chunk = moving(REST + velocity * seen / 1e3, velocity, seen)
        follower.take(joiner.join(chunk, REST, at(now)), now)
        for ms in np.linspace(200.0, now + 400.0, 40):
            np.testing.assert_allclose(follower.value(ms), REST + velocity * ms / 1e3, atol=1e-9)


WALK = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).uniform(-0.6, 0.6, (STEPS, 3)))
"""A velocity per step and column; 0.6 a second is as fast as anything goes here."""


def walked(start, velocities, stamp_ms):
    return chunk_of(np.asarray(start) + DT * np.cumsum(velocities, axis=0), stamp_ms)


@given(WALK, WALK, st.tuples(*[st.floats(-1.0, 1.0)] * 3), st.floats(0, 0.4), st.floats(0, 0.6), st.floats(0, 0.5))
def test_a_late_chunk_joins_without_a_jump(first, second, offset, latency_1, gap, latency_2):
    """Between two samples at 100 Hz the path moves by its chunks' own speed plus what the fade may add."""
    joiner, follower = stream(), Follower(REST)
    now_1 = round(latency_1 * 1e3)
    joined_1 = joiner.join(walked(REST, first, 0), REST, at(now_1))
    follower.take(joined_1, float(now_1))
    now_2 = now_1 + round(gap * 1e3)
    seen = max(0, now_2 - round(latency_2 * 1e3))
    chunk = walked(follower.value(seen), second, seen)
    ahead = remaining(chunk, at(now_2))
    assume(ahead is not None)
    step_ms = [seen + 1e3 * t for t in ahead.times_s]
    # Puts the second chunk at most max_step away from the path where it joins.
    aside = follower.value(step_ms[0]) - ahead.values[0] + 0.999 * np.array(offset) * MAX_STEP
    chunk = chunk_of(chunk.values + aside, seen)
    apart = np.abs([follower.value(ms) - v for ms, v in zip(step_ms, remaining(chunk, at(now_2)).values, strict=True)])
    within = [ms - now_2 < BLEND_S * 1e3 + DT * 1e3 for ms in step_ms]
    follower.take(joiner.join(chunk, REST, at(now_2)), float(now_2))
    allowed = 0.01 * (CATCHING_UP * 0.6 + apart[within].max(0) / BLEND_S)
    moved = np.abs(np.diff(follower.sampled(2500.0), axis=0))
    assert np.all(moved <= allowed + 1e-9)
    before = np.abs(np.diff(follower.sampled(now_2), axis=0))
    assert np.all(before <= CATCHING_UP * 0.01 * 0.6)


@given(WALK, WALK, st.integers(50, 700), st.integers(0, 300))
def test_a_joined_path_stays_between_the_two_it_joins(first, second, now, latency):
    joiner = stream()
    path = joiner.join(walked(REST, first, 0), REST, at(0))
    seen = max(0, now - latency)
    chunk = walked(value_at(path, at(now)), second, seen)
    ahead = remaining(chunk, at(now))
    old = np.array([value_at(path, at(seen + 1e3 * t)) for t in ahead.times_s])
    try:
        joined = joiner.join(chunk, REST, at(now))
    except ChunkRefused:
        assume(False)
    np.testing.assert_array_equal(joined.times_s, ahead.times_s)
    slack = 1e-8  # stamps are whole nanoseconds
    assert np.all(joined.values >= np.minimum(old, ahead.values) - slack)
    assert np.all(joined.values <= np.maximum(old, ahead.values) + slack)
    faded = ahead.times_s - (now - seen) / 1e3 >= BLEND_S
    np.testing.assert_allclose(joined.values[faded], ahead.values[faded], atol=1e-12)


@given(st.floats(-0.6, 0.6), st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_chunks_that_all_command_a_limit_are_joined_at_exactly_that_limit(limit, gaps):
    joiner, now = stream(), 0
    joiner.join(chunk_of(np.full((STEPS, 3), limit)), np.full(3, limit), at(0))
    for gap in gaps:
        now += gap
        assert np.all(joiner.join(chunk_of(np.full((STEPS, 3), limit), now - 1), REST, at(now)).values == limit)


def test_a_gripper_that_closes_a_step_later_than_promised_is_never_commanded_beyond_closed():
    width = np.where(np.arange(STEPS) < 3, 0.08, 0.0)
    values = np.column_stack([np.full(STEPS, 0.4), np.full(STEPS, 0.3), width])
    joiner = stream()
    joiner.join(chunk_of(values), REST, at(0))
    joined = joiner.join(chunk_of(values, 60), REST, at(165))
    assert joined.values[0, 2] > 0.0
    assert joined.values[:, 2].min() == 0.0
    assert joined.values[:, 2].max() <= 0.08


def test_the_old_path_fades_out_over_the_blending_time():
    joiner = stream()
    joiner.join(moving(REST, np.zeros(3)), REST, at(0))
    joined = joiner.join(moving(beside(0.02, 0.0, 0.0), np.zeros(3), 100), REST, at(100))
    expected = np.full(STEPS, 0.02)
    expected[:4] = [0.005, 0.01, 0.015, 0.02]
    np.testing.assert_allclose(joined.values[:, 0] - REST[0], expected, atol=1e-12)


def test_a_second_chunk_before_the_first_step_of_the_first_one_starts_where_the_arm_is():
    joiner, follower = stream(), Follower(REST)
    follower.take(joiner.join(moving(REST, [0.5, 0.0, 0.0]), REST, at(0)), 0.0)
    chunk = moving(beside(0.005, 0.0, 0.0), [0.5, 0.0, 0.0], 10)
    follower.take(joiner.join(chunk, REST, at(12)), 12.0)
    moved = np.diff(follower.sampled(500.0)[:, 0])
    assert moved.min() >= 0.0
    assert moved[0] < 0.16 * 0.005
    assert moved.max() <= CATCHING_UP * 0.005 + 0.01 * 0.005 / BLEND_S


@pytest.mark.parametrize(("factor", "passes"), [(1.0 - 1e-9, True), (1.0 + 1e-6, False)])
def test_a_chunk_as_far_from_the_path_as_allowed_is_joined_and_one_further_is_refused(factor, passes):
    joiner = stream()
    joiner.join(moving(REST, np.zeros(3)), REST, at(0))
    chunk = moving(beside(0.0, -0.03 * factor, 0.0), np.zeros(3), 100)
    if passes:
        joiner.join(chunk, REST + 1.0, at(150))
    else:
        found = refusal(joiner, chunk, REST + 1.0, 150)
        assert found == "tool.z would jump by -0.0300 from the path being executed; allowed is 0.0300"


def test_a_refused_chunk_leaves_the_path_as_it_was():
    velocity = np.array([0.2, 0.0, 0.0])
    joiners = [stream(), stream()]
    for joiner in joiners:
        joiner.join(moving(REST, velocity), REST, at(0))
    refusal(joiners[0], moving(REST + 0.5, velocity, 90), REST, 100)
    results = [joiner.join(moving(REST + 0.01, velocity, 180), REST, at(200)) for joiner in joiners]
    np.testing.assert_array_equal(results[0].values, results[1].values)


def test_a_chunk_whose_steps_are_all_past_is_refused_with_its_age():
    joiner = stream()
    joiner.join(moving(REST, [0.1, 0.0, 0.0]), REST, at(0))
    assert refusal(joiner, moving(REST, [0.1, 0.0, 0.0], 10), REST, 910) == (
        "the chunk is 900 ms old and all its 16 steps are past"
    )
    refusal(joiner, moving(REST, [0.1, 0.0, 0.0], 10), REST, 810)
    assert len(joiner.join(moving(REST, [0.1, 0.0, 0.0], 10), REST, at(809)).values) == 1


@pytest.mark.parametrize(("seen_ms", "steps"), [(800, STEPS), (900, STEPS), (799, STEPS - 8)])
def test_a_picture_taken_after_the_path_ran_out_shows_a_robot_at_rest(seen_ms, steps):
    """Otherwise a slow policy would be refused for ever: standing, it could never reach its own later steps."""
    joiner, velocity = stream(), np.array([0.05, 0.0, 0.0])
    end = joiner.join(moving(REST, velocity), REST, at(0)).values[-1]
    chunk = moving(end, velocity, seen_ms)
    joined = joiner.join(chunk, end, at(seen_ms + 400))
    assert len(joined.values) == steps
    if steps == STEPS:
        np.testing.assert_allclose(joined.values, faded_in(chunk, end), atol=1e-12)


def test_a_chunk_seen_in_motion_that_arrives_after_the_path_ran_out_starts_from_its_end():
    joiner, follower = stream(), Follower(REST)
    velocity = np.array([0.05, 0.0, 0.0])
    follower.take(joiner.join(moving(REST, velocity), REST, at(0)), 0.0)
    follower.take(joiner.join(moving(REST + 0.7 * velocity, velocity, 700), REST, at(900)), 900.0)
    moved = np.diff(follower.sampled(1600.0)[:, 0])
    assert moved.max() <= 0.01 * (0.05 + 0.05 * 0.3 / BLEND_S) + 1e-9
    assert moved.min() >= -1e-12


def test_after_a_reset_the_next_chunk_is_a_first_one():
    joiner = stream()
    joiner.join(moving(REST, [0.5, 0.0, 0.0]), REST, at(0))
    joiner.reset()
    chunk = moving(REST, [0.5, 0.0, 0.0], 100)
    joined = joiner.join(chunk, REST, at(300))
    np.testing.assert_allclose(joined.values, faded_in(chunk), atol=1e-12)


def test_a_robot_that_is_held_in_motion_goes_on_from_where_it_stands():
    """Twice: the picture of the first chunk is from before it was held, that of the second shows it standing."""
    joiner, fast = stream(), np.array([0.25, 0.0, 0.0])
    joiner.join(moving(REST, fast), REST, at(0))
    joiner.join(moving(REST + 0.2 * fast, fast, 200.0), REST, at(240))
    stands = REST + 0.29 * fast
    for seen_ms, now_ms, seen in ((260.0, 310.0, stands - 0.03 * fast), (340.0, 390.0, stands)):
        joiner.stand(at(now_ms))
        follower = Follower(stands)
        follower.ms = [now_ms]
        follower.take(joiner.join(moving(seen, fast, seen_ms), stands, at(now_ms)), now_ms)
        ways = np.diff([follower.value(ms)[0] for ms in np.arange(now_ms, now_ms + 400.0, 10.0)])
        assert ways.min() >= 0.0
        assert ways[0] < 0.6 * 0.01 * fast[0]


def test_a_gripper_keeps_its_command_while_the_robot_is_held():
    joiner = ChunkStream((*LIMITS[:2], replace(LIMITS[2], holds_command=True)), BLEND_S)
    grasping = chunk_of(np.tile(beside(0.0, 0.0, -0.08), (STEPS, 1)))
    joiner.join(grasping, beside(0.0, 0.0, -0.04), at(0))
    joiner.stand(at(400))
    joined = joiner.join(replace(grasping, stamp_ns=at(400)), beside(0.0, 0.0, -0.04), at(410))
    np.testing.assert_allclose(joined.values[:, 2], REST[2] - 0.08, atol=1e-12)


def test_a_chunk_that_leads_far_away_from_where_the_robot_is_held_is_shown_to_safety_as_it_is():
    joiner = stream()
    joiner.join(moving(REST, np.zeros(3)), REST, at(0))
    joiner.stand(at(40))
    far = chunk_of(np.tile(beside(0.2, 0.0, 0.0), (STEPS, 1)), 20.0)
    np.testing.assert_array_equal(joiner.join(far, REST, at(40)).values, far.values)
    assert "would jump" in refusal(joiner, moving(REST, np.zeros(3), 60.0), REST, 90.0)


def test_a_gripper_that_was_told_to_go_beyond_its_limits_is_held_within_them():
    """Safety has refused that, but it is on the path."""
    joiner = ChunkStream((*WITHIN[:2], replace(WITHIN[2], holds_command=True)), BLEND_S)
    shut = beside(0.0, 0.0, -REST[2])
    joiner.join(chunk_of(np.tile(shut - [0.0, 0.0, 0.02], (STEPS, 1))), shut, at(0))
    joiner.stand(at(400))
    asked = replace(chunk_of(np.tile(shut, (STEPS, 1))), stamp_ns=at(400))
    np.testing.assert_array_equal(joiner.join(asked, shut, at(410)).values[:, 2], 0.0)


def test_a_robot_that_is_held_before_there_is_a_path_begins_as_ever():
    joiner = stream()
    joiner.stand(at(0))
    chunk = moving(REST, beside(0.1, 0.0, 0.0) - REST)
    np.testing.assert_allclose(joiner.join(chunk, REST, at(0)).values, faded_in(chunk), atol=1e-12)


@pytest.mark.parametrize("blend_s", [0.01, 0.049, 0.1])
def test_a_join_without_disagreement_does_not_depend_on_the_blending_time(blend_s):
    joiner, velocity = ChunkStream(LIMITS, blend_s), np.array([0.2, 0.1, 0.0])
    joiner.join(moving(REST, velocity), REST, at(0))
    chunk = moving(REST + 0.1 * velocity, velocity, 100, steps=10)
    np.testing.assert_allclose(joiner.join(chunk, REST, at(120)).values, chunk.values, atol=1e-12)


@pytest.mark.parametrize("lead_ms", [0.0, 20.0, 60.0, 150.0])
def test_what_a_late_arm_is_asked_for_is_what_is_due_when_it_gets_there(lead_ms):
    """A straight path, told by chunks at 20 Hz that arrive 30 ms after their pictures."""
    start, velocity = np.array([0.4, 0.3, 0.08]), np.array([0.1, -0.05, 0.0])
    joiner = ChunkStream(LIMITS, BLEND_S, lead_ms / 1e3)
    for number in range(12):
        stamp_ms = 50.0 * number
        chunk = moving(start + velocity * stamp_ms / 1e3, velocity, stamp_ms)
        joined = joiner.join(chunk, start, at(stamp_ms + 30.0))
    asked_ms = stamp_ms + 130.0
    due = start + velocity * (asked_ms + lead_ms) / 1e3
    np.testing.assert_allclose(value_at(joined, at(asked_ms)), due, atol=1e-4)


def test_steps_that_a_late_arm_would_reach_too_late_are_trimmed():
    joiner = ChunkStream(LIMITS, BLEND_S, 0.12)
    joiner.join(moving(REST, np.zeros(3)), REST, at(10.0))
    joined = joiner.join(moving(REST, np.zeros(3), 50.0), REST, at(70.0))
    # 20 ms old: of steps due 50, 100, 150 ms after the picture, the first two would be reached after they are due.
    np.testing.assert_allclose(joined.times_s, DT * np.arange(3, STEPS + 1) - 0.12, atol=1e-9)
    assert joined.times_s[0] > 0.02
    assert joined.stamp_ns == at(50.0)


def test_a_chunk_whose_steps_a_late_arm_would_all_miss_is_refused():
    joiner = ChunkStream(LIMITS, BLEND_S, 0.5)
    joiner.join(moving(REST, np.zeros(3)), REST, at(10.0))
    assert "all its 8 steps are past" in refusal(joiner, moving(REST, np.zeros(3), 50.0, 8), REST, 50.0)


def test_the_first_chunk_of_a_late_arm_begins_where_it_stands_like_any_other():
    chunk = moving(REST, np.array([0.1, 0.0, 0.0]))
    joined = ChunkStream(LIMITS, BLEND_S, 0.2).join(chunk, REST, at(30.0))
    np.testing.assert_allclose(joined.values, faded_in(chunk))


def test_a_late_arm_is_spared_a_jump_like_any_other():
    """Each side of the limit, between the path being executed and the first step that is not trimmed."""
    joiner = ChunkStream(LIMITS, BLEND_S, 0.12)
    joiner.join(moving(REST, np.zeros(3)), REST, at(10.0))
    said = refusal(joiner, moving(beside(0.0301, 0.0, 0.0), np.zeros(3), 50.0), REST, 70.0)
    assert said == "tool.x would jump by +0.0301 from the path being executed; allowed is 0.0300"
    assert joiner.join(moving(beside(0.0299, 0.0, 0.0), np.zeros(3), 50.0), REST, at(70.0)) is not None


def test_the_first_chunk_of_a_late_arm_may_not_begin_elsewhere():
    joiner = ChunkStream(LIMITS, BLEND_S, 0.2)
    said = refusal(joiner, moving(beside(0.0301, 0.0, 0.0), np.zeros(3)), REST, 30.0)
    assert said == "tool.x would jump by +0.0301 from the measured position; allowed is 0.0300"


@given(st.floats(0.0, 0.4), st.floats(-20.0, 200.0))
def test_no_step_of_a_late_arm_is_asked_for_in_the_past_or_before_its_picture(lead_s, age_ms):
    joiner = ChunkStream(LIMITS, BLEND_S, lead_s)
    joiner.join(moving(REST, np.zeros(3), 0.0), REST, at(0.0))
    joined = joiner.join(moving(REST, np.zeros(3), 50.0), REST, at(50.0 + age_ms))
    assert joined.times_s[0] > max(0.0, age_ms / 1e3) - 1e-9
    np.testing.assert_allclose(np.diff(joined.times_s), DT)
    assert joined.times_s[-1] == pytest.approx(STEPS * DT - lead_s)


def test_a_robot_that_measures_a_hair_beyond_a_limit_is_not_asked_to_stay_there():
    joined = ChunkStream(WITHIN, BLEND_S).join(moving(REST, [0.1, 0.0, 0.0]), beside(0.0, 0.0, 1e-6), at(0))
    assert joined.values[:, 2].max() <= WIDEST


def test_nor_by_the_chunk_after_that_which_is_blended_with_it():
    joiner = ChunkStream(WITHIN, BLEND_S)
    joiner.join(moving(REST, [0.1, 0.0, 0.0]), beside(0.0, 0.0, 1e-6), at(0))
    # Its first step is due before the path's own first step: the path there begins where the robot stood.
    joined = joiner.join(chunk_of(np.tile(REST, (STEPS, 1)), 5, dt=0.01), REST, at(10))
    assert joined.values[:, 2].max() <= WIDEST


def test_what_a_policy_itself_asks_for_beyond_a_limit_stays_to_be_seen():
    joined = ChunkStream(WITHIN, BLEND_S).join(moving(beside(0.0, 0.0, 0.01), [0.0, 0.0, 0.0]), REST, at(0))
    assert joined.values[-1, 2] == pytest.approx(WIDEST + 0.01)
