"""How good a model of objects is on labelled pictures: pooled counts of objects, and everything that follows from them.

Only what an `ObjectExample` holds belongs to single pictures. It ranks pictures to look at, and is never averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, UsageError
from ..metrics import Reliability, Scores
from ..metrics.coco_ap import CocoAP
from ..metrics.matching import THRESHOLDS, MatchingScore
from ..metrics.object_pairs import ComparedObjects, ObjectErrors
from ..metrics.objects import ObjectScore, SizeScore
from ..records import IGNORE, Classes, Instances, ObjectPrediction, Sample
from .examples import Extremes, best_of, example_size, print_scores, sampled, shrunk, worst_of

if TYPE_CHECKING:
    from rich.console import Console

#: scores that are not shares
IN_UNITS = ("count_error",)
COUNTS = ("true_objects", "predicted_objects")  # columns of whole numbers
PRINTED = ("AP50", "mean_AP", "F1_50", "precision_50", "recall_50", "panoptic_quality", *COUNTS)  # of each class
NAMELESS = Classes.named(("background", "object"))  # objects whose classes are left aside

DEFINITIONS = {
    "pictures": "labelled pictures that were scored",
    "skipped": "pictures left out, since nothing in them is labelled",
    "objects": "objects that the truth of these pictures shows",
    "predicted_objects": "objects in the answers; those mostly where nobody knows only if they are paired",
    "seconds_per_picture": "median time of one prediction, in seconds",
    "average_precision": "TP / (TP + FP + FN) of objects by the IoU from which two are a pair",
    "errors": (
        "objects in error by kind: split, true ones in which two or more predicted ones lie with over half of their "
        "pixels; merged, predicted ones in which two or more true ones do; specks, of less than a tenth of the largest "
        "such part, aside; confused, paired (IoU >= 0.5) with another class; missed and invented, without a partner "
        "and none of those"
    ),
    "sizes": "thirds of the true objects by area, in pixels; AP50 = TP / (TP + FP + FN) at IoU >= 0.5",
    "confusion": "objects paired whatever their classes; a row for each true class, a column for each answer; the "
    "background's row holds the invented, its column the missed",
    "reliability": "by score: its mean in the bin, the share of objects that are matches, and how many there are",
    "counts": "of each picture its name, the objects in the truth, and those in the answer",
    "examples": "AP50 of one picture alone, 1 where nothing is to find and nothing was found; only to rank pictures",
    "remarks": "what to know before these numbers are used",
}


@dataclass(frozen=True)
class ObjectExample:
    """One picture to look at, no larger than EXAMPLE_SIDE = 640 pixels."""

    name: str
    average_precision: float  # AP50 of this picture alone, [0, 1]; 1 where there is nothing in truth and answer
    true_objects: int
    predicted_objects: int
    errors: ObjectErrors  # by the numbers in the label images
    seconds: float  # that its prediction took
    picture: np.ndarray  # (h, w, 3) uint8
    truth: np.ndarray  # (h, w) int32: label image, or IGNORE where nobody knows
    predicted: np.ndarray  # (h, w) int32: label image


@dataclass(frozen=True)
class ObjectEvaluation:
    """What was measured on one set of pictures. The numbers stand in `scores`, each with its definition."""

    classes: Classes  # the background first
    scores: Scores  # of the classes but the background
    average_precision: dict[float, float]  # TP / (TP + FP + FN) by threshold of the IoU
    average_precision_by_class: dict[str, tuple[float, ...]]  # likewise, a number a threshold
    sizes: tuple[SizeScore, ...]
    confusion: np.ndarray  # (K, K) int64 objects, see ObjectScore
    errors: dict[str, int]  # how many of each kind
    reliability: Reliability | None  # of the objects' scores; None: they have none
    counts: tuple[tuple[str, int, int], ...]  # of each picture its name, true and predicted objects
    pictures: int
    skipped: int
    objects: int
    seconds_per_picture: float  # NaN without a picture
    examples: tuple[ObjectExample, ...]  # worst first; of many pictures, as many of the best as of the worst
    remarks: tuple[str, ...] = ()  # sentences on what to know before these numbers are used

    def __getitem__(self, name: str) -> float:
        """The overall score of that name. KeyError where there is none."""
        return self.scores[name]

    @property
    def worst(self) -> tuple[ObjectExample, ...]:
        """The worse half of the examples, worst first."""
        return worst_of(self.examples)

    @property
    def best(self) -> tuple[ObjectExample, ...]:
        """The better half of the examples, best first; a single one is here."""
        return best_of(self.examples)

    @property
    def predicted_objects(self) -> int:
        return sum(predicted for _, _, predicted in self.counts)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures in JSON's types, each number with its definition; NaN is null."""
        facts: dict[str, Any] = {
            "pictures": self.pictures,
            "skipped": self.skipped,
            "objects": self.objects,
            "predicted_objects": self.predicted_objects,
            "seconds_per_picture": _or_none(self.seconds_per_picture),
            "average_precision": {f"{iou:g}": _or_none(value) for iou, value in self.average_precision.items()},
            "errors": self.errors,
            "sizes": [
                {
                    "name": each.name,
                    "pixels": [each.smallest, each.largest],
                    "objects": each.true,
                    "AP50": _or_none(each.average_precision),
                    "recall_50": _or_none(each.recall),
                }
                for each in self.sizes
            ],
            "confusion": self.confusion.tolist(),
            "reliability": None
            if self.reliability is None
            else [
                dict(zip(("score", "matches", "share"), bin, strict=True))
                for bin in np.stack(self.reliability.curve(), axis=1).tolist()
                if bin[2] > 0
            ],
            "counts": [list(each) for each in self.counts],
            "examples": [
                {"name": each.name, "AP50": each.average_precision, **each.errors.counts()} for each in self.examples
            ],
            "remarks": list(self.remarks),
        }
        told = {name: {"value": value, "definition": DEFINITIONS[name]} for name, value in facts.items()}
        return {**self.scores.to_dict(), **told}

    def table(self, console: Console) -> None:
        """Print the classes' scores and the overall ones, with their definitions."""
        from rich.markup import escape

        columns = PRINTED if len(self.scores.classes) > 1 else ()  # of a single class they stand below already
        print_scores(console, self.scores, IN_UNITS, columns, COUNTS)
        console.print(
            f"Scored: {self.pictures:,} pictures with {self.objects:,} objects; {self.predicted_objects:,} were found."
        )
        console.print(f"Errors: {error_words(self.errors)}.")
        if self.scores.absent:
            names = escape(", ".join(self.scores.absent))
            console.print(f"Not in the truth of these pictures, so left out of every mean over classes: {names}.")
        if self.skipped:
            console.print(f"Left out, since nothing in them is labelled: {self.skipped:,} pictures.")
        for remark in self.remarks:
            console.print(escape(remark))


