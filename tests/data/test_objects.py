"""Objects to three classes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.objects import BACKGROUND, BORDER, INSIDE, objects_of, three_classes
from intarsia.errors import DataError
from intarsia.records import IGNORE


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label images show the same objects, numbers aside."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T
    return len(pairs) == len(np.unique(one)) == len(np.unique(other)) and all((a == 0) == (b == 0) for a, b in pairs)


def test_a_square_to_be_checked_by_eye() -> None:
    image = np.zeros((6, 7), np.uint16)
    image[1:5, 1:5] = 9
    assert three_classes(image).tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 2, 2, 2, 2, 0, 0],
        [0, 2, 1, 1, 2, 0, 0],
        [0, 2, 1, 1, 2, 0, 0],
        [0, 2, 2, 2, 2, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_neighbours_that_touch_have_a_border_between_them_on_both_sides() -> None:
    image = np.ones((5, 8), np.int32)
    image[:, 4:] = 2
    mask = three_classes(image)
    assert (mask[:, 3:5] == BORDER).all()
    assert (mask[:, :3] == INSIDE).all() and (mask[:, 5:] == INSIDE).all()  # the picture's edge is no border
    assert same_objects(objects_of(mask), image)


def test_the_unknown_stays_unknown() -> None:
    image = np.zeros((4, 4), np.int32)
    image[0, 0] = -1
    assert three_classes(image)[0, 0] == IGNORE
    assert (three_classes(image) == BACKGROUND).sum() == 15


@st.composite
def tiled(draw: st.DrawFn) -> np.ndarray:
    """Rectangles of 3 pixels a side and more in the cells of a grid, many of them touching."""
    image = np.zeros((30, 30), np.int32)
    for cell in range(9):
        top, left = 10 * (cell // 3) + draw(st.integers(0, 3)), 10 * (cell % 3) + draw(st.integers(0, 3))
        height, width = draw(st.integers(3, 7)), draw(st.integers(3, 7))
        if draw(st.booleans()):
            image[top : top + height, left : left + width] = 40 - cell
    return image


@given(tiled())
@settings(deadline=None)
def test_objects_come_back_whole(image: np.ndarray) -> None:
    mask = three_classes(image)
    assert same_objects(objects_of(mask), image)
    probabilities = (mask == np.arange(3)[:, None, None]).astype(np.float32)
    assert same_objects(objects_of(probabilities), image)


def test_discs_that_touch_come_back_as_two() -> None:
    rows, columns = np.mgrid[:40, :60]
    image = np.where((rows - 20) ** 2 + (columns - 17) ** 2 <= 144, 1, 0)
    image = np.where((rows - 20) ** 2 + (columns - 41) ** 2 <= 144, 2, image)
    assert same_objects(objects_of(three_classes(image)), image)


def test_the_threshold_decides_what_is_inside() -> None:
    probabilities = np.zeros((3, 5, 9))
    probabilities[0] = 1
    probabilities[:, 1:4, 1:4] = np.array([0.2, 0.6, 0.2])[:, None, None]
    probabilities[:, 1:4, 6:8] = np.array([0.3, 0.4, 0.3])[:, None, None]
    assert objects_of(probabilities).max() == 1
    assert objects_of(probabilities, threshold=0.35).max() == 2
    assert objects_of(probabilities, threshold=0.35, smallest=7).max() == 1
    assert objects_of(probabilities, threshold=0.9).max() == 0


def test_what_shows_no_objects_is_refused() -> None:
    with pytest.raises(DataError, match="two axes"):
        three_classes(np.zeros((2, 2, 2), int))
    with pytest.raises(DataError, match="three classes"):
        objects_of(np.zeros((4, 5, 5)))
