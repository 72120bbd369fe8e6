"""What a stop record keeps of the safety monitor's inputs, and how it tells them."""

from __future__ import annotations

from typing import Any, NamedTuple

from policy_bringup.core.types import ActionChunk
from policy_bringup.episodes.stop_record import Change
from policy_bringup.safety.monitor import Reply
from policy_bringup.safety.reasons import Transition
from policy_bringup.safety.state import Arm, EStop, Fault, Gripped, Measured, Proposal, Reset

LARGEST = 4_096
"""Numbers and characters of one input; of a larger one, which no contract asks for, only its size is kept: writing it
would hold up the ticks."""
LONGEST_TEXT = 500
_SERVICES: dict[type, str] = {Arm: "arm", EStop: "stop", Reset: "reset"}


class _Large(NamedTuple):
    """Instead of an input that is too large to keep."""

    size: int


class _Asked(NamedTuple):
    """A service that was called, and the answer."""

    event: Arm | EStop | Reset
    reply: Reply


def kept(event: object, reply: Reply) -> tuple[str, object, int]:
    """Of an event and its answer: the stream, what to keep, and its size. No copies: this is the tick thread."""
    if isinstance(event, Measured):
        return "joint_states", event, event.joints.size + event.columns.size
    if isinstance(event, Proposal):
        size = _size(event.chunk)
        return f"{event.chunk.source}/action", event if size <= LARGEST else _Large(size), min(size, LARGEST)
    if isinstance(event, Gripped):
        return "arm/state", event, event.columns.size
    if isinstance(event, EStop) and event.who == "box":
        return "safety/estop", event, 1
    if isinstance(event, (Arm, EStop, Reset)):
        return f"safety/{_SERVICES[type(event)]}", _Asked(event, reply), 1
    sentence = event.sentence if isinstance(event, Fault) else type(event).__name__
    return "fault", Fault(sentence[:LONGEST_TEXT]), min(len(sentence), LONGEST_TEXT)


def _size(chunk: ActionChunk) -> int:
    numbers = chunk.values.size + chunk.times_s.size + chunk.uncertainty.size
    return numbers + sum(map(len, chunk.names))


def values_of(item: object) -> dict[str, Any]:
    """What a record's line says of something that was kept."""
    if isinstance(item, Measured):
        times = {"stamp_ns": item.stamp_ns, "received_ns": item.received_ns}
        return {**times, "joints": item.joints, "columns": item.columns, "publishers": item.publishers}
    if isinstance(item, Proposal):
        return {**_chunk(item.chunk), "publishers": item.publishers}
    if isinstance(item, Gripped):
        return {"columns": item.columns}
    if isinstance(item, _Asked):
        flag = item.event.on if isinstance(item.event, Arm) else getattr(item.event, "pressed", True)
        return {"data": flag, "accepted": item.reply.accepted, "sentence": item.reply.sentence[:LONGEST_TEXT]}
    if isinstance(item, EStop):
        return {"pressed": item.pressed}
    if isinstance(item, Transition):
        change = change_of(item)
        return {"who": change.who, "from": change.before, "to": change.after, "rule": change.rule,
                "sentence": change.sentence}  # fmt: skip
    if isinstance(item, Fault):
        return {"sentence": item.sentence}
    return {"too_large": item.size if isinstance(item, _Large) else 0}


def _chunk(chunk: ActionChunk) -> dict[str, Any]:
    times = {"stamp_ns": chunk.stamp_ns, "received_ns": chunk.received_ns}
    tables = {"times_s": chunk.times_s, "values": chunk.values, "uncertainty": chunk.uncertainty}
    return {**times, "names": chunk.names, **tables}


def change_of(transition: Transition) -> Change:
    """A transition in words."""
    reason = transition.reason
    return Change(
        transition.who,
        transition.from_state.name,
        transition.to_state.name,
        reason.rule.name,
        reason.sentence[:LONGEST_TEXT],
        reason.column,
        reason.value,
        reason.limit,
    )
