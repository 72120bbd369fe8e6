from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.control.arm import Arm, load_arm
from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.braking import state_at
from policy_bringup.control.ik import NumericIk
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.second_line import CommandLimits, refuse
from policy_bringup.control.workspace import Workspace
from policy_bringup.core.errors import ConfigError, DeviceError
from policy_bringup.core.robot import Robot, columns_to_pose, pose_to_columns
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, ActionSpec, Array, JointCommand

MS = 1_000_000
TICK = 10 * MS
NAMES = (*TOOL_COLUMNS, *GRIPPER_COLUMNS)


@pytest.fixture
def home(chain: Chain, robot: Robot) -> Array:
    """The action that asks for the home pose with an open gripper."""
    return np.array([*pose_to_columns(chain.forward(robot.home), robot.tool_reference), robot.gripper.home, 20.0])


@pytest.fixture
def ask(robot: Robot) -> Array:
    """The joint-space action that asks for home."""
    return np.array([*robot.home, robot.gripper.home, 20.0])


@pytest.fixture
def joint_names(robot: Robot) -> tuple[str, ...]:
    return (*robot.joint_names, *GRIPPER_COLUMNS)


def moved(action: Array, column: int, by: float) -> Array:
    result = action.copy()
    result[column] += by
    return result


def rests(command: JointCommand) -> bool:
    return not command.velocities[-1].any()


def sent(arm: Arm, action: Array, ticks: int, start_ns: int = 0) -> tuple[JointCommand, int]:
    """The same action at 100 Hz; the last command and its time."""
    for tick in range(1, ticks + 1):
        now = start_ns + tick * TICK
        command = arm.follow(NAMES, action, now)
    return command, now


def test_it_begins_by_holding_what_is_measured(arm: Arm, robot: Robot, config: ArmConfig) -> None:
    command = arm.begin(robot.home + 0.1, 0.05, 0)
    assert command.names == (*robot.joint_names, robot.gripper.joint)
    np.testing.assert_allclose(command.positions, np.tile([*(robot.home + 0.1), 0.025], (2, 1)))
    np.testing.assert_array_equal(command.velocities, 0.0)
    assert command.times_s[0] == config.horizon_s
    assert command.gripper_effort == robot.gripper.force
    assert arm.holding
    assert arm.width == pytest.approx(0.05)


def test_the_way_home_never_asks_for_more_than_the_widest_gripper(arm: Arm, robot: Robot) -> None:
    arm.begin(robot.home, robot.gripper.upper + 1e-6, 0)
    _, values = arm.plan_home(0.05)
    assert values[:, NAMES.index("gripper.width")].max() <= robot.gripper.upper


def test_it_follows_a_tool_path_closely(arm: Arm, chain: Chain, home: Array) -> None:
    for tick in range(1, 400):
        t = 0.01 * tick
        action = home.copy()
        fade = min(0.5 * t, 1.0) ** 2 * (3.0 - 2.0 * min(0.5 * t, 1.0))
        action[:2] += 0.08 * fade * np.array([math.sin(1.5 * t), 1.0 - math.cos(1.5 * t)])
        command = arm.follow(NAMES, action, tick * TICK)
        place = chain.forward(command.positions[0, :7])
        assert np.linalg.norm(place.position - action[:3]) < 0.002
        assert rests(command)
    assert arm.last_refusal is None
    assert not arm.holding
    assert arm.counts.followed == 399


def test_the_fingers_go_half_the_width_each_and_the_force_is_clamped(arm: Arm, robot: Robot, home: Array) -> None:
    home[6] = 0.03
    for asked, given_force in ((-1.0, 0.0), (0.0, 0.0), (25.0, 25.0), (60.0, 60.0), (1e6, robot.gripper.force)):
        arm.begin(robot.home, robot.gripper.home, 0)
        home[7] = asked
        command, _ = sent(arm, home, 80)
        assert command.positions[-1, -1] == pytest.approx(0.015, abs=1e-6)
        assert command.gripper_effort == given_force
    assert arm.width == pytest.approx(0.03, abs=1e-6)


