from pathlib import Path

import pytest

from policy_bringup.console.config import ConsoleConfig
from policy_bringup.console.server import is_loopback
from policy_bringup.core.config import load, read_yaml
from policy_bringup.core.errors import ConfigError


def test_as_shipped_the_page_is_for_this_machine_alone(config_folder: Path):
    assert is_loopback(load(config_folder / "console.yaml", ConsoleConfig).host)


def test_the_drawn_table_and_object_are_the_simulated_ones(config_folder: Path):
    config = load(config_folder / "console.yaml", ConsoleConfig)
    sim = read_yaml(config_folder / "sim.yaml")
    assert list(config.table.size) == sim["table"]["size"]
    assert list(config.table.centre) == sim["table"]["centre"]
    assert config.object_size == sim["cube"]["size"]


@pytest.mark.parametrize("port", [1024, 65535])
def test_ports_that_need_no_root_are_allowed(config_folder: Path, port: int):
    assert load(config_folder / "console.yaml", ConsoleConfig, {"port": port}).port == port


@pytest.mark.parametrize("port", [0, 1023, 65536])
def test_other_ports_are_refused(config_folder: Path, port: int):
    with pytest.raises(ConfigError, match="port: must be a whole number from 1024 to 65535"):
        load(config_folder / "console.yaml", ConsoleConfig, {"port": port})
