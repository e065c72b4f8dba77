"""From results to what can be said of each method, and how surely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .criteria import MASKS, Criterion, count_error
from .methods import CONTROL, EQUAL_TIME
from .statistics import (
    Interval,
    between,
    by_bootstrap,
    by_seeds,
    hull,
    labels_for,
    mean_iou,
    monotone,
    pooled_iou,
    spread,
    stops_helping,
    time_share,
    verdict,
)
from .trainings import Result

DEFINITIONS = {
    "gain": "score less that of the control with the same labels, seeds and pictures, mean over the seeds",
    "interval": "95 %, from the lowest to the highest end of two: Student's t over seeds, and a paired bootstrap that "
    "draws seeds and pictures together; with one seed it covers pictures only",
    "verdict": "helps: the whole interval is above 0; hurts: all of it is below; does not help: it holds 0 and no gain "
    "of 1 point; can't tell: otherwise",
    "stops_helping": "labels from which on the interval is not above 0, straight in log labels between counts; "
    "null: it helps at the largest measured count; 0: at none",
    "control_labels": "labels with which the control would have the same score, from its rising curve (isotonic "
    "regression, straight in log labels); null: more than were measured",
    "seconds": "of training, by the clock, mean over seeds, with all that has to be trained before",
    "gain_per_minute": "gain divided by the minutes that the method trains longer than the control; null: not longer",
    "equal_time": "the same against what the control would have in the method's own training time: between the control "
    "and another that was given the time of the slowest method, straight in log time",
    "count_error": "by how many the number of a picture's objects is wrong, mean over the judged pictures "
    "and the seeds",
    "count_bias": "predicted objects in all over true ones in all, less 1, mean over the seeds; above 0: too many",
}


def definitions(criterion: Criterion) -> dict[str, str]:
    """What each number of a comparison means."""
    told = {"score": criterion.definition, **DEFINITIONS}
    return {name: words for name, words in told.items() if criterion.objects or not name.startswith("count_")}


@dataclass(frozen=True)
class Gain:
    """What a method gains over a control, with the labels and seeds that both have."""

    interval: Interval  # the one that is believed
    seeds: Interval  # by Student's t
    pictures: Interval  # by the bootstrap over pictures and seeds
    count: int  # pairs of trainings
    verdict: str


@dataclass(frozen=True)
class Cell:
    """One method with one number of labels."""

    method: str
    labels: int
    scores: dict[int, float]  # by seed
    per_class: np.ndarray  # (K,) IoU or AP50, mean over seeds; NaN where the judged pictures do not show a class
    seconds: float  # mean over seeds
    gain: Gain | None = None  # over the control; None for the control itself, and without a pair of trainings
    equal_time: Gain | None = None  # over what the control would have in the same time
    control_labels: tuple[float, float, float] | None = None  # for the same score: at the mean, low and high gain
    count_error: float = math.nan  # objects a picture, mean over seeds; NaN for masks
    count_bias: float = math.nan  # too many objects in all as a share of the true ones, likewise

    @property
    def spread(self) -> dict[str, float]:
        return spread(list(self.scores.values()))

    @property
    def score(self) -> float:
        return self.spread["mean"]


@dataclass(frozen=True)
class Judgement:
    """All that can be said, in numbers."""

    cells: dict[tuple[str, int], Cell]
    stops: dict[str, float]  # by method: the labels from which on it no longer helps; inf, 0 as `stops_helping` says
    failures: tuple[Result, ...]
    labels: tuple[int, ...]
    methods: tuple[str, ...]
    criterion: Criterion = MASKS

    def cell(self, method: str, labels: int) -> Cell | None:
        return self.cells.get((method, labels))

    def ranked(self, labels: int) -> list[Cell]:
        """The methods with so many labels that can be set beside the control, best gain first."""
        cells = (self.cell(method, labels) for method in self.methods if method != EQUAL_TIME)
        beside = [(cell.gain.interval.mean, cell) for cell in cells if cell and cell.gain]
        return [cell for mean, cell in sorted(beside, key=lambda each: -each[0]) if math.isfinite(mean)]

    def minutes_more(self, cell: Cell) -> float:
        """How much longer it trains than the control, in minutes; NaN without one."""
        control = self.cell(CONTROL, cell.labels)
        return (cell.seconds - control.seconds) / 60 if control else math.nan

    def per_minute(self, cell: Cell) -> float:
        """Gain for each further minute of training; NaN where it takes no longer than the control by a tenth."""
        control, more = self.cell(CONTROL, cell.labels), self.minutes_more(cell)
        if cell.gain is None or control is None or not more > 0.1 * control.seconds / 60:
            return math.nan
        return cell.gain.interval.mean / more


def judge(results: Sequence[Result], classes: np.ndarray, criterion: Criterion = MASKS) -> Judgement:
    """What the results (one a method, number of labels and seed) say. classes (K,) bool: those that are scored."""
    done = [each for each in results if not each.failure]
    whole = {each.job: _counts(each) for each in done}
    done = [replace(each, counts=criterion.scored(whole[each.job], classes)) for each in done]
    methods = tuple(dict.fromkeys(each.job.method for each in results))
    labels = tuple(sorted({each.job.labels for each in results}))
    by_cell: dict[tuple[str, int], dict[int, Result]] = {}
    for each in done:
        by_cell.setdefault((each.job.method, each.job.labels), {})[each.job.seed] = each
    control = _curve(by_cell, labels)
    cells = {}
    for (method, count), found in sorted(by_cell.items(), key=lambda item: item[0][1]):
        plain, longer = by_cell.get((CONTROL, count), {}), by_cell.get((EQUAL_TIME, count), {})
        gain = None if method == CONTROL else _gain(found, plain)
        every = [whole[each.job] for each in found.values()]
        wrong = np.mean([count_error(each) for each in every], axis=0) if criterion.objects else (math.nan, math.nan)
        share = time_share(_seconds(found), _seconds(plain), _seconds(longer))
        cells[method, count] = Cell(
            method,
            count,
            {seed: float(mean_iou(_counts(each))) for seed, each in sorted(found.items())},
            np.mean([pooled_iou(each) for each in every], axis=0),
            _seconds(found),
            gain,
            None if method in (CONTROL, EQUAL_TIME) or not longer else _gain(found, plain, longer, share),
            None if gain is None else _same_as(gain, count, control),
            float(wrong[0]),
            float(wrong[1]),
        )
    stops = {}
    for method in methods:
        gains = [(k, cells[method, k].gain) for k in labels if (method, k) in cells]
        measured = [(k, gain.interval.low) for k, gain in gains if gain is not None]
        if measured:
            stops[method] = stops_helping(*zip(*measured, strict=True))
    return Judgement(cells, stops, tuple(each for each in results if each.failure), labels, methods, criterion)


def _gain(
    ours: Mapping[int, Result],
    theirs: Mapping[int, Result],
    later: Mapping[int, Result] | None = None,
    share: float = 0.0,
) -> Gain | None:
    """later: another control's results; what is compared with is then `share` of the way from `theirs` to them."""
    later = theirs if later is None else later
    seeds = sorted(ours.keys() & theirs.keys() & later.keys())
    if not seeds:
        return None
    mine, other, last = (np.stack([_counts(side[seed]) for seed in seeds]) for side in (ours, theirs, later))
    over_seeds = by_seeds(between(mine, other, last, share))
    over_pictures = by_bootstrap(mine, other, later=last, share=share)
    believed = hull(over_seeds, over_pictures)
    return Gain(believed, over_seeds, over_pictures, len(seeds), verdict(believed))


