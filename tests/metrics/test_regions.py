"""Scores of regions without class: maps whose scores can be told by hand, scikit-image as the oracle, and the laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.errors import DataError, UsageError
from intarsia.metrics.regions import (
    DEFINITIONS,
    ClusterTable,
    RegionScore,
    agreement,
    boundary_f,
    conditional_entropies,
    covering,
    human_agreement,
    outline_counts,
    overlaps,
    rand_index,
    region_boundary,
    variation_of_information,
)
from intarsia.records import IGNORE, Classes

WHOLE = np.zeros((4, 8), int)
HALVES = np.repeat([[7, 7, 7, 7, 3, 3, 3, 3]], 4, axis=0)  # the numbers mean nothing
QUARTERS = np.repeat([[0, 0, 1, 1, 2, 2, 3, 3]], 4, axis=0)
maps = arrays(np.int64, (5, 6), elements=st.integers(0, 4))


def test_the_same_regions_under_other_numbers_agree_in_full() -> None:
    other = 11 - HALVES
    assert covering(HALVES, other) == rand_index(HALVES, other) == 1
    assert variation_of_information(HALVES, other) == 0


def test_two_halves_merged() -> None:
    assert covering(HALVES, WHOLE) == 0.5  # each half has an IoU of 1/2 with the whole
    assert covering(WHOLE, HALVES) == 0.5
    assert variation_of_information(HALVES, WHOLE) == pytest.approx(math.log(2))
    assert conditional_entropies(HALVES, WHOLE) == (0, pytest.approx(math.log(2)))  # merges and splits nothing
    assert conditional_entropies(WHOLE, HALVES) == (pytest.approx(math.log(2)), 0)
    assert rand_index(HALVES, WHOLE) == pytest.approx(1 - 16 * 16 / (32 * 31 / 2))  # the pairs across the halves


def test_halves_against_quarters() -> None:
    assert covering(HALVES, QUARTERS) == 0.5
    assert variation_of_information(HALVES, QUARTERS) == pytest.approx(math.log(2))
    across = np.repeat([[0], [0], [1], [1]], 8, axis=1)
    assert variation_of_information(HALVES, across) == pytest.approx(2 * math.log(2)), "independent: nothing is told"
    assert covering(HALVES, across) == pytest.approx(1 / 3)


def test_a_region_shifted_by_known_pixels() -> None:
    shifted = np.repeat([[0, 0, 0, 1, 1, 1, 1, 1]], 4, axis=0)
    assert covering(HALVES, shifted) == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_what_nobody_knows_is_left_out() -> None:
    unknown = HALVES.copy()
    unknown[:, 4:] = IGNORE
    assert variation_of_information(unknown, WHOLE) == 0
    assert overlaps(unknown, WHOLE).pixels == 16
    nothing = np.full_like(HALVES, IGNORE)
    for score in (covering, variation_of_information, rand_index):
        assert math.isnan(score(nothing, WHOLE))


def test_scikit_image_agrees() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    random = np.random.default_rng(0)
    for _ in range(5):
        first, second = random.integers(0, 6, (2, 20, 30))
        second[:, :15] = first[:, :15]
        bits = metrics.variation_of_information(first, second)  # H(second | first), H(first | second)
        splits, merges = conditional_entropies(first, second)
        assert (splits / math.log(2), merges / math.log(2)) == pytest.approx(tuple(bits))


def test_pairs_counted_one_by_one() -> None:
    random = np.random.default_rng(1)
    first, second = random.integers(0, 3, (2, 3, 4))
    a, b = first.ravel(), second.ravel()
    pairs = [(i, j) for i in range(12) for j in range(i)]
    same = sum((a[i] == a[j]) == (b[i] == b[j]) for i, j in pairs)
    assert rand_index(first, second) == pytest.approx(same / len(pairs))


@given(maps, maps, maps)
@settings(max_examples=60, deadline=None)
def test_the_variation_of_information_is_a_metric(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    assert variation_of_information(a, b) == pytest.approx(variation_of_information(b, a), abs=1e-12)
    detour = variation_of_information(a, c) + variation_of_information(c, b)
    assert variation_of_information(a, b) <= detour + 1e-12
    assert 0 <= variation_of_information(a, b) <= math.log(a.size) + 1e-12
    assert variation_of_information(a, a) == pytest.approx(0, abs=1e-12)


@given(maps, maps, st.permutations(range(5)))
@settings(max_examples=60, deadline=None)
def test_numbers_mean_nothing_and_scores_stay_in_their_range(a: np.ndarray, b: np.ndarray, order: list[int]) -> None:
    renamed = np.array(order)[b]
    for score in (covering, variation_of_information, rand_index):
        assert score(a, b) == pytest.approx(score(a, renamed), abs=1e-12)
    assert 0 < covering(a, b) <= 1 and 0 <= rand_index(a, b) <= 1 + 1e-12
    assert rand_index(a, b) == pytest.approx(rand_index(b, a))


def test_outlines_are_one_pixel_wide() -> None:
    assert region_boundary(HALVES).sum() == 4 and region_boundary(HALVES)[:, 3].all()
    unknown = HALVES.copy()
    unknown[:, 4] = IGNORE
    assert not region_boundary(unknown)[:, 3].any()


@pytest.mark.parametrize(("shift", "near"), [(0, True), (1, True), (2, False), (3, False)])
def test_an_outline_is_right_within_the_tolerance(shift: int, near: bool) -> None:
    true = np.zeros((10, 20), int)
    true[:, 10:] = 1
    counts = outline_counts([true], np.roll(true, shift, 1) * (np.arange(20) >= 5), tolerance=1)
    assert counts.tolist() == [10, 10 * near, 10, 10 * near]
    assert boundary_f(counts)[2] == near


def test_people_who_disagree_lower_the_recall_and_not_the_precision() -> None:
    counts = outline_counts([HALVES, QUARTERS], HALVES, tolerance=0)
    assert counts.tolist() == [4, 4, 4 + 12, 4 + 4]
    assert boundary_f(counts) == (1.0, 0.5, pytest.approx(2 / 3))


def test_no_outline_at_all() -> None:
    assert np.isnan(boundary_f(outline_counts([WHOLE], WHOLE))).all()
    assert boundary_f(outline_counts([HALVES], WHOLE))[1:] == (0.0, 0.0)
    assert boundary_f(outline_counts([WHOLE], HALVES))[2] == 0.0


def test_an_outline_beside_the_unknown_is_not_counted() -> None:
    unknown = HALVES.copy()
    unknown[:, 2:6] = IGNORE
    assert outline_counts([unknown], HALVES, tolerance=0).tolist() == [0, 0, 0, 0]
    assert outline_counts([unknown, HALVES], HALVES, tolerance=0).tolist() == [4, 4, 4, 4]


def test_agreement_is_the_mean_over_people() -> None:
    found = agreement([HALVES, WHOLE], HALVES)
    assert found.covering == pytest.approx((1 + 0.5) / 2) and found.regions == 2
    assert found.variation_of_information == pytest.approx(math.log(2) / 2)
    people = human_agreement([HALVES, HALVES, WHOLE])
    assert [each.covering for each in people] == pytest.approx([0.75, 0.75, 0.5])
    with pytest.raises(UsageError, match="none is given"):
        agreement([], HALVES)
    with pytest.raises(UsageError, match="two or more"):
        human_agreement([HALVES])
    with pytest.raises(DataError, match="one size"):
        agreement([HALVES[1:]], HALVES)


def test_one_setting_for_all_pictures_and_the_best_for_each() -> None:
    """Two pictures, of one the first setting is right, of the other the second one."""
    score = RegionScore()
    score.add(agreement([HALVES], HALVES), agreement([HALVES], WHOLE), agreement([HALVES], QUARTERS))
    score.add(agreement([WHOLE], HALVES), agreement([WHOLE], WHOLE), agreement([WHOLE], QUARTERS))
    for name, ods, ois in (
        ("covering", 0.75, 1.0),
        ("variation_of_information", math.log(2) / 2, 0.0),
        ("boundary_f", 2 * 0.5 / 1.5, 1.0),
    ):
        assert score.dataset_scale(name) == pytest.approx(ods)
        assert score.image_scale(name) == pytest.approx(ois)
    assert score.best_setting("boundary_f") == 0
    scores = score.scores()
    assert scores["covering_ods"] == 0.75 and scores["covering_ois"] == 1.0
    assert all(each.definition for each in scores.overall) and len(scores.overall) == 2 * len(DEFINITIONS)
    with pytest.raises(UsageError, match="3 are expected"):
        score.add(agreement([WHOLE], WHOLE))


def test_a_method_without_settings_has_one_number_a_score() -> None:
    score = RegionScore()
    with pytest.raises(UsageError, match="no picture"):
        score.scores()
    score.add(agreement([WHOLE], WHOLE))
    assert score.scores()["covering"] == 1
    assert math.isnan(score.scores()["boundary_f"]), "nobody drew an outline, and neither did we"


def test_clusters_are_matched_over_the_whole_set() -> None:
    table = ClusterTable.zeros(2, 2)
    table.add(np.array([[0, 0, 0, 1]]), np.array([[1, 1, 1, 0]]))
    table.add(np.array([[0, 1, 1, 1]]), np.array([[0, 1, 1, 1]]))  # alone, it would be matched the other way
    assert table.matched.tolist() == [0, 1] or table.matched.tolist() == [1, 0]
    tie = table.confusion(table.matched).accuracy
    assert tie == 0.5
    table.add(np.array([[0, 0, IGNORE]]), np.array([[1, 1, 0]]))
    assert table.matched.tolist() == [1, 0]
    assert table.confusion(table.matched).accuracy == pytest.approx(6 / 10)


def test_more_clusters_than_classes_and_fewer() -> None:
    true = np.array([[0, 0, 0, 0, 1, 1]])
    table = ClusterTable.zeros(2, 3)
    table.add(true, np.array([[0, 0, 0, 1, 2, 2]]))
    assert table.matched.tolist() == [0, IGNORE, 1] and table.majority.tolist() == [0, 0, 1]
    scores = table.scores(Classes.named(["a", "b"]))
    assert scores["matched_accuracy"] == pytest.approx(5 / 6) and scores["majority_accuracy"] == 1
    assert scores["matched_mean_iou"] == pytest.approx((3 / 4 + 1) / 2)
    few = ClusterTable.zeros(2, 1)
    few.add(true, np.zeros_like(true))
    assert few.matched.tolist() == [0] and few.scores(Classes.named(["a", "b"]))["matched_mean_iou"] == (4 / 6 + 0) / 2
    np.testing.assert_array_equal((few + few).counts, 2 * few.counts)


def test_what_does_not_fit_is_said() -> None:
    table = ClusterTable.zeros(2, 2)
    with pytest.raises(DataError, match="clusters from 0 to 2"):
        table.add(np.array([[0, 0]]), np.array([[0, 2]]))
    with pytest.raises(DataError, match="one shape"):
        table.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(UsageError, match="do not go together"):
        table + ClusterTable.zeros(2, 3)
    with pytest.raises(UsageError, match="3 classes"):
        table.scores(Classes.named(["a", "b", "c"]))


def test_no_cluster_misses_the_class() -> None:
    table = ClusterTable.zeros(2, 2)
    table.add(np.array([[0, 0, 1]]), np.array([[0, IGNORE, 1]]))
    confusion = table.confusion(table.matched)
    assert confusion.recall.tolist() == [0.5, 1.0]
