"""What the report says of runs whose course is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from intarsia.metrics import Score
from intarsia.records import Classes, Prediction, Sample
from intarsia.report.wording import duration, on_calibration, on_classes, on_training, percent, percentage, series
from intarsia.training.evaluation import Evaluation, evaluate


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0042, "4.2 ms"), (0.042, "42 ms"), (2.34, "2.3 s"), (9.97, "10 s"), (75, "1 min 15 s"), (4000, "1 h 6 min")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_percentages() -> None:
    assert (percent(0.5342), percent(math.nan), percent(None)) == ("53.4", "n/a", "n/a")
    assert percentage(0.5342, 0) == "53\u00a0%"


def course(scores: list[float], losses: list[float] | None = None) -> list[dict[str, float]]:
    """A validation every 100 steps, and a training loss that always falls."""
    rows: list[dict[str, float]] = []
    for i, score in enumerate(scores, start=1):
        rows.append({"step": 100 * i - 50, "train/total": 3 / i})
        rows.append({"step": 100 * i, "validation/mean_iou": score, "train/total": 2.9 / i})
        if losses:
            rows[-1]["validation/loss"] = losses[i - 1]
    return rows


RISING = [i / 20 for i in range(1, 11)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (course([0.1, 0.2, 0.3]), ""),
        (course(RISING), "still improving"),
        (course([0.3, 0.5, 0.6, *[0.601] * 7]), "levelled off since step 300"),
        (course([0.3, 0.5, 0.6, 0.6, 0.5, 0.45]), "fell by 15.0 points after its best at step 300"),
        (course([0.5] * 6, [1.0, 0.8, 0.7, 0.9, 1.0, 1.1]), "validation loss has risen by 50\u00a0% since step 300"),
        (course(RISING, [2 - score for score in RISING]), "still improving"),
    ],
)
def test_the_course_of_training(rows: list[dict[str, float]], said: str) -> None:
    told = on_training(rows)
    assert said in told if said else told == ""


def test_a_resumed_run_tells_each_step_once() -> None:
    rows = [{"step": 1, "a": 1.0}, {"step": 3, "a": 9.0}, {"step": 2, "a": 2.0}, {"step": 3, "a": 3.0}]
    steps, values = series(rows, "a")
    assert (steps.tolist(), values.tolist()) == ([1, 2, 3], [1, 2, 3])


def evaluation_with(ious: list[float]) -> Evaluation:
    """Each class has 100 pixels, of which the share `iou` is found, and the rest is given to the last class."""
    classes = Classes.named([f"c{i}" for i in range(len(ious) + 1)])
    mask = np.repeat(np.arange(len(ious) + 1, dtype=np.int16), 100).reshape(-1, 100)
    said = mask.copy()
    for i, iou in enumerate(ious):
        said[i, round(100 * iou) :] = len(ious)
    probabilities = (said == np.arange(len(classes))[:, None, None]).astype(np.float32)
    sample = Sample("s", np.zeros((*mask.shape, 3), np.uint8), mask)
    return evaluate(lambda s: Prediction(s.name, s.image, classes, probabilities), [sample], classes)


def test_good_and_weak_classes() -> None:
    told = on_classes(evaluation_with([0.9, 0.1, 0.5]))
    assert told == "Good on c0 (90.0\u00a0%), weak on c1 (10.0\u00a0%)."


def test_many_good_classes_are_shortened() -> None:
    assert on_classes(evaluation_with([0.99] * 5)).startswith("Good on all 6 classes; the lowest is c5 (95.2")


@pytest.mark.parametrize(
    ("error", "gap", "said"),
    [
        (0.01, 0.01, "well calibrated"),
        (0.04, 0.04, "somewhat overconfident"),
        (0.1, -0.1, "too cautious"),
        (0.1, 0.01, "both directions"),
    ],
)
def test_calibration(error: float, gap: float, said: str) -> None:
    evaluation = evaluation_with([0.9])
    numbers = (Score("expected_calibration_error", error, ""), Score("overconfidence", gap, ""))
    told = on_calibration(replace(evaluation, scores=replace(evaluation.scores, overall=numbers)))
    assert said in told
    assert ("temperature" in told) == (error > 0.02)
