"""What the command line shows: tables a person can read, and refusals in a sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from policy_bringup.core.errors import PolicyBringupError
from policy_bringup.core.extras import sentence_of
from policy_bringup.core.trials import STAGES, Report, wilson
from policy_bringup.doctor import Finding
from policy_bringup.episodes.journal import Journal


def print_report(report: Report, console: Console | None = None) -> None:
    """Episodes and successes, latency per stage, verdicts by rule."""
    console = console or Console()
    console.print(_episodes(report))
    if report.latency_ms:
        console.print(_latencies(report))
    console.print(_verdicts(report))
    if "real_time_factor" in report.facts:
        console.print(f"simulation ran at {report.facts['real_time_factor']} of real time", markup=False)
    for stop in report.stops:
        console.print(f"stopped: {stop}", markup=False)


def print_latencies(rows: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """How late each camera and the arm are, or why that is not known."""
    console = console or Console()
    table = Table("what", "late, ms", "95 %, ms", "likeness", title="latency")
    for name, row in rows.items():
        if "s" in row:
            numbers = f"{row['s'] * 1e3:.1f}", f"± {row['plus_minus_s'] * 1e3:.1f}", f"{row['likeness']:.3f}"
            table.add_row(escape(name), *numbers)
        else:
            table.add_row(escape(name), "-", "-", "-")
    console.print(table)
    for row in rows.values():
        if "failed" in row:
            console.print(row["failed"], markup=False)


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """One line per finding, with what to do about it."""
    table = Table("", "what", "found", "to do", title="policy doctor")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else ("[red]missing[/]" if finding.needed else "[yellow]optional[/]")
        remedy = "" if finding.ok else finding.remedy
        table.add_row(mark, *(escape(words) for words in (finding.what, finding.found, remedy)))
    (console or Console()).print(table)


def print_episodes(rows: Mapping[str, Journal | str], console: Console | None = None) -> None:
    """One line per episode of a dataset: its journal, or why there is none."""
    table = Table(Column("episode", no_wrap=True), "outcome", "driver", "operator", "s", "missing", "quality", "note")
    for name, journal in rows.items():
        if isinstance(journal, str):
            table.add_row(name, "", "", "", "", "", escape(journal))
            continue
        seconds = f"{(journal.stopped_ns - journal.started_ns) / 1e9:.1f}" if journal.stopped_ns else "-"
        missing = sum(count.dropped + count.lost for count in journal.counts.values())
        quality = "" if journal.quality is None else journal.quality.sentence
        who = journal.provenance
        note = journal.note + (" (rebuilt)" if journal.recovered else "")
        words = (name, journal.outcome.value, who.driver, who.operator, seconds, str(missing), quality, note.strip())
        table.add_row(*(escape(word) for word in words))
    (console or Console()).print(table)


def _episodes(report: Report) -> Table:
    count, good = len(report.episodes), report.successes
    low, high = wilson(good, count)
    table = Table("episodes", "successes", "rate", "95 % interval", "mean time", "safety stops", title="episodes")
    times = [episode.duration_s for episode in report.episodes if episode.success]
    table.add_row(
        str(count),
        str(good),
        f"{good / count:.1%}" if count else "-",
        f"{low:.1%} to {high:.1%}",
        f"{sum(times) / len(times):.1f} s" if times else "-",
        str(len(report.stops)),
    )
    return table


def _latencies(report: Report) -> Table:
    table = Table("stage", "p50 ms", "p99 ms", "max ms", "samples", title="latency from the camera's stamp")
    for stage in STAGES:
        if stage in report.latency_ms:
            row = report.latency_ms[stage]
            table.add_row(stage, *(f"{row[key]:.1f}" for key in ("p50", "p99", "max")), f"{row['count']:.0f}")
    return table


def _verdicts(report: Report) -> Table:
    table = Table("rule", "verdicts", title="verdicts by rule")
    for rule, count in sorted(report.verdicts.items(), key=lambda item: -item[1]):
        table.add_row(rule, str(count))
    return table


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar for work on several things: call what it gives with how many are done, of how many, and the name of one."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(what, total=None, name="")
        yield lambda done, total, name: bar.update(task, completed=done, total=total, name=name)


def said(sentence: str, failed: Mapping[str, str]) -> int:
    """Prints what was done, and to stderr what failed and why; the exit code is 1 if anything did."""
    print(sentence)
    for name, reason in failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def exit_code(run: Callable[[], int], name: str) -> int:
    """That of `run`; 2 where it refuses or a package is missing, said in one sentence that begins with `name`."""
    try:
        return run()
    except (PolicyBringupError, ImportError) as error:
        sentence = str(error) if isinstance(error, PolicyBringupError) else sentence_of(error)
        if not sentence:
            raise
        print(f"{name}: {sentence}", file=sys.stderr)
        return 2
