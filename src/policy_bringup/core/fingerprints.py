"""Short names for exact contents: of a contract, of configuration files, of this package's code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from policy_bringup import __version__
from policy_bringup.core.types import Contract


def contract_sha256(contract: Contract) -> str:
    """Equal exactly when two contracts are: names, order, units, sizes, rates."""
    return hashlib.sha256(repr(_plain(asdict(contract))).encode()).hexdigest()


def files_sha256(files: Iterable[Path]) -> str:
    """Of names and contents, in the order of the names; where the files lie does not matter."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def code_version() -> str:
    """Version of this package and a hash of its source files, as they lie on disk."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:16]}"


def _plain(value: object) -> object:
    """Numbers that are equal look alike: 1 and 1.0, and numpy's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return float(value) if isinstance(value, (int, float)) else str(value)
