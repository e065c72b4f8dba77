"""Detections of tiles are joined into those of the whole picture."""

from __future__ import annotations

import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from object_models import Numbers, object_classes, object_config, same_objects

from intarsia.inference.joining import Tile, joined
from intarsia.inference.objects import ObjectPredictor
from intarsia.records import Detections


def predictor(classes: int = 2, whole: bool = False, **options: object) -> ObjectPredictor:
    model = Numbers(object_config(classes=classes))
    model.whole = whole
    return ObjectPredictor(model, object_classes(classes), device="cpu", **options)  # type: ignore[arg-type]


def painted(found: Detections) -> np.ndarray:
    """The label image of detections that do not overlap."""
    image = np.zeros(found.size, np.int32)
    for number, ((left, top, right, bottom), mask) in enumerate(zip(found.boxes, found.masks, strict=True), start=1):
        window = image[top:bottom, left:right]
        assert mask.shape == window.shape and not window[mask].any(), "they overlap"
        window[mask] = number
    return image


def same(one: Detections, other: Detections) -> None:
    a, b = painted(one), painted(other)
    assert same_objects(a, b), f"{len(one)} and {len(other)} objects"
    for i, category in enumerate(one.classes, start=1):
        assert other.classes[b[a == i][0] - 1] == category


def found(*objects: tuple[tuple[int, int, int, int], int, float], size: tuple[int, int] = (8, 8)) -> Detections:
    """Detections of full boxes."""
    return Detections(
        size, np.array([box for box, *_ in objects], np.int64).reshape(-1, 4),
        np.array([category for _, category, _ in objects], np.int16),
        np.array([score for *_, score in objects], np.float32),
        tuple(np.ones((bottom - top, right - left), bool) for (left, top, right, bottom), *_ in objects),
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    picture=arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 2)),
    tile=st.integers(2, 12),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    whole=st.booleans(),
)
def test_what_tiles_see_joined_is_what_the_whole_shows(
    picture: np.ndarray, tile: int, overlap: float, whole: bool
) -> None:
    """Noise of three numbers: objects of every shape, cut by every border, that touch others of the other class."""
    if whole:  # each number's parts are objects of their own, so that tiles can see parts of one that do not touch
        numbers = painted(Numbers(object_config()).seen(picture)).clip(0, 255)
        picture = numbers.astype(np.uint8)
    at_once = predictor(3, whole).answer(picture[..., None])
    in_tiles = predictor(3, whole, tile=tile, overlap=overlap).answer(picture[..., None])
    assert isinstance(at_once, Detections) and isinstance(in_tiles, Detections)
    same(at_once, in_tiles)
    assert (np.diff(in_tiles.scores) <= 0).all()


@pytest.mark.parametrize("tile", [8, 13, 16, 32])
def test_objects_longer_than_a_tile_and_neighbours_that_touch(tile: int) -> None:
    picture = np.zeros((70, 90), np.uint8)
    picture[3:6, 2:88] = 1  # longer than any tile, and thin
    picture[6:9, 2:88] = 2  # touches it all along
    picture[12:60, 40:44] = 3
    picture[12:60, 44:47] = 4
    for k in range(5):  # a spiral, which meets each border many times
        picture[20 + 3 * k : 60 - 3 * k, 3 * k + 1] = picture[20 + 3 * k, 3 * k + 1 : 35 - 3 * k] = 5
        picture[20 + 3 * k : 57 - 3 * k, 34 - 3 * k] = picture[57 - 3 * k, 3 * k + 4 : 35 - 3 * k] = 5
    picture[62:70, 0:90:2] = 6  # a comb
    picture[69] = 6
    for overlap in (0.1, 0.25, 0.5):
        at_once, in_tiles = (predictor(3, tile=each, overlap=overlap).answer(picture[..., None]) for each in (99, tile))
        assert isinstance(at_once, Detections) and isinstance(in_tiles, Detections)
        same(at_once, in_tiles)


