"""Are the objects found? True and predicted objects are paired by their overlap, and pairs and lone ones are counted.

Caicedo, Goodman, Karhohs et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl,
Nature Methods 2019, https://doi.org/10.1038/s41592-019-0612-7 (average precision as TP / (TP + FP + FN), at one
threshold of the IoU; it is not COCO's, which ranks by scores)
Weigert, Schmidt et al.: StarDist, https://arxiv.org/abs/1806.03535 (the same)

An object is what bears one number above 0 in a label image. Overlaps are counted for the pairs that touch, never for
all N x M, and no object becomes a mask of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..errors import DataError, UsageError
from .scores import Score, ratio

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
LARGEST_TABLE = 1 << 24  # numbers of objects up to which a table finds their places, ten times as fast as sorting


@dataclass(frozen=True)
class Overlaps:
    """The pairs of a true and a predicted object that share a pixel, P of them, and how many objects there are."""

    true: np.ndarray  # (N,) the numbers of the true objects, rising
    predicted: np.ndarray  # (M,) likewise
    pairs: np.ndarray  # (P, 2) int64: places in `true` and in `predicted`
    iou: np.ndarray  # (P,) float64 in (0, 1]
    shared: np.ndarray  # (P,) int64: pixels of each pair that are of both
    true_areas: np.ndarray  # (N,) int64: pixels of each true object
    predicted_areas: np.ndarray  # (M,) int64: likewise, without those where nobody knows the truth


def overlaps(true: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Which objects of two label images (H, W) share pixels, and their IoU.

    0 is background. Where the truth is below 0 nobody knows, and those pixels count for neither. Any number of axes
    will do. Raises DataError for images of different shapes, or numbers that are no whole ones.
    """
    if true.shape != predicted.shape:
        raise DataError(f"truth {true.shape} and prediction {predicted.shape} must be label images of one shape.")
    if true.dtype.kind not in "iub" or predicted.dtype.kind not in "iub":
        raise DataError(f"label images hold whole numbers, but these hold {true.dtype} and {predicted.dtype}.")
    known = true.ravel() >= 0
    ours, theirs = true.ravel()[known], predicted.ravel()[known]
    there = (ours > 0) | (theirs > 0)
    first, rows = _places(np.maximum(ours[there], 0))
    second, columns = _places(np.maximum(theirs[there], 0))
    shape = (len(first), len(second))
    table = coo_matrix((np.ones(len(rows), np.int64), (rows, columns)), shape).tocsr().tocoo()  # the doubles summed
    true_areas, predicted_areas = np.bincount(rows, minlength=shape[0]), np.bincount(columns, minlength=shape[1])
    row, column, shared = table.row.astype(np.int64), table.col.astype(np.int64), table.data
    both = (first[row] > 0) & (second[column] > 0) if len(row) else np.zeros(0, bool)
    row, column, shared = row[both], column[both], shared[both]
    iou = shared / (true_areas[row] + predicted_areas[column] - shared)
    skip = np.array([int((first == 0).any()), int((second == 0).any())])  # the background's place
    pairs = np.stack([row, column], axis=1) - skip
    areas = true_areas[skip[0] :], predicted_areas[skip[1] :]
    return Overlaps(first[skip[0] :], second[skip[1] :], pairs, iou, shared, *areas)


