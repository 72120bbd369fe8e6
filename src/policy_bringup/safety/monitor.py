"""The monitor: `step` takes what arrived, `tick` alone puts out.

What holds for the output from tick to tick (I3), with dt clamped to half to two periods: it steps by at most max_step,
moves at max_velocity at most, and changes its velocity by at most max_acceleration * max(dt, period), in every state
and across every transition. One exception: a re-base to the measured pose (READY, arming, `hold`, recovery) puts the
reference onto the robot, which does not move the robot; its velocity is kept, then braked. So is what holds its command
put onto the gripper's (READY, FALLBACK), at rest. For a velocity column only the first two hold, of its own value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from policy_bringup.core.types import ActionChunk, Array
from policy_bringup.safety import checks, state
from policy_bringup.safety.limits import CATCH_UP, REPEAT_S, Limits
from policy_bringup.safety.reasons import Reason, Rule, State, Transition
from policy_bringup.safety.state import Arm, EStop, Fault, Gripped, Measured, Proposal, Reference, Reload, Reset, Source


@dataclass(frozen=True, slots=True)
class Reply:
    """Whether an event was accepted, and the sentence for who sent it."""

    accepted: bool
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """One tick. output: `(m,)` by action column, None when silent; stamp_ns, selected: of the action it came from (0,
    "": of none); reason: what is wrong with the newest proposal (None: accepted); transitions: since the last tick."""

    state: State
    output: Array | None
    stamp_ns: int
    selected: str
    reason: Reason | None
    transitions: tuple[Transition, ...]
    tries: int


class SafetyMonitor:
    """The gate. For one thread; monotonic time never runs backwards."""

    def __init__(self, limits: Limits) -> None:
        self._m = state.start(limits)

    @property
    def state(self) -> State:
        """As it is now."""
        return self._m.state

    @property
    def offered(self) -> str:
        """The source that arming would put in charge: the first with an acceptable action in time; "" for none."""
        return next((name for name, source in self._m.sources.items() if self._m.now_ns <= source.expires_ns), "")

    def step(self, event: object, now_ns: int) -> Reply:
        """Takes in one event of state.py; a refused one changes nothing. Never raises: an error inside is a FAULT."""
        self._set(now_ns=now_ns)
        try:
            handle = self._handlers.get(type(event))
            refusal = handle(self, event) if handle else "unknown event"
        except Exception as error:
            refusal = self._fault(f"error in the monitor: {type(error).__name__}")
        return Reply(not refusal, refusal or "accepted")

    def tick(self, now_ns: int, stamp_now_ns: int) -> Verdict:
        """Puts out one command, at monotonic `now_ns` and ROS time `stamp_now_ns`. An error is a silent FAULT."""
        try:
            self._tick(now_ns, stamp_now_ns)
        except Exception as error:
            self._fault(f"error in the monitor: {type(error).__name__}")
            self._set(silent=True)
        m, self._m = self._m, self._m._replace(records=())
        stamp_ns, selected = (m.source.stamp_ns, m.selected) if m.state in (State.ACTIVE, State.RETRY) else (0, "")
        output = None if m.silent else m.reference.value
        return Verdict(m.state, output, stamp_ns, selected, m.judgement, m.records, m.tries)

    def _set(self, **changes: Any) -> None:
        self._m = self._m._replace(**changes)

    def _enter(self, to: State, who: str, reason: Reason, **changes: Any) -> None:
        """The one way from state to state: makes the record, which starts where the last one ended."""
        m = self._m
        record = Transition(who, m.state, to, reason, m.now_ns, max(0, m.source.stamp_ns))
        self._set(state=to, entered_ns=m.now_ns, records=(*m.records, record), **changes)

    def _tick(self, now_ns: int, stamp_now_ns: int) -> None:
        m, gap_s, period_s = self._m, (now_ns - self._m.ticked_ns) / 1e9, self._m.limits.period_s
        dt_s = min(max(gap_s, period_s / 2), 2 * period_s)
        lag_ns = self._lag(gap_s - 2 * period_s, dt_s) if State.READY < m.state < State.FALLBACK else 0
        echo = m.reference.value if m.echo is None else m.echo
        echo_ns = now_ns if m.alike(m.reference.value, echo) else m.echo_ns
        self._set(now_ns=now_ns, ticked_ns=now_ns, stamp_now_ns=stamp_now_ns, dt_s=dt_s, lag_ns=lag_ns)
        self._set(echo=echo, echo_ns=echo_ns)
        self._set(hazard=checks.hazard(self._m, gap_s))
        moved = None
        if m.state is State.INIT:
            if self._m.hazard is None and self._beating():
                self._ready("monitor", Reason(Rule.STATE, "the joint state is fresh"))
        elif m.state < State.ESTOP and not self._beating():
            self._enter(State.ESTOP, "monitor", Reason(Rule.ESTOP, "the heartbeat of the e-stop is lost"))
        elif m.state in (State.READY, State.FALLBACK):
            self._listen()
        elif m.state in (State.ACTIVE, State.RETRY):
            moved = self._run()
        self._set(reference=moved or self._stood())

    def _lag(self, late_s: float, dt_s: float) -> int:
        """Of the plan, ns. A late tick goes on at the plan's own pace, not at once to where the plan is by now: that
        would be faster than allowed. What is missing is caught up little by little."""
        lag_s = max(0.0, self._m.lag_ns / 1e9 - CATCH_UP * dt_s) + max(0.0, late_s)
        return round(min(lag_s, self._m.limits.config.late_tick_s) * 1e9)

    def _stood(self) -> Reference:
        """Where nothing is followed: brake, then stand. RETRY repeats a velocity at 1, 1/2, 1/4; a default may open."""
        m, config, spent_s = self._m, self._m.limits.config, (self._m.now_ns - self._m.entered_ns) / 1e9
        opens = {State.FALLBACK: config.fallback == "open_gripper", State.ESTOP: config.open_on_estop}
        if opens.get(m.state) and (spent_s >= config.gripper_open_after_s or self._still()):
            return m.reference.opened(m.limits, m.dt_s)
        repeats = m.state is State.RETRY and spent_s <= REPEAT_S
        stood = m.reference.braked(m.limits, m.dt_s, m.repeat * 0.5 ** (m.tries - 1) if repeats else 0.0)
        if m.state is State.FAULT and not stood.velocity.any():
            self._set(silent=True)
        return stood

    def _beating(self) -> bool:
        limit_s, heard_ns = self._m.limits.config.estop_heartbeat_s, self._m.estop_ns
        return limit_s is None or (heard_ns is not None and self._m.now_ns - heard_ns <= limit_s * 1e9)

    def _still(self) -> bool:
        m = self._m
        return m.where is not None and m.now_ns - m.still_ns >= m.limits.config.still_time_s * 1e9

    def _judge(self, name: str) -> Reference | Reason | None:
        """Judges what is new from one source, if anything is: where it leads, or why it is refused."""
        m, source = self._m, self._m.sources[name]
        if source.pending is None:
            return None
        outcome = checks.judge(m, source.pending, source)
        if isinstance(outcome, Reason):
            rivalled = outcome.rule is Rule.SOURCE  # whose plan it is, nobody knows: it cannot be armed for
            left = Source(stamp_ns=source.stamp_ns) if rivalled else source._replace(pending=None)
            self._set(sources={**m.sources, name: left}, judgement=outcome)
            return outcome
        plan, moved = outcome
        self._set(sources={**m.sources, name: plan}, judgement=None)
        return moved

    def _listen(self) -> None:
        """READY, FALLBACK: all sources are judged, so that arming knows which could take over; none is followed.

        The highest comes last: its judgement is the one that shows.
        """
        outcome = {name: self._judge(name) for name in reversed(self._m.sources)}[self._m.selected]
        m, config = self._m, self._m.limits.config
        good = outcome is None or (isinstance(outcome, Reference) and m.source.calm)
        lasts = good and m.hazard is None and m.now_ns <= m.source.expires_ns
        count = m.resume_count + (outcome is not None) if lasts else 0
        since_ns = m.resume_ns if m.resume_count > 0 else m.now_ns
        soft = m.soft and m.hazard is None
        self._set(resume_count=count, resume_ns=since_ns, soft=soft)
        long = count >= config.resume_proposals and m.now_ns - since_ns >= config.resume_time_s * 1e9
        if m.state is State.FALLBACK and config.auto_resume and soft and long:
            self._activate(m.selected, "monitor", Reason(Rule.RESUME, "the source has been good for long enough"))

    def _run(self) -> Reference | None:
        """ACTIVE, RETRY: what the selected source or a higher one newly proposes passes, and is selected."""
        if self._m.hazard is not None:
            self._fall(self._m.hazard)
            return None
        names, outcome = tuple(self._m.sources), None  # highest priority first
        for name in names[: names.index(self._m.selected) + 1]:
            outcome = self._judge(name)
            if isinstance(outcome, Reference):
                return self._pass(name, outcome)
        m = self._m
        if outcome is None and m.now_ns > m.source.expires_ns:
            outcome = Reason(Rule.AGE, f"{m.selected} has fallen silent: its last action is too old")
        if outcome is None and m.state is State.ACTIVE:
            outcome = checks.follow(m, m.source, m.reference)
        if isinstance(outcome, Reason):
            self._reject(outcome)
            return None
        return outcome

    def _pass(self, name: str, moved: Reference) -> Reference:
        m, config = self._m, self._m.limits.config
        refill = config.max_retries if config.retry_refill is None else config.retry_refill
        self._set(selected=name, tries=0, budget=min(m.budget + refill, config.max_retries))
        if m.state is State.RETRY:
            self._enter(State.ACTIVE, name, Reason(Rule.RESUME, "an action was accepted again"))
        return moved

    def _reject(self, reason: Reason) -> None:
        """Spends one try and one unit of the budget, or falls back."""
        m, config = self._m, self._m.limits.config
        self._set(judgement=reason)
        if reason.rule is Rule.SOURCE or m.tries >= config.max_retries or m.budget < 1.0:
            self._fall(reason)
            return
        self._set(tries=m.tries + 1, budget=m.budget - 1.0)
        if m.state is State.ACTIVE:
            self._enter(State.RETRY, m.selected, reason, repeat=m.reference.value)

    def _fall(self, reason: Reason) -> None:
        m, there = self._m, self._m.rebased()
        soft = m.hazard is None and reason.rule is not Rule.SOURCE
        if m.limits.config.fallback == "hold" and not m.alike(m.reference.value, there.value):
            self._set(reference=there, echo=None)
        self._enter(State.FALLBACK, m.selected, reason, soft=soft, resume_count=0)

    def _ready(self, who: str, reason: Reason) -> None:
        self._enter(State.READY, who, reason, reference=self._m.rebased(), echo=None, silent=False)

    def _activate(self, name: str, who: str, reason: Reason) -> None:
        """What came before arming shows that the source is good, and is not followed: motion starts with the next."""
        m, source = self._m, self._m.sources[name]
        sources = {**m.sources, name: source._replace(times_s=source.times_s[:0], values=source.values[:0])}
        self._set(sources=sources, selected=name, tries=0, budget=m.limits.config.max_retries)
        self._enter(State.ACTIVE, who, reason, reference=m.rebased(), echo=None, near_ns=m.now_ns)

    def _fault(self, sentence: str) -> str:
        if self._m.state is not State.FAULT:
            self._enter(State.FAULT, "monitor", Reason(Rule.FAULT, sentence))
        return sentence

    def _on_proposal(self, event: Proposal) -> str:
        chunk, sources = event.chunk, self._m.sources
        if not (type(chunk) is ActionChunk and type(chunk.source) is str and chunk.source in sources):
            return "the source of the action is unknown"
        self._set(sources={**sources, chunk.source: sources[chunk.source]._replace(pending=event)})
        return ""

    def _on_measured(self, event: Measured) -> str:
        m, wrong = self._m, checks.payload(event, self._m.limits)
        if wrong is not None:
            self._set(measured=wrong)
            return wrong.sentence
        old, joints = m.measured, event.joints
        same = isinstance(old, Measured) and (old.joints == joints).all() and (old.columns == event.columns).all()
        astray = checks.astray(m.reference, event.columns, m.limits)
        self._set(measured=event, echo=m.echo if same else None, astray=astray)
        if astray is None:
            self._set(near_ns=m.now_ns)
        if not (np.abs(joints - m.still_joints) <= m.limits.config.still_tolerance_rad).all():
            self._set(still_joints=joints, still_ns=m.now_ns)
        return ""

    def _on_gripped(self, event: Gripped) -> str:
        m = self._m
        if m.state not in (State.READY, State.FALLBACK):
            return f"the gripper's button does not count in {m.state.name}"
        there = checks.gripped(m.reference, event.columns, m.limits)
        if isinstance(there, Reason):
            return there.sentence
        self._set(reference=there)
        return ""

    def _on_arm(self, event: Arm) -> str:
        m = self._m
        if event.on is False:
            if State.READY < m.state < State.ESTOP:
                self._ready("operator", Reason(Rule.OPERATOR, "disarmed"))
            return ""
        if event.on is not True or m.state not in (State.READY, State.FALLBACK) or m.hazard is not None:
            return m.hazard.sentence if m.hazard is not None else f"cannot arm in {m.state.name}"
        if self.offered:
            self._activate(self.offered, "operator", Reason(Rule.OPERATOR, f"armed for {self.offered}"))
            return ""
        newest = f": {m.judgement.sentence}" if m.judgement is not None else ""
        return f"no source has proposed an acceptable action in time{newest}"

    def _on_estop(self, event: EStop) -> str:
        m, who = self._m, frozenset((event.who,))
        pressed = m.estop_pressed - who if event.pressed is False else m.estop_pressed | who
        self._set(estop_pressed=pressed, estop_ns=m.now_ns if event.who == "box" else m.estop_ns)
        if self._m.estop_pressed and self._m.state < State.ESTOP:
            self._enter(State.ESTOP, "operator", Reason(Rule.ESTOP, "the e-stop is pressed"))
        return ""

    def _on_reset(self, event: Reset) -> str:
        if self._m.state is not State.ESTOP:
            return f"there is nothing to reset in {self._m.state.name}"
        if self._m.estop_pressed or not self._beating():
            return "the e-stop is pressed, or its heartbeat is lost"
        if not self._still():
            return "the joint state is not fresh, or the arm has not been still for long enough"
        self._ready("operator", Reason(Rule.OPERATOR, "reset"))
        return ""

    def _on_fault(self, event: Fault) -> str:
        self._fault(event.sentence)
        return ""

    def _on_reload(self, event: Reload) -> str:
        m, new = self._m, event.limits
        if type(new) is not Limits or m.state is State.FAULT or not m.limits.fits(new):
            return "the limits are for another contract, robot, sources or tick rate"
        inside = (new.lower <= m.reference.value) & (m.reference.value <= new.upper)
        if m.state > State.READY and (m.limits.widens(new) or not inside.all()):
            return self._fault("new limits are wider, or exclude where the arm is, and the state is not READY")
        self._set(limits=new)
        if not inside.all():  # INIT or READY
            self._set(reference=self._m.rebased(), echo=None)
        return ""

    _handlers: ClassVar[dict[type, Any]] = {
        Proposal: _on_proposal, Measured: _on_measured, Gripped: _on_gripped, Arm: _on_arm, EStop: _on_estop,
        Reset: _on_reset, Fault: _on_fault, Reload: _on_reload}  # fmt: skip
