"""The story of a stop, as an operator would tell it: when, what the robot was doing, what happened, what safety did,
how it ended, and where to look next."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence

from policy_bringup.episodes.stop_evidence import ACCEPTED, SILENT
from policy_bringup.episodes.stops import Answer, Ending, Episode, Scene, Stop

RULES: Mapping[str, tuple[str, str]] = {
    "SOURCE": (
        "an action did not come from the one publisher that its topic may have",
        "who publishes there (`ros2 topic info -v policy/action`); end the one that should not",
    ),
    "TABLE": (
        "an action had other columns, steps or times than the contract",
        "whether the bundle was made for this deployment: its policy.yaml against the contract in config/",
    ),
    "FINITE": (
        "an action held a number that is not finite",
        "what went into the policy just before, pictures and joint states; if that is sound, the policy itself",
    ),
    "SEQUENCE": (
        "an action was not newer than the one before it",
        "a clock that was set back, or a bag that is being played into the topic",
    ),
    "AGE": (
        "the actions came too late, or not at all",
        "whether the source is alive and fast enough (its entry on /diagnostics), and what else keeps the machine busy",
    ),
    "STATE": (
        "the joint state was missing, too old, frozen or invalid",
        "the robot's driver and its cable (`ros2 topic hz joint_states`)",
    ),
    "UNCERTAINTY": (
        "the policy was too unsure of what to do",
        "the pictures just before: light, a covered or moved camera, an object it has not seen; if they are good and "
        "this happens often, `policy calibrate`",
    ),
    "BOUNDS": (
        "an action led out of the workspace, or beyond the gripper's range",
        "where the object lay; the bounds stand under `limits` in the deployment's file",
    ),
    "ABRUPTNESS": (
        "an action was too abrupt: a step, a speed or an acceleration beyond its limit",
        "whether two plans in a row disagree, or pictures come late and the policy jumps to catch up",
    ),
    "BREACH": (
        "a joint was measured beyond its limit",
        "what pushed or led it there; bring it back by hand before arming again",
    ),
    "FOLLOWING": (
        "the arm was not where it had been asked to be, for some time already",
        "what the arm node says (its entry on /diagnostics): a pose out of reach, a hold after an alarm; then the "
        "robot's controller, and whether something was in the way",
    ),
    "LATE_TICK": (
        "safety itself came too late: the machine had held it up",
        "what else runs on this machine, and whether this user may raise priorities (`ulimit -e`)",
    ),
    "ESTOP": (
        "the emergency stop was pressed, or its heartbeat was lost",
        "who pressed it and why; release it, then reset. If nobody did: the device and its cable",
    ),
    "OPERATOR": ("the operator asked for it", "nothing: it was asked for"),
    "RESUME": ("the source was good again", "nothing: it went on"),
    "FAULT": (
        "a part of safety itself failed",
        "the log of the safety node, which has to be started anew; please report what it says",
    ),
    "SILENCE": (
        "safety fell silent, and the arm holds by its own watchdog",
        "the log of the safety node: it was killed, or the machine stood still",
    ),
    "": ("why is not in this recording", "the log of the safety node at that time"),
}
"""Rule of the safety monitor -> what happened in plain words, and where to look next."""
DEFAULTS = {
    "hold": "hold the arm where it was",
    "stop": "brake, then stand",
    "open_gripper": "stop, then open the gripper",
}
STANDS_M_S, STANDS_RAD_S = 0.005, 0.02
"""Slower than that counts as standing."""
OPENED_M = 0.002
AT_ONCE_S = 0.015
"""Two ticks, since the command before the stop counts."""
WIDTH = 110
_EPOCH_NS = 10**18
"""ROS times before (2001) are a simulator's, not a time of day."""


def headline(episode: Episode) -> str:
    """One paragraph on a whole episode: how many stops, and how the verdicts were."""
    total = sum(episode.verdicts.values())
    counts = ", ".join(f"{count} {rule}" for rule, count in _by_count(episode.verdicts))
    stops = {0: "no stops", 1: "1 stop"}.get(len(episode.stops), f"{len(episode.stops)} stops")
    began = f"; it began in {episode.began}" if episode.began else ""
    return _filled(
        f"{episode.name}: {stops} in {episode.duration_s:.1f} s{began}; {total} verdicts: {counts or 'none'}"
    )


def story(stop: Stop, title: str) -> str:
    """Several lines on one stop, under its title."""
    change = stop.change
    when = "" if stop.at_s is None else f", {stop.at_s:.2f} s into the recording"
    words, hint = RULES.get(change.rule, (f"rule {change.rule}", RULES[""][1]))
    parts = [
        ("before", _before(stop.scene, change.before)),
        ("what", f'{_capital(words)}: "{" ".join(change.sentence.split())}"{_numbers(stop)}.'),
        ("safety", _deeds(stop)),
        ("rest", _rest(stop)),
        ("end", _end(stop.ending)),
        ("look at", f"{_capital(hint)}."),
    ]
    heading = f"{title}{when}, {moment(stop.stamp_ns)}: {change.before or 'unknown'} -> {change.after}"
    return "\n".join([heading, *(_part(name, text) for name, text in parts if text)])


