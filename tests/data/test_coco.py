"""Outlines cover the pixels whose centres they hold; damaged annotations are dropped, counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from intarsia.data.classes import ClassTable
from intarsia.data.coco import decode_counts, read_coco
from intarsia.data.shapes import Drawing, Shape, checked_ring, rasterise
from intarsia.data.yolo import read_names, read_yolo
from intarsia.errors import DataError
from intarsia.records import IGNORE, Classes

TABLE = ClassTable(Classes.named(["background", "cat", "dog"]), (-1, 7, 3), ignore=(9,), coding="shapes")
SIZE = (6, 8)


def square(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def drawn(*shapes: Shape) -> np.ndarray:
    return rasterise(Drawing(shapes, SIZE), SIZE, TABLE, "a")


def test_a_square_covers_exactly_its_pixels() -> None:
    mask = drawn(Shape(7, (checked_ring(square(2, 1, 5, 4)),)))
    wanted = np.zeros(SIZE, int)
    wanted[1:4, 2:5] = 1
    np.testing.assert_array_equal(mask, wanted)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-40, 120), st.integers(-40, 100)), min_size=3, max_size=9, unique=True))
def test_a_pixel_is_inside_where_its_centre_is(points: list[tuple[int, int]]) -> None:
    ring = np.array(points, float) / 10 + 0.0137  # so that no centre lies on an edge
    mask = drawn(Shape(7, (ring,)))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    centres = np.stack([columns + 0.5, rows + 0.5], -1).reshape(-1, 2)
    np.testing.assert_array_equal(mask.astype(bool).ravel(), points_in_poly(centres, ring))


def test_small_shapes_lie_over_large_ones_and_categories_may_be_ignored() -> None:
    small = Shape(3, (checked_ring(square(1, 1, 3, 3)),), area=4)
    large = Shape(7, (checked_ring(square(0, 0, 6, 6)),), area=36)
    void = Shape(9, (checked_ring(square(7, 0, 8, 1)),), area=1)
    mask = drawn(small, large, void)
    assert mask[2, 2] == 2 and mask[0, 0] == 1 and mask[0, 7] == IGNORE and mask[5, 7] == 0


def test_rings_are_united_and_may_leave_the_picture() -> None:
    mask = drawn(Shape(7, (checked_ring(square(-5, -5, 2, 2)), checked_ring(square(1, 1, 99, 99)))))
    assert mask[0, 0] == mask[1, 1] == mask[5, 7] == 1 and mask[0, 7] == 0


def test_a_category_that_is_not_listed_is_named() -> None:
    with pytest.raises(DataError, match="category 5"):
        drawn(Shape(5, (checked_ring(square(0, 0, 1, 1)),)))


def encode_counts(numbers: list[int]) -> str:
    """Compressed run lengths, written from the format's description; the inverse of `decode_counts`."""
    text = ""
    for place, number in enumerate(numbers):
        value = number - numbers[place - 2] if place > 2 else number
        while True:
            group, value = value & 31, value >> 5
            last = (value == 0 and not group & 16) or (value == -1 and group & 16)
            text += chr(48 + (group if last else group | 32))
            if last:
                break
    return text


@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_compressed_run_lengths_are_undone(numbers: list[int]) -> None:
    assert decode_counts(encode_counts(numbers)) == numbers


def test_known_compressed_run_lengths() -> None:
    # 20 is "d0": its low five bits with 32 for more to come, then nothing. The fifth is 15 - 12: -12 is "D".
    assert decode_counts("d05?0D") == [20, 5, 15, 5, 3]


@pytest.mark.parametrize("text", ["d", "é", "~~~~~~~~~~~~~", " "])
def test_damaged_run_lengths_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        decode_counts(text)


def coco(annotations: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": annotations,
        **more,
    }


def test_polygons_and_both_kinds_of_run_lengths_say_the_same(tmp_path: Path) -> None:
    wanted = np.zeros(SIZE, int)
    wanted[1:4, 2:5] = 1
    runs, value = [0], 0
    for pixel in wanted.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    outlines = [
        [square(2, 1, 5, 4)],
        {"size": list(SIZE), "counts": runs},
        {"size": list(SIZE), "counts": encode_counts(runs)},
    ]
    for outline in outlines:
        one = {"id": 5, "image_id": 1, "category_id": 7, "segmentation": outline, "iscrowd": 0}
        (tmp_path / "a.json").write_text(json.dumps(coco([one])))
        annotations = read_coco(tmp_path / "a.json")
        assert not annotations.problems
        np.testing.assert_array_equal(rasterise(annotations.drawings["a.png"], SIZE, TABLE, "a"), wanted)


