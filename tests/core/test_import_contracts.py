"""What `make lint` asks of imports leaves no part of the package out."""

from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[2]
OWNERS = {"rclpy": "nodes", "mujoco": "sim", "onnxruntime": "inference", "torch": "learning"}


def contracts() -> dict[str, dict]:
    read = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["name"]: contract for contract in read["tool"]["importlinter"]["contracts"]}


def parts() -> set[str]:
    """Every folder and module of the package."""
    package = ROOT / "src" / "policy_bringup"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    return folders | {path.stem for path in package.glob("*.py") if path.stem != "__init__"}


@pytest.mark.parametrize(("library", "owner"), OWNERS.items())
def test_all_but_its_owner_are_forbidden_a_library(library: str, owner: str):
    contract = contracts()[f"{library} only in {owner}"]
    assert contract["forbidden_modules"] == [library]
    assert set(contract["source_modules"]) == {f"policy_bringup.{part}" for part in parts() - {owner}}
