"""Numbers as people read them, and what the numbers say, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..training.evaluation import Evaluation

GOOD, WEAK = 0.7, 0.4  # IoU from which a class is called well segmented, and below which weak
CALIBRATED, SOMEWHAT = 0.02, 0.05  # calibration error up to which probabilities are to be trusted, or nearly
NOTICEABLE = 0.01  # a change of validation mean IoU that is more than its usual wobble

Row = Mapping[str, float]


def percent(value: float | None, digits: int = 1) -> str:
    """0.5342 as "53.4"; None and NaN as "n/a"."""
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def percentage(value: float | None, digits: int = 1) -> str:
    """0.5342 as "53.4 %", which no line's end tears apart; None and NaN as "n/a"."""
    told = percent(value, digits)
    return told if told == "n/a" else f"{told}\u00a0%"


def duration(seconds: float) -> str:
    """4000 as "1 h 6 min", 75 as "1 min 15 s", 0.042 as "42 ms"."""
    if seconds < 1:
        return f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def series(rows: Sequence[Row], key: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps, rising, and the finite values of one column of the metrics, each (N,) float64.

    A run that was killed and resumed tells some steps twice; what it said last holds.
    """
    points = {row["step"]: row[key] for row in rows if _finite(row.get(key)) and _finite(row.get("step"))}
    steps, values = np.array(sorted(points.items()), np.float64).reshape(-1, 2).T
    return steps, values


def verdict(evaluation: Evaluation | None, rows: Sequence[Row]) -> list[str]:
    """What a reader should take away: on the classes, on the training, on the probabilities; a sentence each."""
    sentences = []
    if evaluation is not None:
        sentences += [on_classes(evaluation), on_calibration(evaluation)]
    sentences.append(on_training(rows))
    return [sentence for sentence in sentences if sentence]


def on_classes(evaluation: Evaluation) -> str:
    """Which classes are found well, and which are not; of those that the labels hold."""
    scores = evaluation.scores
    columns = zip(scores.classes, scores.per_class["iou"], strict=True)
    scored = {name: iou for name, iou in columns if name not in scores.absent}
    if not scored:
        return "No class occurs in the labels, so nothing could be scored."
    order = sorted(scored, key=lambda name: -scored[name])
    good = [name for name in order if scored[name] >= GOOD]
    weak = [name for name in reversed(order) if scored[name] < WEAK]
    if len(order) == 1:
        word = "Good on" if good else "Weak on" if weak else "Middling on"
        return f"{word} {_with_score(order, scored)}, the only class."
    if len(good) == len(order):
        return f"Good on all {len(order)} classes; the lowest is {_with_score(order[-1:], scored)}."
    if len(weak) == len(order):
        return f"Weak on all {len(order)} classes; the highest is {_with_score(order[:1], scored)}."
    if not good and not weak:
        return f"Middling throughout, from {_with_score(order[-1:], scored)} to {_with_score(order[:1], scored)}."
    parts = [f"good on {_with_score(good, scored)}"] if good else []
    parts += [f"weak on {_with_score(weak, scored)}"] if weak else []
    sentence = ", ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def on_calibration(evaluation: Evaluation) -> str:
    """Whether the probabilities mean what they say."""
    error, gap = evaluation.scores["expected_calibration_error"], evaluation.scores["overconfidence"]
    if math.isnan(error):
        return ""
    after = "" if evaluation.temperature is None else " after temperature scaling"
    off = f"off by {percent(error)} points on average"
    if error <= CALIBRATED:
        return f"The probabilities are well calibrated{after} ({off})."
    if abs(gap) < error / 2:
        side = "miscalibrated in both directions"
    elif evaluation.classes.overlapping:
        side = "too high" if gap > 0 else "too low"
    else:
        side = "overconfident" if gap > 0 else "too cautious"
    degree = "somewhat " if error <= SOMEWHAT else ""
    advice = "" if after else "; a temperature fitted on validation pictures may mend it"
    return f"The probabilities are {degree}{side}{after} ({off}{advice})."


def on_training(rows: Sequence[Row], score: str = "mean_iou") -> str:
    """Whether training could go on, levelled off or overfitted by a score of validation; empty with fewer than four
    validations."""
    steps, scores = series(rows, f"validation/{score}")
    if len(scores) < 4:
        return ""
    best = int(scores.argmax())
    rise = _overfitting(rows)
    if rise:
        return rise
    if scores[-1] < scores[best] - 2 * NOTICEABLE:
        fall = percent(scores[best] - scores[-1])
        name = score.replace("_iou", " IoU")
        return f"Validation {name} fell by {fall} points after its best at step {steps[best]:,.0f}: stop earlier."
    # The first validation within a noticeable step of the best: from there on nothing was gained.
    reached = int(np.argmax(scores >= scores[best] - NOTICEABLE))
    flat = (steps[-1] - steps[reached]) / steps[-1]
    if flat >= 0.3:
        return f"Validation has levelled off since step {steps[reached]:,.0f}; more steps alone will hardly help."
    if flat <= 0.1:
        return "Validation was still improving at the end; longer training is likely to help."
    return "Validation was improving slowly at the end; longer training may help a little."


def _overfitting(rows: Sequence[Row]) -> str:
    """The sentence, where validation loss rose by a tenth or more while the training loss went on falling."""
    steps, losses = series(rows, "validation/loss")
    at, training = series(rows, "train/total")
    if len(losses) < 4 or len(training) < 4:
        return ""
    low = int(losses.argmin())
    last = float(losses[-2:].mean())
    before = training[at <= steps[low]][-10:]
    after = training[at > steps[low]][-10:]
    if low >= len(losses) - 2 or not len(before) or not len(after) or losses[low] <= 0:
        return ""
    if last < 1.1 * losses[low] or after.mean() >= before.mean():
        return ""
    rise = percentage(last / losses[low] - 1, 0)
    return (
        f"Overfitted: validation loss has risen by {rise} since step {steps[low]:,.0f} while training loss fell; "
        "stronger augmentation, more labels or an earlier stop would help."
    )


def _with_score(names: Sequence[str], scores: Mapping[str, float], most: int = 3) -> str:
    """ "Road (94.1 %), Sky (92.0 %) and 3 more"."""
    told = [f"{name} ({percentage(scores[name])})" for name in names[:most]]
    if len(names) > most:
        told.append(f"{len(names) - most} more")
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
