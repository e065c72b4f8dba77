"""Overlap scores: known shifts, counts by hand, and torchmetrics as the oracle."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from intarsia.errors import DataError, UsageError
from intarsia.metrics import Confusion, LabelConfusion, Scores
from intarsia.records import IGNORE, Classes

THREE = Classes.named(["ground", "tree", "car"])


def random_masks(seed: int, classes: int = 4, ignored: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    true, predicted = random.integers(0, classes, (2, 7, 9)).astype(np.int16)
    true[random.random(true.shape) < ignored] = IGNORE
    return true, predicted


def counted(*pairs: tuple[np.ndarray, np.ndarray], classes: int = 4) -> Confusion:
    confusion = Confusion.zeros(classes)
    for true, predicted in pairs:
        confusion.add(true, predicted)
    return confusion


@pytest.mark.parametrize("shift", [0, 1, 3, 8])
def test_a_square_shifted_by_k_pixels_has_a_known_overlap(shift: int) -> None:
    true, predicted = np.zeros((2, 20, 20), dtype=np.int16)
    true[5:13, 2:10] = 1
    predicted[5:13, 2 + shift : 10 + shift] = 1
    confusion = counted((true, predicted), classes=2)
    assert confusion.iou[1] == pytest.approx((8 - shift) / (8 + shift))
    assert confusion.dice[1] == pytest.approx((8 - shift) / 8)
    assert confusion.precision[1] == confusion.recall[1] == pytest.approx((8 - shift) / 8)
    assert confusion.accuracy == pytest.approx(1 - 2 * 8 * shift / 400)


def test_four_by_four_pixels_by_hand() -> None:
    true = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [2, 2, -1, -1]], dtype=np.int16)
    predicted = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 2], [2, -1, 1, 2]], dtype=np.int16)
    confusion = counted((true, predicted), classes=3)
    np.testing.assert_array_equal(confusion.matrix, [[7, 0, 1], [1, 3, 0], [0, 0, 1]])
    np.testing.assert_array_equal(confusion.actual, [8, 4, 2])  # the tree that was given no class is missed, not lost
    np.testing.assert_allclose(confusion.iou, [7 / 9, 3 / 4, 1 / 3])
    np.testing.assert_allclose(confusion.dice, [14 / 16, 6 / 7, 2 / 4])
    np.testing.assert_allclose(confusion.precision, [7 / 8, 3 / 3, 1 / 2])
    np.testing.assert_allclose(confusion.recall, [7 / 8, 3 / 4, 1 / 2])
    assert confusion.mean_iou == pytest.approx((7 / 9 + 3 / 4 + 1 / 3) / 3)
    assert confusion.accuracy == pytest.approx(11 / 14)
    assert confusion.mean_accuracy == pytest.approx((7 / 8 + 3 / 4 + 1 / 2) / 3)
    assert confusion.frequency_weighted_iou == pytest.approx((8 * 7 / 9 + 4 * 3 / 4 + 2 * 1 / 3) / 14)


@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=5), cut=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_pictures_may_be_grouped_and_ordered_in_any_way(seeds: list[int], cut: int) -> None:
    pairs = [random_masks(seed) for seed in seeds]
    together = Confusion.zeros(4)
    together.add(np.stack([true for true, _ in pairs]), np.stack([predicted for _, predicted in pairs]))
    np.testing.assert_array_equal(counted(*pairs).counts, together.counts)
    np.testing.assert_array_equal(counted(*reversed(pairs)).counts, together.counts)
    np.testing.assert_array_equal((counted(*pairs[:cut]) + counted(*pairs[cut:])).counts, together.counts)


@pytest.mark.parametrize("seed", range(5))
def test_torchmetrics_agrees(seed: int) -> None:
    pairs = [random_masks(seed), random_masks(seed + 100)]
    confusion = counted(*pairs)
    oracle = MulticlassConfusionMatrix(4, ignore_index=IGNORE)
    jaccard = MulticlassJaccardIndex(4, average="none", ignore_index=IGNORE)
    for true, predicted in pairs:
        for metric in (oracle, jaccard):
            metric.update(torch.from_numpy(predicted).long()[None], torch.from_numpy(true).long()[None])
    np.testing.assert_array_equal(confusion.matrix, oracle.compute().numpy())
    np.testing.assert_allclose(confusion.iou, jaccard.compute().numpy(), rtol=1e-6)
    assert confusion.mean_iou == pytest.approx(jaccard.compute().mean().item())


def test_classes_that_the_truth_does_not_show() -> None:
    """Class 1 occurs and is never predicted, 2 is only predicted, 3 is in neither."""
    true, predicted = np.array([[0, 0, 0, 1]]), np.array([[0, 0, 2, 0]])
    confusion = counted((true, predicted))
    np.testing.assert_array_equal(confusion.iou, [2 / 4, 0, 0, np.nan])
    np.testing.assert_array_equal(confusion.precision, [2 / 3, 0, 0, np.nan])
    np.testing.assert_array_equal(confusion.recall, [2 / 3, 0, np.nan, np.nan])
    assert confusion.mean_iou == pytest.approx((2 / 4 + 0) / 2)
    assert confusion.mean_dice == pytest.approx((4 / 6 + 0) / 2)
    scores = confusion.scores(Classes.named(["a", "b", "c", "d"]))
    assert scores.absent == ("c", "d")
    assert "2 of 4 classes" in scores.overall[0].definition


def test_nothing_labelled_is_not_applicable_and_not_zero() -> None:
    nothing = np.full((3, 3), IGNORE)
    scores = counted((nothing, np.zeros((3, 3), dtype=int)), classes=3).scores(THREE)
    assert all(math.isnan(score.value) for score in scores.overall)
    assert scores.absent == THREE.names
    labels = LabelConfusion.zeros(2)
    labels.add(np.full((2, 3, 3), IGNORE), np.ones((2, 3, 3), dtype=int))
    assert math.isnan(labels.mean_iou) and math.isnan(labels.accuracy)


def test_overlapping_classes_by_hand() -> None:
    true = np.array([[[1, 1, 0, 0]], [[1, -1, 1, 0]]], dtype=np.int8)
    predicted = np.array([[[1, 0, 1, 0]], [[1, 1, 1, 0]]], dtype=np.int8)
    labels = LabelConfusion.zeros(2)
    labels.add(true, predicted)
    np.testing.assert_array_equal(labels.counts, [[[1, 1], [1, 1]], [[1, 0], [0, 2]]])
    np.testing.assert_allclose(labels.iou, [1 / 3, 1])
    np.testing.assert_allclose(labels.recall, [1 / 2, 1])
    np.testing.assert_allclose(labels.share, [2 / 4, 2 / 3])
    assert labels.accuracy == pytest.approx(5 / 7)
    assert labels.frequency_weighted_iou == pytest.approx((2 * (1 / 3) + 2 * 1) / 4)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_masks_written_as_labels_have_the_same_overlap(seed: int) -> None:
    true, predicted = random_masks(seed)
    confusion, labels = counted((true, predicted)), LabelConfusion.zeros(4)
    numbers = np.arange(4)[:, None, None]
    labels.add(np.where(true == IGNORE, IGNORE, true == numbers), predicted == numbers)
    for name in ("hits", "actual", "predicted", "iou", "dice", "precision", "recall", "share"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(confusion, name))
    np.testing.assert_array_equal((labels + labels).counts, 2 * labels.counts)


def test_scores_are_json_and_each_has_a_definition() -> None:
    confusion = counted((np.array([[0, 0, 1]]), np.array([[0, 1, 1]])), classes=3)
    scores = confusion.scores(THREE)
    read = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert read["per_class"]["iou"]["values"] == [0.5, 0.5, None]
    assert read["absent"] == ["car"]
    assert read["overall"]["mean_iou"]["value"] == scores["mean_iou"] == confusion.mean_iou == 0.5
    assert all(score.definition for score in scores.overall)
    assert set(scores.definitions) == set(scores.per_class)
    with pytest.raises(KeyError, match="mean_iou"):
        scores["miou"]


def test_scores_of_the_same_classes_are_joined() -> None:
    ours = counted((np.array([[0, 1]]), np.array([[0, 1]])), classes=3).scores(THREE)
    other = Scores(THREE.names, (), {"extra": (1.0, 2.0, 3.0)}, {"extra": "a number"}, ("ground",))
    both = ours.joined(other)
    assert both["mean_iou"] == 1 and both.per_class["extra"] == (1.0, 2.0, 3.0)
    assert both.absent == ("ground", "car")
    with pytest.raises(UsageError, match="different classes"):
        ours.joined(Scores(("a",), ()))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DataError, match=r"true mask holds values from 0 to 255"):
        counted((np.array([[0, 255]], dtype=np.uint8), np.array([[0, 0]])))
    with pytest.raises(DataError, match=r"predicted mask holds values from 0 to 4"):
        counted((np.array([[0, 0]]), np.array([[0, 4]])))
    with pytest.raises(DataError, match="one shape"):
        counted((np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=int)))
    with pytest.raises(UsageError, match="4 classes do not go together with 3"):
        counted().scores(THREE)
    with pytest.raises(UsageError, match="do not go together"):
        Confusion.zeros(2) + Confusion.zeros(3)
