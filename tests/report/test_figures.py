"""Charts: where points lie, what axes say."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intarsia.metrics import Reliability
from intarsia.report.figures import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    line_chart,
    reliability_chart,
    sparkline,
)


def points(svg: str) -> np.ndarray:
    """(N, 2): the points of the first curve drawn."""
    found = re.search(r'<polyline[^>]*points="([^"]*)"', svg)
    assert found
    return np.array([pair.split(",") for pair in found[1].split()], np.float64)


def test_a_line_goes_from_corner_to_corner() -> None:
    drawn = points(line_chart("t", [Line("a", np.array([0.0, 10.0]), np.array([0.0, 1.0]))]))
    np.testing.assert_allclose(drawn, [(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP)], atol=0.06)


def test_a_logarithmic_axis_makes_equal_ratios_equal_distances() -> None:
    line = Line("a", np.array([0.0, 1.0, 2.0]), np.array([100.0, 10.0, 1.0]))
    heights = points(line_chart("t", [line], logarithmic=True))[:, 1]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)


def test_nothing_to_draw() -> None:
    empty = np.empty(0)
    assert line_chart("t", []) == line_chart("t", [Line("a", empty, empty)]) == sparkline(np.array([0.3])) == ""
    assert line_chart("t", [Line("a", np.array([1.0]), np.array([0.0]))], logarithmic=True) == ""


def test_many_points_become_means() -> None:
    x = np.arange(10_000.0)
    drawn = points(line_chart("t", [Line("a", x, x / 1000 + (x % 2))]))  # a ramp under noise a tenth as high
    assert len(drawn) == MOST_POINTS
    assert np.all(np.diff(drawn[:, 1]) < 0)


def test_the_best_point_and_the_time_are_told() -> None:
    line = Line("a", np.array([100.0, 200.0, 300.0]), np.array([0.2, 0.7, 0.6]))
    svg = line_chart("t", [line], percent=True, best=True, times=(np.array([0.0, 300.0]), np.array([0.0, 1800.0])))
    assert "best 70.0" in svg
    assert ">30 min<" in svg


@given(
    values=st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=30),
    logarithmic=st.booleans(),
)
def test_any_values_stay_within_the_axes(values: list[float], logarithmic: bool) -> None:
    svg = line_chart("t", [Line("a", np.arange(len(values)) + 1.0, np.array(values))], logarithmic=logarithmic)
    if not svg:
        assert logarithmic and max(values) <= 0
        return
    drawn = points(svg)
    assert np.all(drawn >= (LEFT - 0.06, TOP - 0.06))
    assert np.all(drawn <= (WIDTH - RIGHT + 0.06, HEIGHT - BOTTOM + 0.06))
    assert svg.count('class="grid"') <= 12


def test_a_calibrated_answer_lies_on_the_diagonal() -> None:
    reliability = Reliability.zeros(2)
    said = np.full((2, 1, 100), 0.25)
    said[0] = 0.75
    reliability.add(said, (np.arange(100) >= 75).astype(np.int16)[None])
    svg = reliability_chart("t", {"a": reliability})
    assert "said 75.0 %, right 75.0 %, 100 % of the answers" in svg
