"""The report of an evaluation as one HTML file: no script, no network, nothing to load."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from policy_bringup.episodes.film_strip import Thumbnail
from policy_bringup.episodes.page_style import STYLE
from policy_bringup.episodes.svg import colour
from policy_bringup.pipeline.confidence import Calibration
from policy_bringup.pipeline.evaluate import Evaluation, Strip
from policy_bringup.pipeline.failures import failure_class, failure_sentence
from policy_bringup.pipeline.figures import Figures, faulted_doubts, sound_doubts, unhindered
from policy_bringup.pipeline.perturbations import PERTURBATIONS
from policy_bringup.pipeline.plots import Axis, Curve, curves_svg, distribution, rates_svg
from policy_bringup.pipeline.statistics import roc
from policy_bringup.pipeline.wording import (
    DETECTIONS,
    DOUBTS,
    REFUSALS,
    Table,
    detection_table,
    doubt_table,
    effect_table,
    failure_table,
    headline,
    rate_words,
    refusal_table,
)

_SHARE = Axis("share of episodes", 0.0, 1.0)
_MORE_STYLE = """
.plots{display:flex;flex-wrap:wrap;gap:8px 28px;margin-top:10px}
.plots figure{flex:1 1 460px;max-width:560px}
.plots figcaption{text-align:left;font-size:13px;color:#52606d;margin-bottom:4px}
.plots svg{width:100%;height:auto}
.big{font-size:20px;font-weight:600}
"""


def page(evaluation: Evaluation, found: Figures, facts: Mapping[str, str]) -> str:
    """The whole document."""
    name = evaluation.plan.name
    head = f"<header><h1>Evaluation of {escape(name)}</h1>"
    parts = [
        f'{head}<p class="big">{escape(rate_words(found.success))}</p></header>',
        _section("In short", _definitions(headline(evaluation, found))),
        _section("Success, time, doubt", _plots(_overall(evaluation, found))),
        _section("Failures", _table(failure_table(found))) if any(found.failures.values()) else "",
        _section("Changes, each against the undisturbed episodes of the same seeds", _effects(found)),
        _section(DETECTIONS, _table(detection_table(found))) if found.detections else "",
        _section(REFUSALS, _table(refusal_table(found))) if found.detections else "",
        _section(DOUBTS, _table(doubt_table(found)) + _roc(evaluation)) if found.detections else "",
        _section("Not played", _definitions(evaluation.skipped)) if evaluation.skipped else "",
        *(_strip(strip) for strip in evaluation.strips),
        _section("How", _definitions(facts) + _NOTE),
    ]
    return _document(f"Evaluation of {name}", "".join(parts))


_NOTE = (
    '<p class="note">Intervals are of 95 %: Wilson’s for rates, Agresti and Min’s for paired differences. Doubt: the '
    "largest uncertainty of an episode among the steps that safety could have refused a chunk for; with a camera "
    "fault, that of the network alone, in as much time as the undisturbed episode took.</p>"
)


def _overall(evaluation: Evaluation, found: Figures) -> list[tuple[str, str]]:
    plots = []
    if found.groups.rates:
        rows = [(f"evaluation {number}", (group,)) for number, group in enumerate(found.groups.rates, 1)]
        plots.append((f"Success of {len(rows)} evaluations with other seeds", rates_svg(rows)))
    times = [attempt.time_s for attempt in evaluation.plain if attempt.success]
    if times:
        end_s = math.ceil(max(times))
        curve = distribution("successful episodes", times, end_s)
        plots.append(("Time to success", curves_svg([curve], Axis("s after arming", 0.0, end_s), _SHARE)))
    plots += _doubts(evaluation)
    if isinstance(found.confidence, Calibration):
        bins = found.confidence.bins
        curve = Curve(
            "bins", np.array([b.confidence for b in bins]), np.array([b.success.share for b in bins]), dots=True
        )
        axes = Axis("confidence", 0.0, 1.0), Axis("success", 0.0, 1.0)
        plots.append(("Confidence against success", curves_svg([curve], *axes, diagonal=True)))
    return plots


def _doubts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """How doubtful successes, failures and, by itself, the network with a camera fault were."""
    free = unhindered(evaluation)
    groups = {
        "successes": [a.doubt for a, done in zip(evaluation.plain, free, strict=True) if done],
        "failures": [a.doubt for a, done in zip(evaluation.plain, free, strict=True) if not done],
        **faulted_doubts(evaluation),
    }
    finite = [doubt for group in groups.values() for doubt in group if math.isfinite(doubt)]
    end = 1.05 * max([evaluation.threshold, *finite])
    if not any(finite) or end <= 0.0:
        return []
    curves = [distribution(name, group, end) for name, group in groups.items() if group]
    mark = Curve("threshold", np.full(2, evaluation.threshold), np.array([0.0, 1.0]))
    plot = curves_svg([*curves, mark], Axis("doubt", 0.0, end), _SHARE)
    return [("Doubt of an episode", _key([*(curve.name for curve in curves), "threshold"]) + plot)]


def _effects(found: Figures) -> str:
    if not found.effects:
        return ""
    rows = [(effect.name, (effect.plain, effect.perturbed)) for effect in found.effects]
    key = _key(["undisturbed", "changed"])
    return _table(effect_table(found)) + _plots([("Success", key + rates_svg(rows))])


def _roc(evaluation: Evaluation) -> str:
    good, curves = sound_doubts(evaluation), []
    for name, doubts in faulted_doubts(evaluation).items():
        if good and doubts:
            points = roc(good, doubts)
            curves.append(Curve(name, points[:, 0], points[:, 1]))
    if not curves:
        return ""
    axes = Axis("false alarms", 0.0, 1.0), Axis("faults noticed", 0.0, 1.0)
    plot = _key([curve.name for curve in curves]) + curves_svg(curves, *axes, diagonal=True)
    return _plots([("The network’s doubt as a detector, threshold by threshold (ROC)", plot)])


def _strip(strip: Strip) -> str:
    attempt = strip.attempt
    kind = failure_class(attempt)
    badge = f'<span class="badge {"failure" if kind else "success"}">{kind or "success"}</span>'
    title = f"Seed {attempt.seed}{'' if attempt.condition not in PERTURBATIONS else ', ' + attempt.condition}"
    said = f"<p>{escape(failure_sentence(attempt))}</p>" if kind else f"<p>{attempt.time_s:.1f} s</p>"
    rows = "".join(
        f'<h2><small>{escape(camera)}</small></h2><div class="strip">{"".join(map(_figure, pictures))}</div>'
        for camera, pictures in strip.pictures.items()
    )
    return f"<section><h2>{escape(title)} {badge}</h2>{said}{rows}</section>"


def _figure(picture: Thumbnail) -> str:
    data = base64.b64encode(picture.jpeg).decode("ascii")
    size = f'width="{picture.width}" height="{picture.height}"'
    caption = f"<figcaption>{picture.time_ns / 1e9:.1f} s</figcaption>"
    return f'<figure><img {size} alt="" src="data:image/jpeg;base64,{data}">{caption}</figure>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _plots(plots: Sequence[tuple[str, str]]) -> str:
    figures = "".join(f"<figure><figcaption>{escape(title)}</figcaption>{body}</figure>" for title, body in plots)
    return f'<div class="plots">{figures}</div>' if plots else ""


def _key(names: Sequence[str]) -> str:
    entries = "".join(
        f'<li><i style="background:{colour(index)}"></i>{escape(name)}</li>' for index, name in enumerate(names)
    )
    return f'<div class="bands"><ul class="key">{entries}</ul></div>'


def _table(table: Table) -> str:
    heads, rows = table
    head = "".join(f"<th>{escape(word)}</th>" for word in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _definitions(entries: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in entries.items())}</dl>"


def _document(title: str, body: str) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    style = f"<title>{escape(title)}</title><style>{STYLE}{_MORE_STYLE}</style>"
    text = f'<!DOCTYPE html><html lang="en"><head>{head}{style}</head><body><main>{body}</main></body></html>'
    return text + "\n"
