from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from policy_bringup.pipeline.plots import HEIGHT, WIDTH, Axis, Curve, curves_svg, distribution, rates_svg
from policy_bringup.pipeline.statistics import rate

UNIT = Axis("x & y", 0.0, 1.0)


def shapes(svg: str, tag: str) -> list[ET.Element]:
    return [element for element in ET.fromstring(svg).iter() if element.tag.rpartition("}")[2] == tag]


def numbers(path: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+\.?\d*", path)]


def test_a_curve_runs_from_corner_to_corner():
    svg = curves_svg([Curve("a <b>", np.array([0.0, 1.0]), np.array([0.0, 1.0]))], UNIT, UNIT)
    (path,) = shapes(svg, "path")
    left, bottom, right, top = numbers(path.get("d"))
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT
    assert path.find("{*}title").text == "a <b>"
    assert "x & y" in [text.text for text in shapes(svg, "text")]


def test_steps_go_across_before_they_go_up_and_dots_mark_points():
    svg = curves_svg([Curve("a", np.array([0.0, 0.5]), np.array([0.0, 1.0]), stepped=True, dots=True)], UNIT, UNIT)
    assert re.fullmatch(r"M\S+ \S+H\S+V\S+", shapes(svg, "path")[0].get("d"))
    assert len(shapes(svg, "circle")) == 2


def test_ticks_lie_within_the_axis():
    svg = curves_svg([], Axis("s", 0.0, 4.0), UNIT)
    said = [text.text for text in shapes(svg, "text")]
    assert {"0", "1", "2", "3", "4"} <= set(said)
    assert "5" not in said


def test_a_distribution_climbs_to_the_share_that_is_in_sight():
    curve = distribution("d", [3.0, 1.0, np.inf, 2.0], 2.5)
    np.testing.assert_allclose(curve.x, [0.0, 1.0, 2.0, 2.5])
    np.testing.assert_allclose(curve.y, [0.0, 0.25, 0.5, 0.5])


def test_a_rate_is_drawn_with_its_interval_and_nothing_without_trials():
    half = rate([True, False])
    svg = rates_svg([("one", (half, rate([]))), ("two", (rate([True]),))])
    dots = shapes(svg, "circle")
    assert len(dots) == 2
    line = next(element for element in shapes(svg, "line") if element.get("stroke"))
    assert float(line.get("x1")) < float(dots[0].get("cx")) < float(line.get("x2"))
    assert float(dots[0].get("cx")) == pytest.approx((float(line.get("x1")) + float(line.get("x2"))) / 2, abs=0.2)
    assert "1 of 2: 9.5% to 90.5%" in [title.text for title in shapes(svg, "title")]
