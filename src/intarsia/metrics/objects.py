"""Are the objects found, whole, each by itself, and called by the right name? Counts over pictures, and what follows.

AP50 here is TP / (TP + FP + FN), as in `matching.py`, where its sources stand; COCO's, which ranks by scores, is in
`coco_ap.py` and bears its name. Kirillov, He, Girshick, Rother, Dollár, "Panoptic Segmentation", 2019,
https://arxiv.org/abs/1801.00868 (panoptic quality, equations 1 and 2). Kumar et al. 2017 (aggregated Jaccard index,
see `object_pairs.py`).

Where we differ: the objects of all pictures are pooled, where Kumar et al. average over pictures and StarDist's
numbers may be either. Over several classes the headline numbers pool the objects of all classes, each paired within its
class only; the mean over classes of Kirillov et al. stands beside them. Objects that overlap are compared by what the
label images show of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import DataError, UsageError
from ..records import Classes, Instances
from .calibration import Reliability
from .matching import THRESHOLDS, MatchingScore, matched
from .object_pairs import HALF, ComparedObjects, compare_objects, jaccard_sums
from .scores import Score, Scores, column, mean_where, names_where, ratio

SIZES = ("small", "medium", "large")  # thirds of the true objects by their area
WHOLE = "PQ = SQ x RQ: mean matched IoU (segmentation quality) x F1 (recognition quality) of pairs with IoU > 0.5"
DEFINITIONS = {
    "AP50": "TP / (TP + FP + FN) of the class's objects at IoU >= 0.5",
    "mean_AP": "mean of TP / (TP + FP + FN) over the IoU thresholds 0.5, 0.55, ..., 0.95",
    "F1_50": "2 TP / (2 TP + FP + FN) at IoU >= 0.5",
    "precision_50": "TP / (TP + FP) at IoU >= 0.5",
    "recall_50": "TP / (TP + FN) at IoU >= 0.5",
    "mean_matched_iou": "mean IoU of the pairs at IoU >= 0.5",
    "panoptic_quality": WHOLE,
    "aggregated_jaccard": "pixels shared with the best partner over pixels of both, pooled; the lone count as errors",
    "count_error": "mean over pictures of |predicted - true| objects",
    "count_bias": "(predicted - true) / true objects, of all pictures together",
    "true_objects": "objects in the truth",
    "predicted_objects": "objects in the answer; those mostly where nobody knows only if they are paired",
}


@dataclass(frozen=True)
class SizeScore:
    """The objects of a third of the sizes."""

    name: str  # of SIZES
    smallest: int  # pixels of the true objects in it; 0 where there is none
    largest: int
    true: int  # objects
    matches: int  # of them at IoU >= 0.5
    alarms: int  # predicted objects of that size without a partner
    iou: float  # mean of the matches; NaN without one

    @property
    def recall(self) -> float:
        """The share of the true objects that have a partner; NaN where there is none."""
        return self.matches / self.true if self.true else math.nan

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN) at IoU >= 0.5; NaN where there is nothing."""
        return self.matches / (self.true + self.alarms) if self.true + self.alarms else math.nan


