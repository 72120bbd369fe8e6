"""Plots of an evaluation as SVG text: one number against another, and rates with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from policy_bringup.core.types import Array
from policy_bringup.episodes.svg import colour, nice_ticks
from policy_bringup.pipeline.statistics import Rate

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 54, 22, 10, 40
ROW, LABEL = 24, 190
_TICKS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Points x, y `(n,)`, joined by straight lines, or by steps; dots: the points are marked too."""

    name: str
    x: Array
    y: Array
    stepped: bool = False
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, with what it measures in words."""

    words: str
    low: float
    high: float


def distribution(name: str, values: Sequence[float], end: float) -> Curve:
    """The share of the values that are not above x, from 0 to `end`."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    shares = np.arange(len(ordered) + 1) / max(len(ordered), 1)
    inside = ordered <= end
    x = np.concatenate(([0.0], ordered[inside], [end]))
    y = np.concatenate((shares[: inside.sum() + 1], [shares[inside.sum()]]))
    return Curve(name, x, y, stepped=True)


def curves_svg(curves: Sequence[Curve], x: Axis, y: Axis, diagonal: bool = False) -> str:
    """Curves in their colours; diagonal: also the thin line from corner to corner."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def across(value: float) -> float:
        return LEFT + (value - x.low) / (x.high - x.low) * (right - LEFT)

    def up(value: float) -> float:
        return bottom - (value - y.low) / (y.high - y.low) * (bottom - TOP)

    parts = [_tick(across(tick), TOP, bottom, tick) for tick in _ticks(x)]
    parts += [_level(up(tick), LEFT, right, tick) for tick in _ticks(y)]
    if diagonal:
        parts.append(f'<line class="mark" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{TOP}"/>')
    for index, curve in enumerate(curves):
        points = [(across(px), up(py)) for px, py in zip(curve.x.tolist(), curve.y.tolist(), strict=True)]
        title = f"<title>{escape(curve.name)}</title>"
        path = _path(points, curve.stepped)
        parts.append(f'<path class="curve" d="{path}" stroke="{colour(index)}">{title}</path>')
        marks = points if curve.dots else []
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour(index)}"/>' for px, py in marks]
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.words)}</text>')
    parts.append(
        f'<text x="14" y="{(TOP + bottom) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(TOP + bottom) / 2:.0f})">{escape(y.words)}</text>'
    )
    return _svg(HEIGHT, parts)


def rates_svg(rows: Sequence[tuple[str, Sequence[Rate]]]) -> str:
    """One row per label, 0 to 100 %: a dot and its interval for each rate, each in its colour, the first one on top."""
    bottom, right = TOP + ROW * len(rows), WIDTH - RIGHT

    def across(value: float) -> float:
        return LABEL + value * (right - LABEL)

    parts = [_tick(across(share), TOP, bottom, share, f"{share:.0%}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for number, (label, rates) in enumerate(rows):
        top = TOP + ROW * number
        parts.append(f'<text x="{LABEL - 8}" y="{top + 16}" text-anchor="end">{escape(label)}</text>')
        for index, rate in enumerate(rates):
            y = top + ROW * (index + 1) / (len(rates) + 1)
            parts.append(_interval(across(rate.low), across(rate.high), across(rate.share), y, rate, colour(index)))
    return _svg(bottom + BOTTOM - 16, parts)


def _interval(low: float, high: float, middle: float, y: float, rate: Rate, paint: str) -> str:
    if not rate.trials:
        return ""
    title = f"<title>{rate.count} of {rate.trials}: {rate.low:.1%} to {rate.high:.1%}</title>"
    line = f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{paint}" stroke-width="2"/>'
    return f'<g>{title}{line}<circle cx="{middle:.1f}" cy="{y:.1f}" r="4" fill="{paint}"/></g>'


def _ticks(axis: Axis) -> list[float]:
    ticks = nice_ticks(axis.low, axis.high, _TICKS)
    room = 1e-9 * (axis.high - axis.low)
    return [tick for tick in ticks if axis.low - room <= tick <= axis.high + room]


def _tick(x: float, top: float, bottom: float, value: float, words: str | None = None) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom + 4}"/>'
    label = f"{value:g}" if words is None else words
    return f'{line}<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{label}</text>'


def _level(y: float, left: float, right: float, value: float) -> str:
    line = f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'


def _path(points: Sequence[tuple[float, float]], stepped: bool) -> str:
    words: list[str] = []
    for number, (px, py) in enumerate(points):
        if number and stepped:
            words.append(f"H{px:.1f}V{py:.1f}")
        else:
            words.append(f"{'L' if number else 'M'}{px:.1f} {py:.1f}")
    return "".join(words)


def _svg(height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(parts)}</svg>'
