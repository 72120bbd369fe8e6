"""An evaluation as files: report.html for people, evaluation.json for programs, report.md for the policy's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.layout import write_durably
from policy_bringup.pipeline.attempt import PLAIN, Attempt
from policy_bringup.pipeline.evaluate import Evaluation
from policy_bringup.pipeline.failures import failure_class, failure_sentence
from policy_bringup.pipeline.figures import Figures, figures
from policy_bringup.pipeline.files import JSON_FILE as JSON_FILE
from policy_bringup.pipeline.files import PAGE_FILE as PAGE_FILE
from policy_bringup.pipeline.files import TABLE_FILE as TABLE_FILE
from policy_bringup.pipeline.report_page import page
from policy_bringup.pipeline.wording import (
    DETECTIONS,
    DOUBTS,
    REFUSALS,
    Table,
    detection_table,
    doubt_table,
    effect_table,
    facts_of,
    failure_table,
    headline,
    refusal_table,
)


@dataclass(frozen=True, slots=True)
class Written:
    """Where the files are, and the text of the table."""

    page: Path
    data: Path
    table: Path
    text: str


def write_report(evaluation: Evaluation, folder: Path, command: str = "") -> Written:
    """All three files into `folder`. command: what a person typed to get them. Raises EpisodeError if it cannot."""
    found, facts = figures(evaluation), facts_of(evaluation, command)
    text = markdown(evaluation, found, facts)
    written = Written(folder / PAGE_FILE, folder / JSON_FILE, folder / TABLE_FILE, text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EpisodeError(f"{folder}: cannot be created ({error.strerror})") from error
    write_durably(written.data, json.dumps(data_of(evaluation, found, facts), indent=1, allow_nan=False) + "\n")
    write_durably(written.table, text)
    write_durably(written.page, page(evaluation, found, facts))
    return written


def data_of(evaluation: Evaluation, found: Figures, facts: Mapping[str, str]) -> dict[str, Any]:
    """Everything as JSON has it: a number that is not finite is null; durations of single predictions are left out."""
    episodes = []
    for attempt in (attempt for group in evaluation.attempts.values() for attempt in group):
        row = _episode(attempt)
        if attempt.condition == PLAIN and attempt.seed in evaluation.unguarded:
            free = evaluation.unguarded[attempt.seed]
            row |= {"success_with_threshold_off": free.success, "doubt_with_threshold_off": free.doubt}
        episodes.append(row)
    alone = [_episode(attempt) for group in evaluation.network.values() for attempt in group]
    ros = asdict(evaluation.ros) if evaluation.ros is not None else None
    data = {"facts": facts, "figures": asdict(found), "skipped": evaluation.skipped, "over_topics": ros}
    plain: dict[str, Any] = _plain({**data, "episodes": episodes, "episodes_of_the_network_alone": alone})
    return plain


def _episode(attempt: Attempt) -> dict[str, Any]:
    row = {**asdict(attempt), "class": failure_class(attempt), "sentence": failure_sentence(attempt)}
    del row["taken_ms"]
    return row


def markdown(evaluation: Evaluation, found: Figures, facts: Mapping[str, str]) -> str:
    """The short table: what the policy can do, what it cannot, and how that was found out."""
    lines = [f"# Evaluation of {evaluation.plan.name}", ""]
    lines += _table((("figure", "value"), list(headline(evaluation, found).items())))
    sections = {
        "Failures": failure_table(found),
        "Changes, each against the undisturbed episodes of the same seeds": effect_table(found),
        DETECTIONS: detection_table(found),
        REFUSALS: refusal_table(found),
        DOUBTS: doubt_table(found),
    }
    for title, table in sections.items():
        if table[1]:
            lines += ["", f"## {title}", "", *_table(table)]
    for name, reason in evaluation.skipped.items():
        lines += ["", f"Not played: {name}: {reason}."]
    lines += ["", "Intervals are of 95 %: Wilson's for rates, Agresti and Min's for paired differences.", ""]
    lines += ["## How", "", *_table((("", ""), list(facts.items())))]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    heads, rows = table
    return [_row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
