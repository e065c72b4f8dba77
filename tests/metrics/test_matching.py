"""Objects whose pairs are known because they were drawn that way."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.errors import DataError, UsageError
from intarsia.metrics.matching import MatchingScore, matched, overlaps

label_images = arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def bars(*spans: tuple[int, int], length: int = 40) -> np.ndarray:
    """(1, length): object i + 1 covers the i-th span."""
    image = np.zeros((1, length), np.int32)
    for number, (start, stop) in enumerate(spans, start=1):
        image[0, start:stop] = number
    return image


def test_known_overlaps() -> None:
    found = overlaps(bars((0, 10), (10, 20)), bars((5, 15), (30, 35)))
    assert found.true.tolist() == [1, 2] and found.predicted.tolist() == [1, 2]
    assert found.pairs.tolist() == [[0, 0], [1, 0]]
    assert found.iou.tolist() == [5 / 15, 5 / 15]


def test_known_scores() -> None:
    """One found with IoU 0.8, one found whole, one missed, two invented."""
    true = bars((0, 10), (12, 20), (22, 30))
    predicted = bars((0, 8), (12, 20), (31, 33), (35, 39))
    score = MatchingScore.of(true, predicted)
    assert score.counts[0].tolist() == [2, 2, 1, 1.8]
    assert score.at("average_precision") == 2 / 5
    assert score.at("precision") == 0.5
    assert score.at("recall") == 2 / 3
    assert score.at("f1") == 4 / 7
    assert score.at("mean_matched_iou") == pytest.approx(0.9)
    assert score.at("average_precision", 0.8) == 2 / 5
    assert score.at("average_precision", 0.85) == 1 / 6
    named = {each.name: each.value for each in score.scores()}
    assert named["AP50"] == 0.4 and "TP / (TP + FP + FN)" in score.scores()[0].definition


@given(label_images)
@settings(deadline=None)
def test_an_image_matches_itself_whatever_its_numbers(image: np.ndarray) -> None:
    renumbered = np.array([0, 70, 5, 3_000_000, 12])[image]
    score = MatchingScore.of(image, renumbered)
    count = len(np.unique(image[image > 0]))
    assert (score.counts == [count, 0, 0, count]).all()
    if count:
        assert (score.average_precision == 1).all()
    else:
        assert np.isnan(score.average_precision).all()


@given(label_images, label_images)
@settings(deadline=None)
def test_truth_and_prediction_change_places(true: np.ndarray, predicted: np.ndarray) -> None:
    one, other = MatchingScore.of(true, predicted), MatchingScore.of(predicted, true)
    np.testing.assert_array_equal(one.counts[:, [0, 2, 1]], other.counts[:, :3])
    np.testing.assert_allclose(one.counts[:, 3], other.counts[:, 3])


@given(label_images, label_images, st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.75]))
@settings(deadline=None)
def test_pairs_are_unique_and_no_choice_is_better(true: np.ndarray, predicted: np.ndarray, threshold: float) -> None:
    """Against every possible pairing of up to 4 objects with up to 4."""
    found = overlaps(true, predicted)
    pairs = found.pairs[matched(found, threshold)]
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    table = np.zeros((4, 4))
    for (row, column), iou in zip(found.pairs, found.iou, strict=True):
        union = ((true == found.true[row]) | (predicted == found.predicted[column])).sum()
        both = ((true == found.true[row]) & (predicted == found.predicted[column])).sum()
        assert iou == both / union
        table[row, column] = iou if iou >= threshold else 0
    best = max(
        (int((table[range(4), order] > 0).sum()), round(float(table[range(4), order].sum()), 9))
        for order in map(list, permutations(range(4)))
    )
    chosen = table[pairs[:, 0], pairs[:, 1]]
    assert (len(pairs), round(float(chosen.sum()), 9)) == best


def test_two_halves_share_their_whole_at_exactly_one_half() -> None:
    """Both have an IoU of 0.5 with the same object; only one may have it."""
    score = MatchingScore.of(bars((0, 10)), bars((0, 5), (5, 10)))
    assert score.counts[0].tolist() == [1, 1, 0, 0.5]


def test_one_more_pair_outweighs_a_better_one() -> None:
    """b touches both true objects; taking its better partner would leave a without one."""
    true, predicted = bars((0, 10), (10, 30)), bars((0, 2), (2, 16), length=40)
    found = overlaps(true, predicted)
    pairs = {tuple(pair) for pair in found.pairs[matched(found, 0.15)].tolist()}
    assert pairs == {(0, 0), (1, 1)}


def test_unknown_pixels_count_for_neither() -> None:
    true, predicted = bars((0, 10)), bars((0, 20), (30, 40))
    true[0, 10:] = -1
    assert MatchingScore.of(true, predicted).counts[0].tolist() == [1, 0, 0, 1]


def test_pictures_are_pooled() -> None:
    first, second = (bars((0, 10)), bars((0, 10))), (bars((0, 5)), bars((20, 30), (31, 35)))
    pooled = MatchingScore.of(*first) + MatchingScore.of(*second)
    assert pooled.at("average_precision") == 1 / 4
    one = MatchingScore.zeros()
    one.add(*first)
    one.add(*second)
    np.testing.assert_array_equal(one.counts, pooled.counts)


def test_ten_thousand_objects_take_no_table_of_all_pairs() -> None:
    true = np.kron(np.arange(1, 10_001).reshape(100, 100), np.ones((4, 4), np.int64))
    score = MatchingScore.of(true, np.roll(true, 1, axis=0), thresholds=(0.5,))
    assert score.counts[0, 0] == 10_000  # 3 of 4 rows shared: IoU 0.6


def test_what_cannot_be_matched_is_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        overlaps(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(DataError, match="whole numbers"):
        overlaps(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(UsageError, match="above 0"):
        matched(overlaps(bars((0, 2)), bars((0, 2))), 0.0)
    with pytest.raises(UsageError, match="not counted"):
        MatchingScore.zeros((0.5,)).at("f1", 0.7)
    with pytest.raises(UsageError, match="do not go together"):
        MatchingScore.zeros((0.5,)) + MatchingScore.zeros((0.7,))
