"""What the page says, as HTML. Everything that came over a topic is escaped: a column may be named by anybody."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape

COLOURS = {
    "INIT": "#546e7a",
    "READY": "#1565c0",
    "ACTIVE": "#2e7d32",
    "RETRY": "#b26a00",
    "FALLBACK": "#d84315",
    "ESTOP": "#b71c1c",
    "FAULT": "#6a1b9a",
}
UNKNOWN_COLOUR = "#37474f"
MEANINGS = {
    "INIT": "waiting for the robot",
    "READY": "holds; may be armed",
    "ACTIVE": "passes actions to the arm",
    "RETRY": "repeats the last safe action",
    "FALLBACK": "stopped; arm again to go on",
    "ESTOP": "stopped; reset to go on",
    "FAULT": "ended; restart the safety node",
}
LEVELS = {"ok": "#2e7d32", "warn": "#b26a00", "error": "#b71c1c"}
STOPS = ("FALLBACK", "ESTOP", "FAULT")
ACCEPTED = "accepted"
_CELL = "padding:2px 8px 2px 0;vertical-align:top;text-align:left"


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of safety's state. stamp_ns: ROS time at which it was heard."""

    stamp_ns: int
    sentence: str
    who: str
    before: str
    after: str
    rule: str


@dataclass(frozen=True, slots=True)
class Health:
    """What one node last said on /diagnostics. level: "ok", "warn" or "error"; received_ns: monotonic."""

    name: str
    level: str
    sentence: str
    received_ns: int
    values: Mapping[str, str] = field(default_factory=dict)


def banner(state: str, sentence: str, source: str, silent_s: float | None) -> str:
    """The state, large and coloured. silent_s: since when nothing was heard; None when it is up to date."""
    meaning = MEANINGS.get(state, "")
    if silent_s is not None:
        heard = f"last heard: {state}, {silent_s:.0f} s ago" if state else "nothing heard yet"
        state, meaning, sentence = "SILENT", f"no word from safety ({heard})", ""
    source = f" &middot; source: {escape(source)}" if source and silent_s is None else ""
    return (
        f'<div style="background:{COLOURS.get(state, UNKNOWN_COLOUR)};color:#fff;padding:12px 16px;border-radius:6px;'
        'margin:0 8px 8px">'
        f'<div style="font-size:38px;font-weight:700;line-height:1.1">{escape(state)}</div>'
        f'<div style="font-size:14px;opacity:.9">{escape(meaning)}{source}</div>'
        f'<div style="font-size:15px;margin-top:6px">{escape(sentence)}</div></div>'
    )


def warnings(sentences: Iterable[str]) -> str:
    """Streams that have fallen silent, one a line."""
    lines = "".join(f"<div>{escape(sentence)}</div>" for sentence in sentences)
    return f'<div style="color:{LEVELS["error"]};font-weight:600;padding:0 10px">{lines}</div>'


def last_stop(transition: Transition | None) -> str:
    """Why it stopped last; it stays when the state goes on to READY."""
    if transition is None:
        return _quiet("It has not stopped since this page started.")
    colour = COLOURS.get(transition.after, UNKNOWN_COLOUR)
    return (
        f'<div style="border-left:5px solid {colour};padding:2px 10px;margin:8px">'
        f'<div style="font-size:12px;opacity:.75">Why it stopped last &middot; {clock(transition.stamp_ns)}</div>'
        f'<div style="font-size:15px;font-weight:600">{escape(transition.sentence)}</div></div>'
    )


def answer(button: str, sentence: str) -> str:
    """What became of the last button."""
    return f'<div style="padding:0 10px"><b>{escape(button)}:</b> {escape(sentence)}</div>'


def log(transitions: Iterable[Transition]) -> str:
    """Transitions, newest first."""
    rows = [
        (
            clock(entry.stamp_ns),
            f"{escape(entry.before)} &rarr; {_coloured(entry.after, COLOURS.get(entry.after, UNKNOWN_COLOUR))}",
            f'{escape(entry.sentence)}<br><span style="opacity:.65">{escape(entry.who)}, {escape(entry.rule)}</span>',
        )
        for entry in transitions
    ]
    return _table(rows) if rows else _quiet("No transition heard yet.")


def verdicts(counts: Mapping[str, int], uncertainty: str) -> str:
    """How often each rule decided, most frequent first, and the uncertainty of the newest verdict."""
    total = max(1, sum(counts.values()))
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    rows = [(escape(rule), str(count), f"{100 * count / total:.1f} %") for rule, count in ordered]
    shown = f'<div style="padding-bottom:6px">Uncertainty <b>{escape(uncertainty) or "unknown"}</b></div>'
    return shown + (_table(rows) if rows else _quiet("No verdict heard yet."))


def nodes(entries: Iterable[Health], now_ns: int, stale_s: float) -> str:
    """One line per node; who has been silent for longer than `stale_s` is shown as such."""
    rows = []
    for entry in sorted(entries, key=lambda health: health.name):
        silent_s = (now_ns - entry.received_ns) / 1e9
        level, sentence = entry.level, entry.sentence
        if silent_s > stale_s:
            level, sentence = "error", f"silent for {silent_s:.0f} s"
        details = ", ".join(f"{key} {value}" for key, value in entry.values.items())
        rows.append(
            (
                _coloured("●", LEVELS.get(level, UNKNOWN_COLOUR)),
                f"<b>{escape(entry.name)}</b>",
                f'{escape(sentence)}<br><span style="opacity:.65">{escape(details)}</span>',
            )
        )
    return _table(rows) if rows else _quiet("No diagnostics heard yet.")


def facts(values: Mapping[str, str]) -> str:
    """Names and values, as they came."""
    return _table([(escape(key.replace("_", " ")), f"<b>{escape(value)}</b>") for key, value in values.items()])


def clock(stamp_ns: int) -> str:
    """ROS time as this machine's time of day."""
    seconds, rest = divmod(stamp_ns, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03d}"


def _coloured(text: str, colour: str) -> str:
    return f'<span style="color:{colour};font-weight:700">{escape(text)}</span>'


def _quiet(sentence: str) -> str:
    return f'<div style="opacity:.7;padding:0 10px">{escape(sentence)}</div>'


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows of cells that are HTML already."""
    lines = "".join("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>" for row in rows)
    return f'<table style="font-size:13px;border-collapse:collapse;margin:0 8px">{lines}</table>'
