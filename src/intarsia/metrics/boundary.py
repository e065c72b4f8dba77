"""Boundary F-score: are the class's outlines where they should be, within a tolerance?

Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013. The paper averages
over pictures; here the outline pixels of all pictures are pooled, as in confusion.py, so that a picture counts by the
length of its outlines.
"""

from __future__ import annotations

import math
from typing import Self

import cv2
import numpy as np

from ..errors import DataError, UsageError
from ..records import IGNORE, Classes
from .scores import Score, Scores, column, mean_where, names_where, ratio

TOLERANCE = 0.0075  # of the picture's diagonal, the paper's choice; at least one pixel
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_SQUARE = np.ones((3, 3), dtype=np.uint8)


def inner_boundary(region: np.ndarray) -> np.ndarray:
    """The pixels of `region` (H, W) bool that have one of their four neighbours outside it, (H, W) bool.

    The picture's own border is no boundary.
    """
    region = region.astype(np.uint8)
    return (region - cv2.erode(region, _CROSS)).astype(bool)


def boundary_counts(true: np.ndarray, predicted: np.ndarray, known: np.ndarray, tolerance: float) -> np.ndarray:
    """Pixels (4,) int64: on the predicted boundary, those of them near the true one; on the true boundary, likewise.

    true, predicted: regions (H, W) bool; true is False where it is unknown.
    known: (H, W) bool; a boundary pixel that is unknown or touches an unknown pixel is not counted, since the unknown
    may hide where the boundary is, but the other side's pixels may still be near it.
    tolerance: in pixels, >= 0; near is at this Euclidean distance or less.
    """
    clear = cv2.dilate((~known).astype(np.uint8), _SQUARE) == 0
    outlines = inner_boundary(predicted), inner_boundary(true)
    counts = []
    for ours, theirs in (outlines, outlines[::-1]):
        counted = ours & clear
        near = _distance(theirs)[counted] <= tolerance if counted.any() and theirs.any() else np.zeros(0, dtype=bool)
        counts += [counted.sum(), near.sum()]
    return np.array(counts, dtype=np.int64)


class BoundaryScore:
    """Pooled counts of outline pixels of K classes, and the boundary F-score that follows from them."""

    def __init__(self, counts: np.ndarray, tolerance: float | None = None) -> None:
        self.counts = counts  # (K, 4) int64, the columns as in `boundary_counts`
        self.tolerance = tolerance  # pixels; None: TOLERANCE of each picture's diagonal, at least 1

    @classmethod
    def zeros(cls, classes: int, tolerance: float | None = None) -> Self:
        if tolerance is not None and tolerance < 0:
            raise UsageError(f"the boundary's tolerance is {tolerance} pixels, but must be 0 or more.")
        return cls(np.zeros((classes, 4), dtype=np.int64), tolerance)

    def add(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Count one picture: masks (H, W), 0..K-1 or IGNORE; where classes overlap, labels (K, H, W), 0, 1 or IGNORE.

        A prediction of IGNORE is of no class.
        """
        if true.shape != predicted.shape or true.ndim not in (2, 3):
            raise DataError(f"truth {true.shape} and prediction {predicted.shape} must be of one shape, 2 or 3 axes.")
        if true.ndim == 3 and len(true) != len(self.counts):
            raise UsageError(f"labels of {len(true)} classes do not go together with {len(self.counts)} classes.")
        reach = self.tolerance if self.tolerance is not None else max(1.0, TOLERANCE * math.hypot(*true.shape[-2:]))
        for k, count in enumerate(self.counts):
            if true.ndim == 2:
                regions, known = (true == k, predicted == k), true != IGNORE
            else:
                regions, known = (true[k] == 1, predicted[k] == 1), true[k] != IGNORE
            if regions[0].any() or regions[1].any():
                count += boundary_counts(*regions, known, reach)

    def __add__(self, other: BoundaryScore) -> BoundaryScore:
        """The counts of both one's pictures."""
        if self.counts.shape != other.counts.shape or self.tolerance != other.tolerance:
            raise UsageError(
                f"boundary counts of {len(self.counts)} classes at tolerance {self.tolerance} do not go together with "
                f"those of {len(other.counts)} classes at tolerance {other.tolerance}."
            )
        return BoundaryScore(self.counts + other.counts, self.tolerance)

    @property
    def precision(self) -> np.ndarray:
        """The share of the predicted boundary near the true one (K,), NaN where none is predicted."""
        return ratio(self.counts[:, 1], self.counts[:, 0])

    @property
    def recall(self) -> np.ndarray:
        """The share of the true boundary near the predicted one (K,), NaN where there is none."""
        return ratio(self.counts[:, 3], self.counts[:, 2])

    @property
    def f_score(self) -> np.ndarray:
        """2 PR / (P + R) (K,) in [0, 1]; 0 where only one of truth and prediction has a boundary, NaN where neither."""
        p, r = np.nan_to_num(self.precision), np.nan_to_num(self.recall)
        score = np.nan_to_num(ratio(2 * p * r, p + r))
        return np.where((self.counts[:, 0] > 0) | (self.counts[:, 2] > 0), score, np.nan)

    @property
    def mean_f_score(self) -> float:
        """The mean over the classes with a boundary in the truth; NaN where there is none."""
        return mean_where(self.f_score, self.counts[:, 2] > 0)

    def scores(self, classes: Classes) -> Scores:
        """Every number with its definition, overall and by class."""
        if len(classes) != len(self.counts):
            raise UsageError(f"counts of {len(self.counts)} classes do not go together with {len(classes)} classes.")
        reach = f"{TOLERANCE:.2%} of the diagonal" if self.tolerance is None else f"{self.tolerance:g} pixels"
        definition = (
            f"2 PR / (P + R) with P the share of the predicted outline's pixels within {reach} of the true outline, "
            "R the reverse, pooled over all pictures"
        )
        occurs = self.counts[:, 2] > 0
        over = f"the {occurs.sum()} of {len(occurs)} classes that have an outline in the truth"
        return Scores(
            classes=classes.names,
            overall=(Score("mean_boundary_f", self.mean_f_score, f"mean of {definition}, over {over}"),),
            per_class={"boundary_f": column(self.f_score)},
            definitions={"boundary_f": definition},
            absent=names_where(classes.names, ~occurs),
        )


def _distance(boundary: np.ndarray) -> np.ndarray:
    """Euclidean distance in pixels to the nearest pixel of `boundary` (H, W) bool, which has one; (H, W) float32."""
    # exact, and several times faster than SciPy's
    return cv2.distanceTransform((~boundary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
