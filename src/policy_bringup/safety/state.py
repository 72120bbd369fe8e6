"""What goes in, what is remembered, and how the reference moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from policy_bringup.core.types import ActionChunk, Array
from policy_bringup.safety.limits import Limits
from policy_bringup.safety.reasons import Reason, Rule, State, Transition

_NONE: Array = np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A chunk as it arrived; publishers: how many there are on its topic, 0 for a lone one that is not trusted."""

    chunk: ActionChunk
    publishers: int


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A joint state `(n,)` rad, and the same as action columns `(m,)`: any finite number where there is no sensor;
    publishers: as of a proposal."""

    stamp_ns: int
    received_ns: int
    joints: Array
    columns: Array
    publishers: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Gripped:
    """What its button has told a gripper that follows no safe action: action columns `(m,)`, of which only those that
    hold their command count."""

    columns: Array


@dataclass(frozen=True, slots=True)
class Arm:
    """The operator lets the arm move, or not."""

    on: bool


@dataclass(frozen=True, slots=True)
class EStop:
    """An emergency stop, pressed or released by "box" (the device, whose every message is its heartbeat) or "operator"
    (a button on a page). It is pressed while anybody presses it: releasing one does not release the other."""

    pressed: bool
    who: str = "box"


@dataclass(frozen=True, slots=True)
class Reset:
    """The operator lifts the latch of ESTOP."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The node cannot go on: an exception, a failed self-test, a changed configuration hash."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Reload:
    """New limits for the same contract, robot, sources and ticks."""

    limits: Limits


class Source(NamedTuple):
    """Of one source: the newest chunk, if not judged yet, and the last accepted one, cut at its first bad step.

    `values` `(k, m)` at origin_ns + `times_s` `(k,)`, good until expires_ns: monotonic times fixed at acceptance, so
    that no later jump of a clock matters. calm: good enough to resume by itself.
    """

    pending: Proposal | None = None
    stamp_ns: int = -1
    origin_ns: int = 0
    expires_ns: int = -1
    times_s: Array = _NONE
    values: Array = _NONE
    calm: bool = False


class Reference(NamedTuple):
    """What was last emitted: `value` `(m,)`, its rate of change, and the emissions of the last window `(w, m)`."""

    value: Array
    velocity: Array
    recent: Array

    def moved(self, value: Array, dt_s: float) -> Reference:
        """One emission later."""
        value.setflags(write=False)
        return Reference(value, (value - self.value) / dt_s, np.concatenate((self.recent[1:], value[None])))

    def gripping(self, limits: Limits, command: Array) -> Reference:
        """As if the columns that hold their command had long stood at `command` `(m,)`."""
        held = limits.holds_command
        value, velocity = np.where(held, command, self.value), np.where(held, 0.0, self.velocity)
        return Reference(value, velocity, np.where(held, command, self.recent))

    def braked(self, limits: Limits, dt_s: float, goal: Array | float = 0.0) -> Reference:
        """One tick of slowing down within max_acceleration, then standing; a velocity column goes towards `goal`."""
        speed, ramp = np.maximum(np.abs(self.velocity) - limits.max_acceleration * dt_s, 0.0), limits.creep * dt_s
        step = np.where(limits.is_rate, np.clip(goal - self.value, -ramp, ramp), np.sign(self.velocity) * speed * dt_s)
        return self.moved(np.clip(self.value + step, limits.lower, limits.upper), dt_s)

    def opened(self, limits: Limits, dt_s: float) -> Reference:
        """Braked, with the gripper creeping to its upper bound."""
        i, value = limits.spec.names.index(str(limits.config.gripper_column)), self.braked(limits, dt_s).value.copy()
        value[i] = min(self.value[i] + limits.creep[i] * dt_s, limits.upper[i])
        return self.moved(value, dt_s)


class Memory(NamedTuple):
    """All that is remembered. Replaced whole.

    silent: nothing may be emitted. now_ns: of the last call. sources: by name, highest priority first.
    judgement: of the newest proposal. lag_ns: how far behind its own time a plan is followed, after late ticks.
    repeat: what RETRY repeats. soft: the fallback came from rejections alone. hazard: hard cause on the last tick.
    echo: the command when the joint state last changed; echo_ns: when they last agreed. astray: how the newest joint
    state contradicts what was emitted; near_ns: when the last one agreed. still_*: where the joints have been since.
    """

    limits: Limits
    sources: dict[str, Source]
    selected: str
    reference: Reference
    state: State = State.INIT
    silent: bool = True
    entered_ns: int = 0
    records: tuple[Transition, ...] = ()
    now_ns: int = 0
    ticked_ns: int = 0
    stamp_now_ns: int = 0
    dt_s: float = 0.0
    lag_ns: int = 0
    judgement: Reason | None = None
    tries: int = 0
    budget: float = 0.0
    repeat: Array = _NONE
    soft: bool = False
    resume_count: int = 0
    resume_ns: int = 0
    hazard: Reason | None = None
    measured: Measured | Reason = Reason(Rule.STATE, "no joint state has arrived yet")
    echo: Array | None = None
    echo_ns: int = 0
    astray: Reason | None = None
    near_ns: int = 0
    still_joints: Array = np.array(np.inf)  # nowhere
    still_ns: int = 0
    estop_pressed: frozenset[str] = frozenset()
    estop_ns: int | None = None

    @property
    def source(self) -> Source:
        """The selected one."""
        return self.sources[self.selected]

    @property
    def plan_ns(self) -> int:
        """The moment up to which a plan has been followed: behind `now_ns` for a while after a late tick."""
        return self.now_ns - self.lag_ns

    @property
    def where(self) -> Array | None:
        """The measured action columns `(m,)`, None if they cannot be trusted."""
        trusted = self.hazard is None or self.hazard.rule is not Rule.STATE
        return self.measured.columns if isinstance(self.measured, Measured) and trusted else None

    def alike(self, one: Array, other: Array) -> bool:
        """Whether two poses `(m,)` are the same within tolerance. Columns that hold their command do not count."""
        return bool(((np.abs(one - other) <= self.limits.tolerance) | self.limits.holds_command).all())

    def rebased(self) -> Reference:
        """The reference put onto the robot, at the velocity it had. Columns that hold their command keep it."""
        limits, old = self.limits, self.reference
        if self.where is None:
            return old
        keeps = (limits.holds_command | limits.is_rate) & (not self.silent)
        value = np.where(keeps, old.value, np.clip(self.where, limits.lower, limits.upper))
        return Reference(value, old.velocity, np.tile(value, (limits.window, 1)))


def start(limits: Limits) -> Memory:
    """Before anything has arrived; the reference is not emitted: READY begins at the measured pose."""
    somewhere = np.clip(0.0, limits.lower, limits.upper)
    nowhere = Reference(somewhere, np.zeros_like(somewhere), somewhere[None])
    sources = dict.fromkeys(limits.config.sources, Source())
    return Memory(limits, sources, limits.config.sources[0], nowhere)