def totals(episodes: Sequence[Episode]) -> str:
    """One paragraph on several episodes."""
    rules: dict[str, int] = {}
    for stop in (stop for episode in episodes for stop in episode.stops):
        rules[stop.change.rule or "unknown"] = rules.get(stop.change.rule or "unknown", 0) + 1
    stopped = sum(bool(episode.stops) for episode in episodes)
    counts = ", ".join(f"{count} {rule}" for rule, count in _by_count(rules))
    sentence = f"{stopped} of {len(episodes)} episodes were stopped"
    return _filled(f"{sentence}: {counts}" if counts else sentence)


def moment(stamp_ns: int) -> str:
    """ROS time as this machine's date and time of day, or in seconds where it is a simulator's."""
    seconds, rest = divmod(stamp_ns, 1_000_000_000)
    if stamp_ns < _EPOCH_NS:
        return f"at ROS time {stamp_ns / 1e9:.3f} s"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03d}"


def _before(scene: Scene, state: str) -> str:
    since = "" if scene.driven_s is None else f" for {scene.driven_s:.1f} s"
    who = (
        f"{scene.driver} had driven the arm{since}" if scene.driver else f"nobody drove the arm ({state or 'no state'})"
    )
    return f"{_capital(who)}; {_motion(scene)}."


def _motion(scene: Scene) -> str:
    tool, joint = scene.tool_m_s, scene.joint_rad_s
    if tool is None and joint is None:
        return "how it moved is not known"
    if (tool is None or tool < STANDS_M_S) and (joint is None or joint < STANDS_RAD_S):
        return "it stood still"
    how = "moved" if scene.tool_measured else "was told to move"
    told = [] if tool is None else [f"the tool {how} at {tool:.3f} m/s"]
    turned = [] if joint is None else [f"{scene.joint} was the fastest joint, at {joint:.2f} rad/s"]
    return ", ".join(told + turned)


def _numbers(stop: Stop) -> str:
    change = stop.change
    if not change.column or change.value is None or change.limit is None:
        return f" (rule {change.rule})" if change.rule not in ("", "SILENCE") else ""
    return f" (rule {change.rule}: {change.column} {change.value:.4g} against {change.limit:.4g})"


def _deeds(stop: Stop) -> str:
    if stop.change.after == SILENT:
        return ""
    deeds = []
    refused = [(rule, count) for rule, count in _by_count(stop.judged) if rule != ACCEPTED]
    if refused:
        counts, total = ", ".join(f"{count} {rule}" for rule, count in refused), sum(stop.judged.values())
        deeds.append(f"Of {total} verdicts in the 2 s before, {sum(c for _, c in refused)} were refusals ({counts}).")
    times = {1: "once", 2: "twice"}.get(stop.tries, f"{stop.tries} times")
    repeated = (
        f"It repeated the last safe action {times} (RETRY), then went to" if stop.tries else "It went straight to"
    )
    known = f", by configuration: {DEFAULTS.get(stop.fallback, stop.fallback)}" if stop.fallback else ""
    default = f"the safe default{known}" if stop.change.after == "FALLBACK" else stop.change.after
    deeds.append(f"{repeated} {default}.{_answered(stop.answer)}")
    return " ".join(deeds)


def _answered(answer: Answer | None) -> str:
    if answer is None:
        return ""
    further = "" if answer.tool_m is None else f", the tool {1000 * answer.tool_m:.0f} mm from where it had been"
    stands = "" if answer.stand_s is None else f" The command stood still after {answer.stand_s:.2f} s{further}."
    if answer.stand_s is not None and answer.stand_s <= AT_ONCE_S:
        stands = " The command stood still at once."
    opened = answer.opened_m is not None and answer.opened_m > OPENED_M
    return stands + (f" The gripper opened by {1000 * (answer.opened_m or 0.0):.0f} mm." if opened else "")


def _rest(stop: Stop) -> str:
    if stop.ending is None:  # a stop record
        return ""
    if stop.rest_s is None:
        return "The joint states do not show the arm at rest before the stop ended."
    return f"The arm was at rest {stop.rest_s:.2f} s after the stop." if stop.rest_s else "The arm was at rest already."


def _end(ending: Ending | None) -> str:
    if ending is None:
        return "Not in this record, which ends with the stop."
    if not ending.to:
        return f"The recording ended {ending.after_s:.1f} s later, without a change."
    who = f" by the {ending.who}" if ending.who in ("operator", "monitor") else ""
    return f'After {ending.after_s:.2f} s it went to {ending.to}{who}: "{ending.sentence}".'


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _part(name: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"  {name:<9}", subsequent_indent=" " * 11, break_on_hyphens=False)


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
