"""Overlap and accuracy from pooled counts.

All pixels of all pictures go into one table, and every score is computed from that table. Scores are not averaged over
pictures, so the order and the grouping of the pictures do not matter. A mean over classes is over the classes that the
truth shows. A class that only the prediction shows has an IoU of 0, listed but not in the mean (its pixels already are
errors of other classes); a class that neither shows has NaN, not applicable.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Self

import numpy as np

from ..errors import DataError, UsageError
from ..records import IGNORE, Classes
from .scores import Score, Scores, column, mean_where, names_where, ratio

DEFINITIONS = {
    "iou": "TP / (TP + FP + FN), pixels of the class pooled over all pictures",
    "dice": "2 TP / (2 TP + FP + FN), the same as F1",
    "precision": "TP / (TP + FP); 0 for a class that occurs and is never predicted",
    "recall": "TP / (TP + FN), the class's accuracy",
    "share": "the class's share of the labelled pixels",
}


class Tally(ABC):
    """Pooled counts of K classes, and the scores that follow from them."""

    @property
    @abstractmethod
    def hits(self) -> np.ndarray:
        """TP (K,) int64: pixels of the class that are said to be of it."""

    @property
    @abstractmethod
    def actual(self) -> np.ndarray:
        """TP + FN (K,) int64: labelled pixels of the class."""

    @property
    @abstractmethod
    def predicted(self) -> np.ndarray:
        """TP + FP (K,) int64: labelled pixels said to be of the class."""

    @property
    @abstractmethod
    def accuracy(self) -> float:
        """The share of the answers that are right; NaN where nothing is labelled."""

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union (K,) in [0, 1]."""
        return ratio(self.hits, self.actual + self.predicted - self.hits)

    @property
    def dice(self) -> np.ndarray:
        """Dice coefficient or F1 (K,) in [0, 1]."""
        return ratio(2 * self.hits, self.actual + self.predicted)

    @property
    def precision(self) -> np.ndarray:
        """(K,) in [0, 1]; 0 where a class occurs and is never predicted."""
        return np.where((self.predicted == 0) & (self.actual > 0), 0.0, ratio(self.hits, self.predicted))

    @property
    def recall(self) -> np.ndarray:
        """(K,) in [0, 1]; NaN where the truth does not show the class."""
        return ratio(self.hits, self.actual)

    @property
    def share(self) -> np.ndarray:
        """Each class's part of all that the truth shows (K,), in [0, 1]."""
        return ratio(self.actual, self.actual.sum())

    @property
    def mean_iou(self) -> float:
        return mean_where(self.iou, self.actual > 0)

    @property
    def mean_dice(self) -> float:
        return mean_where(self.dice, self.actual > 0)

    @property
    def mean_accuracy(self) -> float:
        return mean_where(self.recall, self.actual > 0)

    @property
    def frequency_weighted_iou(self) -> float:
        occurs = self.actual > 0
        return float(np.average(self.iou[occurs], weights=self.actual[occurs])) if occurs.any() else math.nan

    def scores(self, classes: Classes) -> Scores:
        """Every number with its definition, overall and by class."""
        _same_classes(len(self.hits), len(classes))
        occurs = self.actual > 0
        over = f"the {occurs.sum()} of {len(occurs)} classes that the truth shows"
        answers = "pairs of pixel and class" if classes.overlapping else "pixels"
        precision = mean_where(self.precision, occurs)
        return Scores(
            classes=classes.names,
            overall=(
                Score("mean_iou", self.mean_iou, f"mean of IoU = {DEFINITIONS['iou']}, over {over}"),
                Score("mean_dice", self.mean_dice, f"mean of Dice = {DEFINITIONS['dice']}, over {over}"),
                Score("mean_precision", precision, f"mean of precision = {DEFINITIONS['precision']}, over {over}"),
                Score("mean_accuracy", self.mean_accuracy, f"mean of recall = {DEFINITIONS['recall']}, over {over}"),
                Score("accuracy", self.accuracy, f"the share of the labelled {answers} that are right"),
                Score(
                    "frequency_weighted_iou",
                    self.frequency_weighted_iou,
                    "mean of IoU weighted by the number of the class's pixels",
                ),
            ),
            per_class={name: column(getattr(self, name)) for name in DEFINITIONS},
            definitions=dict(DEFINITIONS),
            absent=names_where(classes.names, ~occurs),
        )


