from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.control.emitted import Emitted
from policy_bringup.control.leader import Pull
from policy_bringup.control.operator_input import TeleopCommand
from policy_bringup.control.teleop import Moment, Teleop
from policy_bringup.control.teleop_config import TeleopConfig
from policy_bringup.core.chunks import value_at
from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ChunkRefused, ConfigError
from policy_bringup.core.robot import ColumnLimits, columns_to_pose, pose_to_columns
from policy_bringup.core.rotations import exp, log
from policy_bringup.core.types import ActionChunk, Array

MS = 1_000_000
START_NS = 1_700_000_000 * 1_000 * MS
CYCLE = 50 * MS
TICK_S = 0.01
ROUNDING = 1e-9
RELEASED = TeleopCommand(np.zeros(3), np.zeros(3), 0.0, False)


def command(linear=(0.0, 0.0, 0.0), angular=(0.0, 0.0, 0.0), gripper: float = 0.0) -> TeleopCommand:
    return TeleopCommand(np.array(linear), np.array(angular), gripper, True)


@pytest.fixture(scope="module")
def teleop_config(request) -> TeleopConfig:
    return load(request.getfixturevalue("config_folder") / "teleop.yaml", TeleopConfig)


@pytest.fixture(scope="module")
def deployment(request):
    return load_deployment(request.getfixturevalue("config_folder") / "grasp.yaml")[0]


@pytest.fixture(scope="module")
def make(robot, chain, deployment, teleop_config) -> Callable[..., Teleop]:
    """A Teleop for config/grasp.yaml; keywords replace keys of the motion."""

    def build(**changes) -> Teleop:
        motion = dataclasses.replace(teleop_config.motion, **changes)
        return Teleop(robot, chain, deployment.contract.action, deployment.limits, motion, TICK_S)

    return build


@pytest.fixture(scope="module")
def joint_limits(robot) -> tuple[ColumnLimits, ...]:
    joints = [
        ColumnLimits(j.name, j.lower, j.upper, 0.1, j.velocity, 10 * j.acceleration, j.velocity / 4, 0.05)
        for j in robot.joints
    ]
    width = ColumnLimits("gripper.width", 0.0, 0.08, 0.08, 1.0, 200.0, 0.08, 0.08, True)
    force = ColumnLimits("gripper.force", 0.0, 60.0, 60.0, 12000.0, 1.2e6, 60.0, 60.0, True)
    return (*joints, width, force)


@pytest.fixture(scope="module")
def home(robot, chain) -> Array:
    return np.array([*pose_to_columns(chain.forward(robot.home), robot.tool_reference), 0.08, 0.0])


class Driven:
    """Teleop and an arm that goes part of the way to the target every 50 ms; safety emits what it is asked for."""

    def __init__(self, teleop: Teleop, measured: Array, follows: float = 1.0) -> None:
        self.teleop, self.measured, self.follows = teleop, measured.copy(), follows
        self.stamp_ns = START_NS
        self.emitted = Emitted(START_NS, measured.copy(), np.zeros_like(measured))
        self.chunk: ActionChunk | None = None

    def step(self, given: TeleopCommand) -> ActionChunk:
        chunk = self.teleop.drive(given, Moment(self.stamp_ns, self.measured.copy(), self.emitted, True))
        self.chunk = chunk
        self.stamp_ns += CYCLE
        position = value_at(chunk, self.stamp_ns)
        self.emitted = Emitted(self.stamp_ns, position, (position - value_at(chunk, self.stamp_ns - 10 * MS)) / 0.01)
        self.measured = self.measured + self.follows * (position - self.measured)
        return chunk

    def steps(self, given: TeleopCommand, count: int) -> list[ActionChunk]:
        return [self.step(given) for _ in range(count)]