def test_the_next_point_lies_one_horizon_ahead_and_braking_behind_it(arm: Arm, home: Array, config: ArmConfig) -> None:
    command, _ = sent(arm, moved(home, 0, 0.03), 8)
    assert command.times_s[0] == config.horizon_s
    assert len(command.times_s) == 2
    assert command.velocities[0].any()
    assert rests(command)
    between = command.times_s[1] - command.times_s[0]
    braked = command.positions[0] + 0.5 * between * command.velocities[0]
    np.testing.assert_allclose(command.positions[1], braked, atol=1e-12)


def test_each_side_of_the_watchdog(arm: Arm, home: Array, config: ArmConfig) -> None:
    _, now = sent(arm, moved(home, 0, 0.02), 10)
    limit = round(config.watchdog_s * 1e9)
    assert arm.tick(now + limit) is None
    command = arm.tick(now + limit + 1)
    assert command is not None
    assert arm.holding
    assert arm.counts.held == 1
    assert arm.tick(now + limit + TICK) is not None


def test_silence_leaves_the_arm_where_its_last_command_ends(arm: Arm, home: Array) -> None:
    last, now = sent(arm, moved(home, 1, 0.03), 9)
    assert last.velocities[0].any()
    command = arm.tick(now + 2_000 * MS)
    assert command is not None
    np.testing.assert_allclose(command.positions[0], last.positions[-1], atol=1e-9)
    np.testing.assert_array_equal(command.velocities, 0.0)


def test_a_hold_decelerates_within_limits_and_stays(arm: Arm, robot: Robot, home: Array) -> None:
    _, now = sent(arm, moved(home, 1, 0.03), 9)
    limits = CommandLimits.of(robot, 1.0 + 1e-6)
    previous = arm.hold(now + TICK)
    for tick in range(2, 60):
        command = arm.hold(now + tick * TICK)
        assert refuse(limits, previous.positions[0], previous.velocities[0], command, 0.01) is None
        previous = command
    np.testing.assert_array_equal(previous.velocities, 0.0)
    np.testing.assert_array_equal(arm.hold(now + 9_000 * MS).positions, previous.positions)


def test_following_again_after_a_long_pause_starts_gently(arm: Arm, robot: Robot, home: Array) -> None:
    before, now = sent(arm, home, 3)
    command = arm.follow(NAMES, moved(home, 0, 0.03), now + 60_000 * MS)
    step = np.abs(command.positions[0] - before.positions[-1])[:7]
    assert (step <= 0.5 * robot.acceleration * 0.015**2 + 1e-12).all()
    assert step.any()


def test_a_burst_in_no_time_moves_nothing(arm: Arm, home: Array, config: ArmConfig) -> None:
    target = moved(home, 0, 0.03)
    first, now = sent(arm, target, 5)
    for _ in range(100):
        assert arm.follow(NAMES, target, now) is first
    early = now + round(config.min_step_s * 1e9)
    assert arm.follow(NAMES, target, early - 1) is first
    assert arm.follow(NAMES, target, early) is not first


def test_a_clock_that_runs_backwards_moves_nothing(arm: Arm, home: Array) -> None:
    first, now = sent(arm, moved(home, 0, 0.03), 5)
    assert arm.follow(NAMES, home, now - 5_000 * MS) is first
    assert arm.hold(now - 5_000 * MS) is first


def test_an_unreachable_pose_holds_with_the_reason(arm: Arm, home: Array) -> None:
    _, now = sent(arm, home, 5)
    command = arm.follow(NAMES, moved(home, 0, 2.0), now + TICK)
    assert rests(command)
    assert arm.holding
    assert "no joint position within limits reaches" in str(arm.last_refusal)
    assert arm.counts.unsolved == 1
    assert arm.tick(now + 2 * TICK) is not None
    arm.follow(NAMES, home, now + 3 * TICK)
    assert not arm.holding
    assert arm.tick(now + 4 * TICK) is None


def test_a_solution_far_from_where_the_arm_is_counts_as_none(arm: Arm, home: Array) -> None:
    command = arm.follow(NAMES, moved(home, 1, 0.25), TICK)
    assert arm.holding
    assert "would have to move by" in str(arm.last_refusal)
    np.testing.assert_array_equal(command.velocities, 0.0)
    arm.follow(NAMES, moved(home, 1, 0.05), 2 * TICK)
    assert not arm.holding


