from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.errors import ContractError, ObservationError
from policy_bringup.core.robot import columns_to_pose, pose_to_columns
from policy_bringup.core.rotations import exp, from_rpy, to_quaternion
from policy_bringup.core.types import Observation, Pose, Space
from policy_bringup.sim.expert import APPROACH_M, LIFT_M, OBJECT_COLUMNS, Expert, load_expert

START_NS = 5_000_000_000
PERIOD_NS = 50_000_000


@pytest.fixture
def expert(deployment, robot):
    return load_expert(deployment.contract, robot)


@pytest.fixture
def observe(expert, robot):
    """An observation of tool columns, object pose and gripper width at a time."""

    def make(stamp_ns, tool, target, width=0.08):
        names = list(expert.contract.observation.names)
        state = np.zeros(len(names))
        state[names.index("tool.x") :][:6] = tool
        state[names.index("panda_finger_joint1")] = state[names.index("panda_finger_joint2")] = width / 2
        state[names.index("object.x") :] = [*target.position, *to_quaternion(target.rotation)]
        return Observation(stamp_ns, {}, state[None])

    return make


@pytest.fixture
def play(expert, observe):
    """Predicts at the policy's rate with a tool that follows perfectly; all that was asked for, `(m, 8)` at 20 Hz."""

    def run(target, seconds=8.0, tool=(0.43, 0.0, 0.4, 0.0, 0.0, 0.0)):
        expert.reset()
        rows = []
        for k in range(round(seconds * 1e9 / PERIOD_NS)):
            chunk = expert.predict(observe(START_NS + k * PERIOD_NS, tool, target))
            rows.append(chunk.values[0])
            tool = chunk.values[0, :6]
        return np.array(rows)

    return run


def cube(x=0.5, y=0.1, yaw=0.0, tumble=(0.0, 0.0)):
    return Pose(np.array([x, y, 0.02]), exp(np.array([0.0, 0.0, yaw])) @ from_rpy(*tumble, 0.0))


def test_it_reads_joints_fingers_tool_and_object_and_the_deployments_pictures(expert, deployment, robot):
    names = expert.contract.observation.names
    assert names[: len(robot.joint_names) + 2] == (*robot.joint_names, "panda_finger_joint1", "panda_finger_joint2")
    assert names[-7:] == OBJECT_COLUMNS
    assert expert.contract.observation.images == deployment.contract.observation.images[:1]
    assert expert.contract.action == deployment.contract.action
    units = {column.name: column.unit for column in expert.contract.observation.state}
    for column in deployment.contract.observation.state:
        assert units[column.name] == column.unit


def test_a_chunk_has_the_contracts_shape_and_the_observations_stamp(expert, observe, deployment):
    chunk = expert.predict(observe(START_NS, (0.43, 0, 0.4, 0, 0, 0), cube()))
    action = deployment.contract.action
    assert chunk.values.shape == (action.steps, len(action.names))
    assert chunk.names == action.names
    assert chunk.stamp_ns == START_NS
    np.testing.assert_allclose(chunk.times_s, action.dt_s * np.arange(1, action.steps + 1))
    np.testing.assert_array_equal(chunk.uncertainty, 0.0)


def test_it_goes_above_down_closes_lifts_and_holds(play):
    target = cube()
    rows = play(target)
    xyz, width = rows[:, :3], rows[:, 6]
    lowest = int(np.argmin(xyz[:, 2]))
    above = np.flatnonzero(np.linalg.norm(xyz - target.position - [0, 0, APPROACH_M], axis=1) < 0.005)
    assert len(above) > 0
    assert above[0] < lowest
    np.testing.assert_allclose(xyz[lowest], target.position, atol=1e-3)
    assert (width[: lowest - 1] > 0.0799).all()
    closed = int(np.argmax(width < 1e-6))
    assert (xyz[lowest:closed, 2] < 0.021).all()
    np.testing.assert_allclose(xyz[-1], target.position + np.array([0, 0, LIFT_M]), atol=1e-6)
    np.testing.assert_array_equal(width[closed:], 0.0)
    np.testing.assert_array_equal(rows[-1], rows[-2])


def test_speeds_stay_modest_and_the_gripper_within_its_own(play, robot):
    for yaw in (0.0, 0.7):
        rows = play(cube(0.6, -0.2, yaw))
        velocity = np.diff(rows, axis=0) / 0.05
        acceleration = np.diff(velocity, axis=0) / 0.05
        assert np.linalg.norm(velocity[:, :3], axis=1).max() <= 0.35 + 1e-6
        assert np.linalg.norm(acceleration[:, :3], axis=1).max() <= 1.3
        assert np.linalg.norm(velocity[:, 3:6], axis=1).max() <= 1.0 + 1e-6
        assert np.abs(velocity[:, 6]).max() <= robot.gripper.velocity + 1e-6
        assert np.ptp(rows[:, 7]) == 0.0
        assert 0.0 < rows[0, 7] < robot.gripper.force


