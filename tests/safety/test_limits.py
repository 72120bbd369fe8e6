from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from policy_bringup.core.config import build
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.safety.limits import Limits, SafetyConfig


def test_the_shipped_configuration_fits_the_shipped_deployment(kit, config_folder):
    deployment, robot = load_deployment(config_folder / "grasp.yaml")
    limits = Limits(kit.config, deployment.contract.action, deployment.limits, robot.joints, 0.5)
    assert limits.spec.names == deployment.contract.action.names


def test_the_vectors_stand_in_the_order_of_the_columns(kit):
    limits = kit.limits()
    columns = kit.columns()
    for name in ("lower", "upper", "tolerance", "max_step", "max_velocity", "max_acceleration", "max_window"):
        assert getattr(limits, name).tolist() == [getattr(column, name) for column in columns]
    assert limits.holds_command.tolist() == [False] * 6 + [True] * 2
    assert not limits.is_rate.any()


def test_the_joints_have_their_margin(kit):
    limits = kit.limits(joint_margin_rad=0.125)
    assert limits.joint_lower.tolist() == [-2.125] * 7
    assert limits.joint_upper.tolist() == [2.125] * 7


def test_the_tick_gives_the_period_the_window_and_the_change_of_velocity(kit):
    limits = kit.limits(tick_rate_hz=50.0)
    assert limits.period_s == 0.02
    assert limits.window == 12
    assert limits.max_change[0] == pytest.approx(12.0 * 0.02)
    assert kit.limits(tick_rate_hz=10.0, late_tick_s=0.2).window == 2


def test_creep_is_what_one_tick_can_start_and_stop_and_two_periods_do_not_exceed(kit):
    def creep(**changes):
        return kit.limits(columns=kit.columns(gripper_width=changes)).creep[6]

    wide = {"max_velocity": 9.0, "max_acceleration": 900.0, "max_step": 0.18, "max_window": 4.5}
    assert creep(**wide) == pytest.approx(9.0)
    assert creep(**{**wide, "max_velocity": 1.0}) == pytest.approx(1.0)
    assert creep(**{**wide, "max_acceleration": 100.0}) == pytest.approx(1.0)
    assert creep(**{**wide, "max_step": 0.02}) == pytest.approx(1.0)
    assert creep(**{**wide, "max_window": 0.5}) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lower": 0.8}, "tool.x needs finite lower <= upper"),
        ({"lower": math.nan}, "tool.x needs finite lower <= upper"),
        ({"lower": -math.inf}, "tool.x needs finite lower <= upper"),
        ({"upper": math.inf}, "tool.x needs finite lower <= upper"),
        ({"max_step": 0.0}, "tool.x needs max_step"),
        ({"max_velocity": math.inf}, "finite and above zero"),
        ({"max_acceleration": math.nan}, "finite and above zero"),
        ({"max_window": -1.0}, "finite and above zero"),
        ({"tolerance": 0.0}, "finite and above zero"),
    ],
)
def test_a_column_with_impossible_numbers_is_refused(kit, change, words):
    with pytest.raises(ConfigError, match=words):
        kit.limits(columns=kit.columns(tool_x=change))


def test_a_column_may_have_one_only_value(kit):
    assert kit.limits(columns=kit.columns(tool_x={"lower": 0.5, "upper": 0.5})).lower[0] == 0.5


def test_columns_must_be_the_contracts_in_its_order(kit):
    columns = kit.columns()
    for wrong in (columns[::-1], columns[:-1], (*columns, columns[0])):
        with pytest.raises(ConfigError, match="must list the action columns in order"):
            kit.limits(columns=wrong)


def test_a_column_must_not_stand_twice(kit):
    columns = (kit.columns()[0],) * 2
    with pytest.raises(ConfigError, match="must name each column once"):
        kit.limits(columns=columns, spec=kit.spec(("tool.x", "tool.x"), ("m", "m")))


