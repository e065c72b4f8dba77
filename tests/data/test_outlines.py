"""Outlines give the same pixels back: by our own rule, and by COCO's."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label
from skimage.draw import disk

from intarsia.data.classes import ClassTable
from intarsia.data.outlines import Outline, joined, outlines, simplified
from intarsia.data.shapes import Drawing, Shape, rasterise, ring_area
from intarsia.records import Classes

TABLE = ClassTable(Classes.named(["background", "object"]), (-1, 0), coding="shapes")
masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda size: arrays(bool, size))


def drawn(rings: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    shapes = tuple(Shape(0, (ring,)) for ring in rings)
    return rasterise(Drawing(shapes, size), size, TABLE, "a").astype(bool)


def signed_area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def test_a_square_with_a_hole_to_be_checked_by_eye() -> None:
    mask = np.ones((3, 4), bool)
    mask[1, 1:3] = False
    (found,) = outlines(mask, left=10, top=20)
    assert found.outer.tolist() == [[10, 20], [14, 20], [14, 23], [10, 23]]
    (hole,) = found.holes
    assert sorted(hole.tolist()) == [[11, 21], [11, 22], [13, 21], [13, 22]]
    assert signed_area(found.outer) == 12 and signed_area(hole) == -2  # they go round in opposite directions


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    assert len(outlines(np.eye(3, dtype=bool))) == 3
    assert len(outlines(np.eye(3, dtype=bool)[::-1])) == 3
    assert outlines(np.zeros((3, 3), bool)) == () and outlines(np.zeros((0, 0), bool)) == ()


def test_an_island_in_a_hole_is_a_part_of_its_own() -> None:
    mask = np.ones((7, 7), bool)
    mask[1:-1, 1:-1] = False
    mask[2:5, 2:5] = True
    mask[3, 3] = False
    parts = outlines(mask)
    assert sorted((ring_area(part.outer), [ring_area(hole) for hole in part.holes]) for part in parts) == [
        (9.0, [1.0]),
        (49.0, [25.0]),
    ]


@settings(deadline=None, max_examples=300)
@given(masks)
def test_the_pixels_come_back(mask: np.ndarray) -> None:
    parts = outlines(mask)
    assert len(parts) == label(mask)[1]
    again = np.zeros(mask.shape, bool)
    for part in parts:
        inside = drawn([part.outer], mask.shape)
        for hole in part.holes:
            assert signed_area(hole) < 0
            inside &= ~drawn([hole], mask.shape)
        assert signed_area(part.outer) == inside.sum() + sum(ring_area(hole) for hole in part.holes)
        again |= inside
    np.testing.assert_array_equal(again, mask)
    if parts:
        one = joined(parts)
        np.testing.assert_array_equal(drawn([one], mask.shape), mask)
        assert signed_area(one) == mask.sum()
        shares = np.array([[float(f"{v:.7g}") for v in point] for point in one / np.array(mask.shape[::-1])])
        np.testing.assert_array_equal(drawn([shares * np.array(mask.shape[::-1])], mask.shape), mask)


@settings(deadline=None, max_examples=100)
@given(masks)
def test_cocos_own_tools_draw_the_same(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    again = np.zeros(mask.shape, bool)
    for part in outlines(mask):
        coded = coco.frPyObjects([ring.ravel().tolist() for ring in part.rings], *mask.shape)
        outer, *holes = (coco.decode(each).astype(bool) for each in coded)
        again |= outer & ~np.any(holes, axis=0) if holes else outer
    np.testing.assert_array_equal(again, mask)


def test_a_tolerance_takes_fewer_points_and_changes_only_the_border() -> None:
    mask = np.zeros((61, 61), bool)
    mask[disk((30, 30), 25)] = True
    (exact,), (rough,) = outlines(mask), outlines(mask, tolerance=1.0)
    assert len(rough.outer) < len(exact.outer) / 3
    again = drawn([rough.outer], mask.shape)
    assert 0.96 < (again & mask).sum() / (again | mask).sum() < 1
    dot = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    np.testing.assert_array_equal(simplified(dot, 5.0), dot)
    assert joined([Outline(dot)]) is dot


def test_thousands_of_objects_and_a_ragged_one_take_seconds() -> None:
    disc = np.zeros((41, 41), bool)
    disc[disk((20, 20), 20)] = True
    ragged = np.random.default_rng(0).random((300, 300)) < 0.6
    began = time.process_time()
    for _ in range(1000):
        outlines(disc)
    one = joined(outlines(ragged))
    assert time.process_time() - began < 10
    np.testing.assert_array_equal(drawn([one], ragged.shape), ragged)
