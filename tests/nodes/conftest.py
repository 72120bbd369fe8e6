"""Real rclpy in this process, on the run's own domain."""

import os
from collections.abc import Iterator

import pytest
import rclpy

from policy_bringup.core.startup import environment


@pytest.fixture(scope="session", autouse=True)
def ros_environment(domain_id: int, config_folder) -> None:
    os.environ.update(environment(config_folder, domain_id, pictures=True))


@pytest.fixture
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()