def _seconds(found: Mapping[int, Result]) -> float:
    return float(np.mean([each.total for each in found.values()])) if found else math.nan


def _curve(
    by_cell: Mapping[tuple[str, int], Mapping[int, Result]], labels: Sequence[int]
) -> tuple[list[int], np.ndarray]:
    """The control's mean scores over the labels that it was trained with, as a rising curve."""
    known = [k for k in labels if (CONTROL, k) in by_cell]
    means = [np.mean([mean_iou(_counts(each)) for each in by_cell[CONTROL, k].values()]) for k in known]
    return known, monotone([float(each) for each in means]) if known else np.empty(0)


def _same_as(gain: Gain, labels: int, control: tuple[list[int], np.ndarray]) -> tuple[float, float, float]:
    known, curve = control
    here = float(curve[known.index(labels)])
    wanted = (gain.interval.mean, gain.interval.low, gain.interval.high)
    mean, low, high = (labels_for(here + each, known, curve.tolist()) for each in wanted)
    return mean, low, high


def _counts(result: Result) -> np.ndarray:
    assert result.counts is not None
    return result.counts


def to_json(judgement: Judgement, classes: Sequence[str]) -> dict[str, Any]:
    """Every number, in JSON's types; NaN and infinity are null."""
    rows, criterion = [], judgement.criterion
    of_classes = f"{criterion.per_class.lower()}_by_class"
    for cell in judgement.cells.values():
        rows.append({
            "method": cell.method, "labels": cell.labels, "seeds": list(cell.scores),
            "scores": [_plain(each) for each in cell.scores.values()],
            "score": {name: _plain(each) for name, each in cell.spread.items()},
            of_classes: dict(zip(classes, map(_plain, cell.per_class), strict=True)),
            "seconds": _plain(cell.seconds),
            **({"count_error": _plain(cell.count_error), "count_bias": _plain(cell.count_bias)}
               if criterion.objects else {}),
            **({} if cell.gain is None else {
                "gain": gain_json(cell.gain), "gain_per_minute": _plain(judgement.per_minute(cell)),
                "control_labels": [_plain(each) for each in cell.control_labels or ()],
            }),
            **({} if cell.equal_time is None else {"equal_time": gain_json(cell.equal_time)}),
        })  # fmt: skip
    failed = [{"method": each.job.method, "labels": each.job.labels, "seed": each.job.seed, "why": each.failure}
              for each in judgement.failures]  # fmt: skip
    stops = {method: _plain(value) for method, value in judgement.stops.items()}
    return {"definitions": definitions(criterion), "cells": rows, "stops_helping": stops, "failed": failed}


def gain_json(gain: Gain) -> dict[str, Any]:
    def ends(interval: Interval) -> list[float | None]:
        return [_plain(interval.low), _plain(interval.high)]

    return {
        "mean": _plain(gain.interval.mean), "interval": ends(gain.interval), "verdict": gain.verdict,
        "pairs": gain.count, "interval_over_seeds": ends(gain.seeds), "interval_over_pictures": ends(gain.pictures),
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
