import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_bringup.episodes.overview import Curve, Span
from policy_bringup.episodes.svg import HEIGHT, LEFT, RIGHT, WIDTH, bands_svg, curves_svg, nice_ticks, thinned

NS = "{http://www.w3.org/2000/svg}"


def curve(values, name="a", seconds: float = 10.0) -> Curve:
    values = np.array(values, dtype=float)
    return Curve(name, np.linspace(0.0, seconds, len(values)), values)


def points(path: ET.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.attrib["d"])]


def drawn(*curves: Curve, end_s: float = 10.0, marks=()) -> ET.Element:
    return ET.fromstring(curves_svg(curves, end_s, marks))


def test_a_curve_runs_from_edge_to_edge_and_its_highest_value_is_on_top():
    (path,) = drawn(curve([0.0, 1.0, 0.5])).iter(f"{NS}path")
    (x0, y0), (x1, y1), (x2, y2) = points(path)
    assert (x0, x1, x2) == (LEFT, pytest.approx((LEFT + WIDTH - RIGHT) / 2, abs=0.1), WIDTH - RIGHT)
    assert y1 < y2 < y0


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30), st.floats(0.0, 1e4))
def test_whatever_the_numbers_are_the_drawing_is_sound_and_within_its_frame(values, end_s):
    svg = drawn(curve(values, seconds=end_s), end_s=end_s)
    for path in svg.iter(f"{NS}path"):
        for x, y in points(path):
            assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1
            assert np.isfinite(y)
            if all(np.isfinite(v) and abs(v) < 1e12 for v in values):
                assert 0 <= y <= HEIGHT
    for text in svg.iter(f"{NS}text"):
        assert "nan" not in text.text
        assert "inf" not in text.text


def test_a_value_that_is_no_number_parts_the_line():
    (path,) = drawn(curve([0.0, 1.0, np.nan, 1.0, 0.0])).iter(f"{NS}path")
    assert path.attrib["d"].count("M") == 2
    assert len(points(path)) == 4


def test_nothing_to_draw_is_an_empty_frame():
    svg = drawn()
    assert list(svg.iter(f"{NS}path")) == []
    assert list(svg.iter(f"{NS}line"))


def test_thinning_keeps_every_peak_and_draws_few_points():
    y = np.sin(np.arange(60_000) / 3000)
    y[12_345], y[40_001] = 9.0, -9.0
    x, thin = thinned(np.arange(60_000.0), y)
    assert len(x) <= 900
    assert {9.0, -9.0} <= set(thin)
    assert (np.diff(x) > 0).all()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.5, 1]), (-3.1, 2.9, [-4, -2, 0, 2, 4]), (0, 0.08, [0, 0.02, 0.04, 0.06, 0.08])],
)
def test_ticks_are_round_numbers_around_the_values(low, high, ticks):
    assert nice_ticks(low, high, 4) == pytest.approx(ticks)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_there_are_always_a_few_ticks_and_they_enclose_the_values(low, length):
    ticks = nice_ticks(low, low + length, 4)
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * length
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + length - slack


def test_labels_of_one_axis_never_touch():
    for end_s in (0.9, 3.0, 4.84, 61.0, 599.0, 3600.0):
        svg = drawn(curve([0.0, 1.0]), end_s=end_s)
        labels = [t for t in svg.iter(f"{NS}text") if t.text.endswith(" s")]
        spans = []
        for label in labels:
            width, x = 7.5 * len(label.text), float(label.attrib["x"])
            spans.append((x - width, x) if label.attrib["text-anchor"] == "end" else (x - width / 2, x + width / 2))
        assert all(a[1] < b[0] for a, b in pairwise(spans)), (end_s, spans)
        assert spans[-1][1] <= WIDTH


def test_bands_lie_where_their_times_are_and_are_named_if_there_is_room():
    rows = [("driver", [Span(0.0, 4.9, "policy"), Span(4.9, 5.0, "nobody"), Span(5.0, 10.0, "tele<op>")])]
    svg = ET.fromstring(bands_svg(rows, 10.0, {"policy": "#123456"}))
    rects = list(svg.iter(f"{NS}rect"))
    scale = (WIDTH - LEFT - RIGHT) / 10.0
    assert [float(rect.attrib["x"]) for rect in rects] == pytest.approx(
        [LEFT, LEFT + 4.9 * scale, LEFT + 5.0 * scale], abs=0.1
    )
    assert rects[0].attrib["fill"] == "#123456"
    texts = [text.text for text in svg.iter(f"{NS}text")]
    assert "policy" in texts
    assert "tele<op>" in texts
    assert "nobody" not in texts


def test_the_tenth_curve_is_told_from_the_first():
    paths = list(drawn(*(curve([0.0, 1.0], str(index)) for index in range(10))).iter(f"{NS}path"))
    assert paths[0].attrib["stroke"] == paths[9].attrib["stroke"]
    assert "stroke-dasharray" in paths[9].attrib
    assert "stroke-dasharray" not in paths[0].attrib