units = st.floats(-1.0, 1.0)
commands = st.builds(
    lambda linear, angular, gripper, deadman: (
        command(0.12 * np.array(linear), 0.5 * np.array(angular), gripper) if deadman else RELEASED
    ),
    st.lists(units, min_size=3, max_size=3),
    st.lists(units, min_size=3, max_size=3),
    st.sampled_from([-1.0, 0.0, 1.0]),
    st.sampled_from([True, True, True, False]),
)
parts = st.lists(st.floats(0.0, 1.0), min_size=8, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    parts, st.lists(st.tuples(commands, st.integers(1, 8)), min_size=1, max_size=8), st.sampled_from([1.0, 0.5, 0.0])
)
def test_no_target_leaves_the_limits_or_the_leash_or_makes_a_step_that_is_too_large(
    make, deployment, teleop_config, part, sequence, follows
):
    lower, upper, max_step, speed = (
        np.array([getattr(column, name) for column in deployment.limits])
        for name in ("lower", "upper", "max_step", "max_velocity")
    )
    motion = teleop_config.motion
    leash = np.repeat([motion.linear_leash, motion.angular_leash], 3)
    driven = Driven(make(), lower + np.array(part) * (upper - lower), follows)
    for given_command, count in sequence:
        for _ in range(count):
            before, measured = driven.emitted.position, driven.measured
            chunk = driven.step(given_command)
            assert ((lower <= chunk.values) & (chunk.values <= upper)).all()
            assert (np.abs(chunk.values[:, :6] - measured[:6]) <= leash + ROUNDING).all()
            # Letting go of a blocked arm gives its target up: safety re-bases to a pose held where the arm is.
            held = (np.abs(chunk.values[:, :6] - measured[:6]) <= ROUNDING).all()
            begun = np.append(measured[:6], before[6:]) if held else before
            steps = np.abs(np.diff(np.vstack([begun, chunk.values]), axis=0))
            assert (steps <= max_step).all()
            assert (steps / chunk.times_s[0] <= speed + ROUNDING).all()


