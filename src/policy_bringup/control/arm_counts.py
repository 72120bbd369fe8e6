"""What an arm has done, in numbers for diagnostics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """What has happened since the start. held: hold commands given; resyncs: commands moved to measured joints.

    braked: actions towards which the arm made no step, since the tool could not have stopped within its workspace then.
    """

    followed: int = 0
    held: int = 0
    braked: int = 0
    unsolved: int = 0
    malformed: int = 0
    second_line: int = 0
    resyncs: int = 0
