"""Episodes to look at: one HTML page each, and one that lists all of a dataset. No script, no network, nothing to load.

Whatever came over a topic or out of a journal is escaped, and the page itself forbids scripts.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.film_strip import Thumbnail
from policy_bringup.episodes.journal import Journal, Outcome, Quality, load_journal
from policy_bringup.episodes.layout import episodes, write_durably
from policy_bringup.episodes.overview import Change, Overview, Panel, Span, first_picture, read_overview
from policy_bringup.episodes.page_style import STATE_COLOURS, STYLE, driver_colours
from policy_bringup.episodes.quality import spoken
from policy_bringup.episodes.svg import bands_svg, colour, curves_svg

MAX_CHANGES = 30
MAX_REASONS = 2
"""In a row of the index; an episode's own page has them all."""
_FIGURES = {
    "duration_s": ("length", "{:.2f} s"),
    "idle_share": ("idle", "{:.0%}"),
    "jerk_rad_s3": ("jerk", "{:.0f} rad/s³"),
    "gripper_travel_m": ("gripper travel", "{:.4f} m"),
    "skew_s": ("stamp skew", "{:.3f} s"),
}
_PER_TOPIC = {
    "rate_hz": ("rate, Hz", "{:.1f}", 1.0),
    "silence_s": ("longest silence, s", "{:.3f}", 1.0),
    "jitter_s": ("jitter, ms", "{:.1f}", 1e3),
    "frozen_s": ("frozen, s", "{:.2f}", 1.0),
    "dull_s": ("dull, s", "{:.2f}", 1.0),
}


def write_page(folder: Path, out: Path) -> Path:
    """One episode's page at `out` (a file, or a folder that it is put into) -> the file.

    Raises EpisodeError for an episode whose journal or bag cannot be read, and if the page cannot be written.
    """
    journal, overview = load_journal(folder), read_overview(folder)
    parts = [
        _header(folder.name, journal, overview.duration_s),
        _problems(overview.problems),
        _verdict(journal.quality),
        *(_strip(topic, pictures, overview.start_ns) for topic, pictures in overview.strips.items()),
        _driving(overview),
        *(_panel(panel, overview) for panel in overview.panels),
        _changes(overview.changes),
        _topics(journal),
        _provenance(journal),
    ]
    return _write(out, f"{folder.name}.html", folder.name, "".join(parts))


def write_index(dataset: Path, out: Path, progress: Callable[[Path], None] = lambda _: None) -> Path:
    """A table of all episodes at `out` (a file, or a folder for index.html) -> the file.

    It links every page that lies beside it. An episode that cannot be read has its error in its row. progress: called
    with each episode's folder when it is done. Raises EpisodeError for a dataset that is not there.
    """
    target = _target(out, "index.html")
    rows, journals = [], []
    for folder in episodes(dataset):
        try:
            journal = load_journal(folder)
        except EpisodeError as error:
            rows.append(_broken_row(folder, target.parent, str(error)))
        else:
            journals.append(journal)
            rows.append(_row(folder, target.parent, journal))
        progress(folder)
    names = ("", "Episode", "Outcome", "Task", "Driver", "Operator", "Recorded (UTC)", "Length", "Lost", "Verdict")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = f"<header><h1>{escape(dataset.name or str(dataset))}</h1><p>{_sum(journals, len(rows))}</p></header>"
    table = f'<table class="index"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return _write(target, "index.html", dataset.name, f"{body}<section>{table}</section>")


def _header(name: str, journal: Journal, duration_s: float) -> str:
    origin = journal.provenance
    recovered = ' <span class="badge plain">recovered</span>' if journal.recovered else ""
    objects = f" ({escape(', '.join(origin.objects))})" if origin.objects else ""
    line = f"{escape(origin.task)}{objects} · driven by {escape(origin.driver)}"
    line += f" · {_date(journal.started_ns)} UTC · {duration_s:.1f} s"
    note = f'<p class="note">{escape(journal.note)}</p>' if journal.note else ""
    return f"<header><h1>{escape(name)} {_outcome(journal.outcome)}{recovered}</h1><p>{line}</p>{note}</header>"


def _problems(problems: Sequence[str]) -> str:
    return "".join(f'<p class="problem">{escape(problem)}</p>' for problem in problems)