def evaluate_objects(
    predict: Callable[[Sample], ObjectPrediction],
    samples: Iterable[Sample],
    classes: Classes,
    *,
    keep: int = 6,  # examples of the best and of the worst pictures each
    remarks: tuple[str, ...] = (),
) -> ObjectEvaluation:
    """Scores of the predicted objects for the labelled samples; samples in which nothing is labelled are counted and
    skipped.

    classes: the background first; exactly one beside it leaves the classes of truth and answer aside, and pairs objects
    by shape. Raises DataError, with the picture's name, where truth and prediction do not fit together.
    """
    if keep < 0:
        raise UsageError(f"keep = {keep} pictures can't be kept; take 0 or more.")
    pooled, ranked = ObjectScore.zeros(classes), CocoAP(classes)
    kept = Extremes[ObjectExample](keep)
    skipped = 0
    names: list[str] = []
    seconds: list[float] = []
    for sample in samples:
        truth = sample.instances
        if truth is None or not (truth.label_image != IGNORE).any():
            skipped += 1
            continue
        start = perf_counter()
        answer = predict(sample).instances
        seconds.append(perf_counter() - start)
        if len(classes) == 2:
            truth, answer = without_classes(truth), without_classes(answer)
        try:
            compared = pooled.add(truth, answer)
            ranked.add(truth, answer)
        except DataError as error:
            raise DataError(f"{sample.name}: {error}") from error
        names.append(sample.name)
        if keep:
            example = _example(sample, truth, answer, compared, pooled.numbers[-1], seconds[-1])
            kept.add(example.average_precision, example)
    counts = pooled.per_picture.sum(axis=2)
    by_class = [MatchingScore(each, THRESHOLDS).average_precision for each in pooled.counts[1:]]
    scored = ranked.scored and pooled.reliability.answers > 0
    scores = pooled.scores().joined(ranked.scores())
    return ObjectEvaluation(
        classes=classes,
        scores=scores.joined(_calibration(pooled.reliability, scores.classes)) if scored else scores,
        average_precision=dict(zip(THRESHOLDS, map(float, pooled.matching.average_precision), strict=True)),
        average_precision_by_class={
            name: tuple(map(float, each)) for name, each in zip(classes.names[1:], by_class, strict=True)
        },
        sizes=pooled.by_size(),
        confusion=pooled.confusion,
        errors=pooled.kinds,
        reliability=pooled.reliability if scored else None,
        counts=tuple((name, int(true), int(found)) for name, (true, found) in zip(names, counts, strict=True)),
        pictures=len(names),
        skipped=skipped,
        objects=int(counts[:, 0].sum()),
        seconds_per_picture=median(seconds) if seconds else math.nan,
        examples=kept.ranked(),
        remarks=remarks,
    )


def without_classes(instances: Instances) -> Instances:
    """The same objects, all of class 1."""
    return replace(instances, classes=np.ones(len(instances.classes), np.int16))


def error_words(errors: dict[str, int]) -> str:
    """ "12 missed, 3 invented, 1 split, 0 merged"; those of a wrong class only where there are some."""
    return ", ".join(f"{count:,} {kind}" for kind, count in errors.items() if count or kind != "confused") or "none"


def _calibration(reliability: Reliability, classes: tuple[str, ...]) -> Scores:
    """Whether an object's score is the probability that it is a match."""
    overall = reliability.scores(Classes.named(("object",), overlapping=True)).overall
    words = f"|mean score - share of matches| in {reliability.bins.shape[1]} bins of score, weighted by their objects"
    error = next(score for score in overall if score.name == "expected_calibration_error")
    return Scores(classes, (replace(error, name="score_calibration_error", definition=words),))


def _example(
    sample: Sample,
    truth: Instances,
    answer: Instances,
    compared: ComparedObjects,
    numbers: np.ndarray,  # (2, K): true and predicted objects
    seconds: float,
) -> ObjectExample:
    size = example_size(sample.size)
    true, predicted = (int(each) for each in numbers.sum(axis=1))
    return ObjectExample(
        name=sample.name,
        average_precision=compared.average_precision,
        true_objects=true,
        predicted_objects=predicted,
        errors=compared.errors,
        seconds=seconds,
        picture=shrunk(sample.image, size),
        truth=sampled(truth.label_image, size),
        predicted=sampled(answer.label_image, size),
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
