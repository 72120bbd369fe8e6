import re
from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.control.replay import Replay
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ObservationError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.types import Observation

HOME = np.array([0.43, 0.02, 0.4, 0.0, 0.0, 0.0, 0.08, 0.0])
TIMES = np.array([0.0, 1.0])
ROWS = np.array([HOME, HOME + np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, -0.08, 20.0])])


@pytest.fixture(scope="module")
def deployment(config_folder):
    return load_deployment(config_folder / "grasp.yaml")[0]


@pytest.fixture
def replay(deployment) -> Replay:
    return Replay(deployment.contract, deployment.limits, TIMES, ROWS)


def ask(replay, stamp_s, measured=HOME):
    return replay.predict(Observation(round(stamp_s * 1e9), {}, measured[None]))


def test_it_begins_anew_after_a_reset_and_stands_at_its_end(replay, deployment):
    dt = deployment.contract.action.dt_s
    first = ask(replay, 100.0)
    np.testing.assert_allclose(first.values[0], HOME + dt * (ROWS[1] - HOME))
    assert (first.names, first.uncertainty.tolist()) == (deployment.contract.action.names, [0.0] * 16)
    np.testing.assert_allclose(ask(replay, 100.5).values[0], HOME + (0.5 + dt) * (ROWS[1] - HOME))
    assert not replay.over
    np.testing.assert_allclose(ask(replay, 103.0).values, np.tile(ROWS[1], (16, 1)))
    assert replay.over
    replay.reset()
    assert not replay.over
    np.testing.assert_array_equal(ask(replay, 104.0).values, first.values)


def test_it_reads_the_measured_columns_and_the_first_camera_for_its_pace(replay, deployment):
    policy: Policy = replay
    spec = policy.contract.observation
    assert [image.camera for image in spec.images] == [deployment.contract.observation.images[0].camera]
    assert (spec.state, spec.history) == (deployment.contract.action.columns, 1)
    assert policy.contract.action == deployment.contract.action
    blind = replace(deployment.contract, observation=replace(deployment.contract.observation, images=()))
    assert Replay(blind, deployment.limits, TIMES, ROWS).contract.observation.images == ()


@pytest.mark.parametrize(("off", "fine"), [(0.0299, True), (0.0301, False), (-0.0299, True), (-0.0301, False)])
def test_an_arm_that_stands_elsewhere_is_told_how_far_it_is_off_and_gets_no_action(replay, deployment, off, fine):
    begins = HOME + deployment.contract.action.dt_s * (ROWS[1] - HOME)
    measured = begins + np.array([0.0, 0.0, off, 0.0, 0.0, 0.0, 0.0, 0.0])
    if fine:
        ask(replay, 5.0, measured)
        return
    sentence = (
        f"the motion begins elsewhere: 'tool.z' is at {measured[2]:.3f} m, {off:+.3f} from where it began (0.400); "
        "allowed is 0.03 m: bring the arm there"
    )
    with pytest.raises(ObservationError, match=re.escape(sentence)):
        ask(replay, 5.0, measured)
    np.testing.assert_allclose(ask(replay, 9.0).values[0], begins)  # no time has passed for it meanwhile


def test_the_column_that_is_furthest_outside_is_named(replay):
    with pytest.raises(ObservationError, match=r"'tool.rz' is at 0.900 rad, .* allowed is 0.1 rad"):
        ask(replay, 5.0, HOME + np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_arm_that_is_nowhere_gets_no_action(replay, value):
    with pytest.raises(ObservationError, match=f"'tool.y' is at {value}"):
        ask(replay, 5.0, HOME + np.array([0.05, value, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))


def test_while_safety_holds_the_arm_the_motion_waits(replay, deployment):
    ask(replay, 100.0)
    before = ask(replay, 100.2).values
    replay.waits = True
    for tick in range(1, 5):
        np.testing.assert_array_equal(ask(replay, 100.2 + 0.05 * tick).values, before)
    replay.waits = False
    np.testing.assert_allclose(ask(replay, 100.45).values[0], HOME + 0.3 * (ROWS[1] - HOME), atol=1e-9)


def test_a_gripper_that_holds_something_may_measure_anything_but_nothing(deployment):
    limits = [replace(limit, max_step=1e-3) if limit.holds_command else limit for limit in deployment.limits]
    rows = ROWS + np.array([0.0] * 6 + [0.0, 30.0])
    ask(Replay(deployment.contract, limits, TIMES, rows), 5.0, HOME - np.array([0.0] * 6 + [0.05, 0.0]))
    with pytest.raises(ObservationError, match=r"'gripper.width' is at nan"):
        ask(Replay(deployment.contract, limits, TIMES, rows), 5.0, HOME + np.array([0.0] * 6 + [np.nan, 0.0]))


def test_once_it_has_begun_the_arm_may_be_anywhere_since_safety_watches_it(replay):
    ask(replay, 5.0)
    assert ask(replay, 5.05, HOME + 0.5).values[0, 0] > HOME[0]