@pytest.mark.parametrize("yaw", np.linspace(-np.pi, np.pi, 25))
def test_the_fingers_end_along_the_cubes_sides_and_the_wrist_stays_within_a_quarter_turn(play, robot, yaw):
    rows = play(cube(yaw=yaw), 5.0)
    final = columns_to_pose(rows[-1, :6], robot.tool_reference).rotation
    np.testing.assert_allclose(final[:, 2], [0, 0, -1], atol=1e-6)
    cosines = np.abs(cube(yaw=yaw).rotation[:, :2].T @ final[:, 1])
    assert cosines.max() == pytest.approx(1.0, abs=1e-6)
    assert np.abs(rows[-1, 5]) <= np.pi / 4 + 1e-6


def test_of_two_grasps_the_one_nearer_to_the_present_yaw_is_taken(play, robot):
    turned = pose_to_columns(Pose(np.array([0.43, 0.0, 0.4]), from_rpy(np.pi, 0.0, -1.2)), robot.tool_reference)
    rows = play(cube(yaw=0.4), 5.0, tuple(turned))
    assert np.abs(rows[-1, 5] - turned[5]) < np.pi / 4 + 1e-6


@pytest.mark.parametrize("tumble", [(np.pi / 2, 0.0), (0.0, np.pi / 2), (np.pi, 0.0)])
def test_a_cube_that_lies_on_another_side_is_grasped_alike(play, robot, tumble):
    rows = play(cube(yaw=0.3, tumble=tumble), 5.0)
    final = columns_to_pose(rows[-1, :6], robot.tool_reference).rotation
    assert np.abs(cube(yaw=0.3).rotation[:, :2].T @ final[:, 1]).max() == pytest.approx(1.0, abs=1e-6)


def test_every_step_of_a_chunk_lies_on_the_plan(expert, observe, play):
    rows = play(cube(), 3.0)
    expert.reset()
    chunk = expert.predict(observe(START_NS, (0.43, 0, 0.4, 0, 0, 0), cube()))
    np.testing.assert_allclose(chunk.values, rows[: len(chunk.values)], atol=1e-9)


def test_the_plan_waits_for_a_tool_that_is_held(expert, observe):
    tool = (0.43, 0.0, 0.4, 0.0, 0.0, 0.0)
    for k in range(200):
        chunk = expert.predict(observe(START_NS + k * PERIOD_NS, tool, cube()))
    assert np.linalg.norm(chunk.values[0, :3] - tool[:3]) < 0.1
    assert chunk.values[0, 6] == pytest.approx(0.08)


def test_the_plan_waits_for_a_tool_that_does_not_turn(expert, observe):
    tool = np.array([0.5, 0.1, 0.14, 0.0, 0.0, 0.0])
    for k in range(200):
        chunk = expert.predict(observe(START_NS + k * PERIOD_NS, tool, cube(yaw=0.75)))
    assert abs(chunk.values[0, 5]) < 0.5
    assert chunk.values[0, 2] == pytest.approx(0.14, abs=1e-3)


def test_after_a_reset_the_plan_starts_where_the_tool_is(expert, observe):
    expert.predict(observe(START_NS, (0.43, 0, 0.4, 0, 0, 0), cube()))
    for place in (0.35, 0.6):
        expert.reset()
        chunk = expert.predict(observe(START_NS + 10**9, (place, 0.1, 0.3, 0, 0, 0), cube(), width=0.03))
        np.testing.assert_allclose(chunk.values[0, :3], [place, 0.1, 0.3], atol=0.002)
        assert chunk.values[0, 6] == pytest.approx(0.03, abs=0.002)


def test_fingers_that_measure_a_hair_too_wide_are_asked_for_their_widest(expert, observe, robot):
    chunk = expert.predict(observe(START_NS, (0.43, 0, 0.4, 0, 0, 0), cube(), width=robot.gripper.upper + 1e-6))
    assert chunk.values[:, 6].max() <= robot.gripper.upper


def test_a_low_object_is_not_grasped_through_the_table(play):
    low = replace(cube(), position=np.array([0.5, 0.0, 0.005]))
    assert play(low)[:, 2].min() >= 0.015 - 1e-9


def test_another_action_is_refused(deployment, robot):
    contract = deployment.contract
    for action in (
        replace(contract.action, space=Space.JOINT),
        replace(contract.action, columns=contract.action.columns[:-1]),
    ):
        with pytest.raises(ContractError, match=r"tool.x.*gripper.force"):
            Expert(replace(contract, action=action), robot)


def test_another_shape_of_state_is_refused(expert):
    for state in (np.zeros((1, 3)), np.zeros(22)):
        with pytest.raises(ObservationError, match="columns"):
            expert.predict(Observation(START_NS, {}, state))
