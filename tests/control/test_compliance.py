import pytest

from policy_bringup.control.compliance import RETURNS, ComplianceConfig, Roles, Switch, returns_to_last_command
from policy_bringup.core.config import build, load
from policy_bringup.core.errors import ConfigError, DeviceError

ROLES = Roles(("arm_controller",), "gravity")
CHAINED = Roles(("arm_controller", "admittance"), "gravity")


def states(arm: str, gravity: str, **others: str) -> dict[str, str]:
    return {"joint_state_broadcaster": "active", "arm_controller": arm, "gravity": gravity, **others}


HELD, LED = states("active", "inactive"), states("inactive", "active")
NOBODY, BOTH = states("inactive", "inactive"), states("active", "active")


@pytest.mark.parametrize(
    ("seen", "stance", "sentence"),
    [
        (HELD, "holds", "arm_controller: the arm is held"),
        (LED, "yields", "gravity: the arm yields to a hand"),
        (NOBODY, "nobody", "NO CONTROLLER HOLDS THE ARM: arm_controller is inactive, gravity is inactive"),
        (BOTH, "mixed", "the arm is held by halves: arm_controller is active, gravity is active"),
        ({}, "nobody", "NO CONTROLLER HOLDS THE ARM: arm_controller is not loaded, gravity is not loaded"),
    ],
)
def test_who_has_the_arm_is_what_is_active_and_nothing_else(seen, stance, sentence):
    assert (ROLES.stance(seen), ROLES.sentence(seen)) == (stance, sentence)


@pytest.mark.parametrize(
    ("arm", "admittance", "gravity", "stance"),
    [
        ("active", "active", "inactive", "holds"),
        ("active", "inactive", "inactive", "mixed"),
        ("inactive", "active", "inactive", "mixed"),
        ("inactive", "inactive", "inactive", "nobody"),
        ("inactive", "inactive", "active", "yields"),
        ("inactive", "active", "active", "mixed"),
        ("active", "active", "active", "mixed"),
    ],
)
def test_several_trajectory_controllers_hold_the_arm_only_together(arm, admittance, gravity, stance):
    assert CHAINED.stance(states(arm, gravity, admittance=admittance)) == stance


def test_a_switch_starts_one_side_and_stops_the_other_in_one_request():
    assert ROLES.switch(HELD, yields=True) == Switch(("gravity",), ("arm_controller",))
    assert ROLES.switch(LED, yields=False) == Switch(("arm_controller",), ("gravity",))
    led = states("inactive", "active", admittance="inactive")
    assert CHAINED.switch(led, yields=False) == Switch(("arm_controller", "admittance"), ("gravity",))


@pytest.mark.parametrize(("seen", "yields"), [(HELD, False), (LED, True)])
def test_nothing_is_requested_where_all_is_as_wanted(seen, yields):
    assert ROLES.switch(seen, yields) is None


def test_a_request_names_only_what_has_to_change_since_a_strict_one_is_refused_otherwise():
    assert ROLES.switch(NOBODY, yields=False) == Switch(("arm_controller",), ())
    assert ROLES.switch(BOTH, yields=False) == Switch((), ("gravity",))
    assert ROLES.switch(NOBODY, yields=True) == Switch(("gravity",), ())


@pytest.mark.parametrize(
    ("gravity", "sentence"),
    [
        ("unconfigured", "controller 'gravity' is unconfigured; it must be inactive or active: "
                         "ros2 control set_controller_state gravity inactive"),
        ("finalized", "controller 'gravity' is finalized; it must be inactive or active: "
                      "ros2 control set_controller_state gravity inactive"),
    ],
)  # fmt: skip
def test_a_controller_that_cannot_start_is_not_asked_to(gravity, sentence):
    with pytest.raises(DeviceError) as error:
        ROLES.switch(states("active", gravity), yields=True)
    assert str(error.value) == sentence
    assert ROLES.refusal(states("active", gravity)) == sentence