def test_each_side_of_the_largest_jump(
    robot: Robot, urdf: Path, task_space: ActionSpec, config: ArmConfig, home: Array
) -> None:
    target = moved(home, 1, 0.05)
    chain = Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
    solution = NumericIk(chain, robot, config.ik).solve(columns_to_pose(target[:6], robot.tool_reference), robot.home)
    jump = float(np.abs(solution - robot.home).max())
    for limit, passes in ((jump + 1e-6, True), (jump - 1e-6, False)):
        arm = load_arm(robot, urdf, task_space, replace(config, max_joint_jump=limit), ())
        arm.begin(robot.home, 0.08, 0)
        arm.follow(NAMES, target, TICK)
        assert arm.holding is not passes


@pytest.mark.parametrize("column", range(8))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_not_finite_holds(arm: Arm, home: Array, column: int, bad: float) -> None:
    command, now = sent(arm, home, 3)
    home[column] = bad
    held = arm.follow(NAMES, home, now + TICK)
    assert np.isfinite(held.positions).all()
    assert arm.holding
    assert "finite" in str(arm.last_refusal)
    assert held.gripper_effort == command.gripper_effort
    assert arm.counts.malformed == 1


def test_other_names_or_shapes_hold(arm: Arm, home: Array) -> None:
    for index, (names, values) in enumerate(((NAMES[::-1], home), (NAMES, home[:7]), (NAMES[:7], home[:7]))):
        arm.follow(names, values, (index + 1) * TICK)
        assert arm.holding
        assert arm.counts.malformed == index + 1


def test_before_begin_it_does_nothing(
    robot: Robot, urdf: Path, task_space: ActionSpec, config: ArmConfig, home: Array
) -> None:
    arm = load_arm(robot, urdf, task_space, config, ())
    assert arm.tick(TICK) is None
    arm.measured(robot.home + 0.5, TICK)
    assert arm.counts.resyncs == 0
    for call in (lambda: arm.follow(NAMES, home, TICK), lambda: arm.hold(TICK)):
        with pytest.raises(DeviceError, match="has not begun"):
            call()


def test_a_robot_out_of_its_range_or_unmeasured_is_not_begun(arm: Arm, robot: Robot, config: ArmConfig) -> None:
    for joint, edge, out in ((3, robot.upper, 1.0), (3, robot.lower, -1.0)):
        place = robot.home.copy()
        place[joint] = edge[joint] + out * (config.resync_tolerance - 1e-6)
        np.testing.assert_array_equal(arm.begin(place, 0.04, 0).positions[0, joint], edge[joint])
        place[joint] = edge[joint] + out * (config.resync_tolerance + 1e-6)
        with pytest.raises(DeviceError, match="panda_joint4 is measured at"):
            arm.begin(place, 0.04, 0)
    with pytest.raises(DeviceError, match="panda_finger_joint1 is measured at nan"):
        arm.begin(robot.home, math.nan, 0)


def test_hand_guiding_moves_the_held_command_but_not_the_gripper(arm: Arm, robot: Robot, config: ArmConfig) -> None:
    near, far = config.resync_tolerance - 1e-6, config.resync_tolerance + 1e-6
    now, place = 0, robot.home.copy()
    for by, resyncs in ((near, 0), (far, 1)):
        for share in np.linspace(0.0, 1.0, 20):
            now += TICK
            place[2] = robot.home[2] + share * by
            arm.measured(place.copy(), now)
        for _ in range(round(config.resync_s * 1e9 / TICK) - 1):
            now += TICK
            arm.measured(place.copy(), now)
            assert arm.counts.resyncs == 0
        arm.measured(place.copy(), now + TICK)
        assert arm.counts.resyncs == resyncs
    command = arm.hold(now + 3 * TICK)
    np.testing.assert_allclose(command.positions[:, :7], np.tile(place, (2, 1)))
    assert command.positions[0, -1] == pytest.approx(0.5 * robot.gripper.home)


