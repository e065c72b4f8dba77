"""The true and the predicted objects of one picture beside each other: who is whose partner, and what went wrong.

N true and M predicted objects, P pairs that share a pixel, K classes of which 0 is the background.

Kinds of error, by shape alone, the first that fits:

    split      a true object, in which two or more predicted ones lie with over half of their pixels
    merged     a predicted object, in which two or more true ones lie with over half of their pixels
    confused   a pair (IoU >= 0.5) of different classes
    missed     a true object without a partner (IoU >= 0.5), neither split nor merged with another
    invented   a predicted object without a partner, neither part of a split one nor a merged one

Specks are no parts of a split or merged object: what has less than a tenth of its largest part's pixels in it.
So an object that was found with a poor outline (IoU < 0.5) is missed, and what was found in its place is invented.

Kumar, Verma, Sharma et al., "A Dataset and a Technique for Generalized Nuclear Segmentation for Computational
Pathology", 2017, https://doi.org/10.1109/TMI.2017.2677499 (the aggregated Jaccard index, algorithm 1).
Kirillov, He, Girshick, Rother, Dollár, "Panoptic Segmentation", 2019, https://arxiv.org/abs/1801.00868 (section 4.2:
what lies mostly where nobody knows is no false alarm).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from ..errors import DataError
from ..records import IGNORE, Instances
from .matching import Overlaps, matched, overlaps

HALF = 0.5  # IoU from which two objects are partners; of an object's pixels, beyond which it lies mostly in another
TENTH = 0.1  # of the largest part of a split or merged object, below which another part is a speck


@dataclass(frozen=True)
class ComparedObjects:
    """One picture's objects and their pairs. What the label images do not show is not there."""

    found: Overlaps  # all pairs, whatever their classes
    true_classes: np.ndarray  # (N,) int64, 1..K-1
    predicted_classes: np.ndarray  # (M,) int64, 1..K-1
    scores: np.ndarray | None  # (M,) float64 in [0, 1]; None: the answer has none
    excused: np.ndarray  # (M,) bool: more than half of it lies where nobody knows, so that it is no false alarm

    @cached_property
    def within(self) -> Overlaps:
        """The pairs of one class alone."""
        rows, columns = self.found.pairs.T
        same = self.true_classes[rows] == self.predicted_classes[columns]
        if same.all():
            return self.found
        found = self.found
        return replace(found, pairs=found.pairs[same], iou=found.iou[same], shared=found.shared[same])

    @cached_property
    def partners(self) -> np.ndarray:
        """(Q, 2) int64: places of the true and the predicted objects that are partners, whatever their classes."""
        return self.found.pairs[matched(self.found, HALF)]

    @cached_property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN) at IoU >= 0.5 within classes; 1 where there is nothing in truth and answer."""
        pairs = self.within.pairs[matched(self.within, HALF)]
        alarms = len(_without(len(self.excused), pairs[:, 1], np.flatnonzero(self.excused)))
        every = len(self.true_classes) + alarms
        return len(pairs) / every if every else 1.0

    @cached_property
    def errors(self) -> ObjectErrors:
        """What went wrong, by the rules above."""
        true, predicted, found = self.found.true, self.found.predicted, self.found
        partners, rows, columns = self.partners, found.pairs[:, 0], found.pairs[:, 1]
        split, pieces = _broken(rows, columns, found.shared, found.true_areas, found.predicted_areas)
        merged, swallowed = _broken(columns, rows, found.shared, found.predicted_areas, found.true_areas)
        strange = partners[self.true_classes[partners[:, 0]] != self.predicted_classes[partners[:, 1]]]
        told = np.isin(strange[:, 0], split) | np.isin(strange[:, 1], merged)
        lone = _without(len(true), partners[:, 0], split, swallowed)
        invented = _without(len(predicted), partners[:, 1], pieces, merged, np.flatnonzero(self.excused))
        return ObjectErrors(true[lone], predicted[invented], true[split], predicted[merged], true[strange[~told, 0]])


@dataclass(frozen=True)
class ObjectErrors:
    """The numbers that the objects in error bear in their label image, rising, (E,) int64 each."""

    missed: np.ndarray  # in the truth
    invented: np.ndarray  # in the answer
    split: np.ndarray  # in the truth
    merged: np.ndarray  # in the answer
    confused: np.ndarray  # in the truth

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return {each.name: len(getattr(self, each.name)) for each in fields(self)}


def compare_objects(truth: Instances, answer: Instances) -> ComparedObjects:
    """The objects of two label images (H, W) beside each other. Where the truth is IGNORE nobody knows, and those
    pixels count for neither. Raises DataError for images of different sizes, or objects without a class."""
    found = overlaps(truth.label_image, answer.label_image)
    excused = np.zeros(len(found.predicted), bool)
    unknown = answer.label_image[truth.label_image < 0]
    unknown = unknown[unknown > 0]
    if len(unknown):
        place = np.searchsorted(found.predicted, unknown)
        there = place < len(found.predicted)
        there[there] = found.predicted[place[there]] == unknown[there]
        excused = np.bincount(place[there], minlength=len(excused)) > found.predicted_areas
    true, predicted = _of(truth.classes, found.true, "the truth"), _of(answer.classes, found.predicted, "the answer")
    scores = None if answer.scores is None else _of(answer.scores, found.predicted, "the answer").astype(np.float64)
    return ComparedObjects(found, true.astype(np.int64), predicted.astype(np.int64), scores, excused)


def jaccard_sums(compared: ComparedObjects, classes: int) -> np.ndarray:
    """(K, 2) int64 pixels: intersections and unions, of which the quotient is the aggregated Jaccard index.

    Each true object takes the predicted one of its class with the largest IoU (of equals the one with the most shared
    pixels), also one that another has taken; both areas' intersection and union are added. A true object without an
    overlap, and a predicted one that nobody took, add their area to the union.
    """
    found = compared.within
    sums = np.zeros((classes, 2), np.int64)
    order = np.lexsort((found.shared, found.iou, found.pairs[:, 0]))
    rows = found.pairs[order, 0]
    best = order[np.flatnonzero(np.append(rows[1:] != rows[:-1], True))] if len(rows) else order  # its last is best
    row, column = found.pairs[best].T
    unions = found.true_areas[row] + found.predicted_areas[column] - found.shared[best]
    _add(sums[:, 0], compared.true_classes[row], found.shared[best])
    _add(sums[:, 1], compared.true_classes[row], unions)
    lone = _without(len(found.true), row)
    _add(sums[:, 1], compared.true_classes[lone], found.true_areas[lone])
    unused = _without(len(found.predicted), column, np.flatnonzero(compared.excused))
    _add(sums[:, 1], compared.predicted_classes[unused], found.predicted_areas[unused])
    return sums


def _broken(
    whole: np.ndarray, part: np.ndarray, shared: np.ndarray, wholes: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the wholes of which two or more parts lie in each, and of those parts."""
    inside = shared > HALF * parts[part]
    largest = np.zeros(len(wholes), np.int64)
    np.maximum.at(largest, whole[inside], shared[inside])
    inside &= shared >= TENTH * largest[whole]
    several = np.bincount(whole[inside], minlength=len(wholes)) > 1
    return np.flatnonzero(several), np.unique(part[inside & several[whole]])


def _without(count: int, *places: np.ndarray) -> np.ndarray:
    """The places 0..count-1 but those."""
    left = np.ones(count, bool)
    for each in places:
        left[each] = False
    return np.flatnonzero(left)


def _add(sums: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    np.add.at(sums, places, values)


def _of(values: np.ndarray, numbers: np.ndarray, whose: str) -> np.ndarray:
    """What is known of the objects with those numbers, of which object n is the n-th."""
    if len(numbers) and int(numbers[-1]) > len(values):
        raise DataError(
            f"{whose} shows an object of number {numbers[-1]}, but only {len(values)} have a class and a score; number "
            f"them 1..{len(values)}, with 0 as the background and {IGNORE} where nobody knows."
        )
    return np.asarray(values)[numbers.astype(np.int64) - 1]
