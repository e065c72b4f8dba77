"""How good a segmenter is on labelled pictures: one pooled confusion matrix, and everything that follows from it.

Only `Example.iou` and `Example.dice` belong to single pictures. They rank pictures to look at, and are never averaged:
a mean over pictures weighs a pixel by how much of its class its own picture holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..errors import DataError, UsageError
from ..metrics import (
    Agreement,
    BoundaryScore,
    Confusion,
    LabelConfusion,
    Reliability,
    Score,
    Scores,
    fit_temperature,
    with_temperature,
)
from ..records import IGNORE, Classes, Prediction, Sample
from .examples import Extremes, best_of, example_size, print_scores, sampled, shrunk, worst_of

if TYPE_CHECKING:
    from rich.console import Console

#: scores that are not shares
IN_UNITS = ("brier", "mean_squared_error", "negative_log_likelihood", "rater_brier", "energy_distance")

DEFINITIONS = {
    "pictures": "labelled pictures that were scored",
    "skipped": "pictures left out, since nothing in them is labelled",
    "pixels": "labelled pixels that were scored, where classes overlap once for each class",
    "seconds_per_picture": "median time of one prediction, in seconds",
    "temperature": "what the logits were divided by before the probabilities were scored; null: nothing",
    "confusion": "labelled pixels; a row for each true class, a column for each answer",
    "reliability": "by confidence: its mean in the bin, the share of answers that are right, and how many there are",
    "examples": "mean IoU and mean Dice of one picture alone, over the classes its truth shows; only to rank pictures",
}


@dataclass(frozen=True)
class Example:
    """One picture to look at, no larger than EXAMPLE_SIDE = 640 pixels."""

    name: str
    iou: float  # of this picture alone, mean over the classes its truth shows, [0, 1]
    dice: float  # likewise
    seconds: float  # that its prediction took
    picture: np.ndarray  # (H, W, 3) uint8
    truth: np.ndarray  # mask (H, W) int16, or labels (K, H, W) int8 where classes overlap
    predicted: np.ndarray  # likewise
    uncertainty: np.ndarray  # (H, W) uint8, 255 stands for 1


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one set of pictures. The numbers stand in `scores`, each with its definition."""

    classes: Classes
    scores: Scores
    confusion: np.ndarray | None  # (K, K) int64 pixels, true class by answer; None where classes overlap
    reliability: Reliability  # of the probabilities, after the temperature
    reliability_before: Reliability | None  # without the temperature; None: none was applied
    temperature: float | None
    pictures: int
    skipped: int
    pixels: int
    seconds_per_picture: float  # NaN without a picture
    examples: tuple[Example, ...]  # worst first; of many pictures, as many of the best as of the worst

    def __getitem__(self, name: str) -> float:
        """The overall score of that name. KeyError where there is none."""
        return self.scores[name]

    @property
    def worst(self) -> tuple[Example, ...]:
        """The worse half of the examples, worst first."""
        return worst_of(self.examples)

    @property
    def best(self) -> tuple[Example, ...]:
        """The better half of the examples, best first; a single one is here."""
        return best_of(self.examples)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures in JSON's types, each number with its definition; NaN is null."""
        facts: dict[str, Any] = {
            "pictures": self.pictures,
            "skipped": self.skipped,
            "pixels": self.pixels,
            "seconds_per_picture": None if math.isnan(self.seconds_per_picture) else self.seconds_per_picture,
            "temperature": self.temperature,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "reliability": [
                dict(zip(("confidence", "accuracy", "share"), bin, strict=True))
                for bin in np.stack(self.reliability.curve(), axis=1).tolist()
                if bin[2] > 0
            ],
            "examples": [{"name": each.name, "mean_iou": each.iou, "mean_dice": each.dice} for each in self.examples],
        }
        told = {name: {"value": value, "definition": DEFINITIONS[name]} for name, value in facts.items()}
        return {**self.scores.to_dict(), **told}

    def table(self, console: Console) -> None:
        """Print the classes' scores and the overall ones, with their definitions."""
        from rich.markup import escape

        print_scores(console, self.scores, IN_UNITS)
        console.print(f"Scored: {self.pictures:,} pictures with {self.pixels:,} labelled pixels.")
        if self.scores.absent:
            names = escape(", ".join(self.scores.absent))
            console.print(f"Not in the labels of these pictures, so left out of every mean over classes: {names}.")
        if self.skipped:
            console.print(f"Left out, since nothing in them is labelled: {self.skipped:,} pictures.")


