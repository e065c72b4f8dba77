"""What differences between trainings say, and how surely. Pure functions, array -> array.

Axes: S seeds, P pictures, K classes, L label counts, R draws of a bootstrap. Counts of a picture are (3, K): hits TP,
actual TP + FN, predicted TP + FP, in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import t

LEVEL = 0.95  # of every interval
WORTH = 0.01  # mean IoU: a gain below it is worth no trouble
DRAWS = 2000  # of a bootstrap


@dataclass(frozen=True)
class Interval:
    """A mean and where it is believed to be; NaN ends where nothing can be said."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


def pooled_iou(counts: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """IoU (..., K) in [0, 1] of counts (..., P, 3, K) pooled over the pictures; NaN for classes that the truth does not
    show, and for those outside `classes` (K,) bool."""
    hits, actual, predicted = np.moveaxis(np.asarray(counts, np.float64).sum(axis=-3), -2, 0)  # each (..., K)
    shown = actual > 0 if classes is None else (actual > 0) & classes
    return np.divide(hits, actual + predicted - hits, out=np.full(hits.shape, np.nan), where=shown)


def mean_iou(counts: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """(...) in [0, 1]: the mean of `pooled_iou` over the classes that the truth shows; NaN where it shows none."""
    return _mean_over_classes(pooled_iou(counts, classes))


def by_seeds(differences: np.ndarray, level: float = LEVEL) -> Interval:
    """Student's t interval of paired differences (S,), one a seed; with one seed its ends are NaN."""
    values = np.asarray(differences, np.float64)
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def by_bootstrap(
    ours: np.ndarray,
    theirs: np.ndarray,
    classes: np.ndarray | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
    later: np.ndarray | None = None,
    share: float = 0.0,
) -> Interval:
    """Percentile interval of the difference in pooled mean IoU, ours (S, P, 3, K) less theirs, same seeds and pictures.

    later (S, P, 3, K): counts of a second control; theirs is then what lies between both, (1 - share) of the first.

    Each draw takes S seeds and P pictures, with repetition, and compares both sides on just these. The pictures of a
    draw are the same for all of its seeds, as they are in what was measured: pictures drawn anew for each seed would
    average out, and the interval would be too short (Owen: The pigeonhole bootstrap, 2007, arXiv:0712.1111). With one
    seed the interval covers pictures only. NaN ends where there are fewer than two pictures.
    """
    seeds, pictures = ours.shape[:2]
    later = theirs if later is None else later
    mean = float(np.mean(between(ours, theirs, later, share, classes))) if seeds else math.nan
    if not seeds or pictures < 2:
        return Interval(mean, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(pictures, np.full(pictures, 1 / pictures), size=draws).astype(np.float64)  # (R, P)
    sides = [
        [_weighted_mean_iou(each, weights, classes) for each in side]
        for side in ((ours, theirs, later) if share else (ours, theirs))
    ]
    gains = np.array(sides[0]) - (1 - share) * np.array(sides[1])  # (S, R)
    if share:
        gains -= share * np.array(sides[2])
    chosen = generator.integers(seeds, size=(seeds, draws))  # which seeds make up a draw
    drawn = np.take_along_axis(gains, chosen, axis=0).mean(axis=0)  # (R,)
    drawn = drawn[np.isfinite(drawn)]  # a draw may show none of the classes
    if len(drawn) < draws / 2:
        return Interval(mean, math.nan, math.nan)
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(mean, float(low), float(high))


def between(
    ours: np.ndarray, theirs: np.ndarray, later: np.ndarray, share: float, classes: np.ndarray | None = None
) -> np.ndarray:
    """(S,): mean IoU of ours less that which lies `share` of the way from theirs to later, all (S, P, 3, K)."""
    control = (1 - share) * mean_iou(theirs, classes) + share * mean_iou(later, classes)
    return np.asarray(mean_iou(ours, classes) - control)


def time_share(seconds: float, first: float, second: float) -> float:
    """Where a time lies between two others, straight in log time, in [0, 1]: the share of the way to the second."""
    if not 0 < first < second:
        return 0.0
    return min(1.0, max(0.0, math.log(seconds / first) / math.log(second / first)))


def hull(*intervals: Interval) -> Interval:
    """The mean of the first, between the furthest known ends of all: it claims no more than the most careful one."""
    known = [each for each in intervals if each.known]
    if not known:
        return Interval(intervals[0].mean, math.nan, math.nan)
    return Interval(intervals[0].mean, min(each.low for each in known), max(each.high for each in known))


def verdict(gain: Interval, worth: float = WORTH) -> str:
    """ "helps": the whole interval is above 0. "hurts": all of it is below. "does not help": 0 is in it, and no gain of
    `worth` is. "can't tell": both are in it, or nothing is known."""
    if not gain.known:
        return "can't tell"
    if gain.low > 0:
        return "helps"
    if gain.high < 0:
        return "hurts"
    return "does not help" if gain.high < worth else "can't tell"


def stops_helping(labels: Sequence[int], lows: Sequence[float]) -> float:
    """The number of labels from which on the gain's interval is no longer above 0: where the line through its lower
    ends, straight in log labels, crosses 0 for the last time.

    labels (L,) rising, lows (L,). inf: it helps at the largest measured count; 0: at none. NaN ends count as no help.
    """
    helping = [i for i, low in enumerate(lows) if low > 0]
    if not helping:
        return 0.0
    last = helping[-1]
    if last == len(labels) - 1:
        return math.inf
    low, after = lows[last], lows[last + 1]
    if not math.isfinite(after):
        return float(labels[last])
    share = low / (low - after)
    return float(math.exp((1 - share) * math.log(labels[last]) + share * math.log(labels[last + 1])))


def monotone(scores: Sequence[float]) -> np.ndarray:
    """(L,): the rising curve that is nearest to the scores, in order of their label counts: isotonic regression."""
    return np.asarray(isotonic_regression(np.asarray(scores, np.float64), increasing=True).x)


def labels_for(score: float, labels: Sequence[int], curve: Sequence[float]) -> float:
    """The smallest number of labels at which a rising curve (L,) over labels (L,) reaches a score, straight in log
    labels in between. inf: beyond the largest measured; 0: below the smallest."""
    if math.isnan(score) or score > curve[-1]:
        return math.inf if not math.isnan(score) else math.nan
    if score < curve[0]:
        return 0.0
    reached = next(i for i, value in enumerate(curve) if value >= score)
    if reached == 0:
        return float(labels[0])
    low, high = curve[reached - 1], curve[reached]
    share = (score - low) / (high - low)
    return float(math.exp((1 - share) * math.log(labels[reached - 1]) + share * math.log(labels[reached])))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, lowest, highest and standard deviation (NaN of one) of scores, one a seed."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return dict.fromkeys(("mean", "lowest", "highest", "deviation"), math.nan)
    deviation = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return {
        "mean": float(array.mean()), "lowest": float(array.min()), "highest": float(array.max()), "deviation": deviation
    }  # fmt: skip


def _weighted_mean_iou(counts: np.ndarray, weights: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """(R,) of counts (P, 3, K), each picture counted so many times as weights (R, P) say."""
    pooled = weights @ counts.reshape(len(counts), -1).astype(np.float64)  # (R, 3 K)
    return mean_iou(pooled.reshape(len(weights), 1, *counts.shape[1:]), classes)


def _mean_over_classes(iou: np.ndarray) -> np.ndarray:
    shown = ~np.isnan(iou)
    total, count = np.where(shown, iou, 0).sum(axis=-1), shown.sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