BAD = [
    {"segmentation": [[1, 2, 3, 4]]},
    {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
    {"segmentation": [["a", 2, 3, 4, 5, 6]]},
    {"segmentation": [[float("nan"), 2, 3, 4, 5, 6]]},
    {"segmentation": [[1e300, 2, 3, 4, 5, 6]]},
    {"segmentation": [1, 2, 3]},
    {"segmentation": []},
    {"segmentation": None},
    {"segmentation": {"size": [6, 8], "counts": [5, 5]}},
    {"segmentation": {"size": [6, 8], "counts": [-5, 53]}},
    {"segmentation": {"size": [600, 800], "counts": [480000]}},
    {"segmentation": {"size": [6, 8], "counts": "~~~"}},
    {"segmentation": {"size": [6, 8], "counts": None}},
    {"segmentation": {"counts": [48]}},
    {"segmentation": {"size": 6, "counts": [48]}},
    {},
    {"segmentation": [square(0, 0, 1, 1)], "category_id": 99},
    {"segmentation": [square(0, 0, 1, 1)], "image_id": 99},
    {"segmentation": [square(0, 0, 1, 1)], "image_id": []},
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_damaged_annotation_is_dropped_and_named(tmp_path: Path, bad: dict[str, Any]) -> None:
    good = {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [square(2, 1, 5, 4)]}
    (tmp_path / "a.json").write_text(json.dumps(coco([{"id": 4711, "image_id": 1, "category_id": 7, **bad}, good])))
    annotations = read_coco(tmp_path / "a.json")
    assert len(annotations.drawings["a.png"].shapes) == 1
    (problem,) = annotations.problems
    assert "4711" in problem and "1 shape(s)" in problem and "a.json" in problem


def test_annotations_that_are_no_objects(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(coco([None, 5, "x"])))
    assert "3 shape(s)" in read_coco(tmp_path / "a.json").problems[0]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"images": 5, "annotations": [], "categories": []}', "[" * 99999]
)
def test_what_is_no_coco_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json"):
        read_coco(tmp_path / "a.json")


def test_yolo_polygons_are_shares_of_the_picture(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.25 0 0.5 0 0.5 0.5 0.25 0.5\n\n1 bad\n0 0.1 0.2 0.3 0.4\n2 5 5 6 6 7 9\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    annotations = read_yolo({"a": tmp_path / "a.txt"}, [tmp_path / "classes.txt"])
    assert annotations.categories == {0: "cat", 1: "dog"}
    (problem,) = annotations.problems
    assert all(words in problem for words in ("3 shape(s)", "line 3", "line 4: a box", "line 5"))
    table = ClassTable(Classes.named(["background", "cat"]), (-1, 0), coding="shapes")
    mask = rasterise(annotations.drawings["a"], SIZE, table, "a")
    wanted = np.zeros(SIZE, int)
    wanted[:3, 2:4] = 1
    np.testing.assert_array_equal(mask, wanted)


def test_yolo_boxes_alone_are_no_masks(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match="boxes"):
        read_yolo({"a": tmp_path / "a.txt"}, [])


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, 'big dog']\nnc: 2\n",
        "train: a\nnames:\n  - cat  # the first\n  - big dog\nnc: 2\n",
        'names:\n- cat\n- "big dog"\n',
        "nc: 2\nnames:\n  0: cat\n  1: big dog\nval: b\n",
        "names: {0: cat, 1: 'big dog'}\n",
        "names: [\n  cat,\n  big dog,\n]\n",
    ],
)
def test_names_in_the_ways_people_write_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    assert read_names(tmp_path / "data.yaml") == {0: "cat", 1: "big dog"}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.booleans(), min_size=24, max_size=24), st.booleans())
def test_runs_are_unrolled_in_their_box(pixels: list[bool], split: bool) -> None:
    """Column by column, over the ends of columns too, and with runs of no pixel."""
    wanted = np.array(pixels).reshape(6, 4).T
    runs, value = [0], False
    for pixel in pixels:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
        if split and runs[-1] == 2:
            runs += [0, 0]
    mask = rasterise(Drawing((Shape(7, runs=np.array(runs, np.int64)),), (4, 6)), (4, 6), TABLE, "a")
    np.testing.assert_array_equal(mask, wanted)
