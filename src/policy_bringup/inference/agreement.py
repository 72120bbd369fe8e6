"""Does a policy fit the robot in front of it? Compares the bundle's contract with the configuration's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from policy_bringup.core.errors import ContractError
from policy_bringup.core.types import Column, Contract, ImageSpec

_Row = tuple[str, Any, Any]


def check_agreement(found: Contract, expected: Contract, where: str) -> None:
    """Refuses `found` (the policy's) at its first difference from `expected` (the robot's). Raises ContractError."""
    for label, has, wants in _rows(found, expected):
        if not _same(has, wants):
            raise ContractError(f"{where}: {label} is {has}, the robot's configuration has {wants}")


def _rows(found: Contract, expected: Contract) -> Iterator[_Row]:
    yield "the robot", found.robot, expected.robot
    yield from _image_rows(found.observation.images, expected.observation.images)
    yield from _column_rows("state", found.observation.state, expected.observation.state)
    yield "observation history", found.observation.history, expected.observation.history
    yield "observation spacing_s", found.observation.spacing_s, expected.observation.spacing_s
    yield "action space", found.action.space.value, expected.action.space.value
    yield from _column_rows("action", found.action.columns, expected.action.columns)
    yield "action steps", found.action.steps, expected.action.steps
    yield "action dt_s", found.action.dt_s, expected.action.dt_s
    yield "action execute", found.action.execute, expected.action.execute


def _image_rows(found: tuple[ImageSpec, ...], expected: tuple[ImageSpec, ...]) -> Iterator[_Row]:
    yield "the number of images", len(found), len(expected)
    for index, (has, wants) in enumerate(zip(found, expected, strict=True)):
        yield f"camera {index + 1}", f"'{has.camera}'", f"'{wants.camera}'"
        label = f"image '{has.camera}'"
        yield f"{label} size", f"{has.width}x{has.height}", f"{wants.width}x{wants.height}"
        yield f"{label} encoding", has.encoding, wants.encoding
        yield f"{label} resize rule", has.resize, wants.resize


def _column_rows(table: str, found: tuple[Column, ...], expected: tuple[Column, ...]) -> Iterator[_Row]:
    yield f"the number of {table} columns", len(found), len(expected)
    for index, (has, wants) in enumerate(zip(found, expected, strict=True)):
        yield f"{table} column {index + 1}", f"'{has.name}' in {has.unit}", f"'{wants.name}' in {wants.unit}"


def _same(has: Any, wants: Any) -> bool:
    # Why not ==: a period written as 0.0333 by hand and as 1/30 by a program would differ in the last digits only.
    if isinstance(has, float) and isinstance(wants, float):
        return math.isclose(has, wants, rel_tol=1e-6)
    return bool(has == wants)
