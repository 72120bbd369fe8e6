"""The self-test passes the shipped limits, and fails whatever is taken out of the monitor."""

from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.config import build, read_yaml
from policy_bringup.core.deployment import load_deployment
from policy_bringup.nodes.self_test import self_test
from policy_bringup.safety import checks
from policy_bringup.safety.limits import Limits, SafetyConfig
from policy_bringup.safety.monitor import SafetyMonitor
from policy_bringup.safety.reasons import Reason, Rule
from policy_bringup.safety.state import Arm

FINE = Reason(Rule.STATE, "sabotaged")


@pytest.fixture
def make(config_folder: Path):
    """The shipped limits, with keys of safety.yaml replaced."""

    def make(**changes: object) -> Limits:
        deployment, robot = load_deployment(config_folder / "grasp.yaml")
        rate_hz = graph.topic("safety/action").rate_hz
        data = {**read_yaml(config_folder / "safety.yaml"), "tick_rate_hz": rate_hz, **changes}
        config = build(SafetyConfig, data, "safety.yaml")
        return Limits(config, deployment.contract.action, deployment.limits, robot.joints, 0.25)

    return make


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"estop_heartbeat_s": 0.05},
        {"tick_rate_hz": 20.0, "action_timeout_s": 0.02, "state_timeout_s": 0.01, "late_tick_s": 0.2},
        {"action_timeout_s": 1.0, "max_retries": 0, "fallback": "stop"},
    ],
)
def test_limits_that_may_be_configured_pass(make, changes: dict):
    assert self_test(make(**changes)) == ""


def everything_is_within(_rule, _columns, values, _lower, _upper):
    return len(values), None


SABOTAGE = {
    "_within": (everything_is_within, "tool.x just above its bounds was not refused by rule BOUNDS"),
    "_envelope": (lambda *_: None, "a number that is not finite was not refused by rule FINITE"),
    "_age": (lambda *_: None, "an action too old was not refused by rule AGE"),
    "hazard": (lambda *_: FINE, "an action that only stands still was refused"),
    "judge": (lambda *_: FINE, "an action that only stands still was refused (sabotaged)"),
    "payload": (lambda *_: 1 / 0, "an action that only stands still was refused"),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_check_that_was_taken_out_or_refuses_all_fails_it(make, monkeypatch, name: str):
    replacement, sentence = SABOTAGE[name]
    monkeypatch.setattr(checks, name, replacement)
    assert self_test(make()).startswith(f"failed self-test: {sentence}")


def test_a_check_that_forgets_one_column_fails_it(make, monkeypatch):
    honest = checks._within

    def forgetful(rule, columns, values, lower, upper):
        if rule is Rule.BOUNDS:
            upper = np.append(upper[:-1], np.inf)
        return honest(rule, columns, values, lower, upper)

    monkeypatch.setattr(checks, "_within", forgetful)
    assert "gripper.force just above its bounds was not refused" in self_test(make())


@pytest.mark.parametrize("most", [np.inf, np.nan, -1.0])
def test_a_threshold_that_is_not_the_one_compared_with_fails_it(make, most: float):
    limits = make()
    limits.most_unsure = np.array([most])
    assert self_test(limits).startswith("failed self-test: ")


def test_arming_whatever_is_proposed_fails_it(make, monkeypatch):
    monkeypatch.setitem(SafetyMonitor._handlers, Arm, lambda _monitor, _event: "")
    assert "was not refused by rule FINITE" in self_test(make())