def test_the_best_view_gives_the_score_and_other_classes_stay_apart() -> None:
    """Two tiles of 8 x 8 that share four columns."""
    left = Tile(0, 0, 8, 8, found(((2, 1, 8, 3), 1, 0.4), ((1, 5, 8, 7), 1, 0.9)))
    right = Tile(4, 0, 12, 8, found(((0, 1, 6, 3), 1, 0.7), ((0, 5, 6, 7), 2, 0.8)))
    both = joined([left, right], (8, 12))
    assert both.boxes.tolist() == [[1, 5, 8, 7], [4, 5, 10, 7], [2, 1, 10, 3]]
    assert both.classes.tolist() == [1, 2, 1] and both.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_pieces_that_disagree_are_not_joined() -> None:
    left = Tile(0, 0, 8, 8, found(((2, 0, 8, 2), 1, 0.5)))
    right = Tile(4, 0, 12, 8, found(((0, 1, 6, 6), 1, 0.5)))  # shares a row of the two that the other has
    assert len(joined([left, right], (8, 12))) == 2


def test_a_cut_view_inside_of_a_larger_object_is_left_out_and_a_whole_one_is_not() -> None:
    large = ((0, 1, 7, 7), 1, 0.9)  # in columns 4..11 of the picture
    for box, kept in (((4, 3, 8, 5), 1), ((2, 3, 4, 5), 2)):  # at the left tile's border, and away from it
        left = Tile(0, 0, 8, 8, found((box, 1, 0.8)))
        assert len(joined([left, Tile(4, 0, 12, 8, found(large))], (8, 12))) == kept
    left, inside = Tile(0, 0, 8, 8, found()), ((2, 3, 3, 4), 2, 0.5)
    assert len(joined([left, Tile(4, 0, 12, 8, found(large, inside))], (8, 12))) == 2, "seen whole: a small one on it"


def test_what_one_tile_sees_whole_is_not_joined_by_a_neighbour_that_sees_it_cut() -> None:
    """The left tile merges two in its rim; the right one sees each of them whole."""
    merged = found(((4, 1, 8, 6), 1, 0.5), size=(8, 8))
    merged.masks[0][2, :3] = False  # two pieces at its border's side, together in the last column
    apart = found(((2, 1, 7, 3), 1, 0.9), ((2, 4, 7, 6), 1, 0.8), size=(8, 14))
    both = joined([Tile(0, 0, 8, 8, merged), Tile(2, 0, 16, 8, apart)], (8, 16))
    assert len(both) == 2 and (both.boxes[:, 3] - both.boxes[:, 1]).max() <= 5


def test_nothing_and_empty_masks() -> None:
    nothing = joined([Tile(0, 0, 8, 8, found()), Tile(4, 0, 12, 8, found())], (8, 12))
    assert len(nothing) == 0 and nothing.boxes.shape == (0, 4) and nothing.size == (8, 12)
    blank = found(((0, 0, 2, 2), 1, 0.9))
    blank.masks[0][:] = False
    assert len(joined([Tile(0, 0, 8, 8, blank), Tile(4, 0, 12, 8, found())], (8, 12))) == 0


def test_thousands_of_objects_take_seconds() -> None:
    """A grid of 70 x 70 squares, in tiles that cut many of them."""

    def square(x: int, y: int, left: int, top: int) -> tuple[tuple[int, int, int, int], int, float]:
        box = (max(x - left, 0), max(y - top, 0), min(x + 13 - left, 300), min(y + 13 - top, 300))
        return box, 1, 0.5

    tiles = []
    for top in range(0, 1400, 275):
        for left in range(0, 1400, 275):
            there = [
                square(x, y, left, top)
                for y in range(0, 1400, 20) if top - 13 < y < min(top + 300, 1400)
                for x in range(0, 1400, 20) if left - 13 < x < min(left + 300, 1400)
            ]  # fmt: skip
            tiles.append(Tile(left, top, left + 300, top + 300, found(*there, size=(300, 300))))
    began = time.process_time()
    result = joined(tiles, (1675, 1675))
    assert len(result) == 70 * 70 and time.process_time() - began < 5
    assert sum(mask.size for mask in result.masks) == 70 * 70 * 13 * 13, "no mask is larger than its object"