@settings(max_examples=60, deadline=None)
@given(parts, commands, st.booleans())
def test_the_first_table_starts_at_the_measured_pose_and_every_table_ends_at_rest(
    make, deployment, part, given_command, live
):
    lower, upper = (np.array([getattr(column, name) for column in deployment.limits]) for name in ("lower", "upper"))
    measured = lower + np.array(part) * (upper - lower)
    emitted = Emitted(START_NS, measured, np.zeros(8)) if live else None
    chunk = make().drive(given_command, Moment(START_NS, measured, emitted, live))
    # From rest, at the configured acceleration: no further than a t^2 / 2.
    from_rest = 0.5 * 3.0 * 1.3 * chunk.times_s[0] ** 2
    assert (np.abs(chunk.values[0, :6] - measured[:6]) <= from_rest).all()
    way = np.abs(np.diff(chunk.values, axis=0))
    assert (way[-1, :6] <= from_rest).all()
    assert (chunk.source, chunk.stamp_ns, chunk.names) == ("teleop", START_NS, deployment.contract.action.names)
    assert len(chunk.times_s) <= deployment.contract.action.steps
    assert not chunk.uncertainty.any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_motion_reaches_its_speed_and_keeps_its_direction(make, home, axis: int, sign: float):
    driven = Driven(make(), home - [0.05, 0.0, 0.1, 0, 0, 0, 0, 0])
    driven.steps(command(sign * 0.1 * np.eye(3)[axis]), 10)
    before = driven.emitted.position
    driven.step(command(sign * 0.1 * np.eye(3)[axis]))
    went = driven.emitted.position - before
    np.testing.assert_allclose(went[:3], sign * 0.005 * np.eye(3)[axis], atol=1e-5)
    np.testing.assert_allclose(went[3:], 0.0, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_turn_is_about_the_axis_of_the_base_also_when_the_tool_is_tilted(make, robot, home, axis: int):
    tilted = home.copy()
    tilted[3:6] = [0.1, -0.2, 0.8]
    driven = Driven(make(), tilted)
    before = columns_to_pose(tilted[:6], robot.tool_reference).rotation
    driven.steps(command(angular=0.3 * np.eye(3)[axis]), 10)
    turn = log(columns_to_pose(driven.emitted.position[:6], robot.tool_reference).rotation @ before.T)
    assert np.linalg.norm(turn) > 0.1
    np.testing.assert_allclose(turn / np.linalg.norm(turn), np.eye(3)[axis], atol=0.01)
    np.testing.assert_allclose(driven.emitted.position[:3], tilted[:3], atol=1e-9)


def test_released_it_brakes_and_then_holds_without_end(make, home):
    driven = Driven(make(), home)
    driven.steps(command([0.1, 0.0, 0.0]), 8)
    assert driven.emitted.velocity[0] > 0.05
    driven.steps(RELEASED, 6)
    rest = driven.emitted.position
    for chunk in driven.steps(RELEASED, 20):
        np.testing.assert_allclose(chunk.values, np.tile(rest, (len(chunk.values), 1)), atol=1e-9)


def test_an_arm_that_sags_does_not_sink_further_with_every_press(make, home):
    sag = np.array([0, 0, -0.004, 0, 0, 0, 0, 0])
    driven = Driven(make(), home)
    for _ in range(10):
        driven.measured = driven.emitted.position + sag
        driven.step(command([0.0, 0.01, 0.0]))
        driven.measured = driven.emitted.position + sag
        driven.steps(RELEASED, 3)
    assert driven.emitted.position[2] == pytest.approx(home[2], abs=1e-9)


def test_a_blocked_arm_is_pushed_no_further_than_the_leash_and_the_target_waits_there(make, home, teleop_config):
    driven = Driven(make(), home, follows=0.0)
    driven.steps(command([0.1, 0.0, 0.0]), 60)
    ahead = driven.emitted.position[0] - home[0]
    assert 0.8 * teleop_config.motion.linear_leash < ahead <= teleop_config.motion.linear_leash
    jitter = home.copy()
    jitter[0] -= 1e-4
    driven.measured = jitter
    driven.step(command([0.1, 0.0, 0.0]))
    assert driven.emitted.position[0] - home[0] == pytest.approx(ahead, abs=0.005)


def test_letting_go_of_a_blocked_arm_gives_the_target_up(make, home):
    driven = Driven(make(), home, follows=0.0)
    driven.steps(command([0.1, 0.0, 0.0]), 60)
    assert driven.emitted.position[0] - home[0] > 0.05
    driven.steps(RELEASED, 10)
    np.testing.assert_allclose(driven.emitted.position[:6], home[:6], atol=1e-12)


def test_an_arm_that_was_pushed_away_is_met_where_it_is(make, home):
    driven = Driven(make(), home)
    driven.steps(RELEASED, 3)
    driven.measured = home + 0.2 * np.eye(8)[1]
    np.testing.assert_allclose(driven.step(RELEASED).values[:, :6], np.tile(driven.measured[:6], (16, 1)), atol=1e-9)


def test_a_source_in_motion_is_taken_over_at_its_speed_and_braked(make, home):
    """The reference runs ahead of the measured arm; the table begins with it, not with the arm behind it."""
    velocity = np.array([0.0, 0.3, 0, 0, 0, 0, 0, 0])
    measured = home - 0.03 * velocity
    chunk = make().drive(RELEASED, Moment(START_NS, measured, Emitted(START_NS, home, velocity), True))
    first = (chunk.values[0] - home) / chunk.times_s[0]
    assert 0.25 < first[1] <= 0.3
    speeds = np.diff(chunk.values[:, 1]) / np.diff(chunk.times_s)
    assert (np.diff(speeds) <= 1e-9).all()
    assert speeds[-1] < 0.03
    assert np.abs(np.diff(speeds)).max() < 0.12


def test_before_safety_follows_anybody_it_always_starts_where_the_arm_is(make, home):
    teleop = make()
    elsewhere = Emitted(START_NS, home + 0.01, np.full(8, 0.2))
    for cycle in range(5):
        measured = home + 0.002 * cycle * np.eye(8)[0]
        chunk = teleop.drive(RELEASED, Moment(START_NS + cycle * CYCLE, measured, elsewhere, False))
        np.testing.assert_allclose(chunk.values[:, :6], np.tile(measured[:6], (16, 1)), atol=1e-12)


@pytest.mark.parametrize("live", [True, False])
def test_fingers_that_hold_something_stay_as_commanded_and_not_as_measured(make, home, live):
    measured = home.copy()
    measured[6:] = [0.04, 0.0]
    grasping = home.copy()
    grasping[6:] = [0.0, 20.0]
    chunk = make().drive(
        command([0.1, 0, 0]), Moment(START_NS, measured, Emitted(START_NS, grasping, np.zeros(8)), live)
    )
    np.testing.assert_array_equal(chunk.values[:, 6:], np.tile([0.0, 20.0], (16, 1)))


def test_closing_grasps_with_the_configured_force_and_opening_goes_to_the_end(make, home, teleop_config):
    driven = Driven(make(), home)
    driven.steps(command(gripper=-1.0), 12)
    assert driven.emitted.position[6] == pytest.approx(0.0, abs=1e-3)
    assert driven.emitted.position[7] == pytest.approx(teleop_config.motion.grip_force, abs=0.5)
    driven.steps(command(gripper=1.0), 12)
    assert driven.emitted.position[6] == pytest.approx(0.08, abs=1e-3)


def test_a_tap_of_the_gripper_key_goes_all_the_way(make, home, teleop_config):
    driven = Driven(make(), home)
    driven.steps(command(gripper=-1.0), int(teleop_config.keyboard.initial_hold_s / 0.05))
    driven.steps(RELEASED, 4)
    assert driven.emitted.position[6] == pytest.approx(0.0, abs=2e-3)


def test_an_action_that_safety_did_not_take_is_forgotten(make, home):
    """RETRY repeats the last action: going on from one's own plan would jump further away with every table."""
    driven = Driven(make(), home)
    driven.steps(command([0.1, 0, 0]), 5)
    stuck = Emitted(driven.stamp_ns + CYCLE, driven.emitted.position, np.zeros(8))
    chunk = driven.teleop.drive(command([0.1, 0, 0]), Moment(driven.stamp_ns + CYCLE, driven.measured, stuck, True))
    assert abs(chunk.values[0, 0] - stuck.position[0]) < 1e-3


def test_an_action_that_safety_published_late_is_still_the_one_that_was_asked_for(make, home):
    """On a busy machine; a table that started where the arm seems to be would go back."""
    driven = Driven(make(), home)
    driven.steps(command([0.1, 0, 0]), 5)
    for late_ms in (0, 15, 30):
        asked = value_at(driven.chunk, driven.stamp_ns - late_ms * MS)
        emitted = Emitted(driven.stamp_ns, asked, driven.emitted.velocity)
        forward, moment = command([0.1, 0, 0]), Moment(driven.stamp_ns, driven.measured, emitted, True)
        chunk = copy.deepcopy(driven.teleop).drive(forward, moment)
        expected = value_at(driven.chunk, driven.stamp_ns)[0] + 0.1 * chunk.times_s[0]
        assert chunk.values[0, 0] == pytest.approx(expected, abs=1e-6)


def test_an_arm_far_outside_the_workspace_is_named_and_refused(make, home):
    outside = home.copy()
    outside[0] = 0.85
    with pytest.raises(ChunkRefused, match=r"tool\.x is 0\.850, far outside the workspace 0\.25 to 0\.75"):
        make().drive(RELEASED, Moment(START_NS, outside, None, False))
    outside[0] = 0.78
    assert make().drive(RELEASED, Moment(START_NS, outside, None, False)).values[:, 0].max() <= 0.75


def test_an_arm_that_is_not_measured_is_refused(make, home):
    with pytest.raises(ChunkRefused, match="not finite"):
        make().drive(RELEASED, Moment(START_NS, np.where(np.arange(8) == 2, np.nan, home), None, False))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linear_speed": 0.5}, r"tool\.x would have a speed of 0\.5; .* at most 0\.48"),
        ({"angular_acceleration": 30.0}, r"tool\.rx would have a acceleration of 30; .* at most 16"),
        ({"force_rate": 300.0}, r"gripper\.force would have a speed of 300"),
        ({"linear_leash": 0.005, "linear_speed": 0.3}, "a leash is too short for its speed"),
    ],
)
def test_a_motion_that_safety_would_refuse_is_refused_at_the_start(make, changes, words):
    with pytest.raises(ConfigError, match=words):
        make(**changes)