def test_while_it_follows_or_still_brakes_nothing_is_resynchronised(arm: Arm, robot: Robot, home: Array) -> None:
    _, now = sent(arm, moved(home, 1, 0.03), 9)
    pushed = robot.home + 0.1
    now = stayed(arm, pushed, now, lambda at: arm.follow(NAMES, moved(home, 1, 0.03), at))
    assert arm.counts.resyncs == 0
    arm.hold(now)
    for _ in range(3):
        arm.measured(pushed, now)
    assert arm.counts.resyncs == 0, "it still brakes"
    now += 1_000 * MS
    arm.hold(now)
    now = stayed(arm, pushed, now, lambda at: arm.measured(np.full(7, math.nan), at))
    assert arm.counts.resyncs == 1
    np.testing.assert_array_equal(arm.joints, pushed)


def stayed(arm: Arm, joints: Array, now: int, meanwhile: Callable[[int], object]) -> int:
    """Joints that were at rest at home go where they are to be, and stay there for 0.3 s; returns the time then."""
    before = arm._displacement._believed
    for step in range(50):
        now += TICK
        arm.measured(before + min(step / 20.0, 1.0) * (joints - before), now)
        meanwhile(now)
    return now


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize("seconds", [0.01, 1.0])
def test_a_resting_arm_does_not_leap_to_where_one_lie_says_it_is(
    arm: Arm, robot: Robot, config: ArmConfig, joint: int, seconds: float
) -> None:
    """Whether told once or for a second: a joint does not get there so fast."""
    lie = robot.home.copy()
    lie[joint] = 0.5 * (robot.lower + robot.upper)[joint] + 0.4
    now = 0
    for _ in range(round(seconds * 1e9 / TICK)):
        now += TICK
        arm.measured(lie, now)
        assert "not believed" in arm.disbelief
        np.testing.assert_allclose(arm.hold(now).positions[:, :7], np.tile(robot.home, (2, 1)), atol=1e-9)
    assert arm.counts.resyncs == 0
    arm.measured(robot.home, now + TICK)
    assert arm.disbelief == ""


def test_a_push_that_is_told_for_less_than_its_time_moves_nothing(arm: Arm, robot: Robot, config: ArmConfig) -> None:
    now, away = 0, robot.home + 0.07
    for _ in range(5):  # again and again: each time counts for itself
        for share in np.linspace(0.0, 1.0, 8):
            now += TICK
            arm.measured(robot.home + share * (away - robot.home), now)
        for share in np.linspace(1.0, 0.0, 8):
            now += TICK
            arm.measured(robot.home + share * (away - robot.home), now)
    assert arm.counts.resyncs == 0


def test_where_joints_may_have_gone_while_nothing_was_measured_is_believed_up_to_a_tenth_of_a_second(
    arm: Arm, robot: Robot
) -> None:
    near, far = robot.home.copy(), robot.home.copy()
    near[0] += 0.1 * robot.velocity[0] + 0.0199
    far[0] += 0.1 * robot.velocity[0] + 0.0201
    arm.measured(far, 5_000 * MS)
    assert arm.disbelief
    arm.measured(near, 5_000 * MS)
    assert arm.disbelief == ""


def test_a_lie_about_an_arm_that_a_hand_leads_is_passed_over(arm: Arm, robot: Robot) -> None:
    led, lie = robot.home + 0.01, robot.home + 0.5
    arm.led(led, TICK)
    for joints in (lie, np.full(7, math.nan)):
        arm.led(joints, 2 * TICK)
        np.testing.assert_array_equal(arm.joints, led)


def test_what_the_second_line_refuses_never_leaves(arm: Arm, robot: Robot, home: Array) -> None:
    last, now = sent(arm, moved(home, 1, 0.03), 9)
    strict = replace(arm._motion._second_line, velocity=arm._motion._second_line.velocity * 1e-6)
    arm._motion._second_line = strict
    command = arm.follow(NAMES, moved(home, 1, 0.03), now + TICK)
    assert "velocity" in str(arm.last_refusal)
    assert arm.counts.second_line == 2  # the action, and the hold in its place
    np.testing.assert_array_equal(command.positions[-1], last.positions[-1])
    assert rests(command)
    assert command.times_s[-1] == pytest.approx(last.times_s[-1] - 0.01)
    late = arm.hold(now + 5_000 * MS)
    np.testing.assert_allclose(late.positions, np.tile(last.positions[-1], (2, 1)), atol=1e-12)