def _verdict(quality: Quality | None) -> str:
    if quality is None:
        return '<section><p class="verdict unknown">Quality: not judged</p></section>'
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in quality.reasons)
    word = "ok" if quality.ok else f"redo because<ul>{reasons}</ul>"
    figures = quality.figures
    known = [(label, form.format(figures[key])) for key, (label, form) in _FIGURES.items() if key in figures]
    chips = "".join(f"<li><b>{value}</b> {label}</li>" for label, value in known)
    kind = "ok" if quality.ok else "redo"
    return f'<section><div class="verdict {kind}">Quality: {word}</div><ul class="chips">{chips}</ul></section>'


def _strip(topic: str, pictures: Sequence[Thumbnail], start_ns: int) -> str:
    figures = "".join(
        f"<figure>{_img(picture, spoken(topic))}<figcaption>{(picture.time_ns - start_ns) / 1e9:.1f} s</figcaption>"
        "</figure>"
        for picture in pictures
    )
    return f'<section><h2>{escape(spoken(topic))}</h2><div class="strip">{figures}</div></section>'


def _driving(overview: Overview) -> str:
    if not overview.states:
        return ""
    colours = {**driver_colours(span.word for span in overview.drivers), **STATE_COLOURS}
    rows = (("safety", overview.states), ("driver", overview.drivers))
    keys = "".join(_key(*row, colours) for row in rows)
    plot = bands_svg(rows, overview.duration_s, colours)
    title = "<h2>Who drove, and what safety said</h2>"
    return f'<section>{title}<div class="plot bands">{plot}<div class="side">{keys}</div></div></section>'


def _key(label: str, spans: Sequence[Span], colours: Mapping[str, str]) -> str:
    totals: dict[str, float] = {}
    for span in spans:
        totals[span.word] = totals.get(span.word, 0.0) + span.end_s - span.start_s
    entries = "".join(
        f'<li><i style="background:{colours.get(word, "#9aa5b1")}"></i>{escape(word)} <span>{seconds:.1f} s</span></li>'
        for word, seconds in totals.items()
    )
    return f'<ul class="key"><li class="label">{label}</li>{entries}</ul>'


def _panel(panel: Panel, overview: Overview) -> str:
    marks = [span.start_s for span in overview.states[1:]]
    entries = "".join(
        f'<li><i style="background:{colour(index)}"></i>{escape(curve.name)}</li>'
        for index, curve in enumerate(panel.curves)
    )
    unit = f" <small>{panel.unit}</small>" if panel.unit else ""
    plot = curves_svg(panel.curves, overview.duration_s, marks)
    return (
        f'<section><h2>{panel.title}{unit}</h2><div class="plot">{plot}<ul class="key">{entries}</ul></div></section>'
    )


def _changes(changes: Sequence[Change]) -> str:
    if not changes:
        return ""
    rows = "".join(
        f"<tr><td>{change.time_s:.2f} s</td><td>{escape(change.before)} → {escape(change.after)}</td>"
        f"<td>{escape(change.who)}</td><td>{escape(change.sentence)}</td></tr>"
        for change in changes[:MAX_CHANGES]
    )
    more = f"<p>... and {len(changes) - MAX_CHANGES} more</p>" if len(changes) > MAX_CHANGES else ""
    return f"<section><h2>Changes of the safety state</h2><table>{rows}</table>{more}</section>"


def _topics(journal: Journal) -> str:
    figures = journal.quality.figures if journal.quality is not None else {}
    judged = [key.rsplit(" ", 1)[0] for key in figures if " " in key]
    names = list(dict.fromkeys([*journal.counts, *judged]))
    if not names:
        return ""
    columns = [(key, *form) for key, form in _PER_TOPIC.items() if any(f"{name} {key}" in figures for name in names)]
    heads = ("topic", "received", "written", "dropped", "lost by DDS", *(label for _, label, _, _ in columns))
    rows = []
    for name in names:
        count = journal.counts.get(name)
        numbers = ("",) * 4 if count is None else (count.received, count.written, count.dropped, count.lost)
        cells = [f'<td class="bad">{n}</td>' if place > 1 and n else f"<td>{n}</td>" for place, n in enumerate(numbers)]
        for key, _, form, scale in columns:
            value = figures.get(f"{name} {key}")
            cells.append(f"<td>{'' if value is None else form.format(value * scale)}</td>")
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{label}</th>" for label in heads)
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f"<section><h2>Topics</h2>{table}</section>"