def test_a_contract_of_too_few_steps_is_refused(robot, chain, deployment, teleop_config):
    spec = dataclasses.replace(deployment.contract.action, steps=3)
    with pytest.raises(ConfigError, match="allows 3 steps; at least 4"):
        Teleop(robot, chain, spec, deployment.limits, teleop_config.motion, TICK_S)


def test_in_joint_space_the_tool_goes_where_it_is_told(robot, chain, joint_space, joint_limits, teleop_config):
    teleop = Teleop(robot, chain, joint_space, joint_limits, teleop_config.motion, TICK_S)
    driven = Driven(teleop, np.array([*robot.home, 0.08, 0.0]))
    before = chain.forward(robot.home)
    driven.steps(command([0.1, 0.0, 0.0]), 20)
    after = chain.forward(driven.emitted.position[:7])
    went = after.position - before.position
    assert went[0] > 0.05
    assert np.abs(went[1:]).max() < 0.005
    assert np.linalg.norm(log(after.rotation @ before.rotation.T)) < 0.02


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.02, 0.98), min_size=7, max_size=7), st.lists(commands, min_size=1, max_size=10))
def test_in_joint_space_no_joint_is_faster_than_its_share(
    robot, chain, joint_space, joint_limits, teleop_config, part, sequence
):
    teleop = Teleop(robot, chain, joint_space, joint_limits, teleop_config.motion, TICK_S)
    joints = robot.lower + np.array(part) * (robot.upper - robot.lower)
    driven = Driven(teleop, np.array([*joints, 0.04, 0.0]))
    for given_command in sequence:
        chunk = driven.step(given_command)
        rates = np.abs(np.diff(chunk.values[:, :7], axis=0)) / chunk.times_s[0]
        assert (rates <= teleop_config.motion.joint_speed * robot.velocity + 1e-6).all()
        assert ((robot.lower <= chunk.values[:, :7]) & (chunk.values[:, :7] <= robot.upper)).all()