def test_a_refused_step_leaves_the_state_as_it_was(arm: Arm, home: Array) -> None:
    _, now = sent(arm, moved(home, 1, 0.03), 9)
    loose = arm._motion._second_line
    arm._motion._second_line = replace(loose, velocity=loose.velocity * 1e-6)
    before = arm.joints
    arm.follow(NAMES, moved(home, 1, 0.03), now + TICK)
    np.testing.assert_array_equal(arm.joints, before)
    arm._motion._second_line = loose
    assert rests(arm.follow(NAMES, moved(home, 1, 0.03), now + 2 * TICK))
    assert not arm.holding


def test_joint_space_goes_straight_to_the_joints(joint_arm: Arm, robot: Robot, joint_names, ask: Array) -> None:
    target = moved(moved(ask, 0, 0.5), 7, -0.05)
    for tick in range(1, 200):
        command = joint_arm.follow(joint_names, target, tick * TICK)
    np.testing.assert_allclose(command.positions[-1, :7], target[:7], atol=1e-6)
    assert command.positions[-1, 7] == pytest.approx(0.015, abs=1e-6)
    assert joint_arm.last_refusal is None


events = st.lists(
    st.tuples(
        st.lists(st.floats(-10.0, 10.0), min_size=9, max_size=9),
        st.one_of(st.integers(0, 30 * MS), st.integers(0, 2_000 * MS)),
        st.sampled_from(["follow", "follow", "follow", "stop", "hold", "tick"]),
    ),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module", params=["everywhere", "in its box"])
def reused(request, robot: Robot, urdf: Path, joint_space: ActionSpec, config: ArmConfig, chain: Chain, limits) -> Arm:
    """In joint space, where targets may be anywhere; the box is one that task space would give it."""
    arm = load_arm(robot, urdf, joint_space, config, ())
    if request.param == "in its box":
        arm._motion._workspace = Workspace(chain, limits, config.workspace_tolerance)
    return arm


@settings(max_examples=60, deadline=None)
@given(events)
def test_no_sequence_of_events_makes_it_send_what_a_strict_second_line_refuses(
    reused: Arm, robot: Robot, config: ArmConfig, sequence
) -> None:
    limits = CommandLimits.of(robot, 1.0 + 1e-6)
    names = (*robot.joint_names, *GRIPPER_COLUMNS)
    now, stamp = 0, 0
    last = reused.begin(robot.home, 0.04, 0)
    for values, gap, kind in sequence:
        now += gap
        if kind in ("follow", "stop"):
            obey = reused.follow if kind == "follow" else reused.stop
            command: JointCommand | None = obey(names, np.array(values), now)
        else:
            command = reused.hold(now) if kind == "hold" else reused.tick(now)
        if command is None or command is last:
            continue
        elapsed = 1e-9 * (now - stamp)
        before = state_at(last.times_s, last.positions, last.velocities, elapsed)
        assert refuse(limits, *before, command, min(elapsed, config.horizon_s)) is None
        assert rests(command)
        assert reused._motion._workspace.excess(command.positions) == 0.0
        last, stamp = command, now
    assert reused.counts.second_line == 0


def test_the_way_home_is_made_of_its_own_actions(arm: Arm, chain: Chain, robot: Robot) -> None:
    arm.begin(robot.home + 0.15, 0.02, 0)
    times, values = arm.plan_home(0.01)
    assert values.shape == (len(times), len(NAMES))
    for tick, row in enumerate(values, start=1):
        arm.follow(NAMES, row, tick * TICK)
        assert arm.last_refusal is None
    sent(arm, values[-1], 50, len(values) * TICK)
    goal = chain.forward(robot.home)
    np.testing.assert_allclose(chain.forward(arm.joints).position, goal.position, atol=1e-3)
    assert arm.width == pytest.approx(robot.gripper.home, abs=1e-3)


def test_in_joint_space_the_way_home_has_joint_columns(joint_arm: Arm, robot: Robot) -> None:
    joint_arm.begin(robot.home + 0.15, 0.02, 0)
    _, values = joint_arm.plan_home(0.05)
    np.testing.assert_allclose(values[-1, :7], robot.home, atol=1e-12)


def test_columns_that_do_not_fit_the_space_are_refused(
    robot: Robot, urdf: Path, task_space: ActionSpec, joint_space: ActionSpec, config: ArmConfig
) -> None:
    wrong = replace(task_space, columns=joint_space.columns)
    with pytest.raises(ConfigError, match="in task space needs the action columns tool"):
        load_arm(robot, urdf, wrong, config, ())


def test_while_the_tool_is_held_no_joint_moves(arm: Arm, chain: Chain, robot: Robot) -> None:
    """Neither does the elbow, which the solver pulls home on the way."""
    joints = np.array([0.3, 0.2, -0.4, -2.0, 0.3, 2.2, 0.5])
    arm.begin(joints, 0.08, 0)
    target = np.array([*pose_to_columns(chain.forward(joints), robot.tool_reference), 0.08, 20.0])
    _, now = sent(arm, moved(target, 0, 0.02), 100)
    before = arm.joints
    sent(arm, moved(target, 0, 0.02), 100, now)
    np.testing.assert_allclose(arm.joints, before, atol=1e-9)


def test_an_adopted_pose_is_held_with_the_gripper_as_it_was(arm: Arm, robot: Robot, home: Array) -> None:
    gripping = home.copy()
    gripping[-2:] = 0.02, 35.0
    now = 0
    for _ in range(100):
        now += TICK
        arm.follow(NAMES, gripping, now)
    led = robot.home + 0.3
    arm.adopt(led, now + TICK)
    assert arm.holding
    np.testing.assert_array_equal(arm.joints, led)
    command = arm.hold(now + 2 * TICK)
    np.testing.assert_allclose(command.positions[-1], [*led, 0.01], atol=1e-9)
    np.testing.assert_array_equal(command.velocities, 0.0)
    assert command.gripper_effort == 35.0
    assert arm.counts.resyncs == 0


def test_nothing_is_adopted_before_the_arm_has_begun_or_without_numbers(
    arm: Arm, robot: Robot, urdf: Path, task_space: ActionSpec, config: ArmConfig
) -> None:
    with pytest.raises(DeviceError, match="has not begun"):
        load_arm(robot, urdf, task_space, config, ()).adopt(robot.home, 0)
    with pytest.raises(ValueError, match="finite"):
        arm.adopt(robot.home * np.nan, TICK)
    np.testing.assert_array_equal(arm.joints, robot.home)


def test_a_gripper_moved_alone_goes_to_its_end_and_no_joint_is_told(arm: Arm, robot: Robot) -> None:
    command = arm.grip(0.08, 0.0, 25.0, 0)
    assert command.names == (robot.gripper.joint,)
    assert (command.positions.tolist(), command.velocities.tolist()) == ([[0.0]], [[0.0]])
    assert command.gripper_effort == 25.0
    assert command.times_s[0] > 0.5 * 0.08 / robot.gripper.velocity


def test_after_a_grip_the_arm_holds_what_was_gripped_with_that_force(arm: Arm, robot: Robot) -> None:
    duration = float(arm.grip(robot.gripper.home, 0.0, 25.0, 0).times_s[0])
    moved_joints = robot.home + 0.05
    arm.adopt(moved_joints, round(duration * 1e9) + TICK)
    held = arm.tick(round(duration * 1e9) + 2 * TICK)
    np.testing.assert_allclose(held.positions[-1], [*moved_joints, 0.0], atol=1e-9)
    assert held.gripper_effort == 25.0


def test_a_grip_that_is_under_way_when_the_arm_holds_again_goes_on_lawfully(arm: Arm, robot: Robot) -> None:
    duration = float(arm.grip(robot.gripper.upper, 0.0, 25.0, 0).times_s[0])
    half = round(0.5e9 * duration)
    joints = robot.home + 0.05
    arm.adopt(joints, half)
    limits, previous = CommandLimits.of(robot, 1.0 + 1e-6), arm.tick(half + TICK)
    assert previous.positions[0, -1] == pytest.approx(0.25 * robot.gripper.upper, abs=1e-3)
    for tick in range(2, 150):
        command = arm.tick(half + tick * TICK)
        assert refuse(limits, previous.positions[0], previous.velocities[0], command, 0.01) is None
        assert command.positions[0, -1] <= previous.positions[0, -1]
        np.testing.assert_allclose(command.positions[:, :-1], np.tile(joints, (len(command.positions), 1)), atol=1e-9)
        previous = command
    assert arm.width == pytest.approx(robot.gripper.lower, abs=1e-6)
    assert arm.holding
    assert arm.counts.second_line == 0


def test_a_grip_that_is_stopped_stays_where_it_has_come_to(arm: Arm, robot: Robot) -> None:
    duration = float(arm.grip(robot.gripper.upper, 0.0, 25.0, 0).times_s[0])
    half = round(0.5e9 * duration)
    arm.stop_grip(half)
    for tick in range(1, 150):
        command = arm.tick(half + tick * TICK)
        assert 2.0 * command.positions[:, -1] == pytest.approx(0.5 * robot.gripper.upper, abs=1e-3)
        np.testing.assert_allclose(command.positions[-1, :-1], robot.home, atol=1e-9)
    assert command.gripper_effort == 25.0


def test_a_grip_that_is_over_is_held_when_it_is_stopped(arm: Arm, robot: Robot) -> None:
    duration = round(1e9 * float(arm.grip(robot.gripper.upper, 0.0, 25.0, 0).times_s[0]))
    arm.stop_grip(duration + TICK)
    held = arm.tick(duration + 2 * TICK)
    assert (held.positions[-1, -1], held.gripper_effort) == (robot.gripper.lower, 25.0)


def test_an_old_grip_does_not_come_back_when_the_arm_is_led_again(arm: Arm, robot: Robot, home: Array) -> None:
    arm.grip(robot.gripper.home, 0.0, 25.0, 0)
    arm.adopt(robot.home, 2_000 * MS)
    _, now = sent(arm, home, 200, 2_000 * MS)
    opened = arm.width
    assert opened > 0.05
    arm.adopt(robot.home, now + 3_000 * MS)
    assert arm.width == pytest.approx(opened)


def test_where_a_grip_leaves_the_gripper_is_told_until_an_action_is_followed(
    arm: Arm, robot: Robot, home: Array
) -> None:
    assert arm.gripped is None
    arm.grip(robot.gripper.home, 0.0, 25.0, 0)
    assert arm.gripped == (0.0, 25.0), "where it goes, not where it is"
    arm.adopt(robot.home, TICK)
    arm.hold(2 * TICK)
    assert arm.gripped == (0.0, 25.0)
    arm.grip(0.0, 0.07, 500.0, 3 * TICK)
    assert arm.gripped == (pytest.approx(0.07), robot.gripper.force)
    arm.follow(NAMES, home * np.nan, 4 * TICK)
    assert arm.gripped is not None, "an action that cannot be followed"
    arm.follow(NAMES, home, 5 * TICK)
    assert arm.gripped is None
    arm.grip(robot.gripper.home, 0.0, 25.0, 6 * TICK)
    arm.begin(robot.home, 0.03, 7 * TICK)
    assert arm.gripped is None


def test_where_a_stopped_grip_has_come_to_is_told_as_well(arm: Arm, robot: Robot) -> None:
    duration = float(arm.grip(robot.gripper.upper, 0.0, 25.0, 0).times_s[0])
    arm.stop_grip(round(0.5e9 * duration))
    arm.tick(round(0.5e9 * duration) + TICK)
    width, force = arm.gripped
    assert (width, force) == (pytest.approx(0.5 * robot.gripper.upper, abs=1e-3), 25.0)


def test_before_the_arm_has_begun_its_gripper_is_not_moved(
    robot: Robot, urdf: Path, task_space: ActionSpec, config: ArmConfig
) -> None:
    with pytest.raises(DeviceError, match="has not begun"):
        load_arm(robot, urdf, task_space, config, ()).grip(0.08, 0.0, 25.0, 0)
