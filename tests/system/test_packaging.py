"""The one manifest, read by pip and by colcon: both find every file and every command."""

import configparser
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import policy_bringup
from policy_bringup.core import graph

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "build", "install", "log", "*.egg-info", "__pycache__", ".*_cache")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy, so that what a build leaves behind is not in anybody's way."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("sources") / "policy_bringup", ignore=LEFT_OUT))


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip_install(sources: Path, prefix: Path, *options: str) -> None:
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed")
    run(*pip, "--prefix", prefix, *options, cwd=sources)


def commands() -> set[str]:
    return {"policy"} | {node.executable for node in graph.NODES}


def assert_share(share: Path) -> None:
    for name in (
        "package.xml",
        "launch/grasp.launch.py",
        "config/grasp.yaml",
        "models/robot/panda.urdf",
        "models/policies/grasp/policy.onnx",
    ):
        assert (share / "policy_bringup" / name).is_file(), name
    assert (share / "ament_index" / "resource_index" / "packages" / "policy_bringup").is_file()


def test_pip_install_brings_the_commands_and_the_share_folder(sources: Path, tmp_path: Path):
    pip_install(sources, tmp_path, ".")
    assert {path.name for path in (tmp_path / "bin").iterdir()} == commands()
    assert_share(tmp_path / "share")


def test_an_editable_install_runs_the_sources(sources: Path, tmp_path: Path):
    pip_install(sources, tmp_path, "--editable", ".")
    (site,) = tmp_path.glob("lib/python3*/site-packages")
    code = "import site, sys; site.addsitedir(sys.argv[1]); import policy_bringup; print(policy_bringup.__file__)"
    printed = run(sys.executable, "-S", "-c", code, site, cwd=tmp_path, PYTHONPATH="")
    assert Path(printed.strip()).is_relative_to(sources)


@pytest.mark.parametrize("options", [(), ("--symlink-install",)], ids=["copied", "symlinked"])
def test_colcon_builds_the_package_for_ros2_run_and_ros2_launch(sources: Path, tmp_path: Path, options):
    workspace = tmp_path / "src"
    workspace.mkdir()
    (workspace / "policy_bringup").symlink_to(sources)
    colcon = Path(sys.executable).parent / "colcon"
    run(colcon, "build", *options, cwd=tmp_path)
    prefix = tmp_path / "install" / "policy_bringup"
    assert {path.name for path in (prefix / "lib" / "policy_bringup").iterdir()} >= commands()
    assert_share(prefix / "share")
    setup = (
        f". {tmp_path}/install/local_setup.sh && python3 -c 'import policy_bringup; print(policy_bringup.__version__)'"
    )
    assert run("sh", "-c", setup, cwd=tmp_path).strip() == policy_bringup.__version__


def test_the_versions_of_both_manifests_agree():
    package = ET.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == policy_bringup.__version__
    assert package.findtext("export/build_type") == "ament_python"


def test_every_node_of_the_graph_has_its_command_and_its_configuration():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = dict(line.split(" = ") for line in setup["options.entry_points"]["console_scripts"].strip().splitlines())
    for node in graph.NODES:
        assert scripts[node.executable] == f"{node.module}:main"
        assert (ROOT / "config" / node.config).is_file()
    assert set(scripts) == commands()


def test_the_extras_for_a_processor_and_for_a_graphics_card_differ_in_their_onnxruntime_alone():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {name: set(packages.split()) for name, packages in setup["options.extras_require"].items()}
    assert extras["robot"] ^ extras["robot-gpu"] == {"onnxruntime>=1.21", "onnxruntime-gpu>=1.21"}
    bring = {name for name, packages in extras.items() if any(each.startswith("onnxruntime") for each in packages)}
    assert bring == {"robot", "robot-gpu"}
