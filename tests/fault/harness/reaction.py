"""What the stack did about it, as the recording shows."""

from collections.abc import Callable

from harness.bench import Bench
from harness.recording import ACTION, COMMAND, ESTOP, SAFE, Change, Sample, wait
from harness.safe import SETTLE_S, STILL
from harness.standin import HOSTILE, Spoil

Within = Callable[[str, float, float], None]
TICK_MS = 10.0
VIOLATION_MS = TICK_MS + 10.0
"""From a hard violation, or the refusal that was one too many, to a safe output."""
TIMEOUT_MS = 250.0
"""action_timeout_s."""
STARVED_MS = TIMEOUT_MS + 4 * TICK_MS
"""From the last table to the default: the action timeout and four ticks."""
TRIES = 4
STOPPED = ("FALLBACK", "ESTOP", "FAULT")
ESTOP_MS = 50.0
"""From the button to the hold, at worst."""


def stopped(bench: Bench, since_ns: int, timeout_s: float = 8.0) -> Change:
    """The transition with which the monitor stopped the arm; waits for it, and for what was said before it."""

    def found() -> Change | None:
        return next((change for change in bench.recording.changes(since_ns) if change.after in STOPPED), None)

    wait(found, timeout_s, "a stop")
    bench.let(0.05)  # topics arrive each at its own pace
    change = found()
    assert change is not None
    return change


def assert_harmless(bench: Bench, since_ns: int, stopped_ns: int) -> None:
    """From the second before it on every command was safe; soon after the stop the arm stood, and nobody moved it."""
    settled_ns = stopped_ns + int(SETTLE_S * 1e9)
    newest = bench.recording.newest(COMMAND)
    assert newest is not None
    bench.let(max(0.0, (settled_ns - newest.source_ns) / 1e9) + 0.4)
    bench.judge.assert_safe(bench.recording, since_ns - 1_000_000_000)
    bench.judge.assert_stands(bench.recording, settled_ns)
    assert bench.recording.change(stopped_ns + 1, "ACTIVE") is None, "it was armed by nobody, and is"


def hostile(bench: Bench, since_ns: int) -> list[Sample]:
    """Spoiled tables, as they were published."""
    return [sample for sample in bench.recording.samples(ACTION, since_ns) if sample.frame == HOSTILE]


def assert_refused(bench: Bench, within: Within, spoil: Spoil, rules: tuple[str, ...], what: str) -> Change:
    """Spoils tables from now on: the first is refused, and the one that is one too many makes it stop; or, where tables
    come so late, the want of a good one."""
    began_ns = bench.recording.mark(what)()
    bench.policy.spoil(spoil)
    fallen = stopped(bench, began_ns)
    retry = bench.recording.change(began_ns, "RETRY")
    bad = hostile(bench, began_ns)
    assert retry is not None
    assert (fallen.before, fallen.after) == ("RETRY", "FALLBACK")
    assert {retry.rule, fallen.rule} <= set(rules), (retry, fallen)
    within("first bad table to RETRY", (retry.ns - bad[0].source_ns) / 1e6, VIOLATION_MS)
    if fallen.rule == "AGE" and fallen.ns < bad[TRIES - 1].source_ns:
        before = bench.recording.samples(ACTION, began_ns - 10**9, bad[0].source_ns)
        good = [sample for sample in before if sample.frame != HOSTILE][-1]
        assert (fallen.ns - good.source_ns) / 1e6 >= TIMEOUT_MS
    else:
        within("4th bad table to FALLBACK", (fallen.ns - bad[TRIES - 1].source_ns) / 1e6, VIOLATION_MS)
    assert_harmless(bench, began_ns, fallen.ns)
    assert bench.state == "FALLBACK"
    return fallen


def estop_to_hold_ms(bench: Bench, since_ns: int) -> float:
    """From the first pressed button to the hold: the first command after the monitor's answer from which on the tool
    gets slower and slower in the direction in which it was going, until it goes there no more.

    It stands later: joints need up to 0.1 s to stop, past the place at which safety stopped its own output
    (`estop_to_standing_ms`).
    """
    pressed = next(sample for sample in bench.recording.samples(ESTOP, since_ns) if sample.message.data)
    change = bench.recording.change(since_ns, "ESTOP")
    assert change is not None
    answer = bench.recording.samples(SAFE, since_ns, change.ns)[-1]  # published just before the verdict of its tick
    before = bench.recording.samples(COMMAND, pressed.source_ns - 10**9, answer.source_ns)[-1]
    after = bench.recording.samples(COMMAND, answer.source_ns + 1)
    going = bench.judge.tool_velocity(before)
    along = [float(bench.judge.tool_velocity(command) @ going) for command in (before, *after)]
    hold = after[slows_from(along)]
    return (hold.source_ns - pressed.source_ns) / 1e6


def slows_from(along: list[float]) -> int:
    """How many of the commands after the first one, whose speeds in one direction are `along`, are to be left out so
    that from each to the next speed never grows until there is none."""
    assert any(speed <= 0.0 for speed in along), "it never stopped going where it went"
    end = next(i for i, speed in enumerate(along) if speed <= 0.0)
    return max((i for i in range(1, end) if along[i] > along[i - 1]), default=0)


def estop_to_standing_ms(bench: Bench, since_ns: int) -> float:
    """From the first pressed button to the last command that asks for motion."""
    pressed = next(sample for sample in bench.recording.samples(ESTOP, since_ns) if sample.message.data)
    moving = [s for s in bench.recording.samples(COMMAND, pressed.source_ns) if fastest(s) >= STILL]
    return (moving[-1].source_ns - pressed.source_ns) / 1e6 if moving else 0.0


def fastest(command: Sample) -> float:
    """Rad/s of a joint, anywhere in a command."""
    return max(abs(speed) for point in command.message.points for speed in point.velocities[:7])
