"""Differences and intervals with known truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, ttest_1samp

from intarsia.comparing.statistics import (
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
from intarsia.metrics import Confusion


def counts_of(masks: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """(P, 3, K) of masks and answers (P, H, W)."""
    rows = []
    for truth, answer in zip(masks, answers, strict=True):
        tally = Confusion.zeros(classes)
        tally.add(truth, answer)
        rows.append([tally.hits, tally.actual, tally.predicted])
    return np.array(rows)


def with_iou(hits: np.ndarray) -> np.ndarray:
    """Counts (..., 3, 1) of pictures with 100 pixels of the one class, of which so many are found and nothing else."""
    hits = np.asarray(hits)
    return np.stack([hits, np.full_like(hits, 100), hits], axis=-1)[..., None]


def test_pooled_scores_are_those_of_the_metrics() -> None:
    generator = np.random.default_rng(0)
    masks, answers = generator.integers(-1, 3, (5, 8, 9)), generator.integers(0, 4, (5, 8, 9))
    counts = counts_of(masks, answers, 4)  # class 3 is never true
    pooled = Confusion.zeros(4)
    pooled.add(masks, answers)
    assert mean_iou(counts) == pytest.approx(pooled.mean_iou)
    np.testing.assert_allclose(pooled_iou(counts)[:3], pooled.iou[:3])
    assert math.isnan(pooled_iou(counts)[3]), "a class that the truth does not show is in no mean"
    rare = np.array([False, True, False, True])
    assert mean_iou(counts, rare) == pytest.approx(pooled.iou[1])
    assert math.isnan(mean_iou(counts, np.array([False, False, False, True])))


def test_the_interval_over_seeds_is_students() -> None:
    differences = np.array([0.01, 0.03, 0.02, 0.05])
    truth = ttest_1samp(differences, 0).confidence_interval(0.95)
    found = by_seeds(differences)
    assert (found.mean, found.low, found.high) == pytest.approx((0.0275, truth.low, truth.high))
    assert not by_seeds(differences[:1]).known and by_seeds(differences[:1]).mean == 0.01
    assert by_seeds(np.full(3, 0.2)) == Interval(pytest.approx(0.2), pytest.approx(0.2), pytest.approx(0.2))  # type: ignore[arg-type]


def test_one_seeds_bootstrap_is_that_of_scipy() -> None:
    generator = np.random.default_rng(1)
    theirs = generator.integers(20, 60, (1, 40))
    ours = theirs + generator.integers(0, 15, theirs.shape)
    found = by_bootstrap(with_iou(ours), with_iou(theirs), draws=4000)
    truth = bootstrap((((ours - theirs)[0] / 100),), np.mean, n_resamples=4000, method="percentile", rng=2)
    assert found.mean == pytest.approx((ours - theirs).mean() / 100)
    assert (found.low, found.high) == pytest.approx(tuple(truth.confidence_interval), abs=0.002)


def test_a_difference_that_is_the_same_everywhere_is_certain() -> None:
    theirs = np.random.default_rng(2).integers(20, 60, (3, 10))
    found = by_bootstrap(with_iou(theirs + 7), with_iou(theirs))
    assert (found.mean, found.low, found.high) == pytest.approx((0.07, 0.07, 0.07)), "pairs: pictures differ, gains not"
    same = by_bootstrap(with_iou(theirs), with_iou(theirs))
    assert same == Interval(0, 0, 0) and verdict(same) == "does not help"


def test_seeds_that_disagree_widen_the_bootstrap_and_pictures_are_not_averaged_out() -> None:
    theirs = np.full((4, 50), 50)
    by_seed = by_bootstrap(with_iou(theirs + np.array([[-8], [8], [-8], [8]])), with_iou(theirs))
    assert by_seed.low < -0.03 and by_seed.high > 0.03
    pictures = np.where(np.arange(50) % 2, 20, -20)  # every seed gains on the same pictures and loses on the others
    one, four = (by_bootstrap(with_iou(theirs[:n] + pictures), with_iou(theirs[:n])) for n in (1, 4))
    assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.1), "more seeds make no more pictures"


def test_too_little_is_said_to_be_too_little() -> None:
    one = with_iou(np.full((2, 1), 50))
    assert not by_bootstrap(one, one).known
    assert not by_bootstrap(one[:0], one[:0]).known and math.isnan(by_bootstrap(one[:0], one[:0]).mean)
    assert verdict(Interval(0.1, math.nan, math.nan)) == "can't tell"
    none = Interval(0.1, math.nan, math.nan)
    assert hull(none, none).mean == 0.1 and not hull(none, none).known
    assert hull(none, Interval(0.1, -1, 2)) == Interval(0.1, -1, 2)
    assert hull(Interval(0.1, 0, 1), Interval(0.2, -1, 0.5)) == Interval(0.1, -1, 1)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.001, 0.2, "helps"), (-0.2, -0.001, "hurts"), (-0.02, 0.005, "does not help"), (-0.02, 0.05, "can't tell"),
     (0.0, 0.004, "does not help"), (0.0, 0.02, "can't tell")],
)  # fmt: skip
def test_verdicts(low: float, high: float, said: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high)) == said


def test_where_it_stops_helping() -> None:
    assert stops_helping([5, 10, 20], [0.1, 0.05, 0.01]) == math.inf
    assert stops_helping([5, 10, 20], [-0.1, 0.0, -0.2]) == 0
    assert stops_helping([4, 16], [0.1, -0.1]) == pytest.approx(8), "halfway in log labels"
    assert stops_helping([4, 16], [0.1, -0.3]) == pytest.approx(4 * 4**0.25)
    assert stops_helping([5, 10, 20, 40], [0.1, -0.1, 0.1, -0.1]) == pytest.approx(20 * 2**0.5), "for the last time"
    assert stops_helping([5, 10], [0.1, math.nan]) == 5
    assert stops_helping([5], [0.2]) == math.inf


def test_the_labels_that_would_have_given_the_same() -> None:
    curve = monotone([0.3, 0.5, 0.4, 0.7])
    np.testing.assert_allclose(curve, [0.3, 0.45, 0.45, 0.7])
    labels = [5, 10, 20, 40]
    assert labels_for(0.3, labels, curve) == 5
    assert labels_for(0.375, labels, curve) == pytest.approx(50**0.5), "halfway in log labels"
    assert labels_for(0.45, labels, curve) == pytest.approx(10), "the first of a level stretch"
    assert labels_for(0.575, labels, curve) == pytest.approx(800**0.5)
    assert labels_for(0.71, labels, curve) == math.inf and labels_for(0.29, labels, curve) == 0
    assert math.isnan(labels_for(math.nan, labels, curve))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 1))
def test_labels_rise_with_the_score_and_undo_the_curve(scores: list[float], at: float) -> None:
    labels = [5 * 2**i for i in range(len(scores))]
    curve = monotone(scores)
    assert np.all(np.diff(curve) >= 0)
    low, high = sorted((at, at * 0.9))
    assert labels_for(low, labels, curve) <= labels_for(high, labels, curve)
    found = labels_for(at, labels, curve)
    if 0 < found < math.inf:
        assert np.interp(math.log(found), np.log(labels), curve) == pytest.approx(at, abs=1e-6)


def test_spread() -> None:
    assert spread([0.2, 0.4]) == pytest.approx({"mean": 0.3, "lowest": 0.2, "highest": 0.4, "deviation": 0.02**0.5})
    assert math.isnan(spread([0.2])["deviation"]) and math.isnan(spread([])["mean"])


def test_a_control_in_the_time_between_two() -> None:
    assert time_share(60, 60, 240) == 0 and time_share(240, 60, 240) == 1
    assert time_share(120, 60, 240) == pytest.approx(0.5), "halfway in log time"
    assert time_share(30, 60, 240) == 0 and time_share(999, 60, 240) == 1 and time_share(60, 60, 60) == 0
    theirs = np.random.default_rng(3).integers(20, 60, (2, 10))
    ours, first, second = with_iou(theirs + 7), with_iou(theirs), with_iou(theirs + 10)
    np.testing.assert_allclose(between(ours, first, second, 0.5), 0.02)
    found = by_bootstrap(ours, first, later=second, share=0.5)
    assert (found.mean, found.low, found.high) == pytest.approx((0.02, 0.02, 0.02))
    assert by_bootstrap(ours, first, later=second, share=0.0) == by_bootstrap(ours, first)
