"""How far predicted actions are from those that were done, in units that mean something to a person."""

from __future__ import annotations

import torch
from torch import Tensor

from policy_bringup.core.errors import LearningError
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, Column, Contract
from policy_bringup.learning.normalise import FLOOR, Normaliser

MM = 1000.0


def action_errors(predicted: Tensor, target: Tensor, valid: Tensor, contract: Contract) -> dict[str, float]:
    """Mean absolute errors of chunks `(B, steps, action columns)` in the contract's units, where `valid` `(B, steps)`.

    Keys, for the kinds of columns that the contract has: position_mm, rotation_rad, joints_rad, gripper_mm, force_n;
    each also with _first for the first step of the chunk alone. Columns of a kind count alike. Raises LearningError if
    no step is valid.
    """
    error = (predicted - target).abs().double()
    kinds: dict[str, list[tuple[int, float]]] = {}
    for place, column in enumerate(contract.action.columns):
        kind, factor = _kind(column)
        kinds.setdefault(kind, []).append((place, factor))
    found = {}
    for kind, places in kinds.items():
        each = torch.stack([error[..., place] * factor for place, factor in places]).mean(0)
        found[kind] = _mean(each, valid)
        found[f"{kind}_first"] = _mean(each[:, :1], valid[:, :1])
    return found


def better_than_mean(
    predicted: Tensor, target: Tensor, valid: Tensor, state: Tensor, normaliser: Normaliser
) -> dict[str, float]:
    """What is left of the error of two policies that look at nothing: 0 is perfect, 1 no better, above 1 worse.

    Keys: left_of_mean, compared with always doing the training part's mean action; left_of_staying, compared with
    commanding what is measured. Each is the mean, over columns, of the ratio of the absolute errors; columns that do
    not change, or for the second are not measured, do not count. Without any that counts the key is absent.
    state `(B, history, state columns)`. Raises LearningError if no step is valid.
    """
    error, measured = _by_column(predicted - target, valid), normaliser.is_measured
    blind = {
        "left_of_mean": (normaliser.mean_action, torch.ones_like(measured)),
        "left_of_staying": (normaliser.measured(state), measured),
    }
    found = {}
    for key, (plain, counts) in blind.items():
        worst = _by_column(plain - target, valid)
        counts = counts & (worst >= FLOOR)
        if counts.any():
            found[key] = float((error[counts] / worst[counts]).mean())
    return found


def _kind(column: Column) -> tuple[str, float]:
    """Name of what a column measures, with its unit, and the factor to that unit."""
    if column.name in TOOL_COLUMNS[:3]:
        return "position_mm", MM
    if column.name in TOOL_COLUMNS:
        return "rotation_rad", 1.0
    if column.name == GRIPPER_COLUMNS[0]:
        return "gripper_mm", MM
    if column.name == GRIPPER_COLUMNS[1]:
        return "force_n", 1.0
    return f"joints_{column.unit.replace('/', '_per_')}", 1.0


def _mean(error: Tensor, valid: Tensor) -> float:
    """Of `(B, steps)`, where valid."""
    return float(_by_column(error[..., None], valid))


def _by_column(error: Tensor, valid: Tensor) -> Tensor:
    """`(columns,)`: mean absolute value, over valid steps, of `(B, steps, columns)`."""
    count = valid.sum()
    if not count:
        raise LearningError("no step of any chunk is valid, so that no error can be told")
    return (error.double().abs() * valid[..., None]).sum((0, 1)) / count
