"""Does a policy fit the robot in front of it? Compares the bundle's contract, and by what its pictures were aligned,
with the configuration's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from policy_bringup.core.errors import ContractError
from policy_bringup.core.latency import MODES, Latency, measured_mode
from policy_bringup.core.types import Column, Contract, ImageSpec

_Row = tuple[str, Any, Any]
LEAST_SHIFT = 0.5
"""Of a step: a shift between picture and state that a policy is not asked to bear."""


def check_agreement(found: Contract, expected: Contract, where: str) -> None:
    """Refuses `found` (the policy's) at its first difference from `expected` (the robot's). Raises ContractError."""
    for label, has, wants in _rows(found, expected):
        if not _same(has, wants):
            raise ContractError(f"{where}: {label} is {has}, the robot's configuration has {wants}")


def check_alignment(
    aligned: Mapping[str, Mapping[str, float]], contract: Contract, latency: Latency, mode: str, where: str
) -> None:
    """Refuses a policy that learned from pictures `aligned` (a bundle's fingerprint) by another lateness of its cameras
    than `latency`, this robot's in `mode`, if it differs by more than LEAST_SHIFT of a step. Raises ContractError.

    Recordings of another mode were aligned by what that robot's cameras have, so they say nothing about this one's.
    Where the mode of the recordings is not known, as of an older bundle, they are taken as this robot's.
    """
    allowed_s = LEAST_SHIFT * contract.action.dt_s
    trained = [late for other, late in aligned.items() if other == measured_mode(mode) or other not in MODES]
    for late in trained if aligned else [{}]:
        for image in contract.observation.images:
            learned_s, measured_s = late.get(image.camera, 0.0), latency.cameras.get(image.camera, 0.0)
            if round(abs(learned_s - measured_s), 6) > allowed_s:
                raise ContractError(
                    f"{where}: fingerprint: aligned: it learned from pictures of camera '{image.camera}' taken as "
                    f"{learned_s:g} s late, the deployment's latency file has {measured_s:g} s in mode "
                    f"{measured_mode(mode)}; allowed is a difference of {allowed_s:g} s: make its frames and train it "
                    "again, or restore the file"
                )


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
