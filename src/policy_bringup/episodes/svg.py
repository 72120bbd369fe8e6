"""Plots as SVG text: curves over time, and bands that show what was so from when to when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np

from policy_bringup.core.types import Array
from policy_bringup.episodes.overview import Curve, Span

WIDTH, HEIGHT = 900, 170
BAND_HEIGHT = 26
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 8, 22
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08900", "#56b4e9", "#6a51a3", "#8c564b", "#333333")
"""Told apart by most colour-blind eyes; after nine they repeat, dashed."""
_BUCKETS = 450
_HUGE = 1e12
"""What is larger is left out of the scale."""
_CHARACTER = 9.0
"""Pixels that a character of a band's label takes at most."""


def colour(index: int) -> str:
    """Of the curve with this index."""
    return COLOURS[index % len(COLOURS)]


def curves_svg(curves: Sequence[Curve], end_s: float, marks_s: Sequence[float]) -> str:
    """Curves from 0 to `end_s`, with a scale that fits them, and thin lines at the marks."""
    low, high = _limits(curves)
    ticks = nice_ticks(low, high, 4)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    end_s = max(end_s, 1e-3)
    bottom = HEIGHT - BOTTOM

    def x_of(times_s: Array) -> Array:
        return LEFT + times_s / end_s * (WIDTH - LEFT - RIGHT)

    def y_of(values: Array) -> Array:
        return bottom - (np.clip(values, -_HUGE, _HUGE) - low) / (high - low) * (bottom - TOP)

    parts = [_grid_y(tick, float(y_of(np.array(tick))), _words(ticks)[index]) for index, tick in enumerate(ticks)]
    parts += _grid_x(end_s, TOP, bottom)
    parts += [_line(float(x_of(np.array(mark))), TOP, bottom, "mark") for mark in marks_s if 0 <= mark <= end_s]
    for index, curve in enumerate(curves):
        dash = ' stroke-dasharray="5 3"' if index >= len(COLOURS) else ""
        path = _path(*thinned(x_of(curve.times_s), y_of(curve.values)))
        title = f"<title>{escape(curve.name)}</title>"
        parts.append(f'<path class="curve" d="{path}" stroke="{colour(index)}"{dash}>{title}</path>')
    return _svg(HEIGHT, parts)


def bands_svg(rows: Sequence[tuple[str, Sequence[Span]]], end_s: float, colours: Mapping[str, str]) -> str:
    """One band for each row (its label and its spans), over the same time axis as the curves."""
    end_s = max(end_s, 1e-3)
    bottom = TOP + BAND_HEIGHT * len(rows)
    parts: list[str] = []
    for number, (label, spans) in enumerate(rows):
        top = TOP + BAND_HEIGHT * number
        parts.append(f'<text x="{LEFT - 6}" y="{top + 15}" text-anchor="end">{escape(label)}</text>')
        for span in spans:
            start, end = (min(max(s, 0.0), end_s) / end_s * (WIDTH - LEFT - RIGHT) for s in (span.start_s, span.end_s))
            title = f"<title>{escape(span.word)}: {span.start_s:.2f} s to {span.end_s:.2f} s</title>"
            shape = f'x="{LEFT + start:.1f}" y="{top}" width="{max(end - start, 1):.1f}" height="{BAND_HEIGHT - 4}"'
            parts.append(f'<rect {shape} fill="{colours.get(span.word, "#9aa5b1")}">{title}</rect>')
            if end - start > _CHARACTER * len(span.word) + 8:
                middle = LEFT + (start + end) / 2
                parts.append(f'<text class="in" x="{middle:.1f}" y="{top + 15}">{escape(span.word)}</text>')
    parts += _grid_x(end_s, bottom, bottom)
    return _svg(bottom + BOTTOM, parts)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) in steps that give about `count`, from below `low` to above."""
    step = _nice_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """Of many points the lowest and the highest in each of 450 stretches: the same picture, peaks and all."""
    if len(x) <= 2 * _BUCKETS:
        return x, y
    edges = np.linspace(0, len(x), _BUCKETS + 1).astype(int)
    finite = np.nan_to_num(y, nan=0.0)
    places = [
        start + place
        for start, end in pairwise(edges.tolist())
        for place in sorted({int(finite[start:end].argmin()), int(finite[start:end].argmax())})
    ]
    return x[places], y[places]


def _nice_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def _limits(curves: Sequence[Curve]) -> tuple[float, float]:
    values = np.concatenate([curve.values for curve in curves]) if curves else np.zeros(0)
    values = values[np.isfinite(values) & (np.abs(values) < _HUGE)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    least = max(1e-6, 1e-6 * max(abs(low), abs(high)))
    if high - low < least:
        room = max(abs(low) * 0.1, 1e-3)
        return low - room if low else 0.0, high + room
    return low, high


def _words(ticks: Sequence[float]) -> list[str]:
    decimals = max(0, -math.floor(math.log10(abs(ticks[1] - ticks[0])) + 1e-9))
    return [f"{tick + 0.0:.{decimals}f}" if abs(tick) < 1e5 else f"{tick:.2g}" for tick in ticks]


def _grid_y(value: float, y: float, word: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{word}</text>'


def _grid_x(end_s: float, top: float, bottom: float) -> list[str]:
    ticks = [tick for tick in nice_ticks(0.0, end_s, 9) if tick <= end_s * (1 + 1e-9)]
    words = _words(ticks) if len(ticks) > 1 else ["0"]
    parts = []
    for tick, word in zip(ticks, words, strict=True):
        x = LEFT + tick / end_s * (WIDTH - LEFT - RIGHT)
        anchor = "end" if x > WIDTH - RIGHT - 15 else "middle"
        parts.append(_line(x, top, bottom + 4, "grid"))
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="{anchor}">{word} s</text>')
    return parts


def _line(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'


def _path(x: Array, y: Array) -> str:
    """Straight lines between the points; a point that is no number parts them."""
    sound = np.isfinite(x) & np.isfinite(y) & (np.abs(y) < 1e6)
    words, pen = [], "M"
    for good, px, py in zip(sound.tolist(), x.tolist(), y.tolist(), strict=True):
        if good:
            words.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L" if good else "M"
    return "".join(words)


def _svg(height: int, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(parts)}</svg>'
