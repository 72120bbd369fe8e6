"""Why an episode failed, in five classes, decided by rules that a reader can check against one line of the report."""

from __future__ import annotations

from collections.abc import Mapping

from policy_bringup.pipeline.attempt import Attempt

WRONG_APPROACH_M = 0.02
"""Closing further than this beside the object is a wrong approach point: the gripper opens 8 cm for a 4 cm cube."""
LIFTED_M = 0.01

CLASSES: Mapping[str, str] = {
    "perception": f"closed more than {WRONG_APPROACH_M * 1e3:.0f} mm beside the object",
    "motor": "limits or inverse kinematics refused an action, or the arm did not follow",
    "grasp": "closed at the object and lost it, or did not lift it",
    "monitor": "stopped, or never let move, because the policy was unsure or silent",
    "timeout": "never closed, or still busy at the end",
}
"""Class -> what it means."""
_MOTION = ("BOUNDS", "ABRUPTNESS", "BREACH", "FOLLOWING")


def alarmed(attempt: Attempt) -> bool:
    """Safety stopped the robot, or did not let it start, for the policy's doubt, its silence, or nonsense from it.

    Not for where or how fast it wanted to go, nor for an arm that did not follow it there.
    """
    if attempt.stop is None:
        return attempt.time_s == 0.0 and not _jumped(attempt)
    return attempt.stop.rule not in _MOTION and not (attempt.stop.rule == "AGE" and _jumped(attempt))


def failure_class(attempt: Attempt) -> str:
    """One of CLASSES; "" for a success. What stopped the robot counts before what it had done until then."""
    if attempt.success:
        return ""
    if alarmed(attempt):
        return "monitor"
    if attempt.stop is not None or attempt.time_s == 0.0 or attempt.arm_refusals:
        return "motor"
    if attempt.closed_m is None:
        return "timeout"
    if attempt.closed_m > WRONG_APPROACH_M:
        return "perception"
    still_held = attempt.peak_m >= LIFTED_M and attempt.outcome != "dropped"
    return "timeout" if still_held else "grasp"


def failure_sentence(attempt: Attempt) -> str:
    """What is known about it, for the person who reads the report; "" for a success."""
    kind = failure_class(attempt)
    if kind == "monitor":
        said = attempt.stop.sentence if attempt.stop is not None else "safety did not let it start"
        return f"{said} ({attempt.unanswered_reason})" if attempt.unanswered_reason else said
    if kind == "motor":
        return attempt.stop.sentence if attempt.stop is not None else attempt.arm_reason or "its first chunk would jump"
    if kind == "grasp" and attempt.peak_m >= LIFTED_M:
        return f"slip: lifted {attempt.peak_m * 1e3:.0f} mm, then lost"
    if attempt.closed_m is not None and kind:
        where = f"closed {attempt.closed_m * 1e3:.0f} mm beside the object"
        return f"{where}; the object: {attempt.outcome}"
    return f"never closed; the object: {attempt.outcome}" if kind else ""


def _jumped(attempt: Attempt) -> bool:
    return attempt.jumps > 0 and attempt.unanswered == 0
