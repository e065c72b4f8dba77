"""What the numbers on objects say, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..training.object_evaluation import ObjectEvaluation
from .wording import CALIBRATED, Row, on_training, percent, percentage

EXACT, LOOSE = 0.85, 0.7  # mean IoU of the pairs from which outlines are called close, and below which loose
NOTICEABLE = 0.02  # share of all true objects from which a kind of error is told
APART = 0.1  # difference of AP50 between sizes, or of classes, that is told
OFF = 0.05  # share by which counts are off in sum, from which it is told
HINTS = {
    "missed": "missed objects",
    "invented": "invented objects",
    "split": "objects cut into several",
    "merged": "neighbours run together",
    "confused": "objects given another class",
}


def object_verdict(evaluation: ObjectEvaluation | None, rows: Sequence[Row]) -> list[str]:
    """What a reader should take away: on what was found, on errors, outlines, counts, sizes and training; a sentence
    each."""
    sentences = []
    if evaluation is not None:
        told = (on_found, on_errors, on_outlines, on_counts, on_sizes, on_classes, on_scores)
        sentences += [each(evaluation) for each in told]
        sentences += evaluation.remarks
    sentences.append(on_training(rows, "AP50"))
    return [sentence for sentence in sentences if sentence]


def on_found(evaluation: ObjectEvaluation) -> str:
    """How many of the objects are found, and how many of those found are there."""
    recall, precision = evaluation["recall_50"], evaluation["precision_50"]
    if not evaluation.pictures:
        return "No picture is labelled, so nothing could be scored."
    if math.isnan(recall):
        found = evaluation.predicted_objects
        return f"These pictures hold no objects; {found or 'none'} {'were' if found != 1 else 'was'} found in them."
    if math.isnan(precision):
        return f"Nothing was found: all {evaluation.objects:,} objects are missed."
    pair = "IoU ≥ 0.5, of the right class" if len(evaluation.scores.classes) > 1 else "IoU ≥ 0.5"
    return f"Of 100 objects {_hundred(recall)} are found, and of 100 it finds {_hundred(precision)} are there ({pair})."


def on_errors(evaluation: ObjectEvaluation) -> str:
    """The most frequent kind of error, where it is worth telling."""
    errors = evaluation.errors
    worst = max(errors, key=lambda kind: errors[kind], default="")
    if not worst or errors[worst] < NOTICEABLE * max(1, evaluation.objects) or not evaluation.predicted_objects:
        return ""
    others = ", ".join(f"{count:,} {kind}" for kind, count in errors.items() if count and kind != worst)
    return f"The commonest error: {HINTS[worst]} ({errors[worst]:,}{f'; beside {others}' if others else ''})."


def on_outlines(evaluation: ObjectEvaluation) -> str:
    """How well the outlines of those found fit."""
    iou = evaluation["mean_matched_iou"]
    if math.isnan(iou):
        return ""
    word = "close to" if iou >= EXACT else "rough beside" if iou < LOOSE else "fairly near"
    return f"The outlines of those found are {word} the true ones (mean IoU {percentage(iou)})."


def on_counts(evaluation: ObjectEvaluation) -> str:
    """Whether counting can be trusted."""
    bias, error = evaluation["count_bias"], evaluation["count_error"]
    if math.isnan(bias):
        return ""
    each = f"{error:.1f}" if error < 9.95 else f"{error:.0f}"
    beside = f"a picture's count is off by {each} on average"
    if abs(bias) < OFF:
        return f"Counts are right in sum ({100 * bias:+.1f}\u00a0%); {beside}.".replace("-", "\u2212")
    return f"Counts are {percentage(abs(bias))} too {'high' if bias > 0 else 'low'} in sum; {beside}."


def on_sizes(evaluation: ObjectEvaluation) -> str:
    """Whether small or large objects are found clearly worse."""
    scored = {each.name: each.average_precision for each in evaluation.sizes if each.true}
    return _worst(scored, "The {} third of the objects")


def on_classes(evaluation: ObjectEvaluation) -> str:
    """Which class is found worst, where classes differ."""
    columns = zip(evaluation.scores.classes, evaluation.scores.per_class["AP50"], strict=True)
    return _worst({name: value for name, value in columns if name not in evaluation.scores.absent}, "{}")


def on_scores(evaluation: ObjectEvaluation) -> str:
    """Whether an object's score means what it says."""
    if evaluation.reliability is None or not evaluation.reliability.answers:
        return ""
    number, said, right = evaluation.reliability.bins.sum(axis=1)
    error, gap = evaluation["score_calibration_error"], float((said - right) / number)
    if error <= CALIBRATED:
        return f"The objects' scores are well calibrated (off by {percent(error)} points on average)."
    side = "off in both directions" if abs(gap) < error / 2 else "too high" if gap > 0 else "too low"
    return f"As probabilities the objects' scores are {side} (by {percent(error)} points on average)."


def _hundred(share: float) -> str:
    """0.934 as "93"; shares that are not all never as "100"."""
    return f"{100 * share:.0f}" if share == 1 or share < 0.99 else f"{math.floor(1000 * share) / 10:.1f}"


def _worst(scored: dict[str, float], what: str) -> str:
    """Which has the lowest AP50, where the best is clearly above it. what: how to call one, with {} for its name."""
    if len(scored) < 2:
        return ""
    low, high = min(scored, key=lambda name: scored[name]), max(scored, key=lambda name: scored[name])
    if scored[high] - scored[low] < APART:
        return ""
    beside = f"AP50 {percentage(scored[low])}, {high} {percentage(scored[high])}"
    return f"{what.replace('{}', low)} is found worst ({beside})."
