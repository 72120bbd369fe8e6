"""The launch file and `policy run` start the same nodes with the same parameters in the same environment.

`launch` and `launch_ros` are not on PyPI, so a recorder with the same constructors stands in for them: what is compared
is what the launch file asks for.
"""

import importlib.util
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from policy_bringup.core import graph
from policy_bringup.core.startup import TRIAL_SEED, Options, environment, processes
from policy_bringup.runner import command_line

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "grasp.launch.py"


@dataclass
class Recorded:
    """One launch action: its class's name, and what it was made with."""

    kind: str
    positional: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)


@dataclass
class Configuration:
    name: str

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


def recorder(kind: str):
    return lambda *positional, **keywords: Recorded(kind, positional, keywords)


@pytest.fixture
def launch_module(monkeypatch):
    """The launch file, loaded against the recorder."""

    def module(name: str, **members: Any) -> None:
        made = types.ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)

    kinds = ("DeclareLaunchArgument", "OpaqueFunction", "SetEnvironmentVariable", "Shutdown")
    module("launch", LaunchContext=dict, LaunchDescription=recorder("LaunchDescription"))
    module("launch.actions", **{kind: recorder(kind) for kind in kinds})
    module("launch.substitutions", LaunchConfiguration=Configuration)
    module("launch_ros", actions=None)
    module("launch_ros.actions", LifecycleNode=recorder("LifecycleNode"))
    module("ament_index_python", packages=None)
    module("ament_index_python.packages", get_package_share_directory=lambda name: str(ROOT))
    spec = importlib.util.spec_from_file_location("grasp_launch", LAUNCH_FILE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def start(launch_module, **chosen: str) -> list[Recorded]:
    context = {name: default for name, (default, _) in launch_module.ARGUMENTS.items()}
    return launch_module.start({**context, **chosen})


CASES = [
    {"mode": "sim", "source": "expert"},
    {"mode": "sim", "source": "expert", "console": "true", "seed": "7", "episodes": "3", "domain_id": "42"},
    {"mode": "hardware", "source": "bundle", "bundle": "/somewhere"},
    {"mode": "hardware", "source": "bundle", "bundle": "/somewhere", "compliant_controller": "gravity"},
    {"mode": "gazebo", "source": "bundle", "bundle": "/somewhere"},
    {"mode": "shadow", "source": "bundle", "bundle": "/somewhere", "camera_source": "demo.mp4", "log_level": "debug"},
]


@pytest.mark.parametrize("chosen", CASES, ids=lambda chosen: "-".join(chosen.values()))
def test_launch_file_and_runner_start_the_same_nodes_with_the_same_parameters(launch_module, chosen):
    launched = [action.keywords for action in start(launch_module, **chosen) if action.kind == "LifecycleNode"]
    options = Options(
        mode=chosen["mode"],
        deployment=ROOT / "config" / "grasp.yaml",
        source=chosen["source"],
        bundle=Path(chosen["bundle"]) if "bundle" in chosen else None,
        episodes=int(chosen.get("episodes", "0")),
        camera_source=chosen.get("camera_source", ""),
        seed=int(chosen.get("seed", TRIAL_SEED)),
        compliant_controller=chosen.get("compliant_controller", ""),
        console=chosen.get("console") == "true",
        domain_id=int(chosen.get("domain_id", "0")),
        log_level=chosen.get("log_level", "info"),
    )
    planned = processes(options)
    assert [node["name"] for node in launched] == [process.name for process in planned]
    for node, process in zip(launched, planned, strict=True):
        assert node["executable"] == process.executable
        assert node["parameters"] == [dict(process.parameters)]
        assert node["ros_arguments"] == list(process.ros_arguments)
        assert process.module in command_line(process)
        for name, value in process.parameters.items():
            written = f"{name}:='{value}'" if isinstance(value, str) else f"{name}:={value}"
            assert written in command_line(process)


def test_the_launch_file_hands_on_which_episode_to_replay(launch_module, tmp_path):
    (tmp_path / "episode_000003_0.mcap").touch()
    launched = [action.keywords for action in start(launch_module, source="replay", bundle=str(tmp_path))]
    (policy,) = [node for node in launched if node["name"] == "policy"]
    assert {"source": "replay", "bundle": str(tmp_path)}.items() <= policy["parameters"][0].items()


def test_the_launch_file_sets_the_same_environment(launch_module):
    actions = start(launch_module, source="expert", domain_id="42")
    for action in actions:
        sends_or_reads = next(node for node in graph.NODES if node.name == action.keywords["name"]).pictures
        assert action.keywords["additional_env"] == environment(ROOT / "config", 42, sends_or_reads)


def test_nothing_is_respawned_and_the_end_of_one_node_is_the_end_of_all(launch_module):
    for action in start(launch_module, source="expert"):
        if action.kind == "LifecycleNode":
            assert action.keywords["respawn"] is False
            assert action.keywords["on_exit"].kind == "Shutdown"


def test_every_argument_is_declared_with_a_description(launch_module):
    description = launch_module.generate_launch_description()
    declared = [action for action in description.positional[0] if action.kind == "DeclareLaunchArgument"]
    names = [action.positional[0] for action in declared]
    assert {"mode", "deployment", "bundle", "console", "domain_id", "log_level"} <= set(names)
    assert all(action.keywords["description"] for action in declared)