def test_a_leader_is_followed_to_the_end_within_the_leash(robot, chain, joint_space, joint_limits, teleop_config):
    teleop = Teleop(robot, chain, joint_space, joint_limits, teleop_config.motion, TICK_S)
    measured = np.array([*robot.home, 0.08, 0.0])
    goal = measured.copy()
    goal[0] += 0.5
    goal[6] -= 0.3
    goal[7:] = [0.02, 40.0]
    stamp, emitted = START_NS, Emitted(START_NS, measured, np.zeros(9))
    for _ in range(80):
        chunk = teleop.follow(Pull(goal, np.zeros(9)), Moment(stamp, measured, emitted, True))
        assert (np.abs(chunk.values[:, :7] - measured[:7]) <= teleop_config.motion.joint_leash + ROUNDING).all()
        stamp += CYCLE
        measured = value_at(chunk, stamp)
        emitted = Emitted(stamp, measured, np.zeros(9))
    np.testing.assert_allclose(measured[:8], goal[:8], atol=2e-3)
    held = teleop.follow(None, Moment(stamp, measured, emitted, True))
    np.testing.assert_allclose(held.values[-1], held.values[-2], atol=1e-4)


def test_a_leader_that_moves_steadily_is_followed_without_a_growing_lag(
    robot, chain, joint_space, joint_limits, teleop_config
):
    teleop = Teleop(robot, chain, joint_space, joint_limits, teleop_config.motion, TICK_S)
    measured = np.array([*robot.home, 0.08, 0.0])
    velocity = np.array([0.2, 0, 0, 0, 0, 0, 0, 0, 0])
    goal, stamp, emitted = measured.copy(), START_NS, Emitted(START_NS, measured, np.zeros(9))
    for _ in range(60):
        goal = goal + velocity * 0.05
        chunk = teleop.follow(Pull(goal, velocity), Moment(stamp, measured, emitted, True))
        stamp += CYCLE
        measured = value_at(chunk, stamp)
        emitted = Emitted(stamp, measured, velocity)
    assert abs(goal[0] + velocity[0] * 0.05 - measured[0]) < 0.01


def test_the_rates_of_a_rotation_vector_are_those_of_the_turn():
    from policy_bringup.control.teleop import _rotation_rates

    random = np.random.default_rng(3)
    for scale in (1e-6, 0.3, 1.7, 2.8):
        vector, angular = random.normal(size=3), random.normal(size=3)
        vector *= scale / np.linalg.norm(vector)
        h = 1e-6
        expected = (log(exp(h * angular) @ exp(vector)) - log(exp(-h * angular) @ exp(vector))) / (2 * h)
        np.testing.assert_allclose(_rotation_rates(vector, angular), expected, atol=1e-5)