def evaluate(
    predict: Callable[[Sample], Prediction],
    samples: Iterable[Sample],
    classes: Classes,
    *,
    boundary: bool = True,  # also the boundary F-score: about as long again as all other scores
    keep: int = 6,  # examples of the best and of the worst pictures each
    temperature: float | None = None,  # for the probabilities; from `fitted_temperature` on other pictures
    several: Callable[[Sample], Sequence[Prediction]] | None = None,  # plausible answers, where the model has several
) -> Evaluation:
    """Scores of the predictions for the labelled samples; samples in which nothing is labelled are counted and skipped.
    Samples with several raters' masks are also held against each of them.

    The temperature changes Brier score, calibration and uncertainty, never the masks. Raises DataError, with the
    picture's name, where truth and prediction do not fit together, and where the labels are of the wrong kind.
    """
    if keep < 0:
        raise UsageError(f"keep = {keep} pictures can't be kept; take 0 or more.")
    counts = _no_counts(classes)
    outlines = BoundaryScore.zeros(len(classes))
    before = Reliability.zeros(len(classes), classes.overlapping)
    after = Reliability.zeros(len(classes), classes.overlapping)
    agreement = None if classes.overlapping else Agreement.zeros(classes)
    skipped = 0
    seconds: list[float] = []
    kept = Extremes[Example](keep)
    for sample in samples:
        truth = _truth(sample, classes)
        if truth is None:
            skipped += 1
            continue
        start = perf_counter()
        prediction = predict(sample)
        seconds.append(perf_counter() - start)
        answer = _answer(prediction)
        alone = _no_counts(classes)
        try:
            alone.add(truth, answer)
            before.add(prediction.probabilities, truth)
        except DataError as error:
            raise DataError(f"{sample.name}: {error}") from error
        counts.counts += alone.counts
        if boundary:
            outlines.add(truth, answer)
        if temperature is not None:
            mended = with_temperature(prediction.probabilities, temperature, classes.overlapping)
            prediction = replace(prediction, probabilities=mended)
            after.add(mended, truth)
        if agreement is not None and sample.raters:
            _compare(agreement, sample, prediction, several)
        if keep and not math.isnan(alone.mean_iou):
            kept.add(alone.mean_iou, _example(sample, truth, prediction, alone, seconds[-1]))
    reliability = before if temperature is None else after
    return Evaluation(
        classes=classes,
        scores=_joined(counts, outlines if boundary else None, reliability, classes, agreement),
        confusion=counts.matrix if isinstance(counts, Confusion) else None,
        reliability=reliability,
        reliability_before=None if temperature is None else before,
        temperature=temperature,
        pictures=len(seconds),
        skipped=skipped,
        pixels=int(counts.counts.sum()),
        seconds_per_picture=median(seconds) if seconds else math.nan,
        examples=kept.ranked(),
    )


def fitted_temperature(
    predict: Callable[[Sample], Prediction],
    samples: Iterable[Sample],
    classes: Classes,
    *,
    per_picture: int = 200,  # labelled pixels taken of each
    seed: int = 0,
) -> float:
    """The temperature that makes the samples' labels likeliest; 1 where nothing is labelled.

    The samples must be other pictures than those that are then evaluated with it, and than those trained on.
    """
    pixels = collect_pixels(predict, samples, classes, per_picture=per_picture, seed=seed)
    return fit_temperature(*pixels, overlapping=classes.overlapping)