def _provenance(journal: Journal) -> str:
    origin = journal.provenance
    entries = {
        "task": origin.task,
        "objects": ", ".join(origin.objects),
        "operator": origin.operator,
        "driver": origin.driver,
        "mode": origin.mode,
        "code version": origin.code_version,
        "contract sha256": origin.contract_sha256,
        "configuration sha256": origin.config_sha256,
    }
    cells = "".join(f"<dt>{key}</dt><dd>{escape(value) or '–'}</dd>" for key, value in entries.items())
    return f"<section><h2>Provenance</h2><dl>{cells}</dl></section>"


def _row(folder: Path, beside: Path, journal: Journal) -> str:
    try:
        picture = first_picture(folder)
        image, problem = ("" if picture is None else _img(picture, folder.name)), ""
    except EpisodeError as error:
        image, problem = "", f'<div class="bad">{escape(str(error))}</div>'
    lost = sum(count.dropped + count.lost for count in journal.counts.values())
    length = "" if journal.stopped_ns is None else f"{(journal.stopped_ns - journal.started_ns) / 1e9:.1f} s"
    verdict = escape(_short(journal.quality))
    origin = journal.provenance
    texts = "".join(f"<td>{escape(text)}</td>" for text in (origin.task, origin.driver, origin.operator))
    return (
        f'<tr><td class="thumb">{image}</td><td>{_link(folder, beside)}</td><td>{_outcome(journal.outcome)}</td>{texts}'
        f"<td>{_date(journal.started_ns)}</td><td>{length}</td><td{' class=bad' if lost else ''}>{lost}</td>"
        f"<td>{verdict}{problem}</td></tr>"
    )


def _short(quality: Quality | None) -> str:
    if quality is None:
        return "not judged"
    more = len(quality.reasons) - MAX_REASONS
    sentence = replace(quality, reasons=quality.reasons[:MAX_REASONS]).sentence
    return f"{sentence}; and {more} more" if more > 0 else sentence


def _broken_row(folder: Path, beside: Path, sentence: str) -> str:
    return f'<tr><td></td><td>{_link(folder, beside)}</td><td class="bad" colspan="8">{escape(sentence)}</td></tr>'


def _link(folder: Path, beside: Path) -> str:
    page = f"{folder.name}.html"
    return f'<a href="{page}">{folder.name}</a>' if (beside / page).is_file() else folder.name


def _sum(journals: Iterable[Journal], count: int) -> str:
    outcomes, redo, unread = dict.fromkeys(Outcome, 0), 0, count
    for journal in journals:
        outcomes[journal.outcome] += 1
        redo += journal.quality is not None and not journal.quality.ok
        unread -= 1
    words = [f"{count} episode{'s' * (count != 1)}"]
    words += [f"{number} {outcome.value}" for outcome, number in outcomes.items() if number]
    words += [f"{redo} to redo"] * bool(redo) + [f"{unread} unreadable"] * bool(unread)
    return " · ".join(words)


def _outcome(outcome: Outcome) -> str:
    return f'<span class="badge {outcome.value}">{outcome.value}</span>'


def _img(picture: Thumbnail, words: str) -> str:
    data = base64.b64encode(picture.jpeg).decode("ascii")
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img {size} alt="{escape(words)}" src="data:image/jpeg;base64,{data}">'


def _date(stamp_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(min(stamp_ns // 1_000_000_000, 2**40)))


def _target(out: Path, name: str) -> Path:
    return out / name if out.is_dir() or not out.suffix else out


def _write(out: Path, name: str, title: str, body: str) -> Path:
    target = _target(out, name)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    text = f'<!DOCTYPE html><html lang="en"><head>{head}<title>{escape(title)}</title><style>{STYLE}</style></head>'
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EpisodeError(f"{target.parent}: cannot be created ({error.strerror})") from error
    write_durably(target, f"{text}<body><main>{body}</main></body></html>\n")
    return target