def test_there_must_be_a_column(kit):
    with pytest.raises(ConfigError, match="must name each column once"):
        Limits(kit.config, kit.spec((), ()), (), kit.joints(), 1.0)


def test_limits_that_are_whole_numbers_are_tables_of_floats_all_the_same(kit):
    names = ("lower", "upper", "tolerance", "max_step", "max_velocity", "max_acceleration", "max_window")
    values = {name: number for number, name in enumerate(names)}  # lower 0, upper 1, and whole ones for the others
    limits = kit.limits(columns=tuple(dataclasses.replace(column, **values) for column in kit.columns()))
    for name in names:
        assert getattr(limits, name).dtype == np.float64, name


def test_a_velocity_column_must_be_able_to_rest(kit):
    spec = kit.spec(("vx",), ("m/s",))

    def limits(lower, upper):
        return kit.limits(
            spec=spec, columns=(dataclasses.replace(kit.columns()[0], name="vx", lower=lower, upper=upper),)
        )

    assert limits(-1.0, 1.0).is_rate.tolist() == [True]
    assert limits(0.0, 1.0).is_rate.tolist() == [True]
    assert limits(-1.0, 0.0).is_rate.tolist() == [True]
    for lower, upper in ((0.1, 1.0), (-1.0, -0.1)):
        with pytest.raises(ConfigError, match="vx commands a velocity: its bounds must contain zero"):
            limits(lower, upper)


@pytest.mark.parametrize("change", [{"lower": 2.5}, {"lower": -math.inf}, {"upper": math.inf}, {"upper": math.nan}])
def test_a_joint_with_impossible_limits_is_refused(kit, change):
    joints = kit.joints()
    with pytest.raises(ConfigError, match="joint3 needs finite lower <= upper"):
        kit.limits(joints=(*joints[:3], dataclasses.replace(joints[3], **change), *joints[4:]))


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_an_impossible_threshold_is_refused(kit, threshold):
    with pytest.raises(ConfigError, match="uncertainty_threshold"):
        kit.limits(threshold=threshold)


def test_a_threshold_of_zero_is_possible(kit):
    assert kit.limits(threshold=0.0).threshold == 0.0


@pytest.mark.parametrize("sources", [(), ("policy", "policy")])
def test_sources_must_be_there_and_unique(kit, sources):
    with pytest.raises(ConfigError, match="need sources, each named once"):
        kit.limits(sources=sources)


def test_a_tick_is_late_after_two_periods_at_the_earliest(kit):
    assert kit.limits(late_tick_s=0.02).config.late_tick_s == 0.02
    with pytest.raises(ConfigError, match="late_tick_s"):
        kit.limits(late_tick_s=0.0199)


def test_opening_the_gripper_needs_to_know_its_column(kit):
    kit.limits(fallback="hold", gripper_column=None)
    kit.limits(fallback="open_gripper", gripper_column="gripper.width")
    for change in ({"fallback": "open_gripper"}, {"fallback": "stop", "open_on_estop": True}):
        for column in (None, "hand"):
            with pytest.raises(ConfigError, match=r"gripper_column out of tool\.x, "):
                kit.limits(gripper_column=column, **change)


@pytest.mark.parametrize("field", dataclasses.fields(SafetyConfig), ids=lambda field: field.name)
def test_no_key_has_a_default_and_numbers_have_bounds(kit, field):
    data = dataclasses.asdict(kit.config)
    del data[field.name]
    with pytest.raises(ConfigError, match=f"key '{field.name}' is missing"):
        build(SafetyConfig, data, "safety.yaml")
    if "bounds" in field.metadata:
        lower, upper = field.metadata["bounds"]
        for outside in (lower - 1, upper + 1):
            with pytest.raises(ConfigError, match=field.name):
                build(SafetyConfig, {**data, field.name: outside}, "safety.yaml")


WIDER = [
    "action_timeout_s",
    "state_timeout_s",
    "future_tolerance_s",
    "frozen_time_s",
    "following_time_s",
    "following_tolerance",
    "late_tick_s",
    "joint_margin_rad",
]