@dataclass
class ObjectScore:
    """Pooled counts of the objects of K classes, the background first, at T thresholds of the IoU."""

    classes: Classes
    counts: np.ndarray  # (K, T, 4): matches within the class, lone predicted, lone true objects, sum of matches' IoU
    any_class: np.ndarray  # (T, 4): likewise, paired whatever their classes
    panoptic: np.ndarray  # (K, 4): likewise within the class, at IoU > 0.5
    jaccard: np.ndarray  # (K, 2) int64 pixels: intersections, unions
    #: (K, K) int64 objects paired whatever their classes, true by predicted; row 0: invented, column 0: missed
    confusion: np.ndarray
    reliability: Reliability  # of the scores: is a predicted object a match within its class at IoU >= 0.5?
    #: of each picture (2, K): true and predicted objects
    numbers: list[np.ndarray] = field(default_factory=list)
    #: of each picture (2, N): pixels of the true objects, and IoU with their partner, 0 where there is none
    found: list[np.ndarray] = field(default_factory=list)
    alarms: list[np.ndarray] = field(default_factory=list)  # of each picture: pixels of lone predicted objects
    kinds: dict[str, int] = field(default_factory=dict)  # how many errors of each kind, see `object_pairs.py`

    @classmethod
    def zeros(cls, classes: Classes) -> ObjectScore:
        """Nothing counted yet. Raises UsageError where there is no class beside the background."""
        count = len(classes)
        if count < 2:
            raise UsageError(f"objects need a class beside the background, but the classes are {list(classes.names)}.")
        return cls(
            classes,
            np.zeros((count, len(THRESHOLDS), 4)),
            np.zeros((len(THRESHOLDS), 4)),
            np.zeros((count, 4)),
            np.zeros((count, 2), np.int64),
            np.zeros((count, count), np.int64),
            Reliability.zeros(1, overlapping=True),
        )

    def add(self, truth: Instances, answer: Instances) -> ComparedObjects:
        """Count one picture, and give back what was compared. Raises DataError where the two do not fit together."""
        compared = compare_objects(truth, answer)
        for whose, classes in (("truth", compared.true_classes), ("answer", compared.predicted_classes)):
            if len(classes) and not 0 < int(classes.min()) <= int(classes.max()) < len(self.classes):
                raise DataError(
                    f"the {whose} holds objects of class {classes.min()} to {classes.max()}, but objects of these "
                    f"classes are of 1 to {len(self.classes) - 1}."
                )
        within = compared.within
        for place, threshold in enumerate(THRESHOLDS):
            pairs = matched(within, threshold)
            self.counts[:, place] += self._counted(compared, within.pairs[pairs], within.iou[pairs])
            if threshold == HALF:
                self._add_partners(compared, within.pairs[pairs], within.iou[pairs])
            if len(self.classes) > 2:
                pairs = matched(compared.found, threshold)
                self.any_class[place] += self._counted(
                    compared, compared.found.pairs[pairs], compared.found.iou[pairs]
                ).sum(axis=0)
        sure = np.flatnonzero(within.iou > HALF)  # no object can be in two of them
        self.panoptic += self._counted(compared, within.pairs[sure], within.iou[sure])
        self.jaccard += jaccard_sums(compared, len(self.classes))
        for kind, count in compared.errors.counts().items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count
        return compared

    def _counted(self, compared: ComparedObjects, pairs: np.ndarray, iou: np.ndarray) -> np.ndarray:
        """(K, 4): what `counts` holds, for pairs (T, 2) of one picture; lone objects by their own class."""
        true, predicted = compared.true_classes, compared.predicted_classes
        alone, alarm = np.ones(len(true), bool), ~compared.excused
        alone[pairs[:, 0]], alarm[pairs[:, 1]] = False, False
        of = true[pairs[:, 0]]
        count = len(self.classes)
        return np.stack(
            [
                np.bincount(of, minlength=count),
                np.bincount(predicted[alarm], minlength=count),
                np.bincount(true[alone], minlength=count),
                np.bincount(of, iou, minlength=count),
            ],
            axis=1,
        )

    def _add_partners(self, compared: ComparedObjects, pairs: np.ndarray, iou: np.ndarray) -> None:
        """Whatever follows from the pairs at IoU >= 0.5."""
        true, predicted = compared.true_classes, compared.predicted_classes
        counted = ~compared.excused
        counted[pairs[:, 1]] = True
        best = np.zeros(len(true))
        best[pairs[:, 0]] = iou
        hit = np.zeros(len(predicted), bool)
        hit[pairs[:, 1]] = True
        self.found.append(np.stack([compared.found.true_areas, best]))
        self.alarms.append(compared.found.predicted_areas[counted & ~hit])
        count = len(self.classes)
        self.numbers.append(np.stack([np.bincount(each, minlength=count) for each in (true, predicted[counted])]))
        if compared.scores is not None:
            self.reliability.add(compared.scores[counted].clip(0, 1)[None], hit[counted].astype(np.int64)[None])
        partners = compared.partners
        lone = np.ones(len(true), bool)
        lone[partners[:, 0]] = False
        invented = ~compared.excused
        invented[partners[:, 1]] = False
        np.add.at(self.confusion, (true[partners[:, 0]], predicted[partners[:, 1]]), 1)
        self.confusion[:, 0] += np.bincount(true[lone], minlength=count)
        self.confusion[0] += np.bincount(predicted[invented], minlength=count)

    def __add__(self, other: ObjectScore) -> ObjectScore:
        """The counts of both one's pictures."""
        if self.classes != other.classes:
            raise UsageError(f"counts of {self.classes.names} do not go together with {other.classes.names}.")
        kinds = {kind: self.kinds.get(kind, 0) + other.kinds.get(kind, 0) for kind in {**self.kinds, **other.kinds}}
        return replace(
            self,
            counts=self.counts + other.counts,
            any_class=self.any_class + other.any_class,
            panoptic=self.panoptic + other.panoptic,
            jaccard=self.jaccard + other.jaccard,
            confusion=self.confusion + other.confusion,
            reliability=self.reliability + other.reliability,
            numbers=self.numbers + other.numbers,
            found=self.found + other.found,
            alarms=self.alarms + other.alarms,
            kinds=kinds,
        )

    @property
    def pictures(self) -> int:
        return len(self.numbers)

    @property
    def matching(self) -> MatchingScore:
        """The objects of all classes, each paired within its class."""
        return MatchingScore(self.counts.sum(axis=0), THRESHOLDS)

    @property
    def per_picture(self) -> np.ndarray:
        """(pictures, 2, K) int64: true and predicted objects of each class, in the order in which they were added."""
        return np.array(self.numbers, np.int64).reshape(-1, 2, len(self.classes))

    def by_size(self) -> tuple[SizeScore, ...]:
        """The objects by thirds of the true objects' areas; a lone predicted object by its own area."""
        areas, iou = np.concatenate(self.found, axis=1) if self.found else np.zeros((2, 0))
        alarms = np.concatenate(self.alarms) if self.alarms else np.zeros(0)
        borders = np.quantile(areas, (1 / 3, 2 / 3), method="lower") if len(areas) else np.zeros(2)
        place, alarm = (np.searchsorted(borders, each) for each in (areas, alarms))  # a border belongs to the smaller
        told = []
        for number, name in enumerate(SIZES):
            mine, best = areas[place == number], iou[place == number]
            hits = best > 0
            told.append(
                SizeScore(
                    name,
                    int(mine.min(initial=mine[0])) if len(mine) else 0,
                    int(mine.max(initial=0)),
                    len(mine),
                    int(hits.sum()),
                    int((alarm == number).sum()),
                    mean_where(best, hits),
                )
            )
        return tuple(told)

    def scores(self) -> Scores:
        """Every number with its definition, overall and by class of objects; the background is none."""
        many, names = len(self.classes) > 2, self.classes.names[1:]
        columns = self._columns()
        occurs = np.array(columns["true_objects"]) > 0
        apart = "; pairs are within a class" if many else ""
        overall = [replace(each, definition=each.definition + apart) for each in self.matching.scores()]
        hits, alarms, lone, total = self.panoptic.sum(axis=0)
        errors = alarms + lone
        segmentation = total / hits if hits else 0.0 if errors else math.nan
        recognition = hits / (hits + errors / 2) if hits + errors else math.nan
        overall += [
            Score("panoptic_quality", float(segmentation * recognition), WHOLE + apart),
            Score(
                "segmentation_quality", float(segmentation), f"mean IoU of pairs with IoU > 0.5, 0 without any{apart}"
            ),
            Score("recognition_quality", float(recognition), f"F1 = TP / (TP + FP/2 + FN/2) at IoU > 0.5{apart}"),
            Score(
                "aggregated_jaccard",
                float(ratio(*self.jaccard.sum(axis=0))),
                "aggregated Jaccard index (AJI): shared pixels over pixels of both, summed over each true object and "
                "the predicted one of the largest IoU; the lone objects' areas are added below; pooled over pictures"
                + apart,
            ),
        ]
        overall += self._of_counts() + self._of_sizes()
        if many:
            overall += self._of_classes(columns, occurs)
        return Scores(names, tuple(overall), columns, dict(DEFINITIONS), names_where(names, ~occurs))

    def _columns(self) -> dict[str, tuple[float, ...]]:
        """What DEFINITIONS names, for each class but the background."""
        each = [MatchingScore(counts, THRESHOLDS) for counts in self.counts[1:]]
        hits, alarms, lone, total = self.panoptic[1:].T
        true, predicted = self.per_picture[:, :, 1:].transpose(1, 0, 2)
        values: dict[str, Sequence[float] | np.ndarray] = {
            "AP50": [score.at("average_precision") for score in each],
            "mean_AP": [float(score.average_precision.mean()) for score in each],
            "F1_50": [score.at("f1") for score in each],
            "precision_50": [score.at("precision") for score in each],
            "recall_50": [score.at("recall") for score in each],
            "mean_matched_iou": [score.at("mean_matched_iou") for score in each],
            "panoptic_quality": ratio(total, hits + (alarms + lone) / 2),  # equation 1
            "aggregated_jaccard": ratio(*self.jaccard[1:].T),
            "count_error": np.abs(predicted - true).mean(axis=0) if len(true) else np.full(len(each), math.nan),
            "count_bias": ratio(predicted.sum(axis=0) - true.sum(axis=0), true.sum(axis=0)),
            "true_objects": true.sum(axis=0),
            "predicted_objects": predicted.sum(axis=0),
        }
        return {name: column(np.asarray(value)) for name, value in values.items()}

    def _of_counts(self) -> list[Score]:
        true, predicted = self.per_picture.sum(axis=2).T
        error = float(np.abs(predicted - true).mean()) if len(true) else math.nan
        bias = float(ratio(predicted.sum() - true.sum(), true.sum()))
        return [
            Score("count_error", error, DEFINITIONS["count_error"]),
            Score("count_bias", bias, DEFINITIONS["count_bias"]),
        ]

    def _of_sizes(self) -> list[Score]:
        told = []
        for each in self.by_size():
            pixels = f"{each.smallest} to {each.largest} pixels" if each.true else "no objects"
            words = (
                f"TP / (TP + FP + FN) at IoU >= 0.5 of the {each.name} third of the true objects by area ({pixels}); "
                "an invented one by its own area"
            )
            told.append(Score(f"AP50_{each.name}", each.average_precision, words))
        return told

    def _of_classes(self, columns: dict[str, tuple[float, ...]], occurs: np.ndarray) -> list[Score]:
        """Means over classes, and scores that leave the classes aside."""
        over = f"over the {int(occurs.sum())} of {len(occurs)} classes that the truth shows"
        named = {"AP50": "AP50", "AP": "mean_AP", "panoptic_quality": "panoptic_quality"}
        means = [
            Score(
                f"mean_class_{name}", mean_where(np.array(columns[key]), occurs), f"mean of the classes' {key} {over}"
            )
            for name, key in named.items()
        ]
        shapes = MatchingScore(self.any_class, THRESHOLDS)
        pairs = self.confusion[1:, 1:]
        aside = "paired whatever their classes"
        return [
            *means,
            Score("AP50_any_class", shapes.at("average_precision"), f"AP50 of objects {aside}"),
            Score("mean_AP_any_class", float(shapes.average_precision.mean()), f"mean_AP of objects {aside}"),
            Score(
                "class_accuracy",
                float(ratio(np.trace(pairs), pairs.sum())),
                f"share of the pairs at IoU >= 0.5 that are of one class, {aside}",
            ),
        ]
