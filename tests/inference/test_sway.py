from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.config import load
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError, ObservationError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.types import Observation
from policy_bringup.inference.sway import HOLD_S, Sway, SwayPolicy

PERIOD_NS = 50_000_000
HOME = np.array([[0.43, 0.02, 0.4, 0.0, 0.0, 0.0, 0.08, 0.0]])


@pytest.fixture(scope="module")
def deployment(config_folder):
    return load_deployment(config_folder / "grasp.yaml")[0]


@pytest.fixture(scope="module")
def sway(config_folder) -> Sway:
    return load(config_folder / "latency.yaml", Sway)


@pytest.fixture
def policy(deployment, sway) -> SwayPolicy:
    return SwayPolicy(deployment.contract, sway, deployment.limits)


def ask(policy, number, state=HOME):
    return policy.predict(Observation(10**9 + number * PERIOD_NS, {}, state))


def test_it_begins_and_ends_where_the_arm_stood_and_stays_there(policy, sway):
    chunks = [ask(policy, number) for number in range(round((sway.duration_s + 2.0) * 20))]
    np.testing.assert_allclose(chunks[0].values[0], HOME[0], atol=2e-3)
    np.testing.assert_allclose(chunks[-1].values, np.tile(HOME, (16, 1)))
    moved = np.array([chunk.values[0] for chunk in chunks]) - HOME
    assert np.ptp(moved, axis=0).tolist() == pytest.approx([0, np.ptp(moved[:, 1]), 0, 0, 0, 0, 0, 0])
    assert sway.amplitude / 2 < np.abs(moved[:, 1]).max() <= sway.amplitude + 1e-12


def test_the_motion_is_a_pattern_and_then_a_step_to_one_side_and_back(sway):
    step_s = sway.duration_s - 2.0 * (sway.step_s + HOLD_S)
    pattern, whole = sway.at(np.arange(0.0, step_s, 0.01)), sway.at(np.arange(0.0, sway.duration_s + 2.0, 0.01))
    assert np.count_nonzero(np.diff(np.sign(pattern[1:-1]))) > 10
    up, back = step_s + sway.step_s, sway.duration_s - HOLD_S
    for moment, share in ((step_s, 0), (up - sway.step_s / 2, 0.5), (up, 1), (up + HOLD_S, 1), (back, 0)):
        assert sway.at(np.array([moment])) == pytest.approx(share * sway.amplitude, abs=1e-9)
    assert np.all(whole[round(back * 100) :] == pytest.approx(0.0, abs=1e-9))


def test_beside_a_limit_a_rounding_error_does_not_ask_for_more(policy, deployment, sway):
    limit = next(limit for limit in deployment.limits if limit.name == sway.column)
    state = HOME.copy()
    state[0, 1] = limit.upper - sway.amplitude
    asked = np.concatenate([ask(policy, number, state).values[:, 1] for number in range(round(sway.duration_s * 20))])
    assert asked.max() == limit.upper


def test_fingers_that_measure_a_hair_too_wide_are_asked_for_their_widest(policy):
    wide = HOME + np.array([0, 0, 0, 0, 0, 0, 1e-6, 0])
    assert ask(policy, 0, wide).values[:, 6].max() <= 0.08


def test_all_chunks_are_of_one_motion(policy):
    earlier, later = ask(policy, 40), ask(policy, 44)
    np.testing.assert_allclose(earlier.values[4:], later.values[:-4], atol=1e-12)


def test_the_shipped_motion_keeps_well_within_the_monitors_limits(deployment, sway):
    limit = next(limit for limit in deployment.limits if limit.name == sway.column)
    times = np.arange(0.0, sway.duration_s, 0.01)
    at = sway.at(times)
    assert np.abs(np.diff(at)).max() / 0.01 < 0.5 * limit.max_velocity
    assert np.abs(np.diff(at, 2)).max() / 0.01**2 < 0.2 * limit.max_acceleration
    assert np.abs(at).max() <= sway.amplitude
    assert np.std(at) > 0.3 * sway.amplitude


def test_a_reset_makes_the_present_pose_the_middle(policy):
    ask(policy, 0)
    policy.reset()
    other = HOME + np.array([0.0, 0.1, -0.05, 0.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(ask(policy, 100, other).values[0], other[0], atol=2e-3)


def test_it_is_a_policy_that_looks_at_no_picture(policy, deployment):
    checked: Policy = policy
    assert checked.contract.observation.images == ()
    assert checked.contract.action == deployment.contract.action


@pytest.mark.parametrize(("y", "fine"), [(0.3699, True), (0.3701, False), (-0.3699, True), (-0.3701, False)])
def test_too_near_a_limit_there_is_no_chunk(policy, y, fine):
    state = HOME.copy()
    state[0, 1] = y
    if fine:
        assert np.abs(ask(policy, 0, state).values[:, 1]).max() <= 0.4
        return
    with pytest.raises(ObservationError, match=r"'tool.y' is at -?0.370, too near its limits -0.4 to 0.4"):
        ask(policy, 0, state)


def test_a_column_that_is_not_there_or_has_no_room_is_refused(deployment, sway):
    with pytest.raises(ConfigError, match=r"sway: column: must be one of tool.x, .*, found 'elbow'"):
        SwayPolicy(deployment.contract, replace(sway, column="elbow"), deployment.limits)
    with pytest.raises(ConfigError, match=r"'gripper.width' may move by 0.08 in all, so at most 0.04 to each side"):
        SwayPolicy(deployment.contract, replace(sway, column="gripper.width", amplitude=0.05), deployment.limits)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("amplitude: 0.2", "amplitude: must be a number from 0.001 to 0.1 m or rad, found 0.2"),
        ("frequencies_hz: [9.0]", r"frequencies_hz\[0\]: must be a number from 0.1 to 3 Hz, found 9.0"),
        ("frequencies_hz: []", "frequencies_hz: must name at least one"),
        ("duration_s: 6.9", "duration_s: must be at least 7 s: two ramps, 3 s between, and the step"),
        ("step_s: 0.05", "step_s: must be a number from 0.1 to 2 s, found 0.05"),
        ("duration_s: 4.0", "duration_s: must be a number from 5 to 120 s, found 4.0"),
    ],
)
def test_a_wrong_motion_is_refused_with_key_and_range(tmp_path, config_folder, line, sentence):
    key = line.split(":")[0]
    lines = [text for text in (config_folder / "latency.yaml").read_text().splitlines() if not text.startswith(key)]
    (tmp_path / "latency.yaml").write_text("\n".join([*lines, line]))
    with pytest.raises(ConfigError, match=sentence):
        load(tmp_path / "latency.yaml", Sway)