@pytest.mark.parametrize("name", [*WIDER, "max_retries"])
def test_a_larger_tolerance_widens_and_a_smaller_one_does_not(kit, name):
    now = getattr(kit.config, name)
    assert kit.limits().widens(kit.limits(**{name: now + (1 if name == "max_retries" else 0.001)}))
    assert not kit.limits().widens(kit.limits(**{name: now - (1 if name == "max_retries" else 0.001)}))


@pytest.mark.parametrize("name", ["max_step", "max_velocity", "max_acceleration", "max_window", "tolerance", "upper"])
def test_a_larger_column_limit_widens_and_a_smaller_one_does_not(kit, name):
    now = getattr(kit.columns()[5], name)
    for factor, wider in ((1.01, True), (1.0, False), (0.99, False)):
        assert kit.limits().widens(kit.limits(columns=kit.columns(tool_rz={name: now * factor}))) is wider


def test_a_lower_lower_bound_widens_and_a_higher_one_does_not(kit):
    for lower, wider in ((0.01, True), (0.02, False), (0.03, False)):
        assert kit.limits().widens(kit.limits(columns=kit.columns(tool_z={"lower": lower}))) is wider


def test_a_wider_joint_widens_and_a_narrower_one_does_not(kit):
    def joints(**change):
        return (dataclasses.replace(kit.joints()[0], **change), *kit.joints()[1:])

    for change, wider in (({"lower": -2.1}, 1), ({"lower": -1.9}, 0), ({"upper": 2.1}, 1), ({"upper": 1.9}, 0)):
        assert kit.limits().widens(kit.limits(joints=joints(**change))) is bool(wider)


def test_a_larger_threshold_widens_and_a_smaller_one_does_not(kit):
    assert kit.limits().widens(kit.limits(threshold=1.1))
    assert not kit.limits().widens(kit.limits(threshold=0.9))


@pytest.mark.parametrize(
    "change",
    [
        {"retry_refill": None},
        {"fallback": "stop"},
        {"gripper_column": None},
        {"auto_resume": True},
        {"still_time_s": 0.6},
        {"resume_proposals": 11},
        {"estop_heartbeat_s": 0.25},
    ],
)
def test_what_cannot_be_ordered_counts_as_wider(kit, change):
    assert kit.limits().widens(kit.limits(**change))


def test_another_way_of_holding_counts_as_wider(kit):
    assert kit.limits().widens(kit.limits(columns=kit.columns(tool_x={"holds_command": True})))


def test_limits_fit_the_same_contract_robot_sources_and_ticks_only(kit):
    joints = kit.joints()
    renamed = (dataclasses.replace(joints[0], name="other"), *joints[1:])
    assert kit.limits().fits(kit.limits(threshold=3.0, action_timeout_s=0.5))
    assert not kit.limits().fits(kit.limits(spec=kit.spec(steps=8)))
    assert not kit.limits().fits(kit.limits(joints=kit.joints(6)))
    assert not kit.limits().fits(kit.limits(joints=renamed))
    assert not kit.limits().fits(kit.limits(sources=("policy",)))
    assert not kit.limits().fits(kit.limits(tick_rate_hz=50.0))


def test_the_judged_table_is_the_limits_side_by_side(kit):
    limits = kit.limits()
    symmetric = [limits.max_velocity, limits.max_change, limits.max_window, limits.max_step]
    assert np.array_equal(limits.motion_upper, np.concatenate([limits.upper, *symmetric, limits.upper]))
    assert np.array_equal(limits.motion_lower, np.concatenate([limits.lower, *(-v for v in symmetric), limits.lower]))
    shown = [(c.name, c.unit) for c in limits.motion[::8]]
    assert shown == [
        ("tool.x after braking", "m"),
        ("tool.x velocity", "m/s"),
        ("tool.x velocity change in a tick", "m/s"),
        ("tool.x change in 250 ms", "m"),
        ("tool.x step", "m"),
        ("tool.x", "m"),
    ]
