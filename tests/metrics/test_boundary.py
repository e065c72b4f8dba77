"""Boundary F-score: squares shifted by a known number of pixels, and SciPy as the oracle of the distances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, distance_transform_edt

from intarsia.errors import DataError, UsageError
from intarsia.metrics import BoundaryScore, boundary_counts, inner_boundary
from intarsia.records import IGNORE, Classes


def square(left: int, side: int = 8, size: int = 24) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.int16)
    mask[8 : 8 + side, left : left + side] = 1
    return mask


def counted(true: np.ndarray, predicted: np.ndarray, classes: int = 2, tolerance: float | None = 1) -> BoundaryScore:
    boundary = BoundaryScore.zeros(classes, tolerance)
    boundary.add(true, predicted)
    return boundary


def test_the_boundary_of_a_four_by_four_picture() -> None:
    region = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]], dtype=bool)
    expected = [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]  # the picture's own border is none
    np.testing.assert_array_equal(inner_boundary(region), expected)


@pytest.mark.parametrize("shift", [1, 2, 3, 6])
def test_a_shifted_square_without_tolerance_keeps_the_common_part_of_two_sides(shift: int) -> None:
    boundary = counted(square(6), square(6 + shift), tolerance=0)
    assert boundary.counts[1].tolist() == [28, 2 * (8 - shift), 28, 2 * (8 - shift)]  # an outline of 4 * 8 - 4 pixels
    assert boundary.f_score[1] == pytest.approx(2 * (8 - shift) / 28)


@pytest.mark.parametrize("shift", [1, 2, 3, 6])
def test_a_tolerance_of_the_shift_forgives_it(shift: int) -> None:
    assert counted(square(6), square(6 + shift), tolerance=shift).f_score.tolist() == [1.0, 1.0]
    assert counted(square(6), square(6 + shift), tolerance=shift - 0.01).f_score[1] < 1


def test_the_tolerance_is_a_share_of_the_diagonal_and_at_least_a_pixel() -> None:
    small = counted(square(6), square(7), tolerance=None)  # 0.75 % of 34 pixels would forgive nothing
    assert small.mean_f_score == 1.0
    large = [square(left, side=100, size=400) for left in (100, 104, 105)]  # 0.75 % of 566 pixels: 4.2
    assert counted(large[0], large[1], tolerance=None).mean_f_score == 1.0
    assert counted(large[0], large[2], tolerance=None).mean_f_score < 1.0


def test_what_the_other_side_does_not_have() -> None:
    """Class 1 only in the truth, class 2 only predicted, class 3 in neither; class 0 fills the rest."""
    boundary = counted(square(6), 2 * square(6), classes=4, tolerance=1)
    np.testing.assert_array_equal(boundary.f_score, [1, 0, 0, np.nan])
    assert boundary.mean_f_score == pytest.approx(1 / 2)
    whole = counted(np.zeros((8, 8), dtype=int), np.zeros((8, 8), dtype=int))
    assert np.isnan(whole.f_score).all() and np.isnan(whole.mean_f_score)  # a region without an end has no outline


def test_outlines_hidden_by_unlabelled_pixels_do_not_count() -> None:
    true, predicted = square(6), square(6)
    predicted[8:16, 14:18] = 1  # the square is said to go on to the right by 4 pixels
    wrong = counted(true, predicted, tolerance=1)
    true[6:18, 13:20] = IGNORE  # nobody knows what is there
    forgiven = counted(true, predicted, tolerance=1)
    assert wrong.f_score[1] < 1
    assert forgiven.f_score.tolist() == [1.0, 1.0]
    # of the 28 the right column and its neighbours are gone: the left column and 5 more of the top and of the bottom
    assert forgiven.counts[1].tolist() == [8 + 2 * 5, 8 + 2 * 5, 8 + 2 * 5, 8 + 2 * 5]
    nothing = counted(np.full_like(true, IGNORE), predicted)
    assert nothing.counts.sum() == 0


@given(seed=st.integers(0, 10**6), tolerance=st.floats(0, 4))
@settings(max_examples=40, deadline=None)
def test_scipy_agrees(seed: int, tolerance: float) -> None:
    true, predicted = np.random.default_rng(seed).random((2, 12, 15)) < 0.7
    lines = [region & ~binary_erosion(region, border_value=1) for region in (predicted, true)]
    expected = []
    for ours, theirs in (lines, lines[::-1]):
        expected += [ours.sum(), (ours & (distance_transform_edt(~theirs) <= tolerance)).sum()]
    counts = boundary_counts(true, predicted, np.ones_like(true), tolerance)
    np.testing.assert_array_equal(counts, expected)


def test_pictures_are_pooled() -> None:
    pairs = [(square(6), square(8)), (square(4), square(4))]
    both = BoundaryScore.zeros(2, 1)
    for pair in pairs:
        both.add(*pair)
    np.testing.assert_array_equal((counted(*pairs[0]) + counted(*pairs[1])).counts, both.counts)
    assert both.recall[1] == pytest.approx((16 + 28) / 56)  # at a distance of 1, 16 of the first square's 28


def test_labels_of_overlapping_classes() -> None:
    true, predicted = np.stack([square(6), square(2)]), np.stack([square(6), square(5)])
    boundary = counted(true, predicted, tolerance=0)
    assert boundary.f_score.tolist() == pytest.approx([1.0, 10 / 28])
    scores = boundary.scores(Classes.named(["left", "right"], overlapping=True))
    assert scores["mean_boundary_f"] == boundary.mean_f_score
    assert "within 0 pixels" in scores.definitions["boundary_f"]


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UsageError, match="tolerance"):
        BoundaryScore.zeros(2, -1)
    with pytest.raises(DataError, match="one shape"):
        counted(square(6), square(6)[1:])
    with pytest.raises(UsageError, match="3 classes"):
        counted(np.zeros((3, 4, 4)), np.zeros((3, 4, 4)))
    with pytest.raises(UsageError, match="tolerance"):
        BoundaryScore.zeros(2, 1) + BoundaryScore.zeros(2, 2)
