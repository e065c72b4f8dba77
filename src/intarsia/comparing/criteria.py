"""What trainings are judged by: masks by their pixels, or objects by whether they are found.

Both are TP / (TP + FP + FN) of counts that are pooled over pictures, so that all of `statistics.py` serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics.matching import THRESHOLDS
from ..metrics.objects import ObjectScore
from ..records import Classes, Instances


@dataclass(frozen=True)
class Criterion:
    """A score, how it is made of a picture's counts (3, K), hits TP, actual TP + FN, predicted TP + FP, and what the
    report calls it."""

    score: str  # its name
    per_class: str  # its name, of one class
    definition: str
    objects: (
        bool  # True: counts are of objects, and the classes' are added up; False: of pixels, and scores are averaged
    )
    question: str  # above the report
    control: str  # how to name the control in advice; where objects are judged, by its model
    without: str  # the same, after "with 40 labels, "

    def scored(self, counts: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Counts (..., 3, K) as the score takes them, (..., 3, number of classes that count). classes (K,) bool."""
        chosen = counts[..., classes]
        return chosen.sum(axis=-1, keepdims=True) if self.objects else chosen


MASKS = Criterion(
    score="mean IoU",
    per_class="IoU",
    definition="mean IoU = mean over classes of TP / (TP + FP + FN), pixels pooled over all judged pictures, of the "
    "last weights (their moving average); nothing was chosen by it",
    objects=False,
    question="Comparison of ways to learn from few masks",
    control="the plan's segmenter on the labelled pictures alone",
    without="labelled pictures alone",
)
OBJECTS = Criterion(
    score="AP50 of objects",
    per_class="AP50",
    definition="AP50 of objects = TP / (TP + FP + FN), objects pooled over all judged pictures and all classes; TP "
    "are pairs of a true and a predicted object of one class with an IoU of at least 0.5, each in one pair at most. It "
    "is not COCO's AP, which ranks by scores. Of the last weights (their moving average); nothing was chosen by it",
    objects=True,
    question="Comparison of ways to find objects from few labelled pictures",
    control="watershed, the control",
    without="watershed",
)


def object_counts(true: Instances, found: Instances, classes: Classes) -> np.ndarray:
    """(3, K) int64 of one picture: for each of K classes the hits, the true and the predicted objects."""
    score = ObjectScore.zeros(classes)
    score.add(true, found)
    hits, alarms, missed, _ = score.counts[:, THRESHOLDS.index(0.5)].astype(np.int64).T
    return np.stack([hits, hits + missed, hits + alarms])


def count_error(counts: np.ndarray) -> tuple[float, float]:
    """Of counts (P, 3, K) of objects: by how many the number of a picture's objects is wrong, mean over the pictures;
    and by what share of the true ones there are too many in all (below 0: too few). NaN where nothing is there."""
    actual, predicted = counts[:, 1].sum(axis=-1), counts[:, 2].sum(axis=-1)
    if not len(actual):
        return float("nan"), float("nan")
    total = actual.sum()
    return float(np.abs(predicted - actual).mean()), float(predicted.sum() / total - 1) if total else float("nan")
