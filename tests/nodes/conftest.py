"""Real rclpy in this process, on the run's own domain."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
import yaml

from policy_bringup.core.startup import environment


@pytest.fixture(scope="session", autouse=True)
def ros_environment(domain_id: int, config_folder) -> None:
    os.environ.update(environment(config_folder, domain_id, pictures=True))


@pytest.fixture(scope="session")
def patient_config(config_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration with a monitor that bears standstills: where safety and those whom it judges are threads of one
    test, each waits for the others."""
    site = tmp_path_factory.mktemp("patient")
    shutil.copytree(config_folder, site / "config")
    (site / "models").symlink_to(config_folder.parent / "models")
    safety = site / "config" / "safety.yaml"
    patience = {"action_timeout_s": 0.5, "state_timeout_s": 0.5, "late_tick_s": 0.2}
    safety.write_text(yaml.safe_dump({**yaml.safe_load(safety.read_text()), **patience}))
    return site / "config"


@pytest.fixture
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()