def test_a_controller_that_is_not_loaded_is_named_with_the_command_that_loads_it():
    assert ROLES.refusal({"arm_controller": "active", "broadcaster": "active"}) == (
        "controller 'gravity' is not loaded (loaded are: arm_controller, broadcaster); "
        "load it: ros2 control load_controller --set-state inactive gravity"
    )
    assert ROLES.refusal({}).startswith("controller 'arm_controller' is not loaded (loaded are: none)")


def test_the_arm_is_taken_back_even_if_the_compliant_controller_has_gone():
    assert ROLES.switch({"arm_controller": "inactive"}, yields=False) == Switch(("arm_controller",), ())


@pytest.mark.parametrize("seen", [HELD, LED])
def test_hand_guiding_is_offered_when_either_side_has_the_arm(seen):
    assert ROLES.refusal(seen) == ""


@pytest.mark.parametrize(
    ("seen", "command"),
    [
        (NOBODY, "ros2 control switch_controllers --strict --activate arm_controller"),
        (BOTH, "ros2 control switch_controllers --strict --deactivate gravity"),
    ],
)
def test_hand_guiding_is_refused_with_the_remedy_when_nobody_or_both_have_the_arm(seen, command):
    assert ROLES.refusal(seen) == f"{ROLES.sentence(seen)}; first: {command}"


@pytest.mark.parametrize("said", ["switched", "refused", ""])
def test_what_is_seen_afterwards_counts_and_not_what_was_answered(said):
    assert ROLES.failure(LED, True, said) == ""
    assert ROLES.failure(HELD, False, said) == ""
    assert ROLES.failure(HELD, True, said).startswith("nothing was switched (controller_manager: ")
    assert ROLES.failure(LED, False, said).startswith("nothing was switched (controller_manager: ")
    for seen, yields in ((NOBODY, True), (NOBODY, False), (BOTH, True), (BOTH, False)):
        assert ROLES.failure(seen, yields, said).startswith(ROLES.sentence(seen))


def test_a_failure_repeats_what_controller_manager_said_on_one_line():
    failure = ROLES.failure(NOBODY, True, "Failed switching....  \nUnable to activate: [ gravity ]")
    assert failure.endswith("(controller_manager: Failed switching.... Unable to activate: [ gravity ])")
    assert ROLES.failure(NOBODY, True, "").endswith("(controller_manager: no reason given)")


def test_a_controller_that_goes_back_to_its_last_command_is_refused_and_the_parameter_is_named():
    assert returns_to_last_command(True).startswith(f"arm_controller: {RETURNS} is true")
    assert returns_to_last_command(False) == ""
    assert returns_to_last_command(None) == ""


def test_a_trajectory_controller_cannot_be_the_one_that_yields():
    with pytest.raises(ConfigError, match="'arm_controller' is one of trajectory_controllers"):
        Roles(("arm_controller",), "arm_controller")


def test_the_committed_configuration_is_valid(config_folder):
    assert load(config_folder / "compliance.yaml", ComplianceConfig).trajectory_controllers == ("arm_controller",)


@pytest.mark.parametrize("timeout_s", [0.02, 0.25])
def test_a_timeout_within_its_bounds_is_accepted(timeout_s):
    data = {"trajectory_controllers": ["arm_controller"], "timeout_s": timeout_s}
    assert build(ComplianceConfig, data, "here").timeout_s == timeout_s


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"timeout_s": 0.019}, "here: timeout_s: must be a number from 0.02 to 0.25 s, found 0.019"),
        ({"timeout_s": 0.26}, "here: timeout_s: must be a number from 0.02 to 0.25 s, found 0.26"),
        ({"trajectory_controllers": ["other"]}, "here: trajectory_controllers: 'arm_controller' is missing"),
        ({"trajectory_controllers": []}, "here: trajectory_controllers: 'arm_controller' is missing"),
        ({"trajectory_controllers": ["arm_controller"] * 2}, "here: trajectory_controllers: a name stands twice"),
    ],
)
def test_a_wrong_configuration_is_refused(changes, sentence):
    with pytest.raises(ConfigError) as error:
        build(ComplianceConfig, {"trajectory_controllers": ["arm_controller"], "timeout_s": 0.2, **changes}, "here")
    assert str(error.value).startswith(sentence)