class Confusion(Tally):
    """The confusion matrix of classes that exclude each other."""

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts  # (K, K + 1) int64: truth, prediction; the last column: no class was predicted

    @classmethod
    def zeros(cls, classes: int) -> Self:
        return cls(np.zeros((classes, classes + 1), dtype=np.int64))

    def add(self, mask_true: np.ndarray, mask_predicted: np.ndarray) -> None:
        """Count one or more pictures: both (..., H, W) whole numbers, 0..K-1 or IGNORE.

        Pixels of unknown truth are left out; a prediction of IGNORE (no class) misses the true class.
        """
        classes = len(self.counts)
        _same_shape(mask_true, mask_predicted)
        known = mask_true != IGNORE
        true, predicted = mask_true[known].astype(np.int64), mask_predicted[known].astype(np.int64)
        _within(true, classes - 1, "the true mask")
        _within(predicted, classes - 1, "the predicted mask")
        predicted[predicted == IGNORE] = classes
        place = true * (classes + 1) + predicted
        self.counts += np.bincount(place, minlength=self.counts.size).reshape(self.counts.shape)

    def __add__(self, other: Confusion) -> Confusion:
        """The counts of both one's pictures."""
        _same_classes(len(self.counts), len(other.counts))
        return Confusion(self.counts + other.counts)

    @property
    def matrix(self) -> np.ndarray:
        """(K, K) int64: rows are the truth, columns the prediction, pixels."""
        return self.counts[:, :-1]

    @property
    def hits(self) -> np.ndarray:
        return self.matrix.diagonal()

    @property
    def actual(self) -> np.ndarray:
        return self.counts.sum(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        return self.matrix.sum(axis=0)

    @property
    def accuracy(self) -> float:
        return float(ratio(self.hits.sum(), self.counts.sum()))


class LabelConfusion(Tally):
    """Hits and errors of classes that may overlap: each class asks its own yes-or-no question."""

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts  # (K, 2, 2) int64: truth no/yes, prediction no/yes

    @classmethod
    def zeros(cls, classes: int) -> Self:
        return cls(np.zeros((classes, 2, 2), dtype=np.int64))

    def add(self, labels_true: np.ndarray, labels_predicted: np.ndarray) -> None:
        """Count one picture: both (K, H, W), 0, 1 or IGNORE: left out in the truth, a no in the prediction."""
        _same_shape(labels_true, labels_predicted)
        _same_classes(len(self.counts), len(labels_true))
        _within(labels_true, 1, "the true labels")
        _within(labels_predicted, 1, "the predicted labels")
        for count, true, predicted in zip(self.counts, labels_true, labels_predicted, strict=True):
            known = true != IGNORE
            place = 2 * true[known].astype(np.int64) + (predicted[known] == 1)
            count += np.bincount(place, minlength=4).reshape(2, 2)

    def __add__(self, other: LabelConfusion) -> LabelConfusion:
        """The counts of both one's pictures."""
        _same_classes(len(self.counts), len(other.counts))
        return LabelConfusion(self.counts + other.counts)

    @property
    def hits(self) -> np.ndarray:
        return self.counts[:, 1, 1]

    @property
    def actual(self) -> np.ndarray:
        return self.counts[:, 1].sum(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        return self.counts[:, :, 1].sum(axis=1)

    @property
    def accuracy(self) -> float:
        right = self.counts[:, 0, 0].sum() + self.counts[:, 1, 1].sum()
        return float(ratio(right, self.counts.sum()))

    @property
    def share(self) -> np.ndarray:
        """Each class's share of the pixels labelled for it (K,), in [0, 1]; the shares need not sum to 1."""
        return ratio(self.actual, self.counts.sum(axis=(1, 2)))


def _same_shape(true: np.ndarray, predicted: np.ndarray) -> None:
    if true.shape != predicted.shape:
        raise DataError(f"truth {true.shape} and prediction {predicted.shape} must be of one shape.")


def _same_classes(ours: int, theirs: int) -> None:
    if ours != theirs:
        raise UsageError(f"counts of {ours} classes do not go together with {theirs} classes.")


def _within(values: np.ndarray, top: int, what: str) -> None:
    if values.size and (values.min() < IGNORE or values.max() > top):
        raise DataError(
            f"{what} holds values from {values.min()} to {values.max()}, but only 0 to {top} and {IGNORE} "
            "(not labelled) mean something; `intarsia check` shows which files hold others."
        )