def collect_pixels(
    predict: Callable[[Sample], Prediction],
    samples: Iterable[Sample],
    classes: Classes,
    *,
    per_picture: int = 200,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Of each labelled sample `per_picture` labelled pixels, or all where there are fewer, drawn without repetition:
    probabilities (K, N) float32, and classes (N,) or, where they overlap, labels (K, N)."""
    generator = np.random.default_rng(seed)
    probabilities = [np.empty((len(classes), 0), np.float32)]
    targets = [np.empty((len(classes), 0) if classes.overlapping else 0, np.int64)]
    for sample in samples:
        truth = _truth(sample, classes)
        if truth is None:
            continue
        known = (truth != IGNORE).any(axis=0) if classes.overlapping else truth != IGNORE
        y, x = np.nonzero(known)
        drawn = generator.permutation(len(y))[:per_picture]
        probabilities.append(predict(sample).probabilities[:, y[drawn], x[drawn]])
        targets.append(truth[..., y[drawn], x[drawn]].astype(np.int64))
    return np.concatenate(probabilities, axis=1), np.concatenate(targets, axis=-1)


def _no_counts(classes: Classes) -> Confusion | LabelConfusion:
    return (LabelConfusion if classes.overlapping else Confusion).zeros(len(classes))


def _truth(sample: Sample, classes: Classes) -> np.ndarray | None:
    """The sample's mask (H, W), or its labels (K, H, W) where classes overlap; None where nothing is labelled."""
    truth, other = (sample.labels, sample.mask) if classes.overlapping else (sample.mask, sample.labels)
    if truth is None and other is not None:
        kinds = ("labels of overlapping classes", "a mask of classes that exclude each other")
        raise DataError(
            f"{sample.name} has {kinds[classes.overlapping]}, but the class list says "
            f"overlapping = {str(classes.overlapping).lower()}; change the class list or the labels."
        )
    return None if truth is None or not (truth != IGNORE).any() else truth


def _answer(prediction: Prediction) -> np.ndarray:
    return prediction.labels if prediction.classes.overlapping else prediction.mask


def _compare(
    agreement: Agreement,
    sample: Sample,
    prediction: Prediction,
    several: Callable[[Sample], Sequence[Prediction]] | None,
) -> None:
    """The answer against the raters, and several answers where there are; their mean's probabilities then."""
    answers = several(sample) if several is not None else ()
    probabilities = np.mean([each.probabilities for each in answers], axis=0) if answers else prediction.probabilities
    agreement.add(sample.raters, prediction.mask, probabilities, [each.mask for each in answers])


def _joined(
    counts: Confusion | LabelConfusion,
    outlines: BoundaryScore | None,
    reliability: Reliability,
    classes: Classes,
    agreement: Agreement | None,
) -> Scores:
    overlap = counts.scores(classes)
    answers, confidence, right = reliability.bins.sum(axis=1)
    gap = Score(
        "overconfidence",
        float((confidence - right) / answers) if answers else math.nan,
        "mean probability less share of yes" if classes.overlapping else "mean confidence less accuracy",
    )
    joined = overlap if outlines is None else overlap.joined(outlines.scores(classes))
    joined = joined.joined(reliability.scores(classes)).joined(Scores(classes.names, (gap,)))
    if agreement is not None:
        joined = joined.joined(agreement.scores())
    # A class that fills its pictures has no outline to score, but is not absent.
    return replace(joined, absent=overlap.absent)


def _example(
    sample: Sample, truth: np.ndarray, prediction: Prediction, alone: Confusion | LabelConfusion, seconds: float
) -> Example:
    size = example_size(sample.size)
    return Example(
        name=sample.name,
        iou=alone.mean_iou,
        dice=alone.mean_dice,
        seconds=seconds,
        picture=shrunk(sample.image, size),
        truth=sampled(truth, size),
        predicted=sampled(_answer(prediction), size),
        uncertainty=cv2.resize((prediction.uncertainty * 255).astype(np.uint8), size, interpolation=cv2.INTER_AREA),
    )
