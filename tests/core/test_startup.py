import re
from pathlib import Path

import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.startup import Options, environment, processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def options(config_folder: Path):
    def make(**choices) -> Options:
        return Options(**{"mode": "sim", "deployment": config_folder / "grasp.yaml", "source": "expert", **choices})

    return make


def test_every_node_of_the_mode_is_started_and_the_optional_ones_only_when_asked(options):
    names = [process.name for process in processes(options())]
    assert names == ["sim", "sim_camera", "policy", "safety", "arm", "trial"]
    assert [process.name for process in processes(options(console=True))] == [*names, "console"]


def test_recorder_and_teleop_start_when_asked_and_nobody_runs_trials_of_a_policy_that_is_not_there(
    options, tmp_path: Path
):
    names = [process.name for process in processes(options(source="none", record=tmp_path, teleop_device="joy"))]
    assert names == ["sim", "sim_camera", "safety", "arm", "teleop", "recorder"]
    (recorder,) = [process for process in processes(options(record=tmp_path)) if process.name == "recorder"]
    assert recorder.parameters["record"] == str(tmp_path)


def test_lateness_is_measured_without_trials_by_a_node_that_runs_for_nothing_else(options):
    started = {process.name: process for process in processes(options(source="latency"))}
    assert list(started) == ["sim", "sim_camera", "policy", "safety", "arm", "latency"]
    assert started["policy"].parameters["source"] == "latency"


@pytest.mark.parametrize("mode", graph.MODES)
def test_an_episode_is_replayed_in_every_mode_by_the_nodes_that_need_to_know_it(options, tmp_path: Path, mode: str):
    (tmp_path / "episode_000003_0.mcap").touch()
    started = {process.name: process for process in processes(options(mode=mode, source="replay", bundle=tmp_path))}
    told = {name for name, process in started.items() if process.parameters.get("bundle") == str(tmp_path)}
    assert told == {"policy", "safety", "sim"} & set(started)
    assert ("trial" in started) == (mode == "sim")


@pytest.mark.parametrize("mode", graph.MODES)
def test_the_policy_knows_in_which_mode_it_runs(options, tmp_path: Path, mode: str):
    started = {process.name: process for process in processes(options(mode=mode, source="bundle", bundle=tmp_path))}
    assert started["policy"].parameters["mode"] == mode


def test_hardware_has_a_camera_node_and_no_simulator(options, tmp_path: Path):
    names = [process.name for process in processes(options(mode="hardware", source="bundle", bundle=tmp_path))]
    assert names == ["camera", "policy", "safety", "arm"]


@pytest.mark.parametrize("mode", ["hardware", "gazebo"])
def test_controllers_are_switched_only_where_somebody_named_the_one_that_yields(options, tmp_path: Path, mode: str):
    choices = {"mode": mode, "source": "bundle", "bundle": tmp_path}
    (node,) = [p for p in processes(options(compliant_controller="gravity", **choices)) if p.name == "compliance"]
    assert node.parameters["compliant_controller"] == "gravity"
    assert "compliance" not in [process.name for process in processes(options(**choices))]


def test_shadow_mode_has_no_arm_node(options, tmp_path: Path):
    names = [process.name for process in processes(options(mode="shadow", source="bundle", bundle=tmp_path))]
    assert "arm" not in names


@pytest.mark.parametrize("mode", graph.MODES)
def test_gazebo_alone_runs_on_simulated_time_and_all_of_its_nodes_do(options, tmp_path: Path, mode: str):
    started = processes(options(mode=mode, source="bundle", bundle=tmp_path, record=tmp_path))
    assert {process.parameters.get("use_sim_time", False) for process in started} == {mode == "gazebo"}


def test_a_node_gets_the_parameters_that_the_graph_lists_for_it_and_no_others(options):
    for process in processes(options(seed=7)):
        entry = next(node for node in graph.NODES if node.name == process.name)
        assert set(process.parameters) == {"deployment", *entry.parameters}
    sim = processes(options(seed=7))[0]
    assert sim.parameters["seed"] == 7


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"mode": "flight"}, "mode: must be one of sim, hardware, gazebo, shadow, found 'flight'"),
        ({"source": "oracle"}, "source: must be one of bundle, expert, replay, latency, none, found 'oracle'"),
        ({"mode": "shadow", "source": "latency"}, "source: latency moves the arm; mode 'shadow' moves nothing"),
        ({"mode": "hardware"}, "source: the expert reads the simulator's object pose; mode 'hardware' has none"),
        ({"source": "bundle"}, "bundle: is missing; give the folder of a policy bundle"),
        ({"source": "replay"}, "bundle: is missing; replay needs the folder of a recorded episode"),
        ({"source": "replay", "bundle": Path("/nowhere")}, "bundle: there is no episode /nowhere to replay"),
        (
            {"source": "replay", "bundle": ROOT},
            f"bundle: {ROOT} is no episode to replay: it holds no bag (.mcap)",
        ),
        (
            {"source": "none"},
            "source: none leaves nothing to do; give a teleop device, a dataset to record to, or both",
        ),
        (
            {"compliant_controller": "gravity"},
            "compliant_controller: is one of ros2_control (mode hardware or gazebo); the simulator yields by itself",
        ),
        (
            {"mode": "shadow", "source": "none", "teleop_device": "joy", "compliant_controller": "gravity"},
            "compliant_controller: is one of ros2_control (mode hardware or gazebo); mode 'shadow' moves no arm",
        ),
        (
            {"mode": "gazebo", "source": "bundle", "bundle": ROOT, "security": ROOT},
            "security: the keys are for the topics of core/graph.py, and /clock of mode gazebo is not one",
        ),
        ({"episodes": -1}, "episodes: must be 0 (without end) or more, found -1"),
        ({"log_level": "loud"}, "log_level: must be one of"),
        ({"deployment": Path("/nowhere.yaml")}, "deployment: there is no file /nowhere.yaml"),
    ],
)
def test_a_choice_that_cannot_work_is_refused_with_the_reason(options, choices, sentence: str):
    with pytest.raises(ConfigError) as refusal:
        processes(options(**choices))
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("domain", [0, 101])
def test_the_environment_stays_on_this_machine_and_sets_the_profile_for_both_distributions(
    config_folder: Path, domain: int, pictures: bool
):
    variables = environment(config_folder, domain, pictures)
    assert variables["ROS_DOMAIN_ID"] == str(domain)
    assert variables["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        profile = Path(variables[name]).read_text()
        assert re.findall(r"<address>(.*)</address>", profile) == ["127.0.0.1", "127.0.0.1"]
        assert "<useBuiltinTransports>false</useBuiltinTransports>" in profile


@pytest.mark.parametrize("domain", [-1, 102])
def test_a_domain_outside_the_range_of_dds_ports_is_refused(config_folder: Path, domain: int):
    with pytest.raises(ConfigError, match="domain_id: must be from 0 to 101"):
        environment(config_folder, domain, pictures=False)


def test_only_processes_with_pictures_share_memory(options):
    for node in processes(options()):
        profile = Path(node.environment["FASTDDS_DEFAULT_PROFILES_FILE"]).read_text()
        assert ("SHM" in profile) == (node.name in ("sim_camera", "policy")), node.name