def _places(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different numbers, none below 0, rising, and the place of each among them; without sorting where it can."""
    top = int(numbers.max(initial=0))
    if top > LARGEST_TABLE:
        return np.unique(numbers, return_inverse=True)
    occurs = np.zeros(top + 1, bool)
    occurs[numbers] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[numbers]


def matched(found: Overlaps, threshold: float = 0.5) -> np.ndarray:
    """(T,) int64: which of `found.pairs` are matches: IoU >= threshold, each object in one of them at most.

    Above 0.5 no object can have two partners. Below, or with two at exactly 0.5, as many pairs as possible are made,
    and of those choices the one with the largest sum of IoU is taken (the Hungarian method, on each knot by itself).
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold of the IoU is {threshold}, but must be above 0 and at most 1.")
    candidates = np.flatnonzero(found.iou >= threshold)
    pairs = found.pairs[candidates]
    if not len(pairs):
        return candidates
    alone = (np.bincount(pairs[:, 0])[pairs[:, 0]] == 1) & (np.bincount(pairs[:, 1])[pairs[:, 1]] == 1)
    chosen = [candidates[alone]]
    knotted = candidates[~alone]
    if len(knotted):
        chosen += [knotted[_best(found.pairs[knotted], found.iou[knotted])]]
    return np.sort(np.concatenate(chosen))


def _best(pairs: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Places in `pairs` (P, 2) of the largest matching, of these the one with the largest sum of IoU."""
    count = int(pairs[:, 0].max()) + 1
    size = count + int(pairs[:, 1].max()) + 1
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], count + pairs[:, 1])), (size, size))
    knots = connected_components(graph, directed=False)[1][pairs[:, 0]]
    chosen: list[np.ndarray] = []
    order = np.argsort(knots, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(knots[order])) + 1):
        rows, row = np.unique(pairs[places, 0], return_inverse=True)
        columns, column = np.unique(pairs[places, 1], return_inverse=True)
        gain = np.zeros((len(rows), len(columns)))
        number = np.full(gain.shape, -1)
        gain[row, column] = 1 + iou[places] / (2 * min(gain.shape))  # one pair more outweighs all IoU
        number[row, column] = places
        best = number[linear_sum_assignment(gain, maximize=True)]
        chosen.append(best[best >= 0])
    return np.concatenate(chosen)


class MatchingScore:
    """Pooled counts of matched and of lone objects at T thresholds of the IoU, and the scores that follow from them.

    A picture counts by its number of objects. For a mean over pictures, give each a score of its own.
    """

    def __init__(self, counts: np.ndarray, thresholds: Sequence[float]) -> None:
        self.counts = counts  # (T, 4) float64: matches, lone predictions, lone true objects, sum of the matches' IoU
        self.thresholds = tuple(thresholds)

    @classmethod
    def zeros(cls, thresholds: Sequence[float] = THRESHOLDS) -> Self:
        return cls(np.zeros((len(thresholds), 4)), thresholds)

    @classmethod
    def of(cls, true: np.ndarray, predicted: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> Self:
        """The score of one picture: label images (H, W), as in `overlaps`."""
        score = cls.zeros(thresholds)
        score.add(true, predicted)
        return score

    def add(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Count one picture: label images (H, W), 0 = background, below 0 in the truth = unknown."""
        found = overlaps(true, predicted)
        for count, threshold in zip(self.counts, self.thresholds, strict=True):
            pairs = matched(found, threshold)
            hits = len(pairs)
            count += [hits, len(found.predicted) - hits, len(found.true) - hits, found.iou[pairs].sum()]

    def __add__(self, other: MatchingScore) -> MatchingScore:
        """The counts of both one's pictures."""
        if self.thresholds != other.thresholds:
            raise UsageError(f"counts at {self.thresholds} do not go together with counts at {other.thresholds}.")
        return MatchingScore(self.counts + other.counts, self.thresholds)

    @property
    def precision(self) -> np.ndarray:
        """(T,): the share of the predicted objects that are matched; NaN where none is predicted."""
        return ratio(self.counts[:, 0], self.counts[:, 0] + self.counts[:, 1])

    @property
    def recall(self) -> np.ndarray:
        """(T,): the share of the true objects that are matched; NaN where there is none."""
        return ratio(self.counts[:, 0], self.counts[:, 0] + self.counts[:, 2])

    @property
    def f1(self) -> np.ndarray:
        """(T,): 2 TP / (2 TP + FP + FN); NaN where there is nothing in truth and prediction."""
        return ratio(2 * self.counts[:, 0], self.counts[:, :3] @ np.array([2.0, 1.0, 1.0]))

    @property
    def average_precision(self) -> np.ndarray:
        """(T,): TP / (TP + FP + FN); NaN where there is nothing in truth and prediction."""
        return ratio(self.counts[:, 0], self.counts[:, :3].sum(axis=1))

    @property
    def mean_matched_iou(self) -> np.ndarray:
        """(T,): the mean IoU of the matches; NaN where there is none."""
        return ratio(self.counts[:, 3], self.counts[:, 0])

    def at(self, name: str, threshold: float = 0.5) -> float:
        """One of the numbers above at one of the thresholds. Raises UsageError where that was not counted."""
        for value, each in zip(getattr(self, name), self.thresholds, strict=True):
            if math.isclose(each, threshold):
                return float(value)
        raise UsageError(f"matches at an IoU of {threshold} were not counted; there are {self.thresholds}.")

    def scores(self) -> tuple[Score, ...]:
        """Each number at the first threshold, and the mean average precision over all, with their definitions."""
        at, first = f"IoU >= {self.thresholds[0]:g}", f"{100 * self.thresholds[0]:g}"
        pooled = "over the objects of all pictures; pairs are unique"
        definitions = {
            f"AP{first}": ("average_precision", f"TP / (TP + FP + FN) of objects at {at}, {pooled}"),
            f"F1_{first}": ("f1", f"2 TP / (2 TP + FP + FN) of objects at {at}, {pooled}"),
            f"precision_{first}": ("precision", f"TP / (TP + FP) of objects at {at}, {pooled}"),
            f"recall_{first}": ("recall", f"TP / (TP + FN) of objects at {at}, {pooled}"),
            "mean_matched_iou": ("mean_matched_iou", f"mean IoU of the pairs at {at}"),
        }
        values = [Score(name, float(getattr(self, key)[0]), words) for name, (key, words) in definitions.items()]
        mean = float(self.average_precision.mean())
        over = f"mean of TP / (TP + FP + FN) over the IoU thresholds {', '.join(f'{t:g}' for t in self.thresholds)}"
        return (*values, Score("mean_AP", mean, over))
