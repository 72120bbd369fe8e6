from dataclasses import replace

import pytest

from policy_bringup.core import graph
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.latency import NOTHING_MEASURED, UNMEASURED, Latency, Measured, load_latency, save_latency


@pytest.fixture
def deployment(config_folder):
    return load_deployment(config_folder / "grasp.yaml")[0]


def test_the_shipped_deployment_changes_nothing(config_folder, deployment):
    assert deployment.latency == "measured_latency.yaml"
    assert load_latency(config_folder, deployment) == Measured(sim=UNMEASURED)
    assert Latency({}, None) == UNMEASURED
    for mode in graph.MODES:
        assert load_latency(config_folder, deployment).of(mode, "") == UNMEASURED


def test_of_a_deployment_that_names_no_file_nothing_is_measured(tmp_path, deployment):
    assert load_latency(tmp_path, replace(deployment, latency="")) == NOTHING_MEASURED == Measured()


def test_what_is_written_is_read_and_says_what_it_is(tmp_path, deployment):
    known = Latency({"front": 0.0812, "wrist": 0.0}, 0.0375)
    written = Measured(sim=UNMEASURED, hardware=known)
    save_latency(tmp_path / "measured_latency.yaml", written)
    assert load_latency(tmp_path, deployment) == written
    assert known.camera_ns("front") == 81_200_000
    assert known.camera_ns("nowhere") == 0
    text = (tmp_path / "measured_latency.yaml").read_text()
    assert text.startswith(
        "# How late cameras and arm are, s, in each mode as far as measured by `policy calibrate-latency`"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["measured_latency.yaml"]


def test_an_arm_that_was_not_measured_is_not_written_as_one_that_is_on_time(tmp_path, deployment):
    save_latency(tmp_path / "measured_latency.yaml", Measured(gazebo=Latency({"front": 0.03})))
    assert load_latency(tmp_path, deployment).gazebo == Latency({"front": 0.03}, None)


@pytest.mark.parametrize("known", [0.0, 0.06])
def test_actions_are_asked_for_ahead_by_what_was_measured_and_only_where_that_is_wanted(known):
    assert Latency({}, known).lead_s(True) == known
    assert Latency({}, known).lead_s(False) == UNMEASURED.lead_s(False) == 0.0


def test_no_action_is_asked_for_ahead_by_a_guess():
    with pytest.raises(ConfigError, match="ask_ahead: how late the arm is has not been measured"):
        UNMEASURED.lead_s(True)


@pytest.mark.parametrize("late_s", [0.0, 0.2499])
def test_a_camera_may_be_as_late_as_an_action_stays_young_enough(tmp_path, deployment, late_s):
    (tmp_path / "measured_latency.yaml").write_text(f"hardware: {{cameras: {{front: {late_s}}}}}")
    assert load_latency(tmp_path, deployment).hardware.cameras == {"front": late_s}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cameras: {front: 0.6}", "cameras.front: must be a number from 0 to 0.5 s, found 0.6"),
        ("cameras: {front: -0.01}", "cameras.front: must be a number from 0 to 0.5 s, found -0.01"),
        ("cameras: {front: 0.25}", "cameras.front: actions are too old 0.25 s after what was seen"),
        ("cameras: {side: 0.1}", "cameras: the deployment has no camera 'side'; it has front, wrist"),
        ("actuator_s: .nan", "actuator_s: must be a number from 0 to 0.5 s, found nan"),
        ("actuator_s: 0.41", "of a chunk of 16 steps 8 must be left, so it must be at most 0.4 s, found 0.41"),
        ("arm_s: 0.1", "unknown key 'arm_s'; allowed are actuator_s, cameras"),
    ],
)
def test_a_wrong_file_is_refused_with_key_and_range(tmp_path, deployment, text, sentence):
    (tmp_path / "measured_latency.yaml").write_text(f"sim: {{}}\nhardware: {{{text}}}")
    with pytest.raises(ConfigError) as error:
        load_latency(tmp_path, deployment)
    assert sentence in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'measured_latency.yaml'}: hardware: ")


@pytest.mark.parametrize("text", ["cameras: {front: 0.1}", "shadow: {cameras: {front: 0.1}}"])
def test_what_says_not_in_which_mode_it_was_measured_is_refused(tmp_path, deployment, text):
    (tmp_path / "measured_latency.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"unknown key '.*'; allowed are gazebo, hardware, sim"):
        load_latency(tmp_path, deployment)


LATE = Latency({"front": 0.03, "wrist": 0.0}, 0.05)


@pytest.mark.parametrize(("mode", "found"), [("hardware", LATE), ("shadow", LATE), ("sim", UNMEASURED)])
def test_what_was_measured_holds_in_its_mode_and_on_the_same_robot_and_nowhere_else(mode, found):
    assert Measured(sim=UNMEASURED, hardware=LATE).of(mode, "") == found


@pytest.mark.parametrize(
    ("mode", "measured", "sentence"),
    [
        (
            "hardware", Measured(sim=LATE),
            "f.yaml: sim.cameras.front 0.03 s was measured in another mode than 'hardware', which is missing; run "
            "`policy calibrate-latency` with --mode hardware, or write `hardware: {}` if nothing is late there",
        ),
        ("shadow", Measured(gazebo=LATE), "with --mode hardware"),
        ("sim", Measured(hardware=Latency({}, 0.02)), "f.yaml: hardware.actuator_s 0.02 s was measured in another"),
        ("gazebo", Measured(sim=UNMEASURED, hardware=LATE), "with --mode gazebo, or write `gazebo: {}`"),
        ("", Measured(hardware=LATE), "the mode must be one of sim, hardware, gazebo, shadow"),
        ("import", Measured(hardware=LATE), "than 'import', which is missing; the mode must be one of sim"),
    ],
)  # fmt: skip
def test_a_mode_is_refused_what_was_measured_in_another_one(mode, measured, sentence):
    with pytest.raises(ConfigError) as error:
        measured.of(mode, "f.yaml")
    assert sentence in str(error.value)


@pytest.mark.parametrize("mode", [*graph.MODES, "import", ""])
def test_where_nothing_is_late_in_any_mode_every_mode_goes(mode):
    on_time = Latency({"front": 0.0}, 0.0)
    assert Measured(gazebo=on_time).of(mode, "") == (on_time if mode == "gazebo" else UNMEASURED)


def test_a_named_file_that_is_missing_is_refused(tmp_path, deployment):
    with pytest.raises(ConfigError, match=r"measured_latency.yaml: cannot be read"):
        load_latency(tmp_path, deployment)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere/measured_latency.yaml: cannot be written"):
        save_latency(tmp_path / "nowhere" / "measured_latency.yaml", NOTHING_MEASURED)
